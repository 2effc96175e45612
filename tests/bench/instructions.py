"""What a whole answer costs ingress and replica in instructions and objects, which are the same on each run.

    uv run python -m tests.bench.instructions [folder of another checkout]

Valgrind's callgrind counts what `handling.py` runs, with few requests and with more: the difference is theirs alone. No
other work on the machine changes it, so it shows what a change takes or adds where times are too noisy. Each part takes
a minute or two. Debian's package is `valgrind`.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests.bench.handling import AT_ONCE, PARTS, ROUNDS, command_in, env_in
from tests.checkouts import ROOT

FEW, MORE = 1, 3  # turns of a round
LONGEST = 900.0  # seconds of a run: the calls of a checkout that knows other messages never end
ALLOCATION = "_PyObject_Malloc"  # CPython's, for each object that no free list has
_NAME = re.compile(r"c?fn=\((\d+)\)(?: (.*))?")


def counted(root: pathlib.Path, part: str, turns: int) -> tuple[int, int]:
    """Return the instructions and the objects of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        env = {**env_in(root), "PYTHONHASHSEED": "0"}
        command = [*valgrind, *command_in(root, part, turns)]
        subprocess.run(command, cwd=root, env=env, capture_output=True, check=True, timeout=LONGEST)
        with out.open() as lines:
            return _read(lines)


def _read(lines: Iterator[str]) -> tuple[int, int]:
    """Return what callgrind's file tells: its total, and how often objects were allocated."""
    names, called, total, allocated = dict[str, str](), "", 0, 0
    for line in lines:
        if (found := _NAME.match(line)) is not None:
            number, name = found.groups()
            called = names.setdefault(number, name)  # it is told once, and then has a number
        elif line.startswith("calls=") and called == ALLOCATION:
            allocated += int(line.removeprefix("calls=").split()[0])
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    if not allocated:
        raise RuntimeError(f"no {ALLOCATION} was called: this CPython has another name for it")
    return total, allocated


def main() -> None:
    roots = [ROOT, *(pathlib.Path(folder).resolve() for folder in sys.argv[1:])]
    requests = ROUNDS * AT_ONCE * (MORE - FEW)
    print("| of a whole answer | thousand instructions | objects |\n|---|--:|--:|")
    for part in PARTS:
        for root in roots:
            few, more = counted(root, part, FEW), counted(root, part, MORE)
            instructions, objects = ((b - a) / requests for a, b in zip(few, more, strict=True))
            print(f"| {part}, {root.name} | {instructions / 1000:.0f} | {objects:.0f} |", flush=True)


if __name__ == "__main__":
    main()
