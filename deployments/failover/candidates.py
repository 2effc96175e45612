"""The candidates of one request: which target is asked next, decided when its turn comes. No Ray.

A plan that is made once is old when its second candidate is reached: a circuit may have opened meanwhile, or closed,
and a probe that nobody needed would have held a permit. So the plan is made again for each turn.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from actors.breaker.outcomes import Outcome
from actors.breaker.plan import Candidate, Plan
from deployments.errors import TOO_SMALL, Overloaded
from deployments.failover.tried import Tried
from deployments.latency.latencies import STILL_FIRST
from deployments.overload.limit import LEAST_PAUSE
from deployments.overload.line import Ticket
from deployments.providers.kinds import KINDS

if TYPE_CHECKING:
    from deployments.breaker_client.client import BreakerClient
    from deployments.routing.model_rows import ModelRows

# How long a request waits while no target may be asked: for a target that may be probed within a second, and for a
# probe that is in flight. It keeps half of its time for an answer, or less if its targets are known to need less.
SOON_SECONDS, PROBE_SECONDS = 5.0, 20.0
MOST_AGAIN = 3  # refusals for load of one request, before they are failures


Mark = tuple[frozenset[str], bool]


class Turn(Struct, frozen=True):
    """A candidate to be asked now.

    `tiers` counts it and the candidates left after it, without those that are asked in a panic only.
    """

    candidate: Candidate
    tiers: int


class Candidates(Struct, eq=False):
    """`row` are the targets that can take the request, in order."""

    breaker: "BreakerClient"
    rows: "ModelRows"
    row: list[str]
    tried: Tried
    verb: str = "whole"  # or stream
    least: float = 0.0  # a window must be larger than this
    ticket: Ticket | None = None  # by which the request waited for room
    full: tuple[str, ...] = ()  # the targets that might be asked now, if they did not have as many calls as they take
    sure: bool = False  # whether targets are left out that are to be probed: there is no time to find out
    _waiting_since: float | None = None
    _again: dict[str, float] = field(default_factory=dict)  # targets that have refused it for load, and until when
    _refused_for_load: int = 0
    _draw: float = 0.0
    _trial: bool | None = None
    _asked: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)
    _recorded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._draw = self.breaker.draw()

    @property
    def left(self) -> list[str]:
        """The targets that have not been asked."""
        return [target for target in self.row if target not in self._asked]

    @property
    def retry_in(self) -> float | None:
        """Seconds until the first target whose circuit is open may be asked again; None if there is none."""
        return self.breaker.plan(self.row, draw=self._draw).retry_in

    def next(self) -> Turn | None:
        """Return whose turn it is; None if no target is left that may be asked now."""
        plan = self.breaker.plan(self.left if self._asked else self.row, draw=self._draw)
        candidates = self._by_speed(plan.candidates) if self.breaker.may_be_slow else plan.candidates
        record = self.tried.record
        if not self._asked and not record.order:
            record.order = tuple([candidate.target for candidate in candidates])
        if plan.skipped:
            self._record_skipped(plan)
        self.full = ()
        all_may = not (self._refused or self.sure or self.least)
        if may := candidates if all_may else [c for c in candidates if self._is_allowed(c)]:
            return self._with_room(may)
        if self.sure:
            return None
        return next((Turn(c, 1) for c in plan.panics if self._is_allowed(c)), None)

    def _with_room(self, may: Sequence[Candidate]) -> Turn | None:
        """Return the turn of the first one that has room for one call more; None if all are `full`.

        One that has refused this request for its load comes behind the others, and after a pause.
        """
        loads, priority = self.breaker.loads, self.tried.record.caller.priority
        if not loads:
            return Turn(may[0], len(may))
        now = self.breaker.now()
        found = [c for c in may if self._again.get(c.target, 0.0) <= now]
        found.sort(key=lambda c: c.target in self._again)
        first = next((c for c in found if c.probe or loads.may_go(priority, c.target, self.ticket)), None)
        if first is None:
            self.full = tuple(c.target for c in may)
            return None
        return Turn(first, len(may))

    async def room(self, until: float) -> bool:
        """Wait in line until one of the `full` targets may have room. Return False if it does not come to that.

        Raises Overloaded, unless another failure of a target says more.
        """
        loads, priority = self.breaker.loads, self.tried.record.caller.priority
        calls, seconds = loads.calls(self.full), loads.seconds(self.full)
        until -= min(self.breaker.times.needed(target, self.verb) for target in self.full)  # for the answer
        try:
            self.ticket = await loads.line.wait(priority, self.full, calls, until, self.ticket, seconds)
        except Overloaded:
            if len(self.tried.failures) > self._refused_for_load:
                return False
            raise
        return True

    def candidates(self) -> list[Candidate]:
        """Return the candidates that are left, in order, without those that gave no permit."""
        plan = self.breaker.plan(self.left, draw=self._draw)
        return [c for c in (*plan.candidates, *plan.panics) if c.target not in self._refused]

    def _by_speed(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates with those that are slow now behind the others that are not in this machine.

        The model in this machine stands in for a cloud, so a cloud that is slow is better.
        """
        slow = [c for c in candidates if self._is_slow(c)]
        if not slow or self._tries(slow[0]):
            return candidates
        quick = [c for c in candidates if not (c.probe or c in slow or self.is_stand_in(c.target))]
        if not quick:
            return candidates
        self.tried.record.slow |= {c.target for c in slow}
        others = [c for c in candidates if not (c.probe or c in quick or c in slow)]
        ordered = iter([*quick, *slow, *others])
        return [c if c.probe else next(ordered) for c in candidates]  # a probe stays where it is due

    def is_stand_in(self, target: str) -> bool:
        """Return whether a target is the model in this machine, which stands in for clouds that can't be asked."""
        return KINDS[self.rows.kind(target)].in_process

    def _tries(self, candidate: Candidate) -> bool:
        """Return whether this request asks a slow target first, which is decided once."""
        if self._trial is None:
            self._trial = self._draw < STILL_FIRST and self.breaker.try_slow(candidate.target)
        return self._trial

    def _is_slow(self, candidate: Candidate) -> bool:
        return not candidate.probe and self.breaker.is_slow(candidate.target)

    def ask(self, turn: Turn) -> None:
        """Note that this target is asked: it is not asked again."""
        self._asked.add(turn.candidate.target)

    def mark(self) -> Mark:
        """Return who was asked until now, for `back_to`."""
        return frozenset(self._asked), self.sure

    def back_to(self, mark: Mark) -> None:
        """Take it that nobody was asked since then, but for those that have failed."""
        failed = {target for target, _ in self.tried.failures}
        self._asked, self.sure = {*mark[0], *(self._asked & failed)}, mark[1]

    def leave_out(self, target: str) -> None:
        """Note that a target can't be asked for this request any more."""
        self._asked.add(target)

    def ask_again(self, target: str) -> None:
        """Note that a target refused the call for its load alone: it may be asked again, after a pause."""
        limit = self.breaker.loads.limit(target)
        pause = 0.0 if limit is None else limit.pause
        if self.tried.record.caller.priority == "critical":
            pause = min(pause, LEAST_PAUSE)  # others leave it alone for longer
        self._refused_for_load += 1
        if self._refused_for_load <= MOST_AGAIN:
            self._asked.discard(target)
            self._again[target] = self.breaker.now() + pause

    def share(self, failed: str, outcome: Outcome) -> None:
        """Leave out the targets for which this failure holds too: other places of its provider."""
        left, places = self.left, self.rows.places
        shared = {target: places.why_shared(failed, outcome, target) for target in left}
        silent = {target: places.why_silent(self.tried.failures, target) for target in left}
        if any(silent.values()) and not any(not (shared[c.target] or silent[c.target]) for c in self.candidates()):
            silent = {}  # nobody else has a use for the time
        for target in left:
            if (why := shared[target] or silent.get(target)) is not None:
                self._asked.add(target)
                if target not in self._recorded:
                    self._recorded.add(target)
                    self.tried.skip((self.breaker.skipped(target, why, outcome.retry_after),))

    def refuse(self, turn: Turn) -> None:
        """Note that the target gave no permit: another request probes it, or a panic is not due."""
        target, panic = turn.candidate.target, turn.candidate.panic
        self._refused.add(target)
        if target not in self._recorded:
            self._recorded.add(target)
            self.tried.skip((self.breaker.skipped(target, "open" if panic else "probing", 1.0),))

    def hope(self, now: float, deadline: float) -> tuple[float, float]:
        """Return how many seconds more it may wait for a target that may be asked soon, and for a probe in flight."""
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        most = min(PROBE_SECONDS, self._spare(deadline - self._waiting_since))
        return min(SOON_SECONDS, most) - waited, most - waited

    def _spare(self, left: float) -> float:
        """Return what it may wait of the seconds left: the rest is for an answer, as long as those usually take."""
        needed = [self.breaker.times.needed(target, self.verb) for target in self.left]
        longest = max(needed, default=0.0)
        return max(left / 2, left - 1.5 * longest) if longest else left / 2

    def again(self) -> None:
        """Forget who gave no permit: something new is known."""
        self._refused.clear()

    def _record_skipped(self, plan: Plan) -> None:
        woken = set() if plan.candidates else {c.target for c in plan.panics}
        new = [s for s in plan.skipped if s.target not in self._recorded and s.target not in woken]
        self._recorded |= {s.target for s in new}
        self.tried.skip(tuple(new))

    def _is_allowed(self, candidate: Candidate) -> bool:
        if candidate.target in self._refused or (self.sure and candidate.probe):
            return False
        if self.rows.window(candidate.target) > self.least:
            return True
        self._asked.add(candidate.target)
        if candidate.target not in self._recorded:
            self.tried.pass_over(candidate.target, TOO_SMALL)
        return False
