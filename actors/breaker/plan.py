"""The plan of one request: from a model's row and the last snapshot to candidates. Pure.

The *snapshot* is the flat dict that the breaker actor pushes (`registry.Registry.snapshot`); `received` puts it on
the receiver's own clock, because no two processes share a monotonic one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypedDict

from msgspec import Struct

from actors.breaker.circuit import Mode, Policy, State, share

# One provider with one upstream model, `provider/upstream-model`; or one place of it, which is a key, an account or a
# region: `provider#place/upstream-model`.
Target = str
PLACE = "#"
_known = lru_cache(maxsize=1000)  # a request asks for the parts of its targets twenty times; a client may name any


def target_of(provider: str, model: str) -> Target:
    """Return a target's name: `provider/upstream-model`. A provider's name has no slash; it may have a place."""
    return f"{provider}/{model}"


@_known
def site_of(target: Target) -> str:
    """Return a target's provider, with its place if it has one: `provider#place`."""
    return target.partition("/")[0]


@_known
def parts_of(target: Target) -> tuple[str, str]:
    """Return a target's provider and its upstream model, which may hold slashes."""
    site, _, model = target.partition("/")
    return (site if PLACE not in site else _provider_in(site, model)), model


@_known
def provider_of(target: Target) -> str:
    """Return a target's provider, without its place."""
    site, _, model = target.partition("/")
    return site if PLACE not in site else _provider_in(site, model)


@_known
def place_of(target: Target) -> str:
    """Return a target's place; an empty text if its provider has none."""
    site, _, model = target.partition("/")
    return "" if PLACE not in site else site[len(_provider_in(site, model)) + 1 :]


@_known
def model_of(target: Target) -> str:
    return target.partition("/")[2]


FUNCTIONS = "functions"  # in the place of a model: functions of others that run under our circuits


def of_functions(target: Target) -> bool:
    return target.split("/")[1:2] == [FUNCTIONS]


def _provider_in(site: str, model: str) -> str:
    """Return the provider of a target's first part. Functions of others have any name, and no places."""
    return site if model.partition("/")[0] == FUNCTIONS else site.partition(PLACE)[0]


def is_of(target: Target, name: str) -> bool:
    """Return whether an operator means this target by a name: its provider's, or that with its place."""
    return name in (provider_of(target), site_of(target))


def labels_of(target: Target) -> tuple[str, str, str]:
    """Return provider, model and place for a metric's labels. Functions of other apps may have any name."""
    return (FUNCTIONS, FUNCTIONS, "") if of_functions(target) else (*parts_of(target), place_of(target))


class TargetSnapshot(TypedDict):
    """One target as the actor sends it: seconds from now, or ago, instead of instants."""

    state: str
    mode: str
    epoch: int
    retry_in: float
    reason: str
    isolated_for: float
    probing_for: float
    panicky: bool
    ramped: float | None
    since: float


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
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
        """Return whether it is open, and not due."""
        return self.state is State.OPEN and now < self.open_until

    def to_be_probed(self, now: float) -> bool:
        """Return whether it is being probed, or the next call would be a probe."""
        return self.state is not State.CLOSED and not self.rests(now)


_POLICY = Policy()
UNKNOWN_CIRCUIT = CircuitSnapshot(State.CLOSED, Mode.AUTO, 0, 0.0)


class Candidate(Struct, frozen=True):
    target: Target
    epoch: int
    probe: bool = False  # needs a permit when its turn comes
    panic: bool = False  # it is not due: only when nothing else has answered, and the permit is asked for in panic


@dataclass(frozen=True, slots=True)
class Skipped:
    """`state`, `epoch` and `since`, seconds in that state: of its circuit, as far as the ingress has seen it."""

    target: Target
    why: str
    retry_in: float | None
    state: str | None = None
    epoch: int | None = None
    since: float | None = None


class Plan(Struct, frozen=True):
    """`panics` are asked when nobody else has answered: they merely failed, and are not due."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    panics: tuple[Candidate, ...] = ()

    @property
    def retry_in(self) -> float | None:
        """Seconds until the first of the skipped may be asked again."""
        return min((s.retry_in for s in self.skipped if s.retry_in is not None), default=None)


def received(snapshot: Mapping[Target, TargetSnapshot], now: float) -> dict[Target, CircuitSnapshot]:
    """Return a pushed snapshot on the receiver's own clock."""
    return {
        target: CircuitSnapshot(
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
        for target, data in snapshot.items()
    }


def plan(
    row: Sequence[Target],
    seen: Mapping[Target, CircuitSnapshot],
    now: float,
    policy: Policy = _POLICY,
    draw: float = 0.0,
    quiet: Collection[Target] = (),
) -> Plan:
    """Return the row's targets that may be asked, in its own order, and why the others are left out.

    It says who *may* be asked; what is exclusive, a probe's permit, is taken when a candidate's turn comes. A target
    that nobody has seen counts as healthy, so that a missing actor never stops an answer. One that has just closed
    stands behind the others unless `draw`, in [0, 1), falls into its share, and one that is due behind it in the row
    with it; so does one whose streams are `quiet`.
    """
    candidates: list[Candidate] = []
    later: list[Candidate] = []
    silent: list[Candidate] = []
    skipped: list[Skipped] = []
    for target in row:
        s = seen.get(target) or _like_its_siblings(target, seen)
        if s.state is State.CLOSED and s.mode is Mode.AUTO:
            ramping = s.ramp_from is not None and draw >= share(
                s.ramp_from, now, policy.slow_start, policy.slow_start_from
            )
            (silent if target in quiet else later if ramping else candidates).append(Candidate(target, s.epoch))
        elif s.isolated(now):
            skipped.append(skip(target, s, now, "isolated", _finite(s.isolated_until - now)))
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


def _finite(seconds: float) -> float | None:
    return seconds if seconds < math.inf else None


def skip(target: Target, seen: CircuitSnapshot, now: float, why: str, retry_in: float | None = None) -> Skipped:
    state = "isolated" if seen.isolated(now) else seen.state.value
    return Skipped(target, why, retry_in, state, seen.epoch, None if seen.since is None else now - seen.since)


def _like_its_siblings(target: Target, seen: Mapping[Target, CircuitSnapshot]) -> CircuitSnapshot:
    """A target that nobody has seen is closed, unless its whole provider is isolated, or its place."""
    for name in dict.fromkeys((site_of(target), provider_of(target))):
        siblings = [s for t, s in seen.items() if is_of(t, name)]
        if siblings and all(s.mode is Mode.ISOLATED for s in siblings):
            return replace(UNKNOWN_CIRCUIT, mode=Mode.ISOLATED, isolated_until=max(s.isolated_until for s in siblings))
    return UNKNOWN_CIRCUIT


def _panicky(row: Sequence[Target], seen: Mapping[Target, CircuitSnapshot], now: float) -> list[Target]:
    """Whom a panic may wake: those that merely failed, the one whose time is nearest first."""
    may = [t for t in row if t in seen and _may_panic(seen[t], now)]
    return sorted(may, key=lambda t: seen[t].open_until)


def _may_panic(s: CircuitSnapshot, now: float) -> bool:
    return s.rests(now) and s.panicky and not s.isolated(now) and not s.probing(now)
