"""The circuit of one target, as a pure reducer: `step(breaker, now, message) -> Step`.

Theory of operation
-------------------
A *target* is one provider with one upstream model. Its circuit is CLOSED (calls pass), OPEN (none
pass until `open_until`) or HALF_OPEN (one *probe* passes; its ending decides). An operator may
*isolate* a target: no call passes, whatever its state, until it is restored.

Calls through a closed circuit need no message: whoever calls has seen the circuit's *epoch* and
reports with it. The epoch moves when state or mode moves and when an operator says recover or
reset, and on nothing else, so a report that began before is told apart by its number and decides
nothing.

A probe needs a *lease*, by name, granted here to one asker at a time and to the same name twice. A
lease ends by its report, its release or its time limit. When the epoch moves, leases become
*ghosts*: the call may still be out in the world, so a ghost counts as a probe in flight until it is
reported or its time is over. That is what keeps "one probe at a time" true over operators' commands.
A lease that nobody used says nothing of the target, and one that is lost says little: it is our own
absence. Neither opens the circuit; five that end without a word of the target do.

What counts is found by comparison. A failure is *in a row* with others only if no call that began after
it has gone well: one client's four slow prompts end at one instant, and hundreds have begun and gone well
in between. What every tier of one request did alike is the request's own and comes as NEUTRAL or REFUSED
(deployments/failover/attempts/comparison.py). The ratio counts what has begun well, not only what has ended, and what
flows counts as well: a stream that is older than those that broke, and goes on, ends their run.

A circuit that a probe has closed gets its traffic back bit by bit (`share`), and remembers for a while
how often it tripped, so that one that flaps stays open longer each time. A probe that is a stream closes
it as soon as it has flowed for a while, so that one long answer does not keep all others out; it stays on
*trial*: if it breaks later, the circuit opens at once. When nothing in a row can be asked, an asker may
*panic*: a target that failed, rather than one that told us to wait or that refused our key, gives one
probe a second before its time.

Time, jitter and names come in as arguments: `now` is monotonic seconds, `jitter` in [0, 1).

Transitions
-----------
from        on                                    to
CLOSED      `failure_threshold` failures in a row  OPEN(failures), twice as long each time to a cap
CLOSED      half of the last 30 s' calls failed    the same; at least 10 calls, the last one a failure; calls
                                                   that begin, and streams that end or flow, each by themselves
CLOSED      THROTTLED                              OPEN(throttled) for the provider's delay, clamped
CLOSED      MISCONFIGURED                          OPEN(misconfigured), twice as long each time
OPEN        THROTTLED of an earlier epoch          OPEN, never for shorter: a maximum
OPEN        Ask at or after `open_until`           HALF_OPEN, with a lease
OPEN        Ask in panic, once a second            HALF_OPEN, with a lease, if it is open for failures
HALF_OPEN   Ask, no probe in flight                HALF_OPEN, with a lease
HALF_OPEN   OK of the lease                        CLOSED, with a growing share of the traffic
any         STARTED (content comes)                no change; CLOSED: clears the run before content;
                                                   HALF_OPEN: the lease's time begins anew
HALF_OPEN   FLOWING of the lease                   CLOSED, with a growing share, the lease on trial
HALF_OPEN   STARTED of the lease, where it was     the same: it refuses us no longer
            open for THROTTLED or MISCONFIGURED
CLOSED      failure of the lease on trial          OPEN(failures)
HALF_OPEN   failure of the lease                   OPEN(failures)
HALF_OPEN   THROTTLED, MISCONFIGURED of the lease  OPEN(that)
HALF_OPEN   NEUTRAL of the lease                   HALF_OPEN; the fifth: OPEN(inconclusive)
HALF_OPEN   the lease's time is over               HALF_OPEN; the fifth: OPEN(lost)
HALF_OPEN   REFUSED of the lease, or Release       HALF_OPEN: it answered, or was never called
any         Isolate / Restore, or its time is over mode ISOLATED / AUTO, state as it was
any         Recover / Reset                        HALF_OPEN / CLOSED, mode AUTO, always a new epoch
any         any report of another epoch            no change: late
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from actors.breaker.outcomes import Verdict


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(StrEnum):
    AUTO = "auto"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class Policy:
    """Durations are seconds."""

    failure_threshold: int = 3
    recovery_timeout: float = 60.0
    recovery_cap: float = 120.0  # more doubling gains few spared probes and costs minutes of recovery
    window: float = 30.0  # the failure ratio is taken over this long ...
    window_calls: int = 10  # ... from this many calls on ...
    window_ratio: float = 0.5  # ... and trips from here on
    level_decay: float = 600.0  # closed for so long: the trips before are forgotten
    slow_start: float = 20.0  # a closed circuit's share of traffic grows this long; 0 is off
    slow_start_from: float = 0.1
    panic_every: float = 1.0
    lease: float = 35.0  # must exceed every limit that ends a probe at the replica
    throttle_min: float = 1.0
    throttle_max: float = 300.0
    throttle_default: float = 5.0  # no delay named: doubles with each strike ...
    throttle_default_cap: float = 60.0  # ... up to this
    misconfigured_hold: float = 300.0
    misconfigured_cap: float = 3600.0
    max_inconclusive: int = 5
    jitter: float = 0.2  # share of an open time that may be added, never taken off


SLOTS = 10  # of the window's ring
PANICKY = frozenset({"failures", "lost", "inconclusive"})  # reasons that a panic may override


@dataclass(frozen=True, slots=True)
class Slot:
    """One tenth of the window: `number` is its time in slots.

    Calls that began well and that failed before their content; answers that ended well, that broke, and streams
    that flowed (one that flows through the whole window is 1).
    """

    number: int
    began: int = 0
    failed: int = 0
    ended: int = 0
    broke: int = 0
    flowed: float = 0.0

    def plus(self, *, began: int = 0, failed: int = 0, ended: int = 0, broke: int = 0, flowed: float = 0.0) -> "Slot":
        """Return the slot with more of these. `replace` takes three times as long, and each report makes one."""
        return Slot(
            self.number,
            self.began + began,
            self.failed + failed,
            self.ended + ended,
            self.broke + broke,
            self.flowed + flowed,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    name: str
    until: float


@dataclass(frozen=True, slots=True)
class Breaker:
    state: State = State.CLOSED
    mode: Mode = Mode.AUTO
    epoch: int = 0
    since: float = 0.0  # when state or mode last changed
    reason: str = ""
    open_until: float = 0.0
    start_run: int = 0  # failures in a row before the first content
    stream_run: int = 0  # failures in a row after it
    began_well: float | None = None  # when the newest call began whose content came
    ended_well: float | None = None  # when the newest stream began that ended well
    broke_at: float = 0.0  # how old the oldest stream of the run was, in seconds
    ring: tuple[Slot, ...] = ()  # what the last `window` seconds brought, the newest last
    level: int = 0  # trips within `level_decay`, for doubling the open time
    strikes: int = 0  # throttles in a row that named no delay
    faults: int = 0  # misconfigurations in a row
    inconclusive: int = 0
    isolated_until: float = 0.0
    ramp_from: float | None = None  # when a probe closed it; None if it never was open
    panicked: float | None = None
    leases: tuple[Lease, ...] = ()
    ghosts: tuple[Lease, ...] = ()
    trial: str = ""  # the lease that closed it by flowing, while it flows

    @property
    def usable(self) -> bool:
        return self.mode is Mode.AUTO and self.state is State.CLOSED

    def share(self, now: float, policy: Policy) -> float:
        """The share of the traffic that it should have, in (0, 1]."""
        return share(self.ramp_from, now, policy.slow_start, policy.slow_start_from)

    def due(self, now: float) -> bool:
        """Is it open still, though its time is over?"""
        return self.mode is Mode.AUTO and self.state is State.OPEN and now >= self.open_until

    def probing(self, now: float) -> bool:
        return self.probing_until > now

    @property
    def probing_until(self) -> float:
        """When the last lease that is out ends, if nothing is heard of it."""
        return max((lease.until for lease in (*self.leases, *self.ghosts)), default=0.0)


def share(ramp_from: float | None, now: float, seconds: float, least: float) -> float:
    """The share of a circuit that closed at `ramp_from`: from `least` to 1 in `seconds`."""
    if ramp_from is None or seconds <= 0 or now >= ramp_from + seconds:
        return 1.0
    return least + (1 - least) * max(0.0, now - ramp_from) / seconds


@dataclass(frozen=True, slots=True)
class Ask:
    name: str  # the same name gets the same answer
    panic: bool = False  # nothing else in the row can be asked


@dataclass(frozen=True, slots=True)
class Report:
    epoch: int
    verdict: Verdict
    lease: str | None = None
    retry_after: float | None = None
    count: int = 1  # so many equal successes
    whole: bool = False  # OK of a call without a stream: its start is as fresh as its end
    began: float | None = None  # when the call began, of several equal ones the newest; of FLOWING the oldest
    seconds: float = 0.0  # FLOWING: for how long all of them together have flowed since the last such report


@dataclass(frozen=True, slots=True)
class Release:
    lease: str


@dataclass(frozen=True, slots=True)
class Isolate:
    seconds: float = 3600.0  # nobody forgets a provider for good


@dataclass(frozen=True, slots=True)
class Restore:
    pass


@dataclass(frozen=True, slots=True)
class Recover:
    pass


@dataclass(frozen=True, slots=True)
class Reset:
    pass


@dataclass(frozen=True, slots=True)
class Tick:
    """Only time has passed: leases may have ended."""


Message = Ask | Report | Release | Isolate | Restore | Recover | Reset | Tick


@dataclass(frozen=True, slots=True)
class Step:
    breaker: Breaker
    granted: Lease | None = None
    late: bool = False


def step(b: Breaker, now: float, message: Message, policy: Policy, jitter: float = 0.0) -> Step:
    """Take one message. Everything that a message can do is done here; the argument is not changed."""
    b = _expire(b, now, policy, jitter)
    match message:
        case Ask():
            return _ask(b, now, message, policy)
        case Report():
            sane = _sane(message.retry_after)
            message = message if sane == message.retry_after else replace(message, retry_after=sane)
            return _report(b, now, message, policy, jitter)
        case Release(lease):
            return Step(_drop(b, lease))
        case Isolate(seconds):
            return Step(_moved(b, now, mode=Mode.ISOLATED, isolated_until=now + seconds))
        case Restore():
            return Step(_moved(b, now, mode=Mode.AUTO))
        case Recover():
            anew: Mapping[str, Any] = {"reason": "manual", "inconclusive": 0, "panicked": None}
            return Step(_fenced(b, now, state=State.HALF_OPEN, mode=Mode.AUTO, **anew))
        case Reset():
            return Step(_fenced(b, now, **_FRESH))
        case Tick():
            return Step(b)


def _ask(b: Breaker, now: float, ask: Ask, policy: Policy) -> Step:
    for lease in b.leases:
        if lease.name == ask.name:
            return Step(b, granted=lease)
    due = b.state is State.HALF_OPEN or (b.state is State.OPEN and now >= b.open_until)
    early = not due and ask.panic and _may_panic(b, now, policy)
    if b.mode is not Mode.AUTO or not (due or early) or b.probing(now):
        return Step(b)
    if early:
        b = replace(b, panicked=now)
    if b.state is State.OPEN:
        b = _moved(b, now, state=State.HALF_OPEN, inconclusive=0)
    lease = Lease(ask.name, now + policy.lease)
    return Step(replace(b, leases=(*b.leases, lease)), granted=lease)


def _may_panic(b: Breaker, now: float, policy: Policy) -> bool:
    rested = b.panicked is None or now - b.panicked >= policy.panic_every
    return b.state is State.OPEN and b.reason in PANICKY and rested


def _report(b: Breaker, now: float, r: Report, policy: Policy, jitter: float) -> Step:
    held = r.lease is not None and any(x.name == r.lease for x in b.leases)
    flows = r.verdict in (Verdict.STARTED, Verdict.FLOWING)
    if r.lease is not None and not flows:
        b = _drop(b, r.lease)
    elif r.lease is not None:
        # It is under way: whoever granted it, and whether its time was over meanwhile, it is a probe in flight.
        b = replace(b, ghosts=_still_out(b, r, now + policy.lease))
    if b.trial and r.lease == b.trial:
        return Step(b if flows else _tried(b, now, r, policy, jitter))
    current = r.epoch == b.epoch and b.mode is Mode.AUTO
    if current and b.state is State.CLOSED:
        return Step(_counted(b, now, r, policy, jitter))
    if current and b.state is State.HALF_OPEN and held:
        return Step(_probed(b, now, r, policy, jitter))
    if b.state is State.OPEN and r.verdict is Verdict.THROTTLED and r.retry_after is not None:
        until = now + _clamp(r.retry_after, policy.throttle_min, policy.throttle_max)
        if until > b.open_until:
            b = replace(b, open_until=until, reason="throttled")  # so a panic leaves it alone
        return Step(b, late=True)
    return Step(b, late=True)


def _counted(b: Breaker, now: float, r: Report, policy: Policy, jitter: float) -> Breaker:
    """A report through a closed circuit."""
    match r.verdict:
        case Verdict.OK | Verdict.STARTED:
            return _went_well(b, now, r, policy)
        case Verdict.FLOWING:
            return _flowing(b, now, r, policy)
        case Verdict.FAILED_START:
            in_row = not _overtaken(b.began_well, r.began)
            b = replace(b, start_run=b.start_run + in_row, ring=_noted(b.ring, now, policy, failed=1))
            failed = b.start_run >= policy.failure_threshold or _mostly_failed(b.ring, policy)
            return _tripped(b, now, policy, jitter) if failed else b
        case Verdict.FAILED_STREAM:
            in_row = not _overtaken(b.ended_well, r.began)
            broke_at = max(b.broke_at, 0.0 if r.began is None else now - r.began)
            ring = _noted(b.ring, now, policy, broke=1)
            b = replace(b, stream_run=b.stream_run + in_row, broke_at=broke_at, ring=ring)
            failed = b.stream_run >= policy.failure_threshold or _mostly_broke(b.ring, policy)
            return _tripped(b, now, policy, jitter) if failed else b
        case Verdict.THROTTLED:
            return _throttled(b, now, r, policy, jitter)
        case Verdict.MISCONFIGURED:
            return _misconfigured(b, now, policy)
        case _:
            return b


def _went_well(b: Breaker, now: float, r: Report, policy: Policy) -> Breaker:
    """A call has begun well, or a stream has ended well; a whole answer proves what both do."""
    if r.verdict is Verdict.STARTED or r.whole:
        ring = _noted(b.ring, now, policy, began=r.count, ended=r.count if r.whole else 0)
        news: dict[str, Any] = {"began_well": _newest(b.began_well, r.began), "start_run": 0, "ring": ring}
    else:
        # A stream's end says nothing of the way in: it connected long ago.
        ring = _noted(b.ring, now, policy, ended=r.count)
        news = {"ended_well": _newest(b.ended_well, r.began), "ring": ring}
    if r.verdict is not Verdict.STARTED:
        news |= {"stream_run": 0, "broke_at": 0.0, "strikes": 0, "faults": 0}
    return replace(b, **news)


def _flowing(b: Breaker, now: float, r: Report, policy: Policy) -> Breaker:
    """Streams go on. One that is older than those that broke has outlived what they died of."""
    b = replace(b, ring=_noted(b.ring, now, policy, flowed=r.seconds / policy.window))
    if r.began is None or now - r.began <= b.broke_at:
        return b
    return replace(b, stream_run=0, broke_at=0.0)


def _newest(known: float | None, began: float | None) -> float | None:
    return known if began is None else began if known is None else max(known, began)


def _overtaken(well: float | None, began: float | None) -> bool:
    """Has a call that began later gone well?"""
    return well is not None and began is not None and well > began


def _noted(ring: tuple[Slot, ...], now: float, policy: Policy, **more: Any) -> tuple[Slot, ...]:
    """The ring with one more note; slots that have left the window are dropped."""
    number = int(now * SLOTS // policy.window)
    kept = tuple(slot for slot in ring if slot.number > number - SLOTS)
    last = Slot(number)
    if kept and kept[-1].number == number:
        *kept, last = kept  # type: ignore[assignment]
    return (*kept, last.plus(**more))


def _mostly_failed(ring: tuple[Slot, ...], policy: Policy) -> bool:
    """Of the calls that have begun, well or not."""
    failed = sum(slot.failed for slot in ring)
    return _most(failed, failed + sum(slot.began for slot in ring), policy)


def _mostly_broke(ring: tuple[Slot, ...], policy: Policy) -> bool:
    """Of the streams that have ended, well or not, and of those that flow."""
    broke = sum(slot.broke for slot in ring)
    return _most(broke, broke + sum(slot.ended + slot.flowed for slot in ring), policy)


def _most(bad: int, calls: float, policy: Policy) -> bool:
    return calls >= policy.window_calls and bad >= policy.window_ratio * calls


# The provider refused us, for our rate or our key. A stream that begins shows that it does so no longer.
_REFUSALS = ("throttled", "misconfigured")


def _probed(b: Breaker, now: float, r: Report, policy: Policy, jitter: float) -> Breaker:
    """The report of the one probe in flight."""
    match r.verdict:
        case Verdict.OK:
            return _recovered(b, now)
        case Verdict.FAILED_START | Verdict.FAILED_STREAM:
            return _tripped(b, now, policy, jitter)
        case Verdict.THROTTLED:
            return _throttled(b, now, r, policy, jitter)
        case Verdict.MISCONFIGURED:
            return _misconfigured(b, now, policy)
        case Verdict.STARTED if b.reason not in _REFUSALS:
            # It proves nothing, but a probe that flows is not lost.
            return replace(b, leases=_renewed(b.leases, r.lease, now + policy.lease))
        case Verdict.STARTED | Verdict.FLOWING:
            # It is no probe any more: the next trip's probe need not wait for its end.
            return replace(_recovered(_drop(b, r.lease or ""), now), trial=r.lease or "")
        case Verdict.REFUSED:
            return b  # it is there, and has answered: the next one may find out more
        case _:
            return _inconclusive(b, now, policy, jitter)


def _recovered(b: Breaker, now: float) -> Breaker:
    """Closed by a probe. The level stays: it is forgotten by healthy time, not by one good probe."""
    return replace(_moved(b, now, **{**_FRESH, "level": b.level}), ramp_from=now)


def _tried(b: Breaker, now: float, r: Report, policy: Policy, jitter: float) -> Breaker:
    """The end of the stream that closed the circuit by flowing: what it says still counts as a probe's word."""
    b = replace(b, trial="")
    match r.verdict:
        case Verdict.FAILED_START | Verdict.FAILED_STREAM:
            return _tripped(b, now, policy, jitter)
        case Verdict.OK | Verdict.THROTTLED | Verdict.MISCONFIGURED:
            return _counted(b, now, r, policy, jitter)
        case _:
            return b


def _tripped(b: Breaker, now: float, policy: Policy, jitter: float) -> Breaker:
    forgotten = b.state is State.CLOSED and now - b.since >= policy.level_decay
    level = 1 if forgotten else b.level + 1
    cap = max(policy.recovery_cap, policy.recovery_timeout)
    hold = min(policy.recovery_timeout * 2.0 ** min(level - 1, 30), cap)
    return replace(_opened(b, now, hold * (1 + policy.jitter * jitter), "failures"), level=level)


def _throttled(b: Breaker, now: float, r: Report, policy: Policy, jitter: float) -> Breaker:
    if r.retry_after is not None:
        hold = _clamp(r.retry_after, policy.throttle_min, policy.throttle_max)
        return _opened(b, now, hold, "throttled")
    hold = min(policy.throttle_default * 2.0 ** min(b.strikes, 30), policy.throttle_default_cap)
    opened = _opened(b, now, hold * (1 + policy.jitter * jitter), "throttled")
    return replace(opened, strikes=b.strikes + 1)


def _misconfigured(b: Breaker, now: float, policy: Policy) -> Breaker:
    hold = min(policy.misconfigured_hold * 2.0 ** min(b.faults, 30), policy.misconfigured_cap)
    return replace(_opened(b, now, hold, "misconfigured"), faults=b.faults + 1)


def _inconclusive(b: Breaker, now: float, policy: Policy, jitter: float, reason: str = "inconclusive") -> Breaker:
    tries = b.inconclusive + 1
    if tries < policy.max_inconclusive:
        return replace(b, inconclusive=tries)
    return _opened(b, now, policy.recovery_timeout * (1 + policy.jitter * jitter), reason)


def _expire(b: Breaker, now: float, policy: Policy, jitter: float) -> Breaker:
    if b.mode is Mode.ISOLATED and now >= b.isolated_until:
        b = _moved(b, now, mode=Mode.AUTO)
    if any(x.until <= now for x in b.ghosts):
        b = replace(b, ghosts=tuple(x for x in b.ghosts if x.until > now))
    if not any(x.until <= now for x in b.leases):
        return b
    b = replace(b, leases=tuple(x for x in b.leases if x.until > now))
    return _inconclusive(b, now, policy, jitter, "lost")


def _opened(b: Breaker, now: float, hold: float, reason: str) -> Breaker:
    return _moved(b, now, state=State.OPEN, reason=reason, open_until=now + hold)


_FRESH: Mapping[str, Any] = MappingProxyType(
    {
        "state": State.CLOSED,
        "mode": Mode.AUTO,
        "reason": "",
        "open_until": 0.0,
        "ramp_from": None,
        "panicked": None,
        "began_well": None,
        "ended_well": None,
        "broke_at": 0.0,
        "ring": (),
        **dict.fromkeys(("start_run", "stream_run", "level", "strikes", "faults", "inconclusive"), 0),
    }
)


def _moved(b: Breaker, now: float, **changes: Any) -> Breaker:
    """The epoch moves with state or mode, and with nothing else."""
    after = replace(b, **changes)
    if after.state is b.state and after.mode is b.mode:
        return after
    return _fenced(b, now, **changes)


def _fenced(b: Breaker, now: float, **changes: Any) -> Breaker:
    """A new epoch: what was under way before decides nothing any more."""
    after = replace(b, **{"trial": "", **changes})
    return replace(after, epoch=b.epoch + 1, since=now, leases=(), ghosts=(*after.ghosts, *after.leases))


def _still_out(b: Breaker, r: Report, until: float) -> tuple[Lease, ...]:
    """The ghosts, when a probe says that it is under way."""
    known = any(x.name == r.lease for x in (*b.leases, *b.ghosts))
    if known or r.lease is None or r.verdict is Verdict.FLOWING or b.state is State.CLOSED:
        return _renewed(b.ghosts, r.lease, until)
    return (*b.ghosts, Lease(r.lease, until))


def _renewed(leases: tuple[Lease, ...], name: str | None, until: float) -> tuple[Lease, ...]:
    return tuple(Lease(x.name, until) if x.name == name else x for x in leases)


def _drop(b: Breaker, name: str) -> Breaker:
    return replace(
        b,
        leases=tuple(x for x in b.leases if x.name != name),
        ghosts=tuple(x for x in b.ghosts if x.name != name),
    )


def _sane(delay: float | None) -> float | None:
    """A delay that is no number, or negative, counts as absent."""
    return delay if delay is not None and delay >= 0 else None


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
