"""A page of requests, the newest first. Reads only.

The index on `began_at` says how far back a page may look; the filters are tried on what lies between. What a page
shows is then read by its keys. It has no trails: they are the larger part of a row.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from actors.ledger.questions.asked import MOST_EXAMINED, NAMED, Asked, cursor_of
from actors.ledger.questions.usage import seen_by
from actors.ledger.store import QUESTION_SECONDS, LedgerStore
from actors.ledger.tables import ATTEMPTS, REQUESTS

_R = REQUESTS.c
MINUTE_MS = 60_000
_COLUMNS = [column for column in REQUESTS.columns if column.name not in ("trail", "owner", "version")]
_OF_ATTEMPTS = ("request_id", "tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "cost", "first_ms")


def requests_page(
    store: LedgerStore, asked: Asked, until: float | None = None, most: int = MOST_EXAMINED
) -> dict[str, Any]:
    """Return `data`, the rows of each request and of its attempts, with the `next` cursor and `looked_back_to`.

    It looks at `most` requests, and at those that began at the same instant as the last of them. Raises QuestionTooLong
    at `until` (monotonic).
    """
    with store.answering(time.monotonic() + QUESTION_SECONDS if until is None else until) as connection:
        within = _within(asked)
        oldest = _oldest_of_a_page(connection, within, most)
        if oldest is not None and asked.viewer is not None:
            oldest = _begin_of_minute(oldest, asked.since)
        where = [*within, *_wanted(asked), *seen_by(asked.viewer)]
        if oldest is not None:
            where.append(_R.began_at >= oldest)
        newest_first = (_R.began_at.desc(), _R.request_id.desc())
        found = select(*_COLUMNS).where(*where).order_by(*newest_first).limit(asked.limit + 1)
        rows = [dict(row) for row in connection.execute(found).mappings()]
        shown = rows[: asked.limit]
        if len(rows) > len(shown):
            last = shown[-1]
            back, cursor = last["began_at"], cursor_of((last["began_at"], last["request_id"]))
        elif oldest is not None:
            back, cursor = oldest, cursor_of((oldest, ""))
        else:
            back, cursor = _oldest(connection, asked), None
        attempts = _attempts_of(connection, [row["request_id"] for row in shown])
    data = [{"request": row, "attempts": attempts.get(row["request_id"], [])} for row in shown]
    return {"data": data, "next": cursor, "looked_back_to": back}


def _within(asked: Asked) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if asked.since is not None:
        where.append(_R.began_at >= asked.since)
    if asked.until is not None:
        where.append(_R.began_at < asked.until)
    if asked.before is not None:
        at, name = asked.before
        # The first is said for the index.
        where += [_R.began_at <= at, or_(_R.began_at < at, and_(_R.began_at == at, _R.request_id < name))]
    return where


def _oldest_of_a_page(connection: Connection, within: Sequence[ColumnElement[bool]], most: int) -> int | None:
    """Return the oldest instant that a page looks at; None if it may look at all that there is."""
    asked = select(_R.began_at).where(*within).order_by(_R.began_at.desc()).offset(most - 1).limit(2)
    # What began at that same instant is looked at too: the next page begins before it.
    found = list(connection.execute(asked).scalars())
    return found[0] if len(found) == 2 else None


def _begin_of_minute(oldest: int, since: int | None) -> int | None:
    """Return how far back a page looks for who may not know when others ask: to the millisecond it would be told."""
    minute = oldest - oldest % MINUTE_MS
    return None if since is not None and minute <= since else minute


def _oldest(connection: Connection, asked: Asked) -> int:
    """Return how far back a page has looked that has looked at all; 0 for who may not know the others' first."""
    if asked.since is not None:
        return asked.since
    return 0 if asked.viewer is not None else connection.execute(select(func.min(_R.began_at))).scalar() or 0


def _wanted(asked: Asked) -> list[ColumnElement[bool]]:
    where = [REQUESTS.c[NAMED[name]] == value for name, value in asked.named.items()]
    if asked.outcome == "failed":
        where += [_R.state != "open", _R.outcome.not_in(("ok", "cancelled"))]
    elif asked.outcome is not None:
        where.append(func.coalesce(_R.outcome, _R.state) == asked.outcome)
    if asked.failed_over:
        where.append(_R.failed_over > 0)
    if asked.slower_than_ms is not None:
        where.append(_R.ended_at - _R.began_at > asked.slower_than_ms)
    return where


def _attempts_of(connection: Connection, names: Sequence[str]) -> Mapping[str, list[dict[str, Any]]]:
    """Return what the attempts of these requests have used, by request, in order."""
    columns = [ATTEMPTS.c[name] for name in _OF_ATTEMPTS]
    asked = select(*columns).where(ATTEMPTS.c.request_id.in_(names)).order_by(ATTEMPTS.c.request_id, ATTEMPTS.c.number)
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(asked).mappings():
        found.setdefault(row["request_id"], []).append(dict(row))
    return found
