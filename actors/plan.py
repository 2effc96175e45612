"""The plan of one request: from a model's row and the last sight to candidates. Pure.

The *sight* is the flat dict that the breaker actor pushes (`board.Board.sight`); `received` puts it on
the receiver's own clock, because no two processes share a monotonic one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.breaker import Mode, Policy, State, share


def target_of(provider: str, model: str) -> str:
    """A target's name: `provider/upstream-model`. A provider's name has no slash."""
    return f"{provider}/{model}"


def provider_of(target: str) -> str:
    return target.partition("/")[0]


FUNCTIONS = "functions"  # in the place of a model: functions of others that run under our circuits


def of_functions(target: str) -> bool:
    return target.split("/")[1:2] == [FUNCTIONS]


@dataclass(frozen=True, slots=True)
class Seen:
    """One target as an ingress last saw it; `open_until` is on the ingress's own clock."""

    state: State
    mode: Mode
    epoch: int
    open_until: float
    probing: bool = False
    panicky: bool = False  # may be probed before its time when nothing else can be asked
    ramp_from: float | None = None
    since: float | None = None  # when its state or mode last changed, on the ingress's clock


_POLICY = Policy()
UNSEEN = Seen(State.CLOSED, Mode.AUTO, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    target: str
    epoch: int
    probe: bool = False  # needs a permit before it is called
    panic: bool = False  # the permit must be asked for in panic


@dataclass(frozen=True, slots=True)
class Skipped:
    """`state`, `epoch` and `since`, seconds in that state: of its circuit, as far as the ingress has seen it."""

    target: str
    why: str
    retry_in: float | None
    state: str | None = None
    epoch: int | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]

    @property
    def retry_in(self) -> float | None:
        """Seconds until the first of the skipped may be asked again."""
        return min((s.retry_in for s in self.skipped if s.retry_in is not None), default=None)


def received(sight: Mapping[str, Mapping[str, Any]], now: float) -> dict[str, Seen]:
    """A pushed sight on the receiver's own clock."""
    return {
        target: Seen(
            State(data["state"]),
            Mode(data["mode"]),
            data["epoch"],
            now + data["retry_in"],
            data["probing"],
            data["panicky"],
            None if data["ramped"] is None else now - data["ramped"],
            now - data["since"],
        )
        for target, data in sight.items()
    }


def plan(
    row: Sequence[str],
    seen: Mapping[str, Seen],
    now: float,
    policy: Policy = _POLICY,
    draw: float = 0.0,
    quiet: Collection[str] = (),
) -> Plan:
    """The row's usable targets in its own order, and why the others are left out.

    A target whose open time is over is offered as a probe in the first place only: behind a healthy
    one it would not be called, and its permit would be lost. A target nobody has seen counts as
    healthy, so that a missing actor never stops an answer. One that has just closed stands behind the
    others unless `draw`, in [0, 1), falls into its share; so does one whose streams are `quiet`.
    """
    candidates: list[Candidate] = []
    later: list[Candidate] = []
    silent: list[Candidate] = []
    skipped: list[Skipped] = []
    for target in row:
        s = seen.get(target) or _like_its_siblings(target, seen)
        if s.mode is Mode.ISOLATED:
            skipped.append(skip(target, s, now, "isolated"))
        elif s.state is State.CLOSED:
            ramping = draw >= share(s.ramp_from, now, policy.slow_start, policy.slow_start_from)
            (silent if target in quiet else later if ramping else candidates).append(Candidate(target, s.epoch))
        elif s.state is State.OPEN and now < s.open_until:
            skipped.append(skip(target, s, now, "open", s.open_until - now))
        elif s.probing or candidates or later:
            skipped.append(skip(target, s, now, "probing" if s.probing else "probe not due here", 1.0))
        else:
            candidates.append(Candidate(target, s.epoch, probe=True))
    candidates += later + silent
    if not candidates and (early := _soonest(row, seen)) is not None:
        candidates.append(Candidate(early, seen[early].epoch, probe=True, panic=True))
        skipped = [s for s in skipped if s.target != early]
    return Plan(tuple(candidates), tuple(skipped))


def skip(target: str, seen: Seen, now: float, why: str, retry_in: float | None = None) -> Skipped:
    state = "isolated" if seen.mode is Mode.ISOLATED else seen.state.value
    return Skipped(target, why, retry_in, state, seen.epoch, None if seen.since is None else now - seen.since)


def _like_its_siblings(target: str, seen: Mapping[str, Seen]) -> Seen:
    """A target that nobody has seen is closed, unless its whole provider is isolated."""
    siblings = [s for t, s in seen.items() if provider_of(t) == provider_of(target)]
    held = siblings and all(s.mode is Mode.ISOLATED for s in siblings)
    return replace(UNSEEN, mode=Mode.ISOLATED) if held else UNSEEN


def _soonest(row: Sequence[str], seen: Mapping[str, Seen]) -> str | None:
    """Which target a panic may wake: the one whose time is nearest, of those that merely failed."""
    may = [t for t in row if t in seen and seen[t].panicky and seen[t].mode is Mode.AUTO and not seen[t].probing]
    return min(may, key=lambda t: seen[t].open_until, default=None)
