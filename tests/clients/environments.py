"""Python environments of others, made by uv from a package registry."""

import pathlib
import subprocess

from tests.clients.client import Missing, program


def environment(folder: pathlib.Path, *packages: str, python: str = "3.11") -> str:
    """Return the Python of a new environment with these packages and none of ours. Raises Missing."""
    uv = program("uv")
    made = subprocess.run(
        [uv, "venv", "--quiet", "--no-python-downloads", "--python", python, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise Missing(made.stderr)
    interpreter = str(folder / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", interpreter, *packages]
    # Elsewhere than in this checkout, whose constraints are not theirs.
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return interpreter
