"""A replica's share of the limits of one subject: its leases, what it has spent, what it holds. Pure.

What a replica may do by itself, and why, is in actors/ledger/single_writer/leases.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from actors.ledger.budget import MINUTE, Limit, Refusal
from actors.ledger.messages import Claim, Period
from actors.ledger.rows import month_of

REQUESTS, TOKENS, COST = range(3)
NAMES = ("requests_per_minute", "tokens_per_minute", "monthly_cost")
PARTS = 16  # a replica wants so small a part of a limit to be ahead of its requests
SOON_SECONDS = 1.0  # what is under way may end at any moment

Amount = tuple[int, int, int]  # requests, tokens, nano-dollars


@dataclass(slots=True)
class Known:
    """What the ledger actor has said of one limit in one period."""

    period: Period
    lease: int = 0
    truth: int = 0  # what all rows in the store have used
    more: bool = True  # may there soon be more than the lease?
    answered_at: float = -math.inf


@dataclass(slots=True, eq=False)
class Share:
    """A replica's share of one limit of one subject.

    Attributes:
        sort: REQUESTS, TOKENS or COST.
        known: what the actor has said of this period; `ahead` of the next one.
        spent: what rows have used that are not acknowledged.
        held: what the requests under way may use. It counts in every period until they have ended.
        recent, wanted: what was admitted, and what could not be, since the last claim.
    """

    sort: int
    most: int
    known: Known
    ahead: Known | None = None
    spent: int = 0
    held: int = 0
    recent: int = 0
    wanted: int = 0

    @property
    def used(self) -> int:
        return self.spent + self.held

    def turn(self, period: Period) -> None:
        """Begin another period."""
        ahead = self.ahead
        self.known = ahead if ahead is not None and ahead.period == period else Known(period)
        self.ahead, self.spent = None, 0

    def claim(self, acknowledged: int, *, modest: bool, fresh: bool) -> Claim:
        """Return what to claim with a batch, which holds so much of what was spent.

        `modest`: others need what is not used. `fresh`: the lease was heard of lately.
        """
        known, acknowledged = self.known, min(acknowledged, self.spent)
        ahead = self.recent if modest else max(self.most // PARTS, 2 * self.recent, 1)
        used = self.used - acknowledged
        want = min(self.most, used + self.wanted + ahead)
        lease = max(0, min(known.lease - acknowledged, want if fresh else used))
        known.lease = lease + acknowledged  # what it gives back it does not use from now on
        self.recent = self.wanted = 0
        return NAMES[self.sort], known.period, self.most, used, lease, want

    def claim_ahead(self, period: Period) -> Claim:
        """Return what to claim of the next period."""
        if self.ahead is None or self.ahead.period != period:
            self.ahead = Known(period)
        want = min(self.most, self.held + max(self.most // PARTS, 1))
        return NAMES[self.sort], period, self.most, self.held, min(self.ahead.lease, want), want

    def refusal(self, subject: str, now: int) -> Refusal:
        used = self.known.truth + self.spent
        under_way = used < self.most
        seconds = SOON_SECONDS if under_way else _until_next(self.sort, now)
        return Refusal(subject, NAMES[self.sort], self.most, used, seconds, under_way)


@dataclass(slots=True, eq=False)
class Standing:
    """One subject, with its share of each limit that it has."""

    subject: str
    shares: tuple[Share, ...]
    minute: int = -1
    month: str = ""
    admitted: int = -1  # the minute of the last request

    def turn(self, now: int) -> None:
        """Begin the minute and the month of this moment."""
        minute = now // MINUTE
        if minute != self.minute:
            self.minute, month = minute, month_of(now)
            for share in self.shares:
                if share.sort != COST:
                    share.turn(minute)
                elif month != self.month:
                    share.turn(month)
            self.month = month

    @property
    def idle(self) -> bool:
        return not any(share.used for share in self.shares)

    def is_active(self, now: int) -> bool:
        """Return whether it will need a lease in the next minute: it has been asked for in this one, or holds some."""
        return self.admitted == now // MINUTE or not self.idle

    def ahead(self, then: int) -> Iterator[Claim]:
        """Yield what to claim of the periods that have begun at that later moment."""
        minute, month = then // MINUTE, month_of(then)
        for share in self.shares:
            period: Period = month if share.sort == COST else minute
            if period != share.known.period:
                yield share.claim_ahead(period)


def standing_of(subject: str, limit: Limit) -> Standing:
    most = (limit.requests_per_minute, limit.tokens_per_minute, limit.monthly_cost)
    shares = tuple(Share(sort, amount, Known("")) for sort, amount in enumerate(most) if amount is not None)
    return Standing(subject, shares)


def _until_next(sort: int, now: int) -> float:
    """Return the seconds until the next minute or month begins."""
    if sort != COST:
        return (MINUTE - now % MINUTE) / 1000
    today = datetime.fromtimestamp(now / 1000, UTC)
    year, month = divmod(today.year * 12 + today.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - now / 1000
