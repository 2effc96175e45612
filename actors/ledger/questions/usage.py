"""Questions to the ledger: who used what, by tenant, agent, key, provider, model and day. Reads only.

Whole days are taken from the rollup, and only what lies between an instant and the next midnight from the rows. Both
are read in one state of the store, and give the same figures under the same names, so that they add up.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, func, or_, select
from sqlalchemy.exc import OperationalError

from actors.ledger.messages import FoundRequest, UnknownQuestion, UsageRow, Viewer
from actors.ledger.rollup import (
    FIGURES_OF_A_DAY,
    LOST_LEGS,
    MOST_GROUPS,
    QUESTIONS,
    by_target,
    columns_of,
    total_for,
    unknown_in,
)
from actors.ledger.rows import NANOS, day_of
from actors.ledger.store import DAY_MS, QUESTION_SECONDS, LedgerStore, purged_upto
from actors.ledger.tables import ATTEMPTS, DAYS, REQUESTS, TOTALS

GROUPS = {"tenant": "tenant", "agent": "agent", "key": "key_name", "provider": "provider", "model": "model"}
_FIRST_DAY, _LAST_DAY = -62_135_596_800_000, 253_402_214_400_000  # of the years 1 and 9999: the first and last names
_BEFORE_ALL, _AFTER_ALL = -(2**62), 2**62

Group = tuple[str | None, ...]
Figures = dict[str, int]


@dataclass(frozen=True, slots=True)
class Question:
    """`since` and `until` are milliseconds; `wide`: sums are beyond 64 bits, which SQLite alone minds."""

    filters: Mapping[str, Any]
    group_by: Sequence[str]
    since: int
    until: int
    wide: bool = False

    @property
    def by_target(self) -> bool:
        return by_target(self.filters, self.group_by)

    @property
    def days(self) -> tuple[int, int]:
        """Return the numbers of the first whole day and of the one behind the last."""
        first = -(-self.since // DAY_MS)
        return first, max(first, self.until // DAY_MS)

    @property
    def borders(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of instants that are no whole days."""
        first, last = (number * DAY_MS for number in self.days)
        for begin, end in ((self.since, min(first, self.until)), (max(last, self.since), self.until)):
            if begin < end and begin > _BEFORE_ALL and end < _AFTER_ALL:
                yield begin, end


def usage(
    store: LedgerStore, filters: Mapping[str, Any], group_by: Sequence[str] = (), until: float | None = None
) -> list[UsageRow]:
    """Return one row a group, in the order of its names; one for all without groups.

    `since` and `until` are seconds since the epoch, the latter not included. A request and its attempts belong to
    the instant at which the request began. `answered` is told of requests, and so only where nothing is asked by
    provider or model, of which a request may have several. Raises UnknownQuestion, and QuestionTooLong at `until`
    (monotonic).
    """
    question = _question(filters, group_by)
    until = time.monotonic() + QUESTION_SECONDS if until is None else until
    try:
        found = _answer(store, question, until)
    except OperationalError as error:
        if "integer overflow" not in str(error):
            raise
        found = _answer(store, replace(question, wide=True), until)
    if not question.group_by and not found:
        found = {(): {}}
    names = sorted(found, key=lambda name: tuple((part is not None, part or "") for part in name))
    return [_shown(question, name, found[name]) for name in names]


def _question(filters: Mapping[str, Any], group_by: Sequence[str]) -> Question:
    if (name := unknown_in(filters, group_by)) is not None:
        raise UnknownQuestion(f"no such filter or group: {name} (known: {', '.join(QUESTIONS)})")
    since, until = filters.get("since"), filters.get("until")
    named = {name: value for name, value in filters.items() if name in GROUPS}
    return Question(
        named,
        list(dict.fromkeys(group_by)),
        _BEFORE_ALL if since is None else _within_the_calendar(math.ceil(since * 1000)),
        _AFTER_ALL if until is None else _within_the_calendar(math.ceil(until * 1000)),
    )


def _within_the_calendar(ms: int) -> int:
    return max(_FIRST_DAY, min(ms, _LAST_DAY))


def _answer(store: LedgerStore, question: Question, until: float) -> dict[Group, Figures]:
    found: dict[Group, Figures] = {}
    with store.answering(until) as connection:
        borders = list(question.borders)
        if any(begin < (purged := purged_upto(connection)) for begin, _ in borders):
            raise UnknownQuestion(
                f"requests before {day_of(purged)} were deleted: ask by whole days (UTC), whose figures are kept"
            )
        for asked in _statements(question, borders):
            _take(connection, asked, question.group_by, found)
    return found


def _take(connection: Connection, asked: Select[Any], group_by: Sequence[str], found: dict[Group, Figures]) -> None:
    for row in connection.execute(asked.limit(MOST_GROUPS + 1)).mappings():
        name = tuple(_group_value(row[f"group_{group}"]) for group in group_by)
        figures = found.setdefault(name, {})
        for figure in FIGURES_OF_A_DAY:
            if (value := row.get(figure)) is not None:
                figures[figure] = figures.get(figure, 0) + int(value)
    if len(found) > MOST_GROUPS:
        raise UnknownQuestion(f"more than {MOST_GROUPS} groups: ask by fewer names, or with a filter")


def _group_value(value: Any) -> str | None:
    return day_of(value * DAY_MS) if isinstance(value, int) else value


def _statements(question: Question, borders: Sequence[tuple[int, int]]) -> Iterator[Select[Any]]:
    if question.days[0] < question.days[1]:
        yield _of_days(question)
    if borders:
        yield _of_attempts(question, borders)
        if question.by_target:
            yield _of_later_attempts(question, borders)
        else:
            yield _of_requests(question, borders)


def _of_days(question: Question) -> Select[Any]:
    counts = {_requests_by(question)} if question.by_target else {"requests", "answered"}
    kind = total_for(GROUPS.get(name, name) for name in (*question.filters, *question.group_by))
    table, where = (DAYS, []) if kind is None else (TOTALS, [TOTALS.c.kind == kind])
    figures = {name: _sum(table.c[name], question) for name in FIGURES_OF_A_DAY if name in counts | set(_OF_ATTEMPTS)}
    first, last = question.days
    if question.by_target:
        where.append(table.c.provider.is_not(None))
    if question.since != _BEFORE_ALL:
        where.append(table.c.day >= day_of(first * DAY_MS))
    if question.until != _AFTER_ALL:
        where.append(table.c.day < day_of(last * DAY_MS))
    return _grouped(table, figures, question, where, table.c.day)


def _of_attempts(question: Question, borders: Sequence[tuple[int, int]]) -> Select[Any]:
    a = ATTEMPTS.c
    settled = a.state == "settled"
    answered = settled & (a.kind == "ok")
    cancelled, hedged = settled & (a.kind == "cancelled"), func.coalesce(a.hedge, "").in_(LOST_LEGS)
    figures = {
        "attempts": func.count(),
        "answers": _count(answered),
        "cancelled": _count(cancelled),
        "failures": _count(settled & a.kind.not_in(("ok", "cancelled"))),
        "lost": _count(a.state == "lost"),
        "open": _count(a.state == "open"),
        **{name: _sum(a[name], question) for name in _TOKENS},
        "estimated": _count(a.counted == "estimated"),
        "cost": _sum(a.cost, question),
        "abandoned_cost": _sum(case((~answered & (a.state != "open"), a.cost)), question),
        "cancelled_cost": _sum(case((cancelled & ~hedged, a.cost)), question),
        "hedged_cost": _sum(case((~answered & (a.state != "open") & hedged, a.cost)), question),
        "unknown_cost": _count((a.state != "open") & a.cost.is_(None)),
        "timed": func.count(case((answered, a.ms))),
        "microseconds": func.sum(case((answered, func.round(a.ms * 1000)))),
        "first_timed": func.count(a.first_ms),
        "first_microseconds": func.sum(func.round(a.first_ms * 1000)),
    }
    if question.by_target:
        figures[_requests_by(question)] = _count(a.number == 1)
    return _grouped(ATTEMPTS, figures, question, [_within(a.asked_at, borders)], a.asked_at // DAY_MS)


def _of_later_attempts(question: Question, borders: Sequence[tuple[int, int]]) -> Select[Any]:
    """Count the requests whose first attempt that is asked for was not their first of all.

    With those of the first attempts they are the distinct requests. To count these at once, PostgreSQL would sort all
    rows in one process: 1.3 s for 700,000.
    """
    a, earlier = ATTEMPTS.c, ATTEMPTS.alias("earlier")
    names = {*question.filters, *question.group_by} & {"provider", "model"}
    same = [earlier.c[name] == a[name] for name in sorted(names)]
    before = select(1).where(earlier.c.request_id == a.request_id, earlier.c.number < a.number, *same)
    first = ~before.correlate(ATTEMPTS).exists()
    where = [_within(a.asked_at, borders), a.number > 1, first]
    return _grouped(ATTEMPTS, {_requests_by(question): func.count()}, question, where, a.asked_at // DAY_MS)


def _of_requests(question: Question, borders: Sequence[tuple[int, int]]) -> Select[Any]:
    r = REQUESTS.c
    figures = {"requests": func.count(), "answered": _count(r.outcome == "ok")}
    return _grouped(REQUESTS, figures, question, [_within(r.began_at, borders)], r.began_at // DAY_MS)


def _requests_by(question: Question) -> str:
    """Return which of the rollup's counts of requests answers this question: see rollup.py."""
    names = {*question.filters, *question.group_by}
    if {"provider", "model"} <= names:
        return "of_target"
    return "of_provider" if "provider" in names else "of_model" if "model" in names else "requests"


def _within(instant: ColumnElement[int], borders: Sequence[tuple[int, int]]) -> ColumnElement[bool]:
    return or_(*(and_(instant >= begin, instant < end) for begin, end in borders))


def _count(of: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((of, 1), else_=0)), 0)


def _sum(of: ColumnElement[int], question: Question) -> ColumnElement[Any]:
    return func.wide_sum(of) if question.wide else func.sum(of)


def _grouped(
    table: Table,
    figures: Mapping[str, ColumnElement[Any]],
    question: Question,
    where: Sequence[ColumnElement[bool]],
    day: ColumnElement[Any],
) -> Select[Any]:
    groups = [day if name == "day" else table.c[GROUPS[name]] for name in question.group_by]
    labelled = [group.label(f"group_{name}") for group, name in zip(groups, question.group_by, strict=True)]
    named = [table.c[GROUPS[name]] == value for name, value in question.filters.items()]
    asked = select(*labelled, *(figure.label(name) for name, figure in figures.items()))
    return asked.where(*named, *where).group_by(*labelled)


def _shown(question: Question, name: Group, figures: Figures) -> UsageRow:
    of = {**dict.fromkeys(FIGURES_OF_A_DAY, 0), **figures}
    # What cost nothing and what nobody can price are not the same.
    cost = None if of["unknown_cost"] and not of["cost"] else of["cost"]
    failed = of["abandoned_cost"] - of["hedged_cost"] - of["cancelled_cost"]
    shown = {
        **of,
        **dict(zip(question.group_by, name, strict=True)),
        "requests": of[_requests_by(question)],
        "cost_nanos": cost,
        "cost_usd": None if cost is None else cost / NANOS,
        "abandoned_cost_usd": None if cost is None else of["abandoned_cost"] / NANOS,
        "failed_cost_usd": None if cost is None else failed / NANOS,
        "hedged_cost_usd": None if cost is None else of["hedged_cost"] / NANOS,
        "cancelled_cost_usd": None if cost is None else of["cancelled_cost"] / NANOS,
        "avg_latency_ms": _average(of["microseconds"], of["timed"]),
        "avg_first_token_ms": _average(of["first_microseconds"], of["first_timed"]),
    }
    return {column: shown[column] for column in columns_of(question.filters, question.group_by)}


def _average(microseconds: int, number: int) -> float | None:
    return round(microseconds / number / 1000, 1) if number else None


_COUNTS_OF_REQUESTS = ("requests", "answered", "of_target", "of_provider", "of_model")
_OF_ATTEMPTS = [name for name in FIGURES_OF_A_DAY if name not in _COUNTS_OF_REQUESTS]
_TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")


def found(store: LedgerStore, name: str, viewer: Viewer | None = None) -> FoundRequest | None:
    """Return a request's row and its attempts' rows, by our id, or the newest by the caller's, or None.

    A caller's id may be another caller's too: of those, the newest that the `viewer` may see.
    """
    seen = seen_by(viewer)
    with store.answering(time.monotonic() + QUESTION_SECONDS) as connection:
        for which in (REQUESTS.c.request_id == name, REQUESTS.c.caller_id == name):
            asked = select(REQUESTS).where(which, *seen).order_by(REQUESTS.c.began_at.desc()).limit(1)
            if (row := connection.execute(asked).mappings().first()) is not None:
                made = select(ATTEMPTS).where(ATTEMPTS.c.request_id == row["request_id"]).order_by(ATTEMPTS.c.number)
                return {"request": dict(row), "attempts": [dict(a) for a in connection.execute(made).mappings()]}
    return None


def seen_by(viewer: Viewer | None) -> list[ColumnElement[bool]]:
    if viewer is None:
        return []
    if viewer["tenant"] is not None:
        return [REQUESTS.c.tenant == viewer["tenant"]]
    return [REQUESTS.c.key_name == viewer["key"]]
