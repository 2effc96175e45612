"""Does memory grow? Many requests and streams to our own, and what each process holds before and after."""

import time

from tests.bench.measure import measured
from tests.bench.processes import CannotRun, memory_of
from tests.bench.scenarios import BURST_64, MANY, Cell
from tests.bench.systems import System

REQUESTS, STREAMS = 20_000, 2_000
REST_SECONDS = 3.0  # what was under way is written and let go


def measured_growth(system: System, upstream: System, part: float = 0.5) -> dict[str, float]:
    """By process, as a part of what it held after half as many.

    By then all is loaded, and what has a bound is full: an ingress remembers its last ten thousand requests.
    """
    _ask(system, upstream, part)
    before = _held(system)
    _ask(system, upstream, 1.0)
    after = _held(system)
    return {role: after.get(role, 0.0) / size - 1 for role, size in before.items()}


def _held(system: System) -> dict[str, float]:
    time.sleep(REST_SECONDS)
    return memory_of(system.session)


def _ask(system: System, upstream: System, part: float) -> None:
    for cell, count in ((MANY, REQUESTS * part), (BURST_64, STREAMS * part)):
        _until(system, upstream, cell, round(count))


def _until(system: System, upstream: System, cell: Cell, count: int) -> None:
    done = 0
    while done < count:
        answered = sum(sample.whole for sample in measured(system, upstream, cell, 2.0).samples)
        if not answered:
            raise CannotRun(f"{system.name} answers none of {cell.name}")
        done += answered
