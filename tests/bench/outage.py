"""What clients see of a provider's outage: the first provider goes, the second answers.

Requests come at a constant rate. The healthy tail is that of the requests before the outage; the other
that of all requests from the fourth on whose first attempt failed. One 99th percentile of a thousand requests varies by
a third from run to run, so that of the bar is of all runs' requests together.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from tests.bench.figures import Sample, percentile
from tests.bench.load import Pool, open_loop, request_bytes
from tests.bench.processes import CannotRun
from tests.bench.scenarios import WHOLE
from tests.bench.systems import System, command, post

# Ray's dashboard and its agent take the core for 20 ms each every five seconds: both halves have the same of it.
RATE, HEALTHY_SECONDS, OUTAGE_SECONDS = 100, 10.0, 10.0
KINDS = ("refused", "500")
NONE = "none"  # nothing breaks: what the ratio is by chance
LEARNED = 3  # failed requests that the breaker may cost


@dataclass(frozen=True, slots=True)
class Outage:
    """Milliseconds, but for the counts. `tried`: requests whose first attempt failed.

    `learning`: the slowest of the requests up to the third that failed over.
    """

    kind: str
    requests: int
    lost: int
    tried: int
    healthy: Sequence[float]
    learning: float
    after: Sequence[float]

    @property
    def ratio(self) -> float:
        return percentile(self.after, 0.99) / percentile(self.healthy, 0.99)

    def told(self) -> dict[str, Any]:
        """Each request's time to the microsecond."""
        parts = {part: [round(ms, 3) for ms in getattr(self, part)] for part in ("healthy", "after")}
        return {**asdict(self), **parts, "ratio": self.ratio}


def ratio_of(kind: str, outages: Sequence[Outage]) -> float:
    """The p99 of an outage's requests by that of all healthy ones; NaN where none was measured."""
    after = [ms for outage in outages if outage.kind == kind for ms in outage.after]
    healthy = [ms for outage in outages for ms in outage.healthy]
    return percentile(after, 0.99) / percentile(healthy, 0.99) if after else math.nan


def outage_of(kind: str, samples: Sequence[Sample], began: float) -> Outage:
    """`began`: the instant of the outage, on the samples' clock. A request that was under way belongs to no part."""
    healthy = [s.total * 1000 for s in samples if s.whole and s.at + s.total < began]
    during = sorted((s for s in samples if s.at >= began), key=lambda s: s.at)
    tried = [at for at, sample in enumerate(during) if sample.attempts > 1 or not sample.whole]
    first = tried[LEARNED - 1] + 1 if len(tried) >= LEARNED else 0
    after = [s.total * 1000 for s in during[first:] if s.whole]
    return Outage(
        kind,
        len(during),
        sum(not s.whole for s in during),
        len(tried),
        healthy,
        max((s.total * 1000 for s in during[:first]), default=0.0),
        after,
    )


def measured_outage(kind: str, system: System, provider: System) -> Outage:
    """`refused`: nobody listens at the provider's port, and its connections are gone; `500`: it answers with that."""
    order = {NONE: "status=200", "refused": f"away={OUTAGE_SECONDS + 1}"}.get(kind, f"status={kind}")
    try:
        samples, began = uvloop.run(_under_load(system, lambda: post(provider, b"{}", f"/control?{order}")))
    finally:
        _until_200(lambda: post(provider, b"{}", "/control?status=200"))
        _until_200(lambda: command(system, "reset", "first"))
    return outage_of(kind, samples, began)


def _until_200(ask: Callable[[], int]) -> None:
    deadline = time.monotonic() + 30
    while ask() != 200:
        if time.monotonic() > deadline:
            raise CannotRun("after an outage not all was well again within 30 s")
        time.sleep(0.1)


async def _under_load(system: System, break_it: Callable[[], int]) -> tuple[list[Sample], float]:
    pool = Pool(system.port, request_bytes(system.port, system.headers, WHOLE.body()), WHOLE.words)
    await pool.open(8)
    load = asyncio.ensure_future(open_loop(pool.send, RATE, HEALTHY_SECONDS + OUTAGE_SECONDS))
    await asyncio.sleep(HEALTHY_SECONDS)
    began = time.perf_counter()
    await asyncio.to_thread(break_it)
    samples = await load
    pool.close()
    return samples, began
