"""Print the table of docs/credentials.md.

uv run python -m tests.credentials
"""

from tests.credentials.cases import table

if __name__ == "__main__":
    print(table())
