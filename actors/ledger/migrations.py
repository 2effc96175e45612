"""How a store of an earlier version becomes one of this version.

A migration is frozen as it was released: plain SQL that SQLite and PostgreSQL both take, or a function that needs
none of the tables in tables.py, which change. A test holds the two against each other.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from operator import add
from typing import Any

from sqlalchemy import Connection, inspect, select, text, update

from actors.ledger.rollup import digest
from actors.ledger.tables import VERSION

_FIRST = """
CREATE TABLE ledger_requests (
    request_id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, began_at BIGINT NOT NULL, version BIGINT NOT NULL,
    state TEXT NOT NULL, tenant TEXT, agent TEXT, caller_id TEXT, model_row TEXT, door TEXT, stream BOOLEAN NOT NULL,
    outcome TEXT, ended_at BIGINT, provider TEXT, model TEXT, attempts BIGINT NOT NULL);
CREATE TABLE ledger_attempts (
    request_id TEXT NOT NULL, number BIGINT NOT NULL, owner TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
    began_at BIGINT NOT NULL, day TEXT NOT NULL, version BIGINT NOT NULL, state TEXT NOT NULL, tenant TEXT, agent TEXT,
    kind TEXT, content BOOLEAN NOT NULL, tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL,
    tokens_cached BIGINT NOT NULL, tokens_reasoning BIGINT NOT NULL, counted TEXT NOT NULL, cost BIGINT,
    ms DOUBLE PRECISION, first_ms DOUBLE PRECISION, ended_at BIGINT, PRIMARY KEY (request_id, number));
CREATE INDEX ledger_requests_began ON ledger_requests (began_at);
CREATE INDEX ledger_requests_open ON ledger_requests (owner) WHERE state = 'open';
CREATE INDEX ledger_attempts_began ON ledger_attempts (began_at);
CREATE INDEX ledger_attempts_open ON ledger_attempts (owner) WHERE state = 'open'
"""

_BUDGETS = """
ALTER TABLE ledger_requests ADD COLUMN key_name TEXT;
ALTER TABLE ledger_attempts ADD COLUMN key_name TEXT;
CREATE INDEX ledger_attempts_ended ON ledger_attempts (ended_at);
CREATE TABLE ledger_months (
    subject TEXT NOT NULL, month TEXT NOT NULL, requests BIGINT NOT NULL, tokens BIGINT NOT NULL, cost BIGINT NOT NULL,
    unknown BIGINT NOT NULL, PRIMARY KEY (subject, month));
INSERT INTO ledger_months (subject, month, requests, tokens, cost, unknown)
    SELECT 'tenant:' || tenant, substr(day, 1, 7), count(DISTINCT request_id), sum(tokens_in + tokens_out),
        sum(coalesce(cost, 0)), sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END)
    FROM ledger_attempts WHERE tenant IS NOT NULL AND state <> 'open' GROUP BY 1, 2
"""

_TRAILS = """
ALTER TABLE ledger_requests ADD COLUMN trail TEXT;
CREATE INDEX ledger_requests_caller ON ledger_requests (caller_id, began_at)
"""

_DAYS = """
ALTER TABLE ledger_attempts ADD COLUMN asked_at BIGINT;
UPDATE ledger_attempts SET asked_at = coalesce(
    (SELECT r.began_at FROM ledger_requests r WHERE r.request_id = ledger_attempts.request_id), began_at);
CREATE INDEX ledger_attempts_asked ON ledger_attempts (asked_at);
CREATE TABLE ledger_purged (upto BIGINT NOT NULL);
CREATE TABLE ledger_days (
    name TEXT NOT NULL PRIMARY KEY, day TEXT NOT NULL, tenant TEXT, agent TEXT, key_name TEXT, provider TEXT,
    model TEXT, requests BIGINT NOT NULL, answered BIGINT NOT NULL, of_target BIGINT NOT NULL,
    of_provider BIGINT NOT NULL, of_model BIGINT NOT NULL, attempts BIGINT NOT NULL, answers BIGINT NOT NULL,
    cancelled BIGINT NOT NULL, failures BIGINT NOT NULL, lost BIGINT NOT NULL, open BIGINT NOT NULL,
    tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL, tokens_cached BIGINT NOT NULL,
    tokens_reasoning BIGINT NOT NULL, estimated BIGINT NOT NULL, unknown_cost BIGINT NOT NULL,
    cost BIGINT NOT NULL, timed BIGINT NOT NULL, microseconds BIGINT NOT NULL, first_timed BIGINT NOT NULL,
    first_microseconds BIGINT NOT NULL);
CREATE INDEX ledger_days_day ON ledger_days (day);
CREATE INDEX ledger_days_tenant ON ledger_days (tenant, day);
CREATE INDEX ledger_days_agent ON ledger_days (agent, day);
CREATE INDEX ledger_days_key ON ledger_days (key_name, day)
"""

# What is in the rows when the rollup begins, as its lines: a request's, then an attempt's.
_REQUESTS_BY_DAY = """
    SELECT began_at / 86400000, tenant, agent, key_name, NULL, NULL, count(*),
        sum(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM ledger_requests GROUP BY 1, 2, 3, 4
"""
_ATTEMPTS_BY_DAY = """
    SELECT day_number, tenant, agent, key_name, provider, model, 0, 0,
        sum(CASE WHEN of_target = 1 THEN 1 ELSE 0 END), sum(CASE WHEN of_provider = 1 THEN 1 ELSE 0 END),
        sum(CASE WHEN of_model = 1 THEN 1 ELSE 0 END), count(*),
        sum(CASE WHEN state = 'settled' AND kind = 'ok' THEN 1 ELSE 0 END),
        sum(CASE WHEN state = 'settled' AND kind = 'cancelled' THEN 1 ELSE 0 END),
        sum(CASE WHEN state = 'settled' AND kind NOT IN ('ok', 'cancelled') THEN 1 ELSE 0 END),
        sum(CASE WHEN state = 'lost' THEN 1 ELSE 0 END), sum(CASE WHEN state = 'open' THEN 1 ELSE 0 END),
        sum(tokens_in), sum(tokens_out), sum(tokens_cached), sum(tokens_reasoning),
        sum(CASE WHEN counted = 'estimated' THEN 1 ELSE 0 END),
        sum(CASE WHEN state <> 'open' AND cost IS NULL THEN 1 ELSE 0 END), coalesce(sum(cost), 0),
        sum(CASE WHEN state = 'settled' AND kind = 'ok' AND ms IS NOT NULL THEN 1 ELSE 0 END),
        sum(CASE WHEN state = 'settled' AND kind = 'ok' AND ms IS NOT NULL
            THEN CAST(round(ms * 1000) AS BIGINT) ELSE 0 END),
        count(first_ms), sum(CASE WHEN first_ms IS NOT NULL THEN CAST(round(first_ms * 1000) AS BIGINT) ELSE 0 END)
    FROM (SELECT asked_at / 86400000 AS day_number, ledger_attempts.*,
        row_number() OVER (PARTITION BY request_id, provider, model ORDER BY number) AS of_target,
        row_number() OVER (PARTITION BY request_id, provider ORDER BY number) AS of_provider,
        row_number() OVER (PARTITION BY request_id, model ORDER BY number) AS of_model FROM ledger_attempts) AS numbered
    GROUP BY 1, 2, 3, 4, 5, 6
"""
_DAY_COLUMNS = 7 + 22


def _fill_days(connection: Connection) -> None:
    """Add up the rows that are there. A figure beyond 64 bits is cut, so that no row keeps a store from its version."""
    places = ", ".join(f":v{n}" for n in range(_DAY_COLUMNS))
    insert = text(f"INSERT INTO ledger_days VALUES ({places})")
    for script in (_REQUESTS_BY_DAY, _ATTEMPTS_BY_DAY):
        found = connection.execute(text(script))
        while lines := found.fetchmany(1000):
            connection.execute(insert, [_day_line(line) for line in lines])


def _day_line(line: Sequence[Any]) -> dict[str, Any]:
    day = datetime.fromtimestamp(line[0] * 86_400, UTC).strftime("%Y-%m-%d")
    known = (day, *line[1:6])
    values = (digest(known), *known, *(min(int(value), 2**62) for value in line[6:]))
    return {f"v{n}": value for n, value in enumerate(values)}


_TOTALS = """
CREATE TABLE ledger_totals (
    name TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, day TEXT NOT NULL, tenant TEXT, agent TEXT, key_name TEXT,
    provider TEXT, model TEXT, requests BIGINT NOT NULL, answered BIGINT NOT NULL, of_target BIGINT NOT NULL,
    of_provider BIGINT NOT NULL, of_model BIGINT NOT NULL, attempts BIGINT NOT NULL, answers BIGINT NOT NULL,
    cancelled BIGINT NOT NULL, failures BIGINT NOT NULL, lost BIGINT NOT NULL, open BIGINT NOT NULL,
    tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL, tokens_cached BIGINT NOT NULL,
    tokens_reasoning BIGINT NOT NULL, estimated BIGINT NOT NULL, unknown_cost BIGINT NOT NULL,
    cost BIGINT NOT NULL, timed BIGINT NOT NULL, microseconds BIGINT NOT NULL, first_timed BIGINT NOT NULL,
    first_microseconds BIGINT NOT NULL);
CREATE INDEX ledger_totals_day ON ledger_totals (kind, day);
CREATE INDEX ledger_totals_tenant ON ledger_totals (tenant, day);
CREATE INDEX ledger_totals_agent ON ledger_totals (agent, day);
CREATE INDEX ledger_totals_key ON ledger_totals (key_name, day)
"""
_OF_ONE_DAY = """
    SELECT tenant, agent, key_name, provider, model, requests, answered, of_target, of_provider, of_model, attempts,
        answers, cancelled, failures, lost, open, tokens_in, tokens_out, tokens_cached, tokens_reasoning, estimated,
        unknown_cost, cost, timed, microseconds, first_timed, first_microseconds
    FROM ledger_days WHERE day = :day
"""


def _fill_totals(connection: Connection) -> None:
    """Add up the rollup, day by day: SQLite's own sum fails beyond 64 bits."""
    places = ", ".join(f":v{n}" for n in range(_DAY_COLUMNS + 1))
    insert = text(f"INSERT INTO ledger_totals VALUES ({places})")
    for (day,) in connection.execute(text("SELECT DISTINCT day FROM ledger_days ORDER BY day")).all():
        sums: dict[tuple[str | None, ...], list[int]] = {}
        for tenant, agent, key, provider, model, *figures in connection.execute(text(_OF_ONE_DAY), {"day": day}):
            names = [("key", day, tenant, None, key, None, None), ("agent", day, None, agent, None, None, None)]
            if provider is not None:
                names.append(("target", day, None, None, None, provider, model))
            for name in names:
                known = sums.get(name)
                sums[name] = figures if known is None else list(map(add, known, figures))
        lines = [(digest(name), *name, *(min(value, 2**62) for value in total)) for name, total in sums.items()]
        if lines:
            connection.execute(insert, [{f"v{n}": value for n, value in enumerate(line)} for line in lines])


_ABANDONED = """
ALTER TABLE ledger_days ADD COLUMN abandoned_cost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_totals ADD COLUMN abandoned_cost BIGINT NOT NULL DEFAULT 0
"""
# What the rows still tell. Of days whose rows were deleted it stays 0.
_ABANDONED_BY_DAY = """
    SELECT asked_at / 86400000, tenant, agent, key_name, provider, model, sum(cost) FROM ledger_attempts
    WHERE cost > 0 AND NOT (state = 'settled' AND coalesce(kind, '') = 'ok') GROUP BY 1, 2, 3, 4, 5, 6
"""


def _fill_abandoned(connection: Connection) -> None:
    _fill_cost(connection, "abandoned_cost", _ABANDONED_BY_DAY)


def _fill_cost(connection: Connection, column: str, by_day: str) -> None:
    totals: dict[str, int] = {}
    for number, tenant, agent, key, provider, model, cost in connection.execute(text(by_day)).all():
        day = datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")
        name = digest((day, tenant, agent, key, provider, model))
        _set_cost(connection, column, "ledger_days", name, int(cost))
        whose = (("key", day, tenant, None, key, None, None), ("agent", day, None, agent, None, None, None))
        for total in map(digest, (*whose, ("target", day, None, None, None, provider, model))):
            totals[total] = totals.get(total, 0) + int(cost)
    for name, cost in totals.items():
        _set_cost(connection, column, "ledger_totals", name, cost)


def _set_cost(connection: Connection, column: str, table: str, name: str, cost: int) -> None:
    script = f"UPDATE {table} SET {column} = :cost WHERE name = :name"
    connection.execute(text(script), {"cost": min(cost, 2**62), "name": name})


_WRITERS = """
CREATE TABLE ledger_writers (owner TEXT NOT NULL PRIMARY KEY, host TEXT, heard_at BIGINT NOT NULL)
"""

_CONSOLE = """
ALTER TABLE ledger_requests ADD COLUMN first_ms DOUBLE PRECISION;
ALTER TABLE ledger_requests ADD COLUMN added_ms DOUBLE PRECISION;
ALTER TABLE ledger_requests ADD COLUMN failed_over BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_attempts ADD COLUMN hedge TEXT;
ALTER TABLE ledger_days ADD COLUMN cancelled_cost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_days ADD COLUMN hedged_cost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_totals ADD COLUMN cancelled_cost BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ledger_totals ADD COLUMN hedged_cost BIGINT NOT NULL DEFAULT 0;
CREATE TABLE ledger_slots (
    slot BIGINT NOT NULL PRIMARY KEY, requests BIGINT NOT NULL, answered BIGINT NOT NULL, failed_over BIGINT NOT NULL,
    attempts BIGINT NOT NULL, failures BIGINT NOT NULL, tokens_in BIGINT NOT NULL, tokens_out BIGINT NOT NULL,
    cost BIGINT NOT NULL, abandoned_cost BIGINT NOT NULL);
CREATE TABLE ledger_times (
    slot BIGINT NOT NULL, measure TEXT NOT NULL, bucket BIGINT NOT NULL, count BIGINT NOT NULL,
    PRIMARY KEY (slot, measure, bucket))
"""
# Old rows do not tell a hedge's leg that lost from a client that left.
_CANCELLED_BY_DAY = """
    SELECT asked_at / 86400000, tenant, agent, key_name, provider, model, sum(cost) FROM ledger_attempts
    WHERE cost > 0 AND state = 'settled' AND kind = 'cancelled' GROUP BY 1, 2, 3, 4, 5, 6
"""
# Nobody looks at older minutes. They have no times: the rows did not know them.
_BY_SLOT = (
    """SELECT began_at / 60000, count(*), sum(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END), 0, 0, 0, 0, 0, 0, 0
    FROM ledger_requests WHERE began_at >= :since GROUP BY 1""",
    """SELECT asked_at / 60000, 0, 0, 0, count(*),
        sum(CASE WHEN state = 'settled' AND kind NOT IN ('ok', 'cancelled') THEN 1 ELSE 0 END),
        sum(tokens_in), sum(tokens_out), coalesce(sum(cost), 0),
        coalesce(sum(CASE WHEN state = 'open' OR (state = 'settled' AND coalesce(kind, '') = 'ok')
            THEN 0 ELSE cost END), 0)
    FROM ledger_attempts WHERE asked_at >= :since GROUP BY 1""",
)


def _fill_slots(connection: Connection) -> None:
    _fill_cost(connection, "cancelled_cost", _CANCELLED_BY_DAY)
    slots: dict[int, list[int]] = {}
    newest = connection.execute(text("SELECT coalesce(max(began_at), 0) FROM ledger_requests")).scalar_one()
    since = min(int(newest), int(time.time() * 1000)) - 90_000_000  # a row of a clock that is ahead is not the newest
    for script in _BY_SLOT:
        for slot, *figures in connection.execute(text(script), {"since": since}):
            known = slots.get(slot, [0] * len(figures))
            slots[slot] = [min(int(more) + value, 2**62) for more, value in zip(figures, known, strict=True)]
    insert = text(f"INSERT INTO ledger_slots VALUES (:slot, {', '.join(f':v{n}' for n in range(9))})")
    lines = [{"slot": slot, **{f"v{n}": value for n, value in enumerate(total)}} for slot, total in slots.items()]
    if lines:
        connection.execute(insert, lines)


Migration = str | Callable[[Connection], None]
MIGRATIONS: Sequence[Sequence[Migration]] = (
    (_FIRST,),
    (_BUDGETS,),
    (_TRAILS,),
    (_DAYS, _fill_days),
    (_TOTALS, _fill_totals),
    (_ABANDONED, _fill_abandoned),
    (_WRITERS,),
    (_CONSOLE, _fill_slots),
)


class NewerSchema(Exception):
    """The store was written by a newer version of this program, which knows what we don't."""


def migrate(connection: Connection, upto: int = len(MIGRATIONS)) -> int:
    """Bring the store to version `upto`, inside the caller's transaction; the version it had."""
    if not inspect(connection).has_table(VERSION.name):
        connection.execute(text(f"CREATE TABLE {VERSION.name} (version INTEGER NOT NULL)"))
        connection.execute(VERSION.insert().values(version=0))
    found = connection.execute(select(VERSION.c.version)).scalar_one()
    if found > upto:
        raise NewerSchema(f"the store has schema version {found}, we know {upto}")
    for steps in MIGRATIONS[found:upto]:
        for step in steps:
            _take(connection, step)
    if found < upto:
        connection.execute(update(VERSION).values(version=upto))
    return int(found)


def _take(connection: Connection, step: Migration) -> None:
    if not isinstance(step, str):
        return step(connection)
    for statement in step.split(";"):
        connection.execute(text(statement))
    return None
