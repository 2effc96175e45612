"""One request's second leg: whether there may be one, after how long, and at whom. No Ray.

A second leg is a retry that nobody asked for. So there is none for what has an effect at its vendor (`store`, tools
that the vendor runs), for long prompts, beside a probe, or at a target that is not known to be well.
"""

from typing import TYPE_CHECKING

from deployments.latency.classes import size_of
from deployments.latency.hedging import Hedges, HedgeTerms, delay
from deployments.openai_api.chat import Request

if TYPE_CHECKING:
    from deployments.breaker_client.client import BreakerClient
    from deployments.failover.attempt import Attempt
    from deployments.failover.candidates import Candidates, Turn

_BYTES_A_TOKEN = 4


class Hedge:
    def __init__(self, row: str, terms: HedgeTerms, hedges: Hedges, breaker: "BreakerClient", candidates: "Candidates"):
        self._row, self._terms, self._hedges = row, terms, hedges
        self._breaker, self._candidates = breaker, candidates
        hedges.count(row, terms)

    def delay(self, attempt: "Attempt", first_token: float) -> float | None:
        """Return after how many seconds a first leg that says nothing gets a second; None if it gets none."""
        latencies = self._breaker.latencies
        of_whole = attempt.verb != "stream"
        if attempt.probe or not latencies.is_measured(attempt.target, attempt.kind, of_whole=of_whole):
            return None
        most = first_token / 2 if self._terms.max_delay is None else self._terms.max_delay
        return delay(latencies, attempt.target, attempt.kind, self._terms, most, self._breaker.listened())

    def turn(self, first: "Attempt") -> "Turn | None":
        """Return whose turn the second leg is, and take it from the row's budget; None if it is nobody's."""
        turn, now = self._free_turn(), self._breaker.now()
        if turn is None or not self._hedges.is_worth(first.target, turn.candidate.target, now):
            return None
        return turn if self._hedges.take(self._row, now) else None

    def turn_beside(self) -> "Turn | None":
        """Return whose turn it is beside a stream that has fallen silent, as `turn` does."""
        turn = self._free_turn()
        return turn if turn is not None and self._hedges.take(self._row, self._breaker.now()) else None

    def _free_turn(self) -> "Turn | None":
        turn = self._candidates.next()
        if turn is None or not self._breaker.loads.has_room(turn.candidate.target):
            return None
        return turn if self._is_well(turn.candidate.target) else None

    def note_result(self, first: str, second: "Attempt") -> None:
        """Note whether a second leg has won, once it has ended or its answer has begun."""
        self._hedges.note_result(first, second.target, second.hedge == "won", self._breaker.now())

    def give_back(self) -> None:
        """Give back a second leg that was not sent after all."""
        self._hedges.give_back(self._row)

    def note_throttled(self) -> None:
        self._hedges.note_throttled(self._row, self._breaker.now())

    def _is_well(self, target: str) -> bool:
        """Return whether a target may be asked beside another. The model in this machine stands in when all are out."""
        return self._breaker.is_well(target) and not self._candidates.is_stand_in(target)


def may_have_two_legs(request: Request, terms: HedgeTerms) -> bool:
    """Return whether asking twice does no more than cost: of long prompts that is too much."""
    body, native = request.body, request.native
    if body.get("store") or "messages" not in body or (native is not None and native.hosted):
        return False
    return size_of(body, request.size) <= terms.max_prompt_tokens * _BYTES_A_TOKEN
