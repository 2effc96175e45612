"""What a tenant or a key may use, and what it has used: requests and tokens a minute, cost a month. Pure.

A *subject* is `tenant:NAME` or `key:NAME`. The ledger actor owns the true counters, made of the rows
themselves. What a replica may use of a limit it holds as a *lease* (leases.py), so that no check needs a message.

Minutes are whole minutes of the wall clock of the replica that wrote the row, and months are UTC. A request
counts in the minute in which it began, tokens and cost when the attempt ended.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import nlargest
from operator import itemgetter

from actors.ledger.messages import Totals
from actors.ledger.rows import LONGEST_TEXT, AttemptRow, RequestRow, clean, month_of

MINUTE = 60_000
FORGET_SECONDS = 120.0  # a minute that no row has touched for so long, or twice as long, is forgotten
MINUTES_KEPT = 8  # of one subject: replicas whose clocks differ by hours are in different minutes at once
MONTHS_KEPT = 3
MOST_SUBJECTS = 100_000  # whose requests are counted: beyond them a new name counts once it has used tokens
FORGOTTEN_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Limit:
    """None is no limit. `monthly_cost` is nano-dollars."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    monthly_cost: int | None = None

    def __bool__(self) -> bool:
        return (self.requests_per_minute, self.tokens_per_minute, self.monthly_cost) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Limits:
    """By subject; `each` holds for every subject of a sort (`tenant`, `key`) that has none of its own."""

    subjects: Mapping[str, Limit] = field(default_factory=dict)
    each: Mapping[str, Limit] = field(default_factory=dict)
    refuse_unseen: bool = False  # refuse while the ledger is away, rather than count alone

    def of(self, subject: str) -> Limit | None:
        """Return the limit of a subject. A key `TENANT:NAME` may be named so, or by its name alone."""
        sort, _, name = subject.partition(":")
        known = self.subjects.get(subject)
        if known is None and sort == "key":
            known = self.subjects.get(f"key:{name.rpartition(':')[2]}")
        return self.each.get(sort) if known is None else known

    def __bool__(self) -> bool:
        return bool(self.subjects or self.each)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit stands in the way, and when it may not. `limit` is `ledger_away` if nothing is known.

    `under_way`: the limit is not used up, but the requests under way may need the rest.
    """

    subject: str
    limit: str
    most: int
    used: int
    reset_seconds: float
    under_way: bool = False

    @property
    def status(self) -> int:
        return 429 if self.under_way else {"monthly_cost": 402, "ledger_away": 503}.get(self.limit, 429)


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
    """Return the subjects, with names as the ledger's rows have them: another would have no totals."""
    return list(_subjects(tenant, key_name))


@lru_cache(maxsize=4096)
def _subjects(tenant: str | None, key_name: str | None) -> tuple[str, ...]:
    names = (("tenant", tenant), ("key", key_name))
    return tuple(f"{sort}:{clean(name[:LONGEST_TEXT])}" for sort, name in names if name is not None)


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


class Counters:
    """Requests and tokens by subject and minute, cost by subject and month. No clock but the caller's `seconds`.

    A minute is forgotten when no row has touched it for a while, and a month when there are newer ones: what a wall
    clock says forgets nothing. Both a bit at a time. Of too many subjects at once, those that were first go from a
    minute, and from a month those that have cost least: their limits begin anew. Their rows are in the store.
    """

    def __init__(self, most: int = MOST_SUBJECTS) -> None:
        self._most = most
        self._minutes: dict[str, dict[int, tuple[int, int]]] = {}
        self._older: dict[str, dict[int, tuple[int, int]]] = {}  # untouched since the last turn
        self._months: dict[str, dict[str, int]] = {}
        self._forgotten: list[dict[str, dict[int, tuple[int, int]]] | dict[str, int]] = []
        self._turned: float | None = None

    def add(self, subject: str, spend: Spend) -> None:
        if spend.cost:
            self.add_cost(subject, month_of(spend.at), spend.cost)
        minutes = self._minutes.get(subject)
        if minutes is None:
            minutes = self._older.pop(subject, None)
            if minutes is None:
                if len(self._minutes) >= self._most and not spend.tokens:
                    return
                if len(self._minutes) >= 2 * self._most:
                    del self._minutes[next(iter(self._minutes))]
                minutes = {}
            self._minutes[subject] = minutes
        number = spend.at // MINUTE
        requests, tokens = minutes.pop(number, (0, 0))
        minutes[number] = (requests + spend.requests, tokens + spend.tokens)  # the last one touched is the last
        if len(minutes) > MINUTES_KEPT:
            del minutes[next(iter(minutes))]

    def add_cost(self, subject: str, month: str, cost: int) -> None:
        """Add nano-dollars to what a subject has used in a month."""
        costs = self._months.get(month)
        if costs is None:
            costs = self._months[month] = {}
            if len(self._months) > MONTHS_KEPT:
                self._forgotten.append(self._months.pop(min(self._months)))
        costs[subject] = costs.get(subject, 0) + cost
        if len(costs) > 2 * self._most:
            self._months[month] = dict(nlargest(self._most, costs.items(), key=itemgetter(1)))

    def forget(self, seconds: float) -> None:
        """Forget a bit of what no row has touched for long. `seconds` are monotonic."""
        if self._turned is None:
            self._turned = seconds
        if seconds - self._turned >= FORGET_SECONDS:
            self._forgotten.append(self._older)
            self._older, self._minutes, self._turned = self._minutes, {}, seconds
        for _ in range(FORGOTTEN_AT_ONCE if self._forgotten else 0):
            if not self._forgotten[-1]:
                self._forgotten.pop()
                break
            self._forgotten[-1].popitem()

    def minutes(self, subject: str) -> Mapping[int, tuple[int, int]]:
        """Return requests and tokens of the minutes of one subject."""
        return self._minutes.get(subject) or self._older.get(subject) or {}

    def costs_otherwise(self, other: "Counters") -> set[str]:
        """Return the subjects that have another cost there, in any month that it knows."""
        return {
            subject
            for month, costs in other._months.items()
            for subject, _ in costs.items() ^ self._months.get(month, {}).items()
        }

    def take_months(self, other: "Counters") -> None:
        """Take the costs of all months from there."""
        self._months = other._months

    def months(self, subject: str) -> dict[str, int]:
        """Return the nano-dollars of the months of one subject."""
        return {month: costs[subject] for month, costs in self._months.items() if subject in costs}

    def used(self, subject: str, limit: str, period: int | str) -> int:
        """Return what counts against one limit: `period` is a minute's number or a month."""
        if isinstance(period, str):
            costs = self._months.get(period)
            return 0 if costs is None else costs.get(subject, 0)
        requests, tokens = self.minutes(subject).get(period, (0, 0))
        return requests if limit == "requests_per_minute" else tokens

    def seen(self, month: str) -> set[str]:
        """Return the subjects that have had a cost in this month, or a request lately."""
        return {*self._months.get(month, ()), *self._minutes, *self._older}

    def totals(self, subjects: Iterable[str]) -> Totals:
        """Return what an acknowledgement carries of these subjects."""
        return {name: {"minutes": dict(self.minutes(name)), "months": self.months(name)} for name in subjects}
