"""Questions to the ledger: who used what, by tenant, agent, key, provider, model and day. Reads only."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, case, func, select

from actors.ledger.messages import FoundRequest, UsageRow
from actors.ledger.rows import NANOS, QUESTIONS, day_of, unknown_in
from actors.ledger.store import LedgerStore
from actors.ledger.tables import ATTEMPTS, REQUESTS

GROUPS = {"tenant": "tenant", "agent": "agent", "key": "key_name", "provider": "provider", "model": "model"}
DAY_MS = 86_400_000


class UnknownQuestion(ValueError):
    """The caller named a filter or a group that there is none of."""


def usage(store: LedgerStore, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[UsageRow]:
    """Return one row a group, in the order of its names; one for all without groups.

    `since` and `until` are seconds since the epoch, the latter not included; an attempt belongs to the
    day in which it began. `answered` is told of requests, and so only where nothing is asked by
    provider or model, of which a request may have several.
    """
    _check(filters, group_by)
    by_request = not {"provider", "model"} & {*filters, *group_by}
    with store.reading() as connection:
        found = {
            _group(row, group_by): dict(row) for row in connection.execute(_attempts(filters, group_by)).mappings()
        }
        asked = connection.execute(_requests(filters, group_by)).mappings() if by_request else ()
        requests = {_group(row, group_by): dict(row) for row in asked}
    names = sorted({*found, *requests}, key=lambda name: tuple((part is not None, str(part)) for part in name))
    return [_shown(dict(zip(group_by, name, strict=True)), found.get(name, {}), requests.get(name)) for name in names]


def found(store: LedgerStore, name: str) -> FoundRequest | None:
    """Return a request's row and its attempts' rows, by our id, or the newest by the caller's, or None."""
    ours, theirs = REQUESTS.c.request_id == name, REQUESTS.c.caller_id == name
    with store.reading() as connection:
        for which in (ours, theirs):
            asked = select(REQUESTS).where(which).order_by(REQUESTS.c.began_at.desc()).limit(1)
            if (row := connection.execute(asked).mappings().first()) is not None:
                made = select(ATTEMPTS).where(ATTEMPTS.c.request_id == row["request_id"]).order_by(ATTEMPTS.c.number)
                return {"request": dict(row), "attempts": [dict(a) for a in connection.execute(made).mappings()]}
    return None


def _check(filters: Mapping[str, Any], group_by: Sequence[str]) -> None:
    if (name := unknown_in(filters, group_by)) is not None:
        raise UnknownQuestion(f"no such filter or group: {name} (known: {', '.join(QUESTIONS)})")


def _attempts(filters: Mapping[str, Any], group_by: Sequence[str]) -> Select[Any]:
    a = ATTEMPTS.c
    settled = a.state == "settled"
    figures = {
        "attempts": func.count(),
        "answers": _count(settled & (a.kind == "ok")),
        "cancelled": _count(settled & (a.kind == "cancelled")),
        "failures": _count(settled & a.kind.not_in(("ok", "cancelled"))),
        "lost": _count(a.state == "lost"),
        "open": _count(a.state == "open"),
        "tokens_in": func.sum(a.tokens_in),
        "tokens_out": func.sum(a.tokens_out),
        "tokens_cached": func.sum(a.tokens_cached),
        "tokens_reasoning": func.sum(a.tokens_reasoning),
        "estimated": _count(a.counted == "estimated"),
        "cost_nanos": func.coalesce(func.sum(a.cost), 0),
        "unknown_cost": _count((a.state != "open") & a.cost.is_(None)),
        "ms": func.avg(case((settled & (a.kind == "ok"), a.ms))),
        "first_ms": func.avg(a.first_ms),
        "asked": func.count(a.request_id.distinct()),
    }
    return _grouped(ATTEMPTS, figures, filters, group_by, a.day)


def _requests(filters: Mapping[str, Any], group_by: Sequence[str]) -> Select[Any]:
    r = REQUESTS.c
    figures = {
        "requests": func.count(),
        "answered": _count(r.outcome == "ok"),
    }
    return _grouped(REQUESTS, figures, filters, group_by, r.began_at // DAY_MS)


def _count(of: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((of, 1), else_=0)), 0)


def _grouped(
    table: Table,
    figures: Mapping[str, ColumnElement[Any]],
    filters: Mapping[str, Any],
    group_by: Sequence[str],
    day: ColumnElement[Any],
) -> Select[Any]:
    groups = [day if name == "day" else table.c[GROUPS[name]] for name in group_by]
    labelled = [group.label(f"group_{name}") for group, name in zip(groups, group_by, strict=True)]
    where = [table.c[GROUPS[name]] == value for name, value in filters.items() if name in GROUPS]
    if filters.get("since") is not None:
        where.append(table.c.began_at >= int(filters["since"] * 1000))
    if filters.get("until") is not None:
        where.append(table.c.began_at < int(filters["until"] * 1000))
    asked = select(*labelled, *(figure.label(name) for name, figure in figures.items()))
    return asked.where(*where).group_by(*labelled)


def _group(row: Mapping[Any, Any], group_by: Sequence[str]) -> tuple[str | None, ...]:
    values = [row[f"group_{name}"] for name in group_by]
    return tuple(day_of(value * DAY_MS) if isinstance(value, int) else value for value in values)


def _shown(group: Mapping[str, Any], attempts: Mapping[str, Any], requests: Mapping[str, Any] | None) -> dict[str, Any]:
    figures = {name: int(attempts.get(name) or 0) for name in _WHOLE}
    shown: dict[str, Any] = {**group}
    if requests is None:
        shown["requests"] = int(attempts.get("asked") or 0)
    else:
        shown |= {name: int(requests.get(name) or 0) for name in ("requests", "answered")}
    return shown | {
        **figures,
        "cost_usd": figures["cost_nanos"] / NANOS,
        "avg_latency_ms": _rounded(attempts.get("ms")),
        "avg_first_token_ms": _rounded(attempts.get("first_ms")),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


_WHOLE = (
    *("attempts", "answers", "failures", "cancelled", "lost", "open"),
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "estimated"),
    *("cost_nanos", "unknown_cost"),
)
