"""One replica's budget: who may begin a request, and what is held for it until it has ended. Pure.

A request is admitted if each of its subjects uses less than the replica's lease of each limit: see
actors/ledger/single_writer/leases.py. What it may cost at most is then *held*, and given back when it has ended and its
rows have been counted. A subject that nothing is known of yet, or whose lease is used up, is asked for with the next
batch, and its requests wait for that one answer.

Positions are those of the replica's journal: what lies behind one is not yet acknowledged. `now` is the wall clock in
milliseconds, which says which minute and month it is. `at` is monotonic, in seconds: it says how old knowledge is.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice

from actors.ledger.budget import MINUTE, Limits, Refusal, Spend
from actors.ledger.messages import SENT, Claim, Period, SubjectTotals, WriteAnswer
from deployments.usage.share import COST, NAMES, REQUESTS, Amount, Share, Standing, standing_of

FRESH_SECONDS = 5.0  # without an answer for longer, a lease is no lease, and the ledger is away
ANSWER_SECONDS = 0.5  # how long "there is no more" holds
AHEAD_MS = 2000  # before a minute or a month begins its leases are claimed
AHEAD_AT_ONCE = 500  # subjects
MOST_SUBJECTS = 10_000  # that are remembered though no request of theirs is under way
LOOKED_AT = 8  # subjects, for one that can be forgotten


class Asking(Enum):
    """The answer for a request that has to wait for the ledger actor's next one."""

    ASKING = "asking"


ASKING = Asking.ASKING


class Reservation:
    """What is held for one request. Whatever ends the request releases it, and only the first release counts."""

    __slots__ = ("_amount", "_budget", "_standings")

    def __init__(self, budget: "Budget", standings: Sequence[Standing], amount: Amount):
        self._budget, self._standings, self._amount = budget, standings, amount
        for standing in standings:
            for share in standing.shares:
                share.held += amount[share.sort]

    def begin(self) -> None:
        """Note that the request's row is written: from now on that counts as the one request."""
        requests, tokens, cost = self._amount
        self._amount = 0, tokens, cost
        for standing in self._standings:
            share = standing.shares[0]
            if share.sort == REQUESTS:
                share.held -= requests

    def release(self) -> None:
        standings, self._standings = self._standings, ()
        for standing in standings:
            self._budget.changed(standing)
            for share in standing.shares:
                share.held -= self._amount[share.sort]

    def __del__(self) -> None:
        self.release()  # of a request whose task was lost before it could end


class Spent:
    """What a subject has spent between two batches: of the last minute and the last month, for others are over."""

    __slots__ = ("cost", "minute", "month", "requests", "tokens")

    def __init__(self) -> None:
        self.minute, self.month = -1, ""
        self.requests = self.tokens = self.cost = 0

    def add(self, standing: Standing, spend: Spend) -> None:
        if standing.minute != self.minute:
            self.minute, self.requests, self.tokens = standing.minute, 0, 0
        if standing.month != self.month:
            self.month, self.cost = standing.month, 0
        self.requests += spend.requests
        self.tokens += spend.tokens
        self.cost += spend.cost

    def of(self, share: Share) -> int:
        """Return how much of it counts in this share's present period."""
        period = self.month if share.sort == COST else self.minute
        return (self.requests, self.tokens, self.cost)[share.sort] if period == share.known.period else 0


class Budget:
    def __init__(self, limits: Limits, most: int = MOST_SUBJECTS):
        self.limits = limits
        self._most = most
        self._standings: dict[str, Standing] = {}
        self._ours: dict[str, Spent] = {}  # since the last batch was cut
        self._sent: deque[tuple[int, dict[str, Spent]]] = deque()  # cut, not acknowledged
        self._changed: dict[str, None] = {}  # to be claimed with the next batch
        self._claimed: dict[str, None] = {}  # with the last one, which is not acknowledged
        self._given_up: dict[str, list[Claim]] = {}
        self._giving: dict[str, list[Claim]] = {}
        self._recalled: set[str] = set()
        self._ahead: list[str] = []
        self._ahead_of = -1
        self._reports = 0
        self._heard = -math.inf
        self._down = False
        self.asks = False  # somebody waits for the next answer

    @property
    def holds(self) -> bool:
        """Return whether it has leases that others may need."""
        return bool(self._standings)

    def dearest_limit(self, subjects: Iterable[str]) -> int | None:
        """Return the last of REQUESTS, TOKENS and COST that any of these subjects has a limit of; None without any."""
        sorts = [found.shares[-1].sort for name in subjects if (found := self._standing(name)) is not None]
        return max(sorts) if sorts else None

    def reserve(
        self, subjects: Iterable[str], amount: Amount, now: int, at: float, *, patient: bool = True
    ) -> Reservation | Refusal | Asking | None:
        """Hold what a request of these subjects may use at most; None if none of them has a limit.

        Return why it may not begin, or ASKING if that is not known: then the next answer may tell. Who is not
        `patient` gets no ASKING.
        """
        found = [standing for name in subjects if (standing := self._standing(name)) is not None]
        fresh, asking = at - self._heard <= FRESH_SECONDS, False
        minute = now // MINUTE
        for standing in found:
            if standing.minute != minute:
                standing.turn(now)
            for share in standing.shares:
                if fresh and share.spent + share.held < share.known.lease:
                    continue
                answer = self._check(standing.subject, share, now, at, patient)
                if answer is not None:
                    self._changed[standing.subject] = None
                    share.wanted += amount[share.sort]
                    if isinstance(answer, Refusal):
                        return answer
                    asking = self.asks = True
        if asking:
            return ASKING
        for standing in found:
            self._changed[standing.subject] = None
            standing.admitted = standing.minute
            for share in standing.shares:
                share.recent += amount[share.sort]
        return Reservation(self, found, amount) if found else None

    def _check(self, subject: str, share: Share, now: int, at: float, patient: bool) -> Refusal | Asking | None:
        """Return what becomes of a request that no lease allows."""
        known = share.known
        if known.truth + share.used >= share.most:  # no lease of others can help
            return share.refusal(subject, now)
        if self._is_away(at) or not (patient or at - self._heard <= FRESH_SECONDS):
            return Refusal(subject, "ledger_away", 0, 0, 1.0) if self.limits.refuse_unseen else None
        if not patient or (not known.more and at - known.answered_at <= ANSWER_SECONDS):
            return share.refusal(subject, now)
        return ASKING

    def _is_away(self, at: float) -> bool:
        return self._down or FRESH_SECONDS < at - self._heard < math.inf

    def _standing(self, subject: str) -> Standing | None:
        known = self._standings.get(subject)
        if known is None and (limit := self.limits.of(subject)):
            if len(self._standings) >= self._most:
                self._give_up_one()
            known = self._standings[subject] = standing_of(subject, limit)
        return known

    def _give_up_one(self) -> None:
        """Forget the subject that was made first, if it is idle: else it goes to the end, and the next is looked at.

        Where none of some is idle, as when the ledger is away, one goes of whose requests none is under way. What it
        has spent since the last batch then counts again once the store has it. So only requests under way are more.
        """
        unheld = None
        for subject in list(islice(self._standings, LOOKED_AT)):
            standing = self._standings.pop(subject)
            if standing.idle:
                return self._forget(standing)
            self._standings[subject] = standing
            if unheld is None and not any(share.held for share in standing.shares):
                unheld = standing
        if unheld is not None:
            del self._standings[unheld.subject]
            self._forget(unheld)

    def _forget(self, standing: Standing) -> None:
        """Give back the leases of a subject that is no longer here, and forget the rest."""
        subject = standing.subject
        if leased := [(s, s.known) for s in standing.shares if s.known.lease]:
            self._given_up[subject] = [(NAMES[s.sort], k.period, s.most, 0, 0, 0) for s, k in leased]
        for spent in (self._ours, *(spent for _, spent in self._sent)):
            spent.pop(subject, None)
        for named in (self._changed, self._claimed):
            named.pop(subject, None)
        self._recalled.discard(subject)

    def spent(self, subjects: Iterable[str], spend: Spend) -> None:
        """Count what this replica has just written."""
        amount, minute = (spend.requests, spend.tokens, spend.cost), spend.at // MINUTE
        for subject in subjects:
            standing = self._standing(subject)
            if standing is None:
                continue
            if standing.minute != minute:
                standing.turn(spend.at)
            for share in standing.shares:
                share.spent += amount[share.sort]
            ours = self._ours.get(subject)
            if ours is None:
                ours = self._ours[subject] = Spent()
            ours.add(standing, spend)
            self._changed[subject] = None

    def changed(self, standing: Standing) -> None:
        """Note that something else is held for this one."""
        self._changed[standing.subject] = None

    def cut(self, position: int) -> None:
        """Note that a batch was cut: all that was spent so far lies before `position`."""
        if self._ours:
            self._sent.append((position, self._ours))
            self._ours = {}

    def report(self, position: int, now: int, at: float) -> dict[str, object]:
        """Return what to claim with the batch that ends at `position`."""
        self._look_ahead(now)
        claimed = {**self._claimed, **self._changed, **dict.fromkeys(self._recalled)}
        modest, self._recalled = self._recalled, set()
        self._claimed, self._changed, self.asks = claimed, {}, False
        self._reports += 1
        self._giving |= self._given_up
        self._given_up = {}
        claims: dict[str, object] = {SENT: self._reports, **self._giving}
        leaving = [spent for end, spent in self._sent if end <= position]
        claimed.update(dict.fromkeys(subject for spent in leaving for subject in spent))
        fresh = at - self._heard <= FRESH_SECONDS
        ahead, self._ahead = self._ahead[:AHEAD_AT_ONCE], self._ahead[AHEAD_AT_ONCE:]
        for subject in [*claimed, *(name for name in ahead if name not in claimed)]:
            if (standing := self._standings.get(subject)) is not None:
                standing.turn(now)
                claims[subject] = [
                    *(
                        share.claim(_sum(leaving, subject, share), modest=subject in modest, fresh=fresh)
                        for share in standing.shares
                    ),
                    *standing.ahead(now + AHEAD_MS),
                ]
        return claims

    def _look_ahead(self, now: int) -> None:
        """Soon a minute begins: then all who have a lease now claim the next one."""
        then = (now + AHEAD_MS) // MINUTE
        if then != self._ahead_of:
            self._ahead_of = then
            self._ahead = [n for n, standing in self._standings.items() if standing.is_active(now)]
        if self._ahead:
            self.asks = True

    def acknowledge(self, position: int, answer: WriteAnswer, at: float) -> None:
        """Take the truth and the leases: all before `position` is in the store."""
        while self._sent and self._sent[0][0] <= position:
            for subject, spent in self._sent.popleft()[1].items():
                for share in self._shares(subject):
                    share.spent = max(0, share.spent - spent.of(share))  # a clock that went back has dropped some
        leases = answer.get("leases")
        for subject, totals in answer["totals"].items():
            for share in self._shares(subject):
                for known in (share.known, share.ahead):
                    if known is not None:
                        known.truth = _truth(share, known.period, totals)
                        if leases is None:  # of an actor that gives none: what it knows of is all there is
                            known.lease, known.answered_at = max(0, share.most - known.truth), at
        for subject, leased in (leases or {}).items():
            for name, period, lease, more in leased:
                for share in self._shares(subject):
                    for known in (share.known, share.ahead):
                        if NAMES[share.sort] == name and known is not None and known.period == period:
                            known.lease, known.more, known.answered_at = lease, more, at
        self._recalled |= set(answer.get("recalled", ()))
        self.asks = self.asks or bool(self._recalled)
        self._heard, self._down, self._claimed = at, False, {}
        self._giving = {}

    def _shares(self, subject: str) -> tuple[Share, ...]:
        standing = self._standings.get(subject)
        return () if standing is None else standing.shares

    def fail(self) -> None:
        """Note that the ledger did not answer."""
        self._down = True

    def give_back(self) -> None:
        """Give all leases back with the next batch, but for what is used."""
        for standing in self._standings.values():
            for share in standing.shares:
                share.recent = share.wanted = 0
        self._recalled |= self._standings.keys()
        self.asks = True


def _sum(leaving: Iterable[dict[str, Spent]], subject: str, share: Share) -> int:
    return sum(spent[subject].of(share) for spent in leaving if subject in spent)


def _truth(share: Share, period: Period, totals: SubjectTotals) -> int:
    if share.sort == COST:
        return totals["months"].get(str(period), 0)
    return totals["minutes"].get(int(period), (0, 0))[0 if share.sort == REQUESTS else 1]
