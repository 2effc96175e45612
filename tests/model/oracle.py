"""Judges of a run, after it: was there a failure that the product could have avoided? Pure.

They know the world's truth and what has become of each request, and nothing of how the product works, but for
what it has promised: its limits, each tier's share of the time, and how long a circuit may stay open.
"""

import bisect
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.model.excuses import Excuses
from tests.model.figures import Figures, Wrong
from tests.model.promises import (
    DEADLINE,
    FEW,
    KNOWN,
    LATE,
    LIMITS,
    LONG_WAIT,
    LONGEST_OPEN,
    MARGIN,
    PANIC,
    PROBE,
    RAMP,
)
from tests.model.script import UNFIT, Fault
from tests.model.truth import Asked, Truth

_UNSEEN = ("flaky", "stall", "mid-stream", "lost", "slow")  # faults that a first failure does not tell at once


@dataclass
class Oracle:
    """`opens`: fault to when the circuit that it opened is due again, as the board had it."""

    truth: Truth
    asked: list[Asked]
    figures: Figures
    opens: dict[Fault, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.excuses = Excuses(self.truth)
        self._slowest = dict[tuple[int, str, bool], list[tuple[float, float]]]()
        for asked in sorted((a for a in self.asked if a.end == "ok" and a.provider is not None), key=_settled):
            known = self._slowest.setdefault((asked.replica, str(asked.provider), asked.stream), [(-1.0, 0.0)])
            known.append((_settled(asked), max(known[-1][1], self.truth.need(asked, str(asked.provider)))))

    def judge(self) -> Figures:
        order = sorted(self.asked, key=lambda a: a.began)
        for asked in order:
            self.excuses.suspect(asked)
        for asked in order:
            self._judge(asked)
            self._note(asked)
        for faults in self.truth.faults.values():
            for fault in faults:
                self._recovery(fault, order)
                self._waits(fault, order)
        self._failovers(order)
        return self.figures

    def _note(self, asked: Asked) -> None:
        figures = self.figures
        figures.requests += 1
        figures.ends[asked.end or "never"] += 1
        told = f"{figures.digest} {asked.end} {asked.provider} {asked.made} {asked.first} {asked.ended}"
        figures.digest = zlib.crc32(told.encode())

    # -- what could have been

    def have(self, asked: Asked, place: int) -> float:
        """Seconds that the tier at that place has at least: its own limit, or its share of the deadline."""
        whole = DEADLINE if asked.deadline is None else asked.deadline
        left = whole
        for before in range(place):
            left -= self._share(left, len(asked.tiers) - before, asked, asked.tiers[before])
        share = self._share(left, len(asked.tiers) - place, asked, asked.tiers[place])
        return min(share, LIMITS.first_token if asked.stream else LIMITS.total)

    def _share(self, left: float, tiers: int, asked: Asked, provider: str) -> float:
        """As docs/failures.md says it: a half, two thirds, or three quarters for one that is known to need longer."""
        if tiers == 1:
            return left
        known = self._slowest.get((asked.replica, provider, asked.stream), [(-1.0, 0.0)])
        _, longest = known[bisect.bisect_left(known, asked.began, key=lambda each: each[0]) - 1]
        return max(left / 2, 2 * left / (tiers + 1), min(1.5 * longest, 0.75 * left))

    def could(self, asked: Asked, place: int) -> bool:
        """Would that tier have answered in its time?"""
        provider, truth = asked.tiers[place], self.truth
        until = asked.decided
        unfit = asked.odd is not None and not (asked.odd == UNFIT and place)
        if unfit or until is None or truth.faulty(provider, asked.began, until, asked):
            return False
        need = truth.need(asked, provider) + truth.stalled(asked.began, until) + MARGIN
        return need <= self.have(asked, place) and not truth.isolated(provider, asked.began, until)

    def best(self, asked: Asked) -> str | None:
        """Who should have answered it."""
        return next((name for place, name in enumerate(asked.tiers) if self.could(asked, place)), None)

    # -- each request

    def _judge(self, asked: Asked) -> None:
        self._judge_time(asked)
        if asked.end == "failed" and (may := [p for k, p in enumerate(asked.tiers) if self.could(asked, k)]):
            self._judge_lost(asked, may)
        elif asked.provider is not None and asked.first is not None and asked.provider in asked.tiers:
            self._judge_moved(asked, asked.provider)
        if asked.end == "broken":
            self._judge_broken(asked)
        if asked.end == "failed" and asked.odd is None:
            self._judge_status(asked)
        if (
            asked.end in ("ok", "failed", "broken")
            and (best := self.best(asked)) is not None
            and not _by_better(asked, best)
        ):
            self.excuses.wanted[asked.replica, best].append(asked.began)

    def _wrong(self, oracle: str, asked: Asked, what: str) -> None:
        told = f"{what}; {asked.end} {asked.why}, steps {asked.steps()}, began {asked.began:.2f}, tiers {asked.tiers}"
        self.figures.wrong(Wrong(oracle, asked.decided or asked.began, asked.replica, asked.number, told))

    def _judge_time(self, asked: Asked) -> None:
        whole = DEADLINE if asked.deadline is None else asked.deadline
        if asked.decided is None:
            self._wrong("stuck", asked, "it never ended")
        elif asked.decided - asked.began > whole + 5 + self.truth.stalled(asked.began, asked.decided):
            self._wrong("stuck", asked, f"nothing for {asked.decided - asked.began:.1f} s of {whole:g}")

    def _judge_lost(self, asked: Asked, may: list[str]) -> None:
        reasons = [self.excuses.shut(provider, asked) or self._out_of_time(provider, asked) for provider in may]
        if None in reasons:
            free = [p for p, why in zip(may, reasons, strict=True) if why is None]
            self._wrong("lost", asked, f"{free} would have answered")
        else:
            self.figures.learning[str(reasons[0])] += 1

    def _out_of_time(self, provider: str, asked: Asked) -> str | None:
        """One whose circuit may be open, or growing, is asked after the others: the deadline went to those."""
        steps = asked.entries()
        late = any(e["provider"] == provider and e["outcome"] in ("skipped: open", "deadline") for e in steps)
        spent = asked.status == 504 and any(e["outcome"] == "deadline" for e in steps)
        return self.excuses.settling(provider, asked) if late and spent else None

    def _judge_moved(self, asked: Asked, provider: str) -> None:
        if asked.hedged == "won":  # it spoke first, though the other would have answered in time
            return
        place = asked.tiers.index(provider)
        better = [p for k, p in enumerate(asked.tiers[:place]) if self.could(asked, k)]
        reasons = [self.excuses.settling(p, asked) for p in better]
        if None in reasons:
            self._wrong("moved_avoidable", asked, f"{better[reasons.index(None)]} would have answered, not {provider}")
        elif better:
            self.figures.settling[str(reasons[0])] += 1

    def _judge_broken(self, asked: Asked) -> None:
        assert asked.ended is not None
        assert asked.provider is not None
        if self.truth.faulty(asked.provider, asked.began, asked.ended):
            self.figures.broken_streams += 1
        elif asked.deadline is not None and asked.ended - asked.began >= asked.deadline - 0.1:
            self.figures.ends["broken by its own deadline"] += 1
        elif asked.pauses >= 30:
            self.figures.ends["broken while its reader stood still"] += 1
        else:
            self._wrong("broken", asked, f"{asked.provider} was well")

    def _judge_status(self, asked: Asked) -> None:
        """Where all throttle, and nothing else is the matter, the client is told so."""
        at, until = asked.began, asked.ended or asked.began
        faults = [self.truth.fault(p, at) for p in asked.tiers]
        settled = at - PANIC - 4 * self.truth.script.latency[1]
        for provider, fault in zip(asked.tiers, faults, strict=True):
            if fault is None or fault.kind != "429" or not fault.begin < settled <= until < fault.end:
                return
            since = fault.begin - LONGEST_OPEN - RAMP
            if self.truth.isolated(provider, since, until) or self.truth.faulty(provider, since, fault.begin - 1e-3):
                return
        ends = {step.partition(": ")[2] for step in asked.steps()}
        if asked.status != 429 and ends <= {"throttled", "skipped: open", "skipped: throttled"}:
            self._wrong("status", asked, f"all throttle, and it got {asked.status}")

    # -- each fault

    def _recovery(self, fault: Fault, order: list[Asked]) -> None:
        provider, heal = fault.provider, fault.end
        due = max(heal, self.opens.get(fault, heal))
        if (back := self.excuses.last_absence(fault.begin, due + LATE)) is not None:
            due = max(due, max(heal, min(back, heal + LATE)) + self.excuses.hold(fault))
        until = self._undisturbed(provider, heal)
        begins = bisect.bisect_left(order, heal, key=_began)
        after = order[begins : bisect.bisect_left(order, until, key=_began)]
        firsts = [a.first for a in after if a.provider == provider and a.first is not None]
        first = min(firsts, default=until)
        calm = (a for a in after if a.end in ("ok", "failed") and a.decided is not None and a.decided < until)
        wanted = [a for a in calm if self.best(a) == provider and not _by_better(a, provider) and a.began <= first]
        if wanted and firsts:
            self.figures.recovery.append(max(0.0, first - max(due, wanted[0].began)))
        # The first that wants it is its probe, and the others go round until that has been answered.
        since = max(due + LATE, wanted[0].began + PROBE) if wanted else due
        late = [a for a in wanted if a.began > since and (a.decided or until) < first]
        if len(late) > self.truth.script.replicas:
            what = f"{provider} healed of {fault.kind} at {heal:.1f}, due {due:.1f}, first answer {first:.1f}"
            self._wrong("late_recovery", late[-1], what)

    def _waits(self, fault: Fault, order: list[Asked]) -> None:
        """A tier that hangs must be left out after a while: not each request may wait for it."""
        if fault.kind != "hang" or fault.end - fault.begin < KNOWN:
            return
        begins = bisect.bisect_left(order, self.truth.met_first.get(fault, fault.end) + KNOWN, key=_began)
        during = order[begins : bisect.bisect_left(order, fault.end, key=_began)]
        waited = [a for a in during if self._waited(a, fault)]
        probes = self.truth.script.replicas * (2 + (fault.end - fault.begin) / 50)
        if len(waited) > FEW + probes:
            what = f"one of {len(waited)} requests of {len(during)} that waited for {fault.provider}"
            self._wrong("waited", waited[-1], what)

    def _waited(self, asked: Asked, fault: Fault) -> bool:
        if asked.provider in (None, fault.provider):
            return False
        steps = [e for e in asked.entries() if e["provider"] == fault.provider]
        return any((step.get("ms") or 0.0) > LONG_WAIT * 1000 for step in steps)

    def _undisturbed(self, provider: str, heal: float) -> float:
        """Until when nothing else happens to it."""
        events = [f.begin for f in self.truth.faults[provider] if f.begin > heal]
        events += [f.begin for f in self.excuses.shadows[provider] if f.begin > heal]
        events += [at for at, _, name in self.truth.commands if name == provider and at > heal]
        events += [i.since for i in self.truth.isolations if i.provider == provider and i.until > heal]
        return min(events, default=self.truth.script.seconds)

    def _failovers(self, order: list[Asked]) -> None:
        """How long until requests went to the next tier at once."""
        seen: set[Fault] = set()
        for asked in order:
            fault = self.truth.fault(asked.tiers[0], asked.began)
            if fault is None or fault in seen or fault.kind in _UNSEEN or asked.provider is None:
                continue
            if asked.made == 1 and asked.provider != asked.tiers[0]:
                seen.add(fault)
                self.figures.failover.setdefault(fault.kind, []).append(asked.began - fault.begin)


def _by_better(asked: Asked, provider: str) -> bool:
    """Was it answered by a better tier than that, whose fault began later?"""
    tiers = asked.tiers
    return asked.provider in tiers and tiers.index(asked.provider) < tiers.index(provider)


_began: Callable[[Asked], float] = lambda asked: asked.began  # noqa: E731
_settled: Callable[[Asked], float] = lambda asked: asked.decided or math.inf  # noqa: E731
