"""What a tenant or a key may use, and what it has used: requests and tokens a minute, cost a month. Pure.

A *subject* is `tenant:NAME` or `key:NAME`. The ledger actor owns the true counters, made of the rows
themselves. Each ingress replica checks by a copy of its own: the truth as of its last acknowledged
batch, and what it has written since. So a check costs no message, and a limit may be overshot: by what
the replicas admit in the time a batch takes (about 0.2 s), and, for tokens and cost, by what is under
way, because both are known when an attempt has ended.

Minutes are whole minutes of the wall clock and months are UTC, the same for all replicas. A request
counts in the minute in which it began, tokens and cost when the attempt ended.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from actors.ledger.messages import Totals
from actors.ledger.rows import LONGEST_TEXT, AttemptRow, RequestRow, month_of

MINUTE = 60_000
FRESH_MS = 5_000  # an acknowledgement older than this is no knowledge of what the others use
INTEREST_MINUTES = 3  # how long a subject is asked after when it has fallen silent


@dataclass(frozen=True, slots=True)
class Limit:
    """None is no limit. `monthly_cost` is nano-dollars; an attempt of unknown cost counts as none."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    monthly_cost: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """By subject; `each` holds for every subject of a sort (`tenant`, `key`) that has none of its own."""

    subjects: Mapping[str, Limit] = field(default_factory=dict)
    each: Mapping[str, Limit] = field(default_factory=dict)
    refuse_unseen: bool = False  # refuse while the ledger is away, rather than count alone

    def of(self, subject: str) -> Limit | None:
        return self.subjects.get(subject) or self.each.get(subject.partition(":")[0])

    def __bool__(self) -> bool:
        return bool(self.subjects or self.each)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit stands in the way, and when it will not. `limit` is `ledger_away` if nothing is known."""

    subject: str
    limit: str
    most: int
    used: int
    reset_seconds: float

    @property
    def status(self) -> int:
        return {"monthly_cost": 402, "ledger_away": 503}.get(self.limit, 429)


@dataclass(frozen=True, slots=True)
class Spend:
    """What one row adds to its subjects' counters, at its instant."""

    at: int
    requests: int = 0
    tokens: int = 0
    cost: int = 0
    unknown: int = 0  # attempts whose cost is not known

    def __neg__(self) -> "Spend":
        return Spend(self.at, -self.requests, -self.tokens, -self.cost, -self.unknown)


Change = tuple[str, Spend]


def subjects_of(tenant: str | None, key_name: str | None) -> list[str]:
    """Return the subjects, cut as the ledger's rows cut names: a longer one would have no totals."""
    found = [] if tenant is None else [f"tenant:{tenant[:LONGEST_TEXT]}"]
    return found if key_name is None else [*found, f"key:{key_name[:LONGEST_TEXT]}"]


def spend_of(row: RequestRow | AttemptRow) -> Spend | None:
    """Return what a row counts for. An open attempt counts for nothing yet."""
    if isinstance(row, RequestRow):
        return Spend(row.began_at, requests=1)
    if row.ended_at is None:
        return None
    return Spend(row.ended_at, 0, row.tokens_in + row.tokens_out, row.cost or 0, int(row.cost is None))


def changes(before: RequestRow | AttemptRow | None, after: RequestRow | AttemptRow) -> list[Change]:
    """Return what it does to the counters that a row became another."""
    old, new = spend_of(before) if before else None, spend_of(after)
    if old == new:
        return []
    found = [] if old is None or before is None else [(s, -old) for s in subjects_of(before.tenant, before.key_name)]
    return found if new is None else found + [(s, new) for s in subjects_of(after.tenant, after.key_name)]


@dataclass(slots=True)
class Counters:
    """Requests and tokens by subject and minute, cost by subject and month."""

    minutes: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    months: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, subject: str, spend: Spend) -> None:
        minute = (subject, spend.at // MINUTE)
        requests, tokens = self.minutes.get(minute, (0, 0))
        self.minutes[minute] = (requests + spend.requests, tokens + spend.tokens)
        if spend.cost:
            month = (subject, month_of(spend.at))
            self.months[month] = self.months.get(month, 0) + spend.cost

    def forget(self, before: int) -> None:
        """Drop the minutes that ended before this instant, and all months but its own."""
        for minute in [m for m in self.minutes if m[1] < before // MINUTE]:
            del self.minutes[minute]
        for month in [m for m in self.months if m[1] < month_of(before)]:
            del self.months[month]

    def totals(self, subjects: Iterable[str]) -> Totals:
        """Return what an acknowledgement carries of these subjects."""
        asked: Totals = {name: {"minutes": {}, "months": {}} for name in subjects}
        for (name, minute), used in self.minutes.items():
            if name in asked:
                asked[name]["minutes"][minute] = used
        for (name, month), cost in self.months.items():
            if name in asked:
                asked[name]["months"][month] = cost
        return asked

    def replace(self, totals: Totals) -> None:
        """Take the truth about these subjects."""
        self.minutes = {k: v for k, v in self.minutes.items() if k[0] not in totals}
        self.months = {k: v for k, v in self.months.items() if k[0] not in totals}
        for name, known in totals.items():
            self.minutes |= {(name, int(n)): (used[0], used[1]) for n, used in known["minutes"].items()}
            self.months |= {(name, month): cost for month, cost in known["months"].items()}


class Budget:
    """One replica's copy. Positions are those of its journal: what lies behind one is not yet acknowledged."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self._truth = Counters()
        self._ours = Counters()  # written since the last batch was cut
        self._sent: deque[tuple[int, Counters]] = deque()  # cut, not acknowledged
        self._asked: dict[str, int] = {}  # subject -> the minute it was last seen in
        self._heard = -math.inf

    def check(self, subjects: Iterable[str], now: int) -> Refusal | None:
        """Return why a request of these subjects may not begin; None if it may."""
        for subject in subjects:
            limit = self.limits.of(subject)
            if limit is None:
                continue
            self._asked[subject] = now // MINUTE
            if (refusal := self._refusal(subject, limit, now)) is not None:
                return refusal
        return None

    def _refusal(self, subject: str, limit: Limit, now: int) -> Refusal | None:
        if self.limits.refuse_unseen and now - self._heard > FRESH_MS:
            return Refusal(subject, "ledger_away", 0, 0, 1.0)
        minute, month = (subject, now // MINUTE), (subject, month_of(now))
        requests = tokens = cost = 0
        for counters in (self._truth, self._ours, *(sent for _, sent in self._sent)):
            used = counters.minutes.get(minute, (0, 0))
            requests, tokens = requests + used[0], tokens + used[1]
            cost += counters.months.get(month, 0)
        soon = (MINUTE - now % MINUTE) / 1000
        if limit.requests_per_minute is not None and requests >= limit.requests_per_minute:
            return Refusal(subject, "requests_per_minute", limit.requests_per_minute, requests, soon)
        if limit.tokens_per_minute is not None and tokens >= limit.tokens_per_minute:
            return Refusal(subject, "tokens_per_minute", limit.tokens_per_minute, tokens, soon)
        if limit.monthly_cost is not None and cost >= limit.monthly_cost:
            return Refusal(subject, "monthly_cost", limit.monthly_cost, cost, _until_next_month(now))
        return None

    def spent(self, subjects: Iterable[str], spend: Spend) -> None:
        """Count what this replica has just written."""
        for subject in subjects:
            if self.limits.of(subject) is not None:
                self._ours.add(subject, spend)

    def asked(self, now: int) -> list[str]:
        """Return the subjects whose totals the next acknowledgement should carry."""
        self._asked = {s: m for s, m in self._asked.items() if m > now // MINUTE - INTEREST_MINUTES}
        return list(self._asked)

    def cut(self, position: int, now: int) -> None:
        """Note that a batch was cut: all that was spent so far lies before `position`."""
        if self._ours.minutes or self._ours.months:
            self._sent.append((position, self._ours))
            self._ours = Counters()
        for counters in (self._truth, *(sent for _, sent in self._sent)):
            counters.forget(now - MINUTE)

    def acknowledged(self, position: int, totals: Totals, now: int) -> None:
        """Take the truth: all before `position` is counted in `totals`."""
        while self._sent and self._sent[0][0] <= position:
            self._sent.popleft()
        self._truth.replace(totals)
        self._heard = now


def _until_next_month(now: int) -> float:
    today = datetime.fromtimestamp(now / 1000, UTC)
    year, month = divmod(today.year * 12 + today.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - now / 1000
