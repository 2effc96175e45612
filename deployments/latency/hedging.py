"""When a second leg is worth its price: after which wait, within which budget, and beside whom. Pure.

The first leg is given as long as its class takes in all but a share of `budget` of the cases, so that a second leg is
sent for this share alone. A wait at a lower percentile would spend the budget on the mild half of the tail (Finagle's
BackupRequestFilter computes it so, too). What is left of a budget is not saved up: ten legs at the most.
"""

from collections import deque
from dataclasses import dataclass, field

from deployments.latency.latencies import Latencies
from deployments.newest import Newest

ENOUGH = 100  # times before a class has a tail
ENOUGH_LEGS, LAST_LEGS = 20, 40  # legs before their results count, and how many of the last ones count
LEAST_WON = 0.15  # the share of them that must win
LEARN_SECONDS = 60.0  # between two legs where they hardly ever win
BURST = 10.0
CALM_SECONDS = 10.0  # after a 429 in the row: a second leg is a retry
ROWS = 1000


@dataclass(frozen=True, slots=True)
class HedgeTerms:
    """A row's terms. Delays in seconds; `budget` is the share of requests that may have a second leg."""

    budget: float
    min_delay: float
    max_delay: float | None
    max_prompt_tokens: int


@dataclass(slots=True)
class _Row:
    tokens: float = BURST
    throttled_at: float = -CALM_SECONDS


@dataclass(slots=True)
class _Results:
    """Of the last second legs at one target beside another: whether each won, and when the last one ended."""

    won: deque[bool] = field(default_factory=lambda: deque(maxlen=LAST_LEGS))
    at: float = 0.0


class Hedges:
    """The budgets of one ingress, by row. Ratios add up over replicas, so no other one is asked."""

    def __init__(self) -> None:
        self._rows = Newest[str, _Row](ROWS)
        self._results = Newest[tuple[str, str], _Results](ROWS)

    def count(self, row: str, terms: HedgeTerms) -> None:
        """Count a request: it brings its share of a second leg."""
        known = self._row(row)
        known.tokens = min(BURST, known.tokens + terms.budget)

    def note_throttled(self, row: str, now: float) -> None:
        self._row(row).throttled_at = now

    def is_worth(self, first: str, second: str, now: float) -> bool:
        """Return whether second legs beside this first win often enough: a first that would have spoken soon loses few.

        How long those would have taken that lost is not known, so times can't tell it. A few legs do, now and then.
        """
        known = self._results.get((first, second))
        if known is None:
            known = self._results[first, second] = _Results()
        legs = len(known.won)
        return legs < ENOUGH_LEGS or sum(known.won) >= LEAST_WON * legs or now - known.at >= LEARN_SECONDS

    def note_result(self, first: str, second: str, won: bool, now: float) -> None:
        known = self._results.get((first, second))
        if known is not None:
            known.won.append(won)
            known.at = now

    def take(self, row: str, now: float) -> bool:
        """Take one second leg from the row's budget; False if there is none, or the row is throttled."""
        known = self._row(row)
        if known.tokens < 1.0 or now - known.throttled_at < CALM_SECONDS:
            return False
        known.tokens -= 1.0
        return True

    def give_back(self, row: str) -> None:
        """Give back a second leg that was not sent."""
        self._row(row).tokens += 1.0

    def left(self, row: str) -> float:
        return self._row(row).tokens

    def _row(self, row: str) -> _Row:
        found = self._rows.get(row)
        if found is None:
            found = self._rows[row] = _Row()
        return found


def delay(latencies: Latencies, target: str, kind: str, terms: HedgeTerms, most: float, now: float) -> float | None:
    """Return after how many seconds without content a second leg is sent; None if too little is known of the target.

    `kind` is the request's class, and `most` the longest delay.
    """
    tail = latencies.known(target, kind)
    if tail is None or tail.number < ENOUGH:
        return None
    return min(max(tail.percentile(1.0 - terms.budget, now), terms.min_delay), most)
