"""What a run found, as Markdown for people and as JSON for programs. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bench.bars import OURS, Bar, bars
from tests.bench.figures import added, medians, percentile
from tests.bench.outage import Outage
from tests.bench.profile import Profile
from tests.bench.scenarios import Cell

DIRECT = "direct"


@dataclass(slots=True)
class Result:
    about: dict[str, Any]
    cells: list[Cell]
    rounds: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)  # cell, system
    resting: dict[str, dict[str, float]] = field(default_factory=dict)  # system, process: part of a core
    memory: dict[str, tuple[dict[str, float], dict[str, float]]] = field(default_factory=dict)  # system: before, after
    outages: list[Outage] = field(default_factory=list)
    profiles: list[Profile] = field(default_factory=list)
    grown: dict[str, float] = field(default_factory=dict)

    def add(self, cell: Cell, system: str, found: Mapping[str, float]) -> None:
        """In each round *direct* comes first: what the others add is added to it."""
        rounds = self.rounds.setdefault(cell.name, {})
        mine = rounds.setdefault(system, [])
        direct = found if system == DIRECT else rounds[DIRECT][len(mine)]
        mine.append(added(found, direct))

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        return {
            cell: {system: medians(rounds) for system, rounds in systems.items()}
            for cell, systems in self.rounds.items()
        }

    def bars(self) -> list[Bar]:
        return bars(self.medians(), self.outages, self.grown)

    def json(self) -> Any:
        """What JSON can hold: what was not measured is null."""
        return _plain(self._all())

    def _all(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "bars": [asdict(bar) | {"met": bar.met} for bar in self.bars()],
            "medians": self.medians(),
            "rounds": self.rounds,
            "resting": self.resting,
            "memory": {system: {"before": b, "after": a} for system, (b, a) in self.memory.items()},
            "outages": [outage.told() for outage in self.outages],
            "profiles": [asdict(profile) for profile in self.profiles],
            "grown": self.grown,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def markdown(result: Result) -> Iterator[str]:
    """All tables that there are figures for, line by line."""
    yield from (f"{name}: {value}  " for name, value in result.about.items())
    found = result.medians()
    for cell in result.cells:
        if cell.name in found:
            yield from _cell_table(cell, found[cell.name])
    yield from _process_table(found)
    yield from _bench_table(found)
    yield from _memory_tables(result)
    yield from _outage_table(result.outages)
    for profile in result.profiles:
        yield from _profile_table(profile)
    yield from _bar_table(result.bars())


def _table(*heads: str) -> Iterator[str]:
    yield ""
    yield "| " + " | ".join(heads) + " |"
    yield "|---" + "|--:" * (len(heads) - 1) + "|"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _times(value: float, ours: float) -> str:
    return "-" if not ours or math.isnan(value / ours) else f"{value / ours:.2g}x"


def _cell_table(cell: Cell, systems: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    first = [f"first token +{part}" for part in ("p50", "p95", "p99")] if cell.ask.frames else []
    frames = ["frames/s"] if cell.ask.frames else []
    heads = ["+p50 ms", "+p95", "+p99", *first, "requests/s", *frames, "CPU ms", "requests/CPU s", "failed"]
    yield from _table(cell.name, *heads, "its +p50 of ours", "its CPU of ours")
    ours = systems.get(OURS, {})
    for name, one in systems.items():
        yield _row(*_cell_row(cell, name, one, ours))


def _cell_row(cell: Cell, name: str, one: Mapping[str, float], ours: Mapping[str, float]) -> Iterator[str]:
    yield name
    prefix = "" if name == DIRECT else "added_"
    stream = bool(cell.ask.frames)
    for kind in ("", "first_")[: 1 + stream]:
        for part in ("p50", "p95", "p99"):
            value = one[f"{prefix}{kind}{part}"]
            yield f"({_number(value)})" if name == DIRECT else _number(value)
    yield _number(one["per_second"])
    if stream:
        yield _number(one["frames_per_second"])
    cpu = math.nan if name == DIRECT else one["cpu_ms"]
    yield from (_number(cpu), _number(one["per_cpu_second"]), _number(one["failed"]))
    peer = name not in (DIRECT, OURS) and bool(ours)
    yield _times(one["added_p50"], ours["added_p50"]) if peer else ""
    yield _times(cpu, ours["cpu_ms"]) if peer else ""


def _process_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    ours = {cell: systems[OURS] for cell, systems in found.items() if OURS in systems}
    sums: dict[str, float] = {}
    for one in ours.values():
        for figure, value in one.items():
            if figure.startswith("cpu_ms "):
                sums[figure] = sums.get(figure, 0.0) + value
    roles = sorted(sums, key=lambda figure: -sums[figure])
    if roles:
        yield from _table("CPU ms of a request of ours, by process", *(r.removeprefix("cpu_ms ") for r in roles), "all")
    for cell, one in ours.items():
        yield _row(cell, *(_number(one.get(role, 0.0)) for role in roles), _number(one["cpu_ms"]))


def _bench_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    heads = ("direct requests/s", "load CPU ms", "upstream CPU ms", "bench's core busy, at most")
    noise = ("others on the systems' core, at most", "ours that failed over")
    yield from _table("is the bench in the way?", *heads, *noise)
    for cell, systems in found.items():
        direct = systems[DIRECT]
        behind = [one for name, one in systems.items() if name != DIRECT]
        busy = max((one["bench_busy"] for one in behind), default=math.nan)
        others = max((one["others"] for one in behind), default=math.nan)
        costs = (direct["per_second"], direct["load_cpu_ms"], direct["upstream_cpu_ms"])
        moved = systems.get(OURS, {}).get("moved", math.nan)
        yield _row(cell, *(_number(cost) for cost in costs), _percent(busy), _percent(others), _number(moved))


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value * 100:.0f} %"


def _memory_tables(result: Result) -> Iterator[str]:
    if result.resting:
        yield from _table("at rest", "% of a core", "MB at the start", "MB at the end")
    for system, resting in result.resting.items():
        before, after = result.memory.get(system, ({}, {}))
        yield _row(
            system, _number(sum(resting.values()) * 100), _number(sum(before.values())), _number(sum(after.values()))
        )
    before, after = result.memory.get(OURS, ({}, {}))
    if before:
        yield from _table("ours by process", "% of a core at rest", "MB at the start", "MB at the end", "grown by")
    for role in sorted(before, key=lambda role: -before[role]):
        now = after.get(role, 0.0)
        resting = _number(result.resting.get(OURS, {}).get(role, 0.0) * 100)
        yield _row(role, resting, _number(before[role]), _number(now), f"{(now / before[role] - 1) * 100:+.1f} %")


def _outage_table(outages: Sequence[Outage]) -> Iterator[str]:
    if outages:
        heads = ("requests", "lost", "tried it", "healthy p50 / p99", "slowest of the first three", "after: p50 / p99")
        yield from _table("outage of the first provider", *heads, "p99 of healthy p99")
    for o in outages:
        counts = (str(o.requests), str(o.lost), str(o.tried))
        yield _row(o.kind, *counts, _both(o.healthy), _number(o.learning), _both(o.after), f"{o.ratio:.2f}")


def _both(ms: Sequence[float]) -> str:
    return f"{_number(percentile(ms, 0.5))} / {_number(percentile(ms, 0.99))}"


def _profile_table(profile: Profile) -> Iterator[str]:
    roles = list(profile.samples)
    yield from _table(f"CPU ms of a request by whose code it is: {profile.cell}", *roles)
    for owner in profile.owners:
        yield _row(owner, *(_number(profile.ms(role, owner)) for role in roles))
    yield _row("all", *(_number(profile.cpu_ms[role]) for role in roles))
    yield _row("samples", *(str(sum(profile.samples[role].values())) for role in roles))


def _bar_table(found: Sequence[Bar]) -> Iterator[str]:
    yield from _table("bar", "limit", "measured", "met")
    words = {None: "not measured", True: "yes", False: "NO"}
    for bar in found:
        limit = f"{'at least' if bar.at_least else 'at most'} {bar.limit:g}"
        yield _row(bar.what, limit, _number(bar.value), words[bar.met])
