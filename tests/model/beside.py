"""The same worlds with another revision's code: its tree in a temporary folder, with the simulation of today."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.model.figures import Figures

ROOT = Path(__file__).parents[2]
OURS = ("tests/model", "tests/clock.py", "tests/unit/world.py")


def beside(revision: str, arguments: list[str]) -> Figures:
    """What that revision's code does in the worlds that the arguments name."""
    with tempfile.TemporaryDirectory() as folder:
        export(revision, Path(folder))
        found = Path(folder) / "figures"
        command = [sys.executable, "-m", "tests.model", *_without(arguments), "--figures", str(found)]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": folder}, check=True)
        figures: Figures = pickle.loads(found.read_bytes())
        return figures


def export(revision: str, folder: Path) -> None:
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    for name in OURS:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def _without(arguments: list[str]) -> list[str]:
    """Without --beside and what belongs to it."""
    kept, skip = [], False
    for argument in arguments:
        if not (skip or argument == "--beside" or argument.startswith("--beside=")):
            kept.append(argument)
        skip = argument == "--beside"
    return kept
