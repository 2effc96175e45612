"""What a judge accepts as a reason: for so long after it a circuit may be open, or its share may grow. Pure."""

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model.promises import (
    DETECTED,
    FEW,
    FIRST_OPEN,
    FORGOTTEN,
    LEASE,
    LONGEST_OPEN,
    LONGEST_REFUSED,
    OWN_CAP,
    OWN_FIRST,
    PANIC,
    PROBE,
    RAMP,
    THROTTLE_MOST,
)
from tests.model.script import TENTH, UNFIT, Fault, Outage
from tests.model.truth import Asked, Truth


@dataclass
class Excuses:
    """`wanted`: of each replica and provider, when requests began that it should have answered.

    `shadows`: of each provider, requests that fail anywhere and that could not be told from a fault of its own.
    """

    truth: Truth
    wanted: dict[tuple[int, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    shadows: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))

    @property
    def _slowest(self) -> float:
        return self.truth.script.latency[1]

    def _faults(self, provider: str, at: float) -> Iterator[Fault]:
        """Its faults until then that calls have met, and requests that fail anywhere and could not be told from one."""
        yield from (f for f in self.truth.before(provider, at) if f.kind != TENTH and f in self.truth.met)
        yield from (f for f in self.shadows[provider] if f.begin <= at)

    def suspect(self, asked: Asked) -> None:
        """An odd prompt can't be told from a fault while the other tiers of its row are at fault as well."""
        if asked.odd in (None, "wrong", "silent", UNFIT) or asked.ended is None:
            return
        since, until = asked.began - LONGEST_OPEN - RAMP, asked.ended
        faulty = {p for p in asked.tiers if self.truth.faulty(p, since, until)}
        if faulty or any(self._shadowed(p, since) for p in asked.tiers):
            for provider in asked.tiers:
                self.shadows[provider].append(Fault(provider, "slow", asked.began, asked.ended))

    def _shadowed(self, provider: str, since: float) -> bool:
        return any(fault.end >= since for fault in self.shadows[provider])

    def shut(self, provider: str, asked: Asked) -> str | None:
        """Why its circuit may have let nobody in when this request failed; None if there is no reason."""
        at = asked.began
        if any(at <= fault.end + self._grace(fault, at) for fault in self._faults(provider, at)):
            return "after a fault" if not self.trouble(at - LEASE, at) else "after a fault, the actor away"
        ordered = PANIC + PROBE + 4 * self._slowest
        if any(p == provider and when <= at <= when + ordered for when, _, p in self.truth.commands):
            return "after a command"
        if any(i.provider == provider and i.until <= at <= i.until + ordered for i in self.truth.isolations):
            return "after an isolation"
        return None

    def _grace(self, fault: Fault, at: float) -> float:
        """For so long after it a healthy target may be shut."""
        probe = PANIC + DETECTED.get(fault.kind, 1.0) + PROBE + 4 * self._slowest
        if fault.kind == "credential":
            again = any(f.kind == "credential" and f != fault for f in self._faults(fault.provider, at))
            probe += LONGEST_REFUSED if again else _doubling(fault.end - fault.begin, 300.0, 3600.0)
        if self._alone(fault, at):
            return probe + _doubling(fault.end - fault.begin, OWN_FIRST, OWN_CAP)
        trouble = self.trouble(fault.begin - LEASE, at)
        return probe + (OWN_CAP + PROBE if trouble else 0.0)

    def _alone(self, fault: Fault, at: float) -> bool:
        """Was the actor gone from before the fault on, and nothing known of earlier ones?"""
        gone = any(o.replica is None and o.begin <= fault.begin and at <= o.end for o in self.truth.script.outages)
        return gone and not self._earlier(fault) and not self.shadows[fault.provider]

    def trouble(self, since: float, until: float) -> bool:
        """Was the actor away from anybody, or a permit lost on its way?"""
        if any(o.begin <= until and since <= o.end for o in self.truth.script.outages):
            return True
        return any(since <= at <= until for at, _ in self.truth.refused_answers)

    def last_absence(self, since: float, until: float) -> float | None:
        """When the last absence of the actor between has ended, if there was one."""
        ends = [o.end for o in self.truth.script.outages if o.begin <= until and since <= o.end]
        return max(ends, default=None)

    def settling(self, provider: str, asked: Asked) -> str | None:
        """Why its circuit may have been open, or growing, for this request; None if there is no reason."""
        at, last, why = asked.began, -1.0, ""
        for until, reason in self._unsettled(provider, asked):
            if at <= until:
                return reason
            if until > last:
                last, why = until, reason
        if last < 0:
            return None
        wanted = self.wanted[asked.replica, provider]
        first = bisect.bisect_right(wanted, last)
        few = len(wanted) - first <= FEW or at <= wanted[first] + RAMP
        return f"first requests {why}" if few else None

    def _unsettled(self, provider: str, asked: Asked) -> Iterator[tuple[float, str]]:
        """Until when that target may be open or growing, and why."""
        at = asked.began
        for fault in self._faults(provider, at):
            met = self.truth.met.get(fault, fault.end) + DETECTED.get(fault.kind, 1.0)
            yield met + self.hold(fault) + RAMP + 2 * self._slowest, "after a fault"
        for when, _, name in self.truth.commands:
            if name == provider and when <= at:
                yield when + RAMP + PROBE, "after a command"
        for isolation in self.truth.isolations:
            if isolation.provider == provider and isolation.since <= at:
                yield isolation.until + RAMP + PROBE, "after an isolation"
        for outage in self.truth.script.outages:
            if outage.end <= at and outage.replica in (None, asked.replica) and self._missed(provider, outage):
                yield outage.end + RAMP + PROBE, "after the actor's absence"

    def hold(self, fault: Fault) -> float:
        """The longest that it may keep a circuit open."""
        if fault.kind == "429":
            return max(LONGEST_OPEN, min(fault.named, THROTTLE_MOST))
        if fault.kind == "credential":
            return LONGEST_REFUSED
        if self._earlier(fault):
            return LONGEST_OPEN
        return _doubling(fault.end - fault.begin, FIRST_OPEN, LONGEST_OPEN / 1.2)

    def _earlier(self, fault: Fault) -> bool:
        """Was there another shortly before, so that it stays open for longer?"""
        since = fault.begin - FORGOTTEN - LONGEST_OPEN
        return any(f.end > since for f in self._faults(fault.provider, fault.begin) if f != fault)

    def _missed(self, provider: str, outage: Outage) -> bool:
        """May the actor's word have become another than ours in its absence?"""
        since = outage.begin - LONGEST_OPEN - RAMP
        return any(f.end >= since for f in self._faults(provider, outage.end))


def _doubling(seconds: float, hold: float, cap: float) -> float:
    """How long a circuit may still be open at the end of a fault of so many seconds: twice as long each time."""
    passed = 0.0
    while passed + hold < seconds and hold < cap:
        passed, hold = passed + hold, min(2 * hold, cap)
    return hold * 1.2
