"""A model that does a task with the tools of a coding agent: it reads a file, edits it, and runs a command.

It looks at which tools are offered and at how many calls have their results, and at nothing else: so one mind serves
every wire, and a provider that takes over in the middle goes on where another has stopped.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.tool_use import Called, Mind, Talk, Turn

FILE, COPY = "notes.txt", "copy.txt"
BEFORE, AFTER = "The gate is closed.\n", "The gate is open.\n"
DONE = ("The", " gate", " is", " open", ".")
_OPENINGS = (("I", " will", " read", " it."), ("I", " will", " edit", " it."), ("I", " will", " copy", " it."))

Arguments = Mapping[str, Any]
Hand = Callable[[pathlib.Path], Arguments]

_PATCH = f"*** Begin Patch\n*** Update File: {FILE}\n@@\n-{BEFORE}+{AFTER}*** End Patch"


def _shell(command: str) -> Hand:
    return lambda folder: {"cmd": command, "workdir": str(folder)}


def _script(code: str) -> Hand:
    """Codex's newer models write JavaScript, which calls the tools."""
    return lambda folder: {"input": code}


# For each step: by the name of a tool that is offered, what it is given. The first that is there is used.
STEPS: tuple[Mapping[str, Hand], ...] = (
    {
        "Read": lambda folder: {"file_path": str(folder / FILE)},
        "exec_command": _shell(f"cat {FILE}"),
        "functions__exec": _script(f'text((await tools.exec_command({{cmd: "cat {FILE}"}})).output)'),
    },
    {
        "Edit": lambda folder: {
            "file_path": str(folder / FILE),
            "old_string": BEFORE.strip(),
            "new_string": AFTER.strip(),
            "replace_all": False,
        },
        "apply_patch": lambda folder: {"input": _PATCH},
        "exec_command": _shell(f"sed -i s/closed/open/ {FILE}"),
        "functions__exec": _script(f"text(await tools.apply_patch({json.dumps(_PATCH)}))"),
    },
    {
        "Bash": lambda folder: {"command": f"cp {FILE} {COPY}", "description": "Copy the notes"},
        "exec_command": _shell(f"cp {FILE} {COPY}"),
        "functions__exec": _script(f'text((await tools.exec_command({{cmd: "cp {FILE} {COPY}"}})).exit_code)'),
    },
)


@dataclass(frozen=True)
class Worker:
    """`folder` is where the agent works."""

    folder: pathlib.Path

    def __call__(self, talk: Talk) -> Turn:
        done = len(talk.results)
        if not talk.tools or done >= len(STEPS):
            return Turn(DONE)
        name, hand = next((name, hand) for name, hand in STEPS[done].items() if name in talk.tools)
        return Turn(_OPENINGS[done], [Called(f"step-{done}", name, hand(self.folder))])


def worker(folder: pathlib.Path) -> Mind:
    (folder / FILE).write_text(BEFORE)
    return Worker(folder)


def is_done(folder: pathlib.Path) -> bool:
    """Has the file been edited, and copied after that?"""
    copy = folder / COPY
    return copy.exists() and (folder / FILE).read_text() == copy.read_text() == AFTER
