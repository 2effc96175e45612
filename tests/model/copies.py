"""Copies of the code with a known bug put in, for the tests that must notice it."""

import pathlib
import shutil
from typing import Protocol

ROOT = pathlib.Path(__file__).parents[2]


class Edit(Protocol):
    """`text` stands once in `file` (from the project's root); the bug has `instead` there."""

    @property
    def bug(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def instead(self) -> str: ...


def mutated(mutant: Edit) -> str:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.text) == 1, f"{mutant.bug}: its text stands {text.count(mutant.text)} times"
    return text.replace(mutant.text, mutant.instead)


def copied(needed: tuple[str, ...], folder: pathlib.Path, *left_out: str) -> None:
    """Copies what is `needed` into `folder`, but for what has the patterns of `left_out`."""
    for name in needed:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", *left_out))
        else:
            shutil.copy(ROOT / name, target)
