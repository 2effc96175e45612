"""Renew `[tool.uv] constraint-dependencies` in pyproject.toml: every indirect dependency, pinned.

    uv run python -m tests.renew_constraints

There is no lock file in the repository, because it would name download hosts; this list holds what a
lock would hold of versions.
"""

import pathlib
import re
import subprocess
import tempfile
import tomllib

PYPROJECT = pathlib.Path(__file__).parents[1] / "pyproject.toml"


def resolved(pyproject: str) -> list[str]:
    """All packages of a fresh resolution, `name==version ; marker`, without the direct ones."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "pyproject.toml").write_text(pyproject)
        command = ["uv", "export", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-project", "--all-groups"]
        lines = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()
    data = tomllib.loads(pyproject)
    groups = [data["project"]["dependencies"], *data["dependency-groups"].values()]
    direct = {_name(text) for group in groups for text in group}
    return [line for line in lines if _name(line) not in direct]


def _name(requirement: str) -> str:
    return re.split(r"[\[=<>;! ]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def without_constraints(text: str) -> str:
    return re.sub(r"constraint-dependencies = \[\n.*?\n\]\n", "", text, flags=re.DOTALL)


def main() -> None:
    bare = without_constraints(PYPROJECT.read_text())
    listed = "".join(f'    "{line.strip()}",\n' for line in resolved(bare))
    block = f"constraint-dependencies = [\n{listed}]\n"
    PYPROJECT.write_text(bare.replace("[tool.uv]\n", f"[tool.uv]\n{block}", 1))


if __name__ == "__main__":
    main()
