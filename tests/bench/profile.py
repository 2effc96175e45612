"""Where our processes spend their time under load: py-spy beside a cell, by process and by whose code it is.

A sample counts for whoever is nearest to its end and has a name below, so a write to a client counts for uvicorn, which
makes it. Only samples of a thread that holds the interpreter are taken. What C++ does beside it (gRPC's and Ray's own
threads) is in a process's CPU and in no sample: shares are of the samples.
"""

import contextlib
import pathlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.bench.figures import figures
from tests.bench.measure import measured
from tests.bench.processes import CannotRun, members
from tests.bench.scenarios import BURST_64, MANY, PACED_16, Cell
from tests.bench.systems import System

CELLS = (MANY, PACED_16, BURST_64)
ROLES = ("ingress", "provider, first", "ledger actor", "breaker actor", "serve controller")
SECONDS, RATE = 8, 250  # RATE: samples a second
LATER = 60.0  # seconds within which py-spy must have written
# Folders of the code, and whose it is; the first that fits.
OWNERS = (
    ("deployments/", "Breakwater"),
    ("actors/", "Breakwater"),
    ("ray/serve/", "Ray Serve"),
    ("ray/", "Ray"),
    ("grpc/", "gRPC"),
    ("uvicorn/", "uvicorn, with its writes"),
    ("starlette/", "Starlette"),
    ("aiohttp/", "aiohttp"),
    ("threading.py", "event loop, and gRPC's server"),  # C without a frame of its own
)
OTHERS = "Python's library, and the rest"
_FILE = re.compile(r"\(([^()]+?)(?::\d+)?\)$")
_AT_REST = ("Condition.wait", "wait (threading", "_worker (concurrent/futures", "Worker.main_loop")


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one cell: CPU ms of a request by process, and of each process whose code the samples were in."""

    cell: str
    cpu_ms: dict[str, float]
    samples: dict[str, dict[str, int]]

    def ms(self, role: str, owner: str) -> float:
        taken = self.samples[role]
        return self.cpu_ms.get(role, 0.0) * taken.get(owner, 0) / max(1, sum(taken.values()))

    @property
    def owners(self) -> list[str]:
        """Whoever has taken most first."""
        every = {owner for taken in self.samples.values() for owner in taken}
        return sorted(every, key=lambda owner: -sum(self.ms(role, owner) for role in self.samples))


def profiled(system: System, upstream: System, cell: Cell, folder: pathlib.Path) -> Profile:
    """The samples stay in `folder`, a file for each process, as flame graph tools read them."""
    found = {role: pid for pid, role in members(system.session).items() if role in ROLES}
    with contextlib.ExitStack() as stack:
        spies = {}
        for role in filter(found.__contains__, ROLES):
            name = re.sub(r"\W+", "-", f"{cell.name} {role}")
            spies[role] = stack.enter_context(_spy(found[role], folder / f"{name}.raw"))
        run = figures(measured(system, upstream, cell, SECONDS + 2.0))
        samples = {role: dict(by_owner(_written(spy).splitlines())) for role, spy in spies.items()}
    return Profile(cell.name, {role: run.get(f"cpu_ms {role}", 0.0) for role in samples}, samples)


@dataclass(frozen=True, slots=True)
class _Spy:
    process: subprocess.Popen[str]
    file: pathlib.Path


@contextlib.contextmanager
def _spy(pid: int, file: pathlib.Path) -> Iterator[_Spy]:
    """It looks without stopping whom it looks at: else it would be seen in the figures."""
    program = pathlib.Path(sys.executable).with_name("py-spy")
    how = ["--gil", "--nonblocking", "--rate", str(RATE), "--duration", str(SECONDS), "--format", "raw"]
    command = [str(program), "record", *how, "--output", str(file), "--pid", str(pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _Spy(process, file)
        finally:
            process.kill()


def _written(spy: _Spy) -> str:
    try:
        _, why = spy.process.communicate(timeout=LATER)
    except subprocess.TimeoutExpired:
        raise CannotRun("py-spy did not come to an end") from None
    if spy.process.returncode or not spy.file.exists():
        raise CannotRun(f"py-spy can't look into our processes: {' '.join(why.split())[-300:]}")
    return spy.file.read_text()


def by_owner(lines: Iterable[str]) -> Counter[str]:
    """Samples by whose code they were in, of py-spy's raw lines: `frame (file:line);... count`."""
    found: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if not frames[-1].startswith(_AT_REST):
            found[next(filter(None, map(_owner, reversed(frames))), OTHERS)] += int(count)
    return found


def _owner(frame: str) -> str | None:
    file = _FILE.search(frame)
    return next((owner for part, owner in OWNERS if file and file[1].startswith(part)), None)
