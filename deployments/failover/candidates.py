"""The way of one request along its row: whose turn it is, decided when that turn comes. No Ray.

A plan that is made once is old when its second candidate is reached: a circuit may have opened meanwhile, or closed,
and a probe that nobody needed would have held a permit. So the row is looked at again for each turn.
"""

from dataclasses import dataclass, field

from actors.breaker.plan import Candidate, Plan
from deployments.breaker_client.client import BreakerClient
from deployments.errors import TOO_SMALL
from deployments.failover.tried import Tried
from deployments.routing.model_rows import ModelRows

# For so long a request that nobody may answer now waits: for a probe that may be asked for in a second, and for one
# that is out. It keeps half of its time for an answer, or less if its targets are known to need less.
HOPE_SECONDS, PROBE_SECONDS = 5.0, 20.0


@dataclass(frozen=True, slots=True)
class Turn:
    """`tiers` are this candidate and those that are left after it, without those that are asked in panic alone."""

    candidate: Candidate
    tiers: int


@dataclass(slots=True, eq=False)
class Candidates:
    """`row` are the targets that can take the request, in order."""

    breaker: BreakerClient
    rows: ModelRows
    row: list[str]
    tried: Tried
    verb: str = "whole"  # or stream
    least: float = 0.0  # a window must be larger than this
    _hoping_since: float | None = None
    _draw: float = 0.0
    _asked: set[str] = field(default_factory=set)
    _refused: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._draw = self.breaker.draw()

    @property
    def left(self) -> list[str]:
        """Who has not been asked."""
        return [target for target in self.row if target not in self._asked]

    @property
    def retry_in(self) -> float | None:
        """Seconds until the first of those that are out may be asked again."""
        return self.breaker.plan(self.row, draw=self._draw).retry_in

    def next(self) -> Turn | None:
        """Whose turn it is; None if nobody is left who may be asked now."""
        plan = self.breaker.plan(self.left, draw=self._draw)
        record = self.tried.record
        if not self._asked and not record.order:
            record.order = tuple(candidate.target for candidate in plan.candidates)
        self._tell(plan)
        if may := [c for c in plan.candidates if self._may(c)]:
            return Turn(may[0], len(may))
        return next((Turn(c, 1) for c in plan.panics if self._may(c)), None)

    def candidates(self) -> list[Candidate]:
        """Who is left to ask, and may be."""
        plan = self.breaker.plan(self.left, draw=self._draw)
        return [c for c in (*plan.candidates, *plan.panics) if c.target not in self._refused]

    def ask(self, turn: Turn) -> None:
        self._asked.add(turn.candidate.target)

    def refuse(self, turn: Turn) -> None:
        """No permit: somebody else probes it, or a panic is not due."""
        target, panic = turn.candidate.target, turn.candidate.panic
        self._refused.add(target)
        if target not in self._told:
            self._told.add(target)
            self.tried.skip((self.breaker.skipped(target, "open" if panic else "probing", 1.0),))

    def hope(self, now: float, deadline: float) -> tuple[float, float]:
        """For how many seconds more it may wait for somebody who may be asked soon, and for a probe that is out."""
        if self._hoping_since is None:
            self._hoping_since = now
        waited = now - self._hoping_since
        most = min(PROBE_SECONDS, self._spare(deadline - self._hoping_since))
        return min(HOPE_SECONDS, most) - waited, most - waited

    def _spare(self, left: float) -> float:
        """What it may wait of the seconds that are left: the rest is for an answer, as long as those usually take."""
        needed = [self.breaker.times.needed(target, self.verb) for target in self.left]
        longest = max(needed, default=0.0)
        return max(left / 2, left - 1.5 * longest) if longest else left / 2

    def again(self) -> None:
        """Something new is known: who was refused may be asked now."""
        self._refused.clear()

    def _tell(self, plan: Plan) -> None:
        if not plan.skipped:
            return
        woken = set() if plan.candidates else {c.target for c in plan.panics}
        new = [s for s in plan.skipped if s.target not in self._told and s.target not in woken]
        self._told |= {s.target for s in new}
        self.tried.skip(tuple(new))

    def _may(self, candidate: Candidate) -> bool:
        if candidate.target in self._refused:
            return False
        if self.rows.window(candidate.target) > self.least:
            return True
        self._asked.add(candidate.target)
        if candidate.target not in self._told:
            self.tried.pass_over(candidate.target, TOO_SMALL)
        return False
