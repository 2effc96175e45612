"""What runs have shown: counts, times, and each thing that was wrong. Figures of runs add up."""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

ORACLES = (
    *("lost", "moved_avoidable", "broken", "stuck", "two_probes", "late_recovery", "leaks", "errors"),
    *("waited", "status", "legs", "budget", "rows", "keys", "starved"),
)
KEPT = 200  # cases of each oracle and run
COUNTS = (
    "requests",
    "calls",
    "calls_into_dead",
    "asks",
    "probes",
    "broken_streams",
    "provider_faults",
    "seams",
    "second_legs",
)


@dataclass(frozen=True, slots=True)
class Wrong:
    """`oracle`: who says so; `at`: seconds since the run began."""

    oracle: str
    at: float
    replica: int | None
    number: int | None  # of the request
    what: str
    run: str = ""

    def line(self) -> str:
        who = "" if self.replica is None else f" replica {self.replica}"
        request = "" if self.number is None else f" request {self.number}"
        return f"{self.oracle}: {self.run} at {self.at:.2f} s{who}{request}: {self.what}"


@dataclass
class Figures:
    requests: int = 0
    calls: int = 0
    calls_into_dead: int = 0
    asks: int = 0
    probes: int = 0
    broken_streams: int = 0  # of providers that broke them
    provider_faults: int = 0
    seams: int = 0  # in streams
    second_legs: int = 0
    actor_faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    learning: Counter[str] = field(default_factory=Counter)  # lost, and excused: why
    settling: Counter[str] = field(default_factory=Counter)  # moved, and excused: why
    failover: dict[str, list[float]] = field(default_factory=dict)
    recovery: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # oracle: how often
    wrongs: list[Wrong] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)  # those in which something was wrong
    digest: int = 0  # of all that has become of the requests

    def wrong(self, wrong: Wrong) -> None:
        self.counts[wrong.oracle] += 1
        if self.counts[wrong.oracle] <= KEPT:
            self.wrongs.append(wrong)

    def add(self, other: "Figures") -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("actor_faults", "ends", "learning", "settling", "counts"):
            getattr(self, name).update(getattr(other, name))
        for kind, seconds in other.failover.items():
            self.failover.setdefault(kind, []).extend(seconds)
        self.recovery += other.recovery
        self.wrongs += other.wrongs
        self.runs += other.runs

    def rows(self) -> list[tuple[str, str]]:
        """Name and value, for a table."""
        found = [(oracle, str(self.counts[oracle])) for oracle in ORACLES]
        found += [(name, str(getattr(self, name))) for name in COUNTS]
        for name in ("ends", "learning", "settling", "actor_faults"):
            found += [(f"{name}: {key}", str(n)) for key, n in sorted(getattr(self, name).items())]
        found.append(("recovery after the open time", _spread(self.recovery)))
        return found + [(f"failover: {kind}", _spread(seconds)) for kind, seconds in sorted(self.failover.items())]


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    p95 = sorted(seconds)[int(0.95 * (len(seconds) - 1))]
    return f"p50 {statistics.median(seconds):.2f} p95 {p95:.2f} max {max(seconds):.2f} n {len(seconds)}"


def table(columns: dict[str, Figures]) -> str:
    """One column for each, side by side."""
    rows = {name: dict(figures.rows()) for name, figures in columns.items()}
    names = list(dict.fromkeys(key for column in rows.values() for key in column))
    width = max(len(name) for name in names)
    lines = [_line(width, "", rows)]
    return "\n".join(lines + [_line(width, key, [column.get(key, "0") for column in rows.values()]) for key in names])


def _line(width: int, key: str, cells: Iterable[str]) -> str:
    return f"{key:{width}}  " + "  ".join(f"{cell:44}" for cell in cells).rstrip()
