"""The same worlds with the code of another revision: in a temporary folder, with the newest simulation that runs it."""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.model.figures import Figures

ROOT = Path(__file__).parents[2]
OURS = ("tests/model", "tests/clock.py", "tests/unit/world.py")
# The last revision with all code in one folder. Older code has its names, and is run with its simulation.
ONE_FOLDER = "75a626e668d689b561eece97749f487a8e3251bc"
ITS_OWN, ITS_PACKAGE = ("tests/machine", "tests/clock.py", "tests/pure/world.py"), "tests.machine"


def beside(revision: str, arguments: list[str]) -> Figures:
    """What that revision's code does in the worlds that the arguments name."""
    with tempfile.TemporaryDirectory() as folder:
        package = export(revision, Path(folder))
        found = Path(folder) / "figures"
        command = [sys.executable, "-m", package, *_without(arguments), "--figures", str(found)]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": folder}, check=True)
        with found.open("rb") as file:
            figures: Figures = _Unpickler(file).load()
        return figures


class _Unpickler(pickle.Unpickler):
    """Figures of the older simulation are ours under its name."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module.replace(ITS_PACKAGE, "tests.model"), name)


def export(revision: str, folder: Path) -> str:
    """Write that revision into the folder, and return the package of its simulation."""
    extract(folder, revision)
    if not (folder / "deployments/failover").is_dir():
        extract(folder, ONE_FOLDER, *ITS_OWN)
        return ITS_PACKAGE
    for name in OURS:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    return "tests.model"


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
