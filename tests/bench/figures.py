"""From samples to figures. Pure.

Percentiles are exact: the value at that rank of all that were measured, no buckets. *Added* is the
system's percentile less that of *direct* in the same round; what is shown is the median of the rounds.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times in seconds: when it was due, from then to the first word, and to the end."""

    at: float
    first: float
    total: float
    words: int
    whole: bool
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One cell at one system in one round. CPU in seconds, by process."""

    samples: Sequence[Sample]
    seconds: float
    cpu: Mapping[str, float] = field(default_factory=dict)
    load_cpu: float = 0.0
    upstream_cpu: float = 0.0
    others_cpu: float = 0.0  # on the system's core, of whoever else runs there


def percentile(values: Iterable[float], part: float) -> float:
    """The smallest value that at least this part of all values does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan


PARTS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def figures(run: Run) -> dict[str, float]:
    """What one run says by itself. Latencies and CPU in milliseconds, CPU of a request."""
    whole = [sample for sample in run.samples if sample.whole]
    count = len(whole)
    totals, firsts = [s.total * 1000 for s in whole], [s.first * 1000 for s in whole]
    cpu = sum(run.cpu.values())
    return {
        "requests": count,
        "failed": len(run.samples) - count,
        "moved": sum(s.attempts > 1 for s in whole),  # that another provider had to answer
        "per_second": count / run.seconds,
        "frames_per_second": sum(s.words for s in whole) / run.seconds,
        **{name: percentile(totals, part) for name, part in PARTS.items()},
        **{f"first_{name}": percentile(firsts, part) for name, part in PARTS.items()},
        "cpu_ms": _ratio(cpu * 1000, count),
        "per_cpu_second": _ratio(count, cpu),
        "busy": cpu / run.seconds,
        "bench_busy": (run.load_cpu + run.upstream_cpu) / run.seconds,
        "others": run.others_cpu / run.seconds,
        "load_cpu_ms": _ratio(run.load_cpu * 1000, count),
        "upstream_cpu_ms": _ratio(run.upstream_cpu * 1000, count),
        **{f"cpu_ms {role}": _ratio(seconds * 1000, count) for role, seconds in run.cpu.items()},
    }


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else math.nan


def added(mine: Mapping[str, float], direct: Mapping[str, float]) -> dict[str, float]:
    """With what was added to direct in the same round."""
    names = [*PARTS, *(f"first_{name}" for name in PARTS)]
    return {**mine, **{f"added_{name}": mine[name] - direct[name] for name in names}}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure; a process that was not there in a round took nothing then."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: statistics.median([one.get(name, 0.0) for one in rounds]) for name in names}
