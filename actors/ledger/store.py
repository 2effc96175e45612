"""The ledger's rows in SQLite or PostgreSQL, through SQLAlchemy Core. Blocks: call it from a thread.

- All writes go through one transaction at a time (`BEGIN IMMEDIATE`, or an advisory lock), so that what
  a row was before is known when it is written, and the month's totals move with the rows or not at all.
- A row takes a higher version and nothing else: a batch may come twice, or after a later one.
- SQLite syncs at each commit: what was acknowledged outlives the machine.

It must not decide when to write, nor what a row says.
"""

import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
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
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, OperationalError

from actors.ledger import heartbeats, sqlite
from actors.ledger.budget import MINUTE, Change, Counters, Spend, changes, subjects_of
from actors.ledger.heartbeats import MissingJournal
from actors.ledger.messages import QuestionTooLong
from actors.ledger.migrations import MIGRATIONS, migrate
from actors.ledger.rollup import FIGURES_OF_A_DAY, Sums, add_attempts, add_request, bounded, lines_of, totals_of
from actors.ledger.rows import LOST, AttemptRow, Record, RequestRow, Row, after, as_lost, merged, month_of
from actors.ledger.slots import FIGURES_OF_A_SLOT, Slots
from actors.ledger.statements import FIGURES, Adding, TableRows
from actors.ledger.tables import ATTEMPTS, DAYS, MONTHS, PURGED, REQUESTS, SLOTS, TIMES, TOTALS
from actors.private_files import make_private_file, make_private_folder

CHUNK = 500  # names in one question
READERS = 4  # questions that are answered at once
QUESTION_SECONDS = 8.0  # a question's work ends after so long; an ingress waits a little longer for it
DAY_MS = 86_400_000
ANSWER_SECONDS = 30.0  # more than a statement may take on a server that is well
LOCK = 0x6272_6561_6B77  # ours, of PostgreSQL's advisory locks


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ValueError:  # its text may be a part of the password
        raise ArgumentError("the URL of the store can't be read: signs of its password are written as %40") from None


class LedgerStore:
    """`url` is SQLAlchemy's. Raises what SQLAlchemy raises: OperationalError while the store is away.

    `answer_seconds` is how long PostgreSQL may take for an answer.
    """

    def __init__(self, url: str, answer_seconds: float = ANSWER_SECONDS):
        self._answer_seconds = answer_seconds
        self._url = _parsed(url)
        self.dialect = self._url.get_backend_name()
        self.late = 0  # requests of the last write that came after their day was deleted
        self._rows = {table: TableRows(self._url, table, kind) for table, kind in _KINDS.items()}
        self._added_up = Adding(self._url, MONTHS, FIGURES)
        self._added_to_days = Adding(self._url, DAYS, FIGURES_OF_A_DAY)
        self._added_to_totals = Adding(self._url, TOTALS, FIGURES_OF_A_DAY)
        self._added_to_slots = Adding(self._url, SLOTS, FIGURES_OF_A_SLOT)
        self._added_to_times = Adding(self._url, TIMES, ["count"])
        self._writer = self._engine("BEGIN IMMEDIATE")
        self._reader = self._engine("BEGIN", pool_size=READERS, isolation_level="REPEATABLE READ")
        if self.dialect == "sqlite":
            event.listen(self._reader, "connect", sqlite.keep_pages)

    def _engine(self, begin: str, pool_size: int = 2, isolation_level: str | None = None) -> Engine:
        if self.dialect == "postgresql":
            from actors.ledger import postgres

            given: dict[str, Any] = {} if isolation_level is None else {"isolation_level": isolation_level}
            settings = dict(postgres.SETTINGS)
            made = create_engine(self._url, pool_size=pool_size, pool_pre_ping=True, connect_args=settings, **given)
            # A store that hangs must become an error: rows wait in the journals, not in a thread.
            postgres.bound_answers(made, self._answer_seconds)
            return made
        url = self._url.update_query_dict({"timeout": "10", **self._url.query})
        engine = create_engine(url, pool_size=pool_size)
        event.listen(engine, "connect", sqlite.prepare)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine

    def start(self, upto: int = len(MIGRATIONS)) -> int:
        """Make the store if there is none, and bring it to our version. Return the version it had."""
        if self.dialect == "sqlite" and self._url.database not in (None, "", ":memory:"):
            file = pathlib.Path(self._url.database)
            make_private_folder(file.parent)
            make_private_file(file)
        with self._writing() as connection:
            if self.dialect == "postgresql":  # an index of many rows takes longer than a write may
                from actors.ledger import postgres

                postgres.wait_for_ever(connection)
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
        """Yield a connection that sees one state of the store."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def answering(self, until: float) -> Iterator[Connection]:
        """Yield a connection whose work ends at `until` (monotonic). Raises QuestionTooLong."""
        if time.monotonic() >= until:  # it has waited for its turn so long that nobody waits for it any more
            raise QuestionTooLong("the ledger had too many questions")
        with self.reading() as connection, self._stopped_at(connection, until):
            try:
                yield connection
            except OperationalError as error:
                if time.monotonic() < until - 0.05:  # PostgreSQL has whole milliseconds and a clock of its own
                    raise
                raise QuestionTooLong("the ledger stopped a question that took too long") from error

    def _stopped_at(self, connection: Connection, until: float) -> AbstractContextManager[None]:
        if self.dialect == "sqlite":
            return sqlite.stopped_at(connection, until)
        from actors.ledger import postgres

        return postgres.stopped_at(connection, until)

    def write(self, records: Sequence[Record]) -> list[Change]:
        """Take the rows that are newer. Return what they add to the subjects' counters."""
        self.late = 0
        sums = _Rollup()
        with self._writing() as connection:
            purged = purged_upto(connection)
            moved = self._merge(connection, REQUESTS, merged(r.request for r in records), sums, purged)
            attempts = merged(r.attempt for r in records if r.attempt is not None)
            moved += self._merge(connection, ATTEMPTS, attempts, sums, purged)
            self._add_up(connection, moved, sums)
        return moved

    def settle_as_lost(self, owner: str, at: int) -> tuple[int, list[Change]]:
        """Settle as lost what a dead replica has left open. Return how many rows, and what they add."""
        sums = _Rollup()
        with self._writing() as connection:
            attempts = self._give_up(connection, ATTEMPTS, owner, at, sums)
            requests = self._give_up(connection, REQUESTS, owner, at, sums)
            moved = attempts[1] + requests[1]
            made = select(func.count()).where(ATTEMPTS.c.request_id == REQUESTS.c.request_id).scalar_subquery()
            ours = (REQUESTS.c.owner == owner) & (REQUESTS.c.version == LOST)
            connection.execute(REQUESTS.update().where(ours).values(attempts=made))
            self._add_up(connection, moved, sums)
        return attempts[0] + requests[0], moved

    def _give_up(
        self, connection: Connection, table: Table, owner: str, at: int, sums: "_Rollup"
    ) -> tuple[int, list[Change]]:
        open_rows = (table.c.owner == owner) & (table.c.state == "open")
        rows = self._rows[table].found(connection, self._rows[table].all.where(open_rows))
        return len(rows), self._merge(connection, table, [as_lost(row, at) for row in rows], sums)

    def beat(self, hosts: Mapping[str, str | None], now: int) -> list[MissingJournal]:
        """Write down that these replicas were heard at `now`. Return the journals that are missing."""
        with self._writing() as connection:
            heartbeats.beat(connection, hosts, now)
            return heartbeats.missing(connection, now)

    def heard_since(self, since: int) -> set[str]:
        """Return the replicas that any ledger actor has heard since then."""
        with self.reading() as connection:
            return heartbeats.heard_since(connection, since)

    def forget(self, owner: str) -> None:
        """Take a replica as gone, with all its rows in the store."""
        with self._writing() as connection:
            heartbeats.forget(connection, owner)

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

    def _merge(
        self, connection: Connection, table: Table, rows: Sequence[Row], sums: "_Rollup", purged: int = 0
    ) -> list[Change]:
        """Put the newer rows, and add what they say to the sums. A row that was deleted does not come again."""
        moved: list[Change] = []
        known = self._rows[table]
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            names = {"names": [row.request_id for row in some]}
            before = {_name(row): row for row in known.found(connection, known.named, names)}
            newer = [row for new in some if (row := after(before.get(_name(new)), new)) is not None]
            if purged:
                kept = [row for row in newer if began(row) >= purged or _name(row) in before]
                self.late += len(newer) - len(kept) if table is REQUESTS else 0
                newer = kept
            known.put(connection, newer)
            for row in newer:
                moved += changes(before.get(_name(row)), row)
            _roll_up(sums, before, newer)
        return moved

    def purge(self, upto: int, most: int = CHUNK) -> int:
        """Delete requests that began before `upto`, with their attempts: `most` of them. Return how many.

        The figures of their days stay. `upto` is the beginning of a day.
        """
        with self._writing() as connection:
            if purged_upto(connection) < upto:
                connection.execute(PURGED.delete())
                connection.execute(PURGED.insert().values(upto=upto))
            old = (REQUESTS.c.began_at < upto) & (REQUESTS.c.state != "open")
            asked = select(REQUESTS.c.request_id).where(old).order_by(REQUESTS.c.began_at).limit(most)
            names = list(connection.execute(asked).scalars())
            for table in (ATTEMPTS, REQUESTS):
                connection.execute(table.delete().where(table.c.request_id.in_(names)))
        return len(names)

    def newest(self) -> int:
        """Return when the newest request began; 0 without one."""
        with self.reading() as connection:
            return connection.execute(select(func.max(REQUESTS.c.began_at))).scalar() or 0

    def purge_days(self, before: str, most: int = CHUNK) -> int:
        """Delete figures of days before this one, `most` of them. Return how many."""
        deleted = 0
        with self._writing() as connection:
            for table in (DAYS, TOTALS):
                asked = select(table.c.name).where(table.c.day < before).limit(most - deleted)
                names = list(connection.execute(asked).scalars())
                connection.execute(table.delete().where(table.c.name.in_(names)))
                deleted += len(names)
        return deleted

    def purge_slots(self, before: int, most: int) -> int:
        """Delete the slots before this one, `most` of them, with their times. Return how many."""
        with self._writing() as connection:
            asked = select(SLOTS.c.slot).where(SLOTS.c.slot < before).order_by(SLOTS.c.slot).limit(most)
            last = max(connection.execute(asked).scalars(), default=None)
            if last is None:
                return 0
            connection.execute(TIMES.delete().where(TIMES.c.slot <= last))
            return connection.execute(SLOTS.delete().where(SLOTS.c.slot <= last)).rowcount

    def _add_up(self, connection: Connection, moved: Iterable[Change], sums: "_Rollup") -> None:
        """Add to the months what has moved, and to the days and slots their sums."""
        months: dict[tuple[str, str], list[int]] = {}
        for subject, spend in moved:
            total = months.setdefault((subject, month_of(spend.at)), [0, 0, 0, 0])
            for i, value in enumerate((spend.requests, spend.tokens, spend.cost, spend.unknown)):
                total[i] += value
        lines = [(subject, month, *bounded(total)) for (subject, month), total in months.items()]
        self._added_up.put(connection, lines)
        self._added_to_days.put(connection, lines_of(sums.days))
        self._added_to_totals.put(connection, lines_of(totals_of(sums.days)))
        self._added_to_slots.put(connection, sums.slots.lines())
        self._added_to_times.put(connection, sums.slots.lines_of_times())


@dataclass(slots=True)
class _Rollup:
    """What one transaction adds to the rollups."""

    days: Sums = field(default_factory=dict)
    slots: Slots = field(default_factory=Slots)


_KINDS = {REQUESTS: RequestRow, ATTEMPTS: AttemptRow}
_USED_LATELY = (
    (REQUESTS, REQUESTS.c.began_at, literal(0)),
    (ATTEMPTS, ATTEMPTS.c.ended_at, func.sum(ATTEMPTS.c.tokens_in + ATTEMPTS.c.tokens_out)),
)


def _roll_up(added: _Rollup, before: Mapping[tuple[str, int], Row], newer: Sequence[Row]) -> None:
    """Add what newer rows say to the figures of their days and slots, and take out what was said before."""
    for row in newer:
        added.slots.move(before.get(_name(row)), row)
    sums = added.days
    attempts: dict[str, tuple[dict[int, AttemptRow], dict[int, AttemptRow]]] = {}
    for row in newer:
        if isinstance(row, RequestRow):
            if isinstance(old := before.get(_name(row)), RequestRow):
                add_request(sums, old, -1)
            add_request(sums, row, 1)
        else:
            attempts.setdefault(row.request_id, ({}, {}))[1][row.number] = row
    for old in before.values():
        if isinstance(old, AttemptRow) and old.request_id in attempts:
            attempts[old.request_id][0][old.number] = old
    for earlier, later in attempts.values():
        add_attempts(sums, earlier.values(), -1)
        add_attempts(sums, (earlier | later).values(), 1)


def _name(row: RequestRow | AttemptRow) -> tuple[str, int]:
    return row.request_id, getattr(row, "number", 0)


_SQLSTATES = ("22", "23", "54")  # data, constraints, program limits: PostgreSQL's manual, appendix A


def refuses(error: Exception) -> bool:
    """Return whether a store that answers refuses the row itself: to send it again would change nothing."""
    if isinstance(error, DataError | IntegrityError | OverflowError | UnicodeError):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return str(state).startswith(_SQLSTATES)


def began(row: RequestRow | AttemptRow) -> int:
    """Return when the request began, of which this is a row."""
    return row.began_at if isinstance(row, RequestRow) else row.asked_at


def purged_upto(connection: Connection) -> int:
    """Return the instant before which requests were deleted."""
    return connection.execute(select(PURGED.c.upto)).scalar() or 0
