"""Ask a running Breakwater, and command it, from a terminal.

    uv run python -m deployments.cli status
    python /path/to/breakwater/deployments/cli status

docs/cli.md shows each command.
"""

import pathlib
import sys

if not __package__:  # by its path: then Python looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

from deployments.cli.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
