"""The plan of one request: from a model's row and the last sight to candidates. Pure.

The *sight* is the flat dict that the breaker actor pushes (`board.Board.sight`); `received` puts it on
the receiver's own clock, because no two processes share a monotonic one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.breaker.circuit import Mode, Policy, State, share


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
    reason: str = ""
    isolated_until: float = math.inf
    probing_until: float = 0.0  # a probe is out until then, if nothing is heard of it
    panicky: bool = False  # may be probed before its time when nothing else can be asked
    ramp_from: float | None = None
    since: float | None = None  # when its state or mode last changed, on the ingress's clock

    def isolated(self, now: float) -> bool:
        return self.mode is Mode.ISOLATED and now < self.isolated_until

    def probing(self, now: float) -> bool:
        return now < self.probing_until

    def rests(self, now: float) -> bool:
        """Is it open, and not due?"""
        return self.state is State.OPEN and now < self.open_until

    def to_be_probed(self, now: float) -> bool:
        """Is it being probed, or would the next call be a probe?"""
        return self.state is not State.CLOSED and not self.rests(now)


_POLICY = Policy()
UNSEEN = Seen(State.CLOSED, Mode.AUTO, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    target: str
    epoch: int
    probe: bool = False  # needs a permit when its turn comes
    panic: bool = False  # it is not due: only when nothing else has answered, and the permit is asked for in panic


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
    """`panics` are asked when nobody else has answered: they merely failed, and are not due."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    panics: tuple[Candidate, ...] = ()

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
            data["reason"],
            now + data["isolated_for"],
            now + data["probing_for"],
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
    """The row's targets that may be asked, in its own order, and why the others are left out.

    It says who *may* be asked; what is exclusive, a probe's permit, is taken when a candidate's turn comes. A target
    that nobody has seen counts as healthy, so that a missing actor never stops an answer. One that has just closed
    stands behind the others unless `draw`, in [0, 1), falls into its share, and whoever is due behind it in the row
    with it; so does one whose streams are `quiet`.
    """
    candidates: list[Candidate] = []
    later: list[Candidate] = []
    silent: list[Candidate] = []
    skipped: list[Skipped] = []
    for target in row:
        s = seen.get(target) or _like_its_siblings(target, seen)
        if s.state is State.CLOSED and s.mode is Mode.AUTO:
            ramping = draw >= share(s.ramp_from, now, policy.slow_start, policy.slow_start_from)
            (silent if target in quiet else later if ramping else candidates).append(Candidate(target, s.epoch))
        elif s.isolated(now):
            skipped.append(skip(target, s, now, "isolated", _known(s.isolated_until - now)))
        elif s.state is State.CLOSED:  # its isolation is over, though the actor has not said so
            candidates.append(Candidate(target, s.epoch))
        elif s.rests(now):
            skipped.append(skip(target, s, now, "throttled" if s.reason == "throttled" else "open", s.open_until - now))
        elif s.probing(now):
            skipped.append(skip(target, s, now, "probing", 1.0))
        else:
            (later or candidates).append(Candidate(target, s.epoch, probe=True))
    may = _panicky(row, seen, now) if skipped else ()
    panics = tuple(Candidate(t, seen[t].epoch, probe=True, panic=True) for t in may)
    return Plan((*candidates, *later, *silent), tuple(skipped), panics)


def _known(seconds: float) -> float | None:
    return seconds if seconds < math.inf else None


def skip(target: str, seen: Seen, now: float, why: str, retry_in: float | None = None) -> Skipped:
    state = "isolated" if seen.isolated(now) else seen.state.value
    return Skipped(target, why, retry_in, state, seen.epoch, None if seen.since is None else now - seen.since)


def _like_its_siblings(target: str, seen: Mapping[str, Seen]) -> Seen:
    """A target that nobody has seen is closed, unless its whole provider is isolated."""
    siblings = [s for t, s in seen.items() if provider_of(t) == provider_of(target)]
    held = siblings and all(s.mode is Mode.ISOLATED for s in siblings)
    if not held:
        return UNSEEN
    return replace(UNSEEN, mode=Mode.ISOLATED, isolated_until=max(s.isolated_until for s in siblings))


def _panicky(row: Sequence[str], seen: Mapping[str, Seen], now: float) -> list[str]:
    """Whom a panic may wake: those that merely failed, the one whose time is nearest first."""
    may = [t for t in row if t in seen and _may_panic(seen[t], now)]
    return sorted(may, key=lambda t: seen[t].open_until)


def _may_panic(s: Seen, now: float) -> bool:
    return s.rests(now) and s.panicky and not s.isolated(now) and not s.probing(now)
