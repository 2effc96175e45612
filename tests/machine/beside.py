"""The same worlds with the code of another revision: in a temporary folder, with the newest simulation that runs it."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.machine.figures import Figures

ROOT = Path(__file__).parents[2]
OURS = ("tests/machine", "tests/clock.py", "tests/pure/world.py")
# The last revision with all code in one folder. Older code has its names, and is run with its simulation.
ONE_FOLDER = "75a626e668d689b561eece97749f487a8e3251bc"


def beside(revision: str, arguments: list[str]) -> Figures:
    """What that revision's code does in the worlds that the arguments name."""
    with tempfile.TemporaryDirectory() as folder:
        export(revision, Path(folder))
        found = Path(folder) / "figures"
        command = [sys.executable, "-m", "tests.machine", *_without(arguments), "--figures", str(found)]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": folder}, check=True)
        figures: Figures = pickle.loads(found.read_bytes())
        return figures


def export(revision: str, folder: Path) -> None:
    extract(folder, revision)
    if not (folder / "deployments/failover").is_dir():
        extract(folder, ONE_FOLDER, *OURS)
        return
    for name in OURS:
        target = folder / name
        if (ROOT / name).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)


def extract(folder: Path, revision: str, *names: str) -> None:
    command = ["git", "archive", revision, *names]
    archive = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def _without(arguments: list[str]) -> list[str]:
    """Without --beside and what belongs to it."""
    kept, skip = [], False
    for argument in arguments:
        if not (skip or argument == "--beside" or argument.startswith("--beside=")):
            kept.append(argument)
        skip = argument == "--beside"
    return kept
