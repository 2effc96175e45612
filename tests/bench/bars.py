"""The bars that the application shall meet, and what a run says of each. Pure. Nothing here is asserted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.outage import KINDS, Outage, ratio_of
from tests.bench.scenarios import BURST_64, BUSY, MANY, ONE, PACED_16, PACED_64, Cell

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]  # cell, system, figure
OURS = "breakwater"


@dataclass(frozen=True, slots=True)
class Bar:
    what: str
    limit: float
    value: float  # NaN: this run did not measure it
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if math.isnan(self.value):
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def bars(found: Medians, outages: Sequence[Outage], grown: Mapping[str, float]) -> list[Bar]:
    """`grown`: each process's growth of memory as a part of what it held."""

    def of(cell: Cell, figure: str, system: str = OURS) -> float:
        return found.get(cell.name, {}).get(system, {}).get(figure, math.nan)

    def ratio(cell: Cell, figure: str, other: str) -> float:
        return of(cell, figure) / (of(cell, figure, other) or math.nan)

    actor = of(BUSY, "cpu_ms breaker actor") / of(BUSY, "cpu_ms")
    tails = [
        Bar(f"added {part} at {count}, of Portkey's", 1, ratio(cell, f"added_{part}", "portkey"))
        for cell, count in ((ONE, "one connection"), (MANY, "64 connections"))
        for part in ("p50", "p95", "p99")
    ]
    least, rate = "requests per CPU second at 64 connections", "per_cpu_second"
    return [
        Bar("added p50 at one connection, of LiteLLM's", 0.5, ratio(ONE, "added_p50", "litellm")),
        Bar(f"{least}, of LiteLLM's", 20, ratio(MANY, rate, "litellm"), at_least=True),
        Bar(f"{least}, of Portkey's", 1.5, ratio(MANY, rate, "portkey"), at_least=True),
        Bar("CPU of a stream of 50 frames at 5 ms, 64 at once, of Portkey's", 1, ratio(PACED_64, "cpu_ms", "portkey")),
        Bar("CPU of a stream of 50 frames at once, 64 at once, of Portkey's", 1, ratio(BURST_64, "cpu_ms", "portkey")),
        *tails,
        Bar("first token added at 16 streams, of Portkey's", 1 / 3, ratio(PACED_16, "added_first_p50", "portkey")),
        Bar("CPU ms of a request at 64 connections", 2.5, of(MANY, "cpu_ms")),
        Bar("CPU ms of a stream of 50 frames at 5 ms, 64 at once", 6, of(PACED_64, "cpu_ms")),
        Bar("CPU ms of a stream of 50 frames at once, 64 at once", 3, of(BURST_64, "cpu_ms")),
        Bar("first token added at 16 streams, p50 ms", 5, of(PACED_16, "added_first_p50")),
        Bar("first token added at 16 streams, p99 ms", 20, of(PACED_16, "added_first_p99")),
        *(Bar(f"p99 in an outage ({kind}), of the healthy p99", 1.1, ratio_of(kind, outages)) for kind in KINDS),
        Bar("the breaker actor's part of all CPU at 400 requests/s", 0.01, actor),
        Bar("memory of a process after 20,000 requests and 2,000 streams, grown by", 0.05, _most(grown)),
    ]


def _most(grown: Mapping[str, float]) -> float:
    return max(grown.values(), default=math.nan)
