"""Fills the ledger's tables in PostgreSQL by statements of its own: fifty million requests in minutes, not hours.

What is written is what `ledger_store.requests` would have written, one attempt a request, in the order of time; the
rollup is added up from the rows by the server. Indexes are made afterwards, as a restored back-up's are.
"""

import datetime

from sqlalchemy import Connection, text

from actors.ledger import postgres
from actors.ledger.rollup import FIGURES_OF_A_DAY, Sums, lines_of, totals_of
from actors.ledger.slots import KEPT_MS
from actors.ledger.statements import Adding
from actors.ledger.store import DAY_MS, LedgerStore
from actors.ledger.tables import DAYS, TOTALS

SLICE = 2_000_000  # requests of one statement

_SERIES = """
SELECT n, CAST(:begin AS bigint) + n * CAST(:step AS bigint) AS at,
       't' || floor(random() * 200)::int AS tenant, floor(random() * 3)::int AS agent,
       floor(random() * 2)::int AS key, (ARRAY['openai','aws','aws','google'])[1 + which] AS provider,
       (ARRAY['gpt-4.1','haiku','opus','flash'])[1 + which] AS model
FROM (SELECT n, floor(random() * 4)::int AS which FROM generate_series(:first, :last) AS n) AS drawn
"""
_ID, _OWNER = "'fedcba9876543210-' || to_hex(n)", "'fedcba9876543210'"
_ROWS = f"""
WITH made AS MATERIALIZED ({_SERIES}),
asked AS (
  INSERT INTO ledger_requests (request_id, owner, began_at, version, state, tenant, agent, key_name, stream, outcome,
                               ended_at, provider, model, attempts, first_ms, added_ms, trail)
  SELECT {_ID}, {_OWNER}, at, 2, 'settled', tenant, 'a' || agent, tenant || '-k' || key, true, 'ok',
         at + 500, provider, model, 1, 20 * exp(5 * random()), exp(2 * random()), repeat('.', 280) FROM made
)
INSERT INTO ledger_attempts (request_id, number, owner, provider, model, began_at, day, version, state, tenant, agent,
                             key_name, kind, content, tokens_in, tokens_out, tokens_cached, tokens_reasoning, counted,
                             cost, ms, first_ms, ended_at, asked_at)
SELECT {_ID}, 1, {_OWNER}, provider, model, at, to_char(to_timestamp(at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
       2, 'settled', tenant, 'a' || agent, tenant || '-k' || key, 'ok', true, 812, 233, 0, 0, 'provider',
       3488000, 501.25, 180.5, at + 500, at FROM made
"""
_NAMES = "asked_at / 86400000 AS day, tenant, agent, key_name"
_ADDED_UP = f"SELECT {_NAMES}, provider, model, count(*) FROM ledger_attempts GROUP BY 1, 2, 3, 4, 5, 6"
# The minutes of the last days, as the store would have counted them.
_OF_SLOTS = """
INSERT INTO ledger_slots SELECT asked_at / 60000, count(*), count(*), 0, count(*), 0, sum(tokens_in), sum(tokens_out),
    sum(cost), 0 FROM ledger_attempts WHERE asked_at >= :since GROUP BY 1
"""
_OF_TIMES = """
INSERT INTO ledger_times
SELECT began_at / 60000, measure, CASE WHEN ms < 0.1 THEN 0 ELSE 1 + floor(ln(ms / 0.1) / ln(1.1)) END, count(*)
FROM ledger_requests, LATERAL (VALUES ('first', first_ms), ('added', added_ms), ('whole', 500.0)) AS of (measure, ms)
WHERE began_at >= :since GROUP BY 1, 2, 3
"""
_EACH = {"tokens_in": 812, "tokens_out": 233, "cost": 3_488_000, "microseconds": 501_250, "first_microseconds": 180_500}
_ONES = ("of_target", "of_provider", "of_model", "attempts", "answers", "timed", "first_timed")


def fill_on_the_server(store: LedgerStore, rows: int, now: int, days: int) -> None:
    step = max(1, days * DAY_MS // rows)
    with store._writer.begin() as connection:
        postgres.wait_for_ever(connection)
        indexes = _without_indexes(connection)
        for first in range(0, rows, SLICE):
            last = min(first + SLICE, rows) - 1
            given = {"first": first, "last": last, "begin": now - rows * step, "step": step}
            connection.execute(text(_ROWS), given)
        for statement in indexes:
            connection.execute(text(statement))
        _add_up(store, connection)
        for statement in (_OF_SLOTS, _OF_TIMES):
            connection.execute(text(statement), {"since": now - KEPT_MS})
    with store._writer.begin() as connection:
        postgres.wait_for_ever(connection)
        connection.execute(text("ANALYZE"))


def _without_indexes(connection: Connection) -> list[str]:
    """Drop the indexes that are no keys, and return how they are made."""
    asked = text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('ledger_requests', 'ledger_attempts')")
    found = [(name, made) for name, made in connection.execute(asked) if not name.endswith("_pkey")]
    for name, _ in found:
        connection.execute(text(f"DROP INDEX {name}"))
    return [made for _, made in found]


def _add_up(store: LedgerStore, connection: Connection) -> None:
    sums: Sums = {}
    for day, *whose, provider, model, number in connection.execute(text(_ADDED_UP)):
        name = (str(datetime.date.fromtimestamp(0) + datetime.timedelta(days=day)), *whose)
        sums[*name, provider, model] = _figures({**dict.fromkeys(_ONES, number), **_times(number)})
        requests = sums.setdefault((*name, None, None), _figures({}))
        for at in _REQUESTS:
            requests[at] += number
    Adding(store._url, DAYS, FIGURES_OF_A_DAY).put(connection, lines_of(sums))
    Adding(store._url, TOTALS, FIGURES_OF_A_DAY).put(connection, lines_of(totals_of(sums)))


_REQUESTS = [FIGURES_OF_A_DAY.index(name) for name in ("requests", "answered")]


def _times(number: int) -> dict[str, int]:
    return {name: value * number for name, value in _EACH.items()}


def _figures(known: dict[str, int]) -> list[int]:
    return [known.get(name, 0) for name in FIGURES_OF_A_DAY]
