"""The ledger's rows in SQLite or PostgreSQL, through SQLAlchemy Core. Blocks: call it from a thread.

- All writes go through one transaction at a time (`BEGIN IMMEDIATE`, or an advisory lock), so that what
  a row was before is known when it is written, and the month's totals move with the rows or not at all.
- A row takes a higher version and nothing else: a batch may come twice, or after a later one.
- SQLite syncs at each commit: what was acknowledged outlives the machine.

It must not decide when to write, nor what a row says.
"""

import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.engine import make_url

from actors.ledger.budget import MINUTE, Change, Counters, Spend, changes, subjects_of
from actors.ledger.rows import LOST, AttemptRow, Record, RequestRow, Row, after, as_lost, merged, month_of
from actors.ledger.statements import FIGURES, TableRows, adding
from actors.ledger.tables import ATTEMPTS, MIGRATIONS, MONTHS, REQUESTS, migrate

CHUNK = 500  # names in one question
LOCK = 0x6272_6561_6B77  # ours, of PostgreSQL's advisory locks
# A store that hangs must become an error: rows wait in the journals, not in a thread.
_POSTGRES: Mapping[str, Any] = {
    "connect_timeout": 5,
    "client_encoding": "utf8",
    "tcp_user_timeout": 10_000,
    "options": "-c statement_timeout=20000 -c lock_timeout=10000",
}


class LedgerStore:
    """`url` is SQLAlchemy's. Raises what SQLAlchemy raises: OperationalError while the store is away."""

    def __init__(self, url: str):
        self._url = make_url(url)
        self.dialect = self._url.get_backend_name()
        self._rows = {table: TableRows(self._url, table, kind) for table, kind in _KINDS.items()}
        self._added_up = adding(self.dialect)
        self._writer = self._engine("BEGIN IMMEDIATE")
        self._reader = self._engine("BEGIN")

    def _engine(self, begin: str) -> Engine:
        if self.dialect == "postgresql":
            return create_engine(self._url, pool_size=2, pool_pre_ping=True, connect_args=dict(_POSTGRES))
        engine = create_engine(self._url.update_query_dict({"timeout": "10", **self._url.query}))
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def start(self, upto: int = len(MIGRATIONS)) -> int:
        """Make the store if there is none, and bring it to our version. Return the version it had."""
        if self.dialect == "sqlite" and self._url.database:
            pathlib.Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
        with self._writing() as connection:
            return migrate(connection, upto)

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._writer.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._reader.connect() as connection:
            yield connection

    def write(self, records: Sequence[Record]) -> list[Change]:
        """Take the rows that are newer. Return what they add to the subjects' counters."""
        with self._writing() as connection:
            moved = self._merge(connection, REQUESTS, merged(r.request for r in records))
            moved += self._merge(connection, ATTEMPTS, merged(r.attempt for r in records if r.attempt is not None))
            self._add_up(connection, moved)
        return moved

    def settle_as_lost(self, owner: str, at: int) -> tuple[int, list[Change]]:
        """Settle as lost what a dead replica has left open. Return how many rows, and what they add."""
        with self._writing() as connection:
            attempts = self._give_up(connection, ATTEMPTS, owner, at)
            requests = self._give_up(connection, REQUESTS, owner, at)
            moved = attempts[1] + requests[1]
            made = select(func.count()).where(ATTEMPTS.c.request_id == REQUESTS.c.request_id).scalar_subquery()
            ours = (REQUESTS.c.owner == owner) & (REQUESTS.c.version == LOST)
            connection.execute(REQUESTS.update().where(ours).values(attempts=made))
            self._add_up(connection, moved)
        return attempts[0] + requests[0], moved

    def _give_up(self, connection: Connection, table: Table, owner: str, at: int) -> tuple[int, list[Change]]:
        open_rows = (table.c.owner == owner) & (table.c.state == "open")
        rows = self._rows[table].found(connection, self._rows[table].all.where(open_rows))
        return len(rows), self._merge(connection, table, [as_lost(row, at) for row in rows])

    def owners_of_open_rows(self) -> set[str]:
        with self.reading() as connection:
            found: set[str] = set()
            for table in (ATTEMPTS, REQUESTS):
                asked = select(table.c.owner).where(table.c.state == "open").distinct()
                found |= set(connection.execute(asked).scalars())
            return found

    def counters(self, now: int) -> Counters:
        """Return what all subjects have used in this minute, the last one, and since this month began."""
        since = (now // MINUTE - 1) * MINUTE
        counters = Counters()
        with self.reading() as connection:
            for table, column, tokens in _USED_LATELY:
                minute = (column // MINUTE).label("minute")
                whose = (table.c.tenant, table.c.key_name, minute)
                asked = select(*whose, func.count(), tokens).where(column >= since).group_by(*whose)
                for tenant, key, number, rows, used in connection.execute(asked):
                    spend = Spend(number * MINUTE, rows if table is REQUESTS else 0, int(used or 0))
                    for subject in subjects_of(tenant, key):
                        counters.add(subject, spend)
            months = select(MONTHS.c.subject, MONTHS.c.month, MONTHS.c.cost).where(MONTHS.c.month >= month_of(now))
            for subject, month, cost in connection.execute(months):
                counters.add_cost(subject, month, int(cost))
        return counters

    def _merge(self, connection: Connection, table: Table, rows: Sequence[Row]) -> list[Change]:
        moved: list[Change] = []
        known = self._rows[table]
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            names = {"names": [row.request_id for row in some]}
            before = {_name(row): row for row in known.found(connection, known.named, names)}
            newer = [row for new in some if (row := after(before.get(_name(new)), new)) is not None]
            known.put(connection, newer)
            for row in newer:
                moved += changes(before.get(_name(row)), row)
        return moved

    def _add_up(self, connection: Connection, moved: Iterable[Change]) -> None:
        sums: dict[tuple[str, str], list[int]] = {}
        for subject, spend in moved:
            total = sums.setdefault((subject, month_of(spend.at)), [0, 0, 0, 0])
            for i, value in enumerate((spend.requests, spend.tokens, spend.cost, spend.unknown)):
                total[i] += value
        if sums:
            named = [(subject, month, *total) for (subject, month), total in sums.items()]
            connection.execute(self._added_up, [dict(zip(_MONTHS, total, strict=True)) for total in named])


_KINDS = {REQUESTS: RequestRow, ATTEMPTS: AttemptRow}
_MONTHS = ("subject", "month", *FIGURES)
_USED_LATELY = (
    (REQUESTS, REQUESTS.c.began_at, literal(0)),
    (ATTEMPTS, ATTEMPTS.c.ended_at, func.sum(ATTEMPTS.c.tokens_in + ATTEMPTS.c.tokens_out)),
)


def _name(row: RequestRow | AttemptRow) -> tuple[str, int]:
    return row.request_id, getattr(row, "number", 0)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own comes too late to lock
    for setting in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")
