"""How rows of the ledger's tables get into a store and out of it: the statements, made once. Blocks.

Statements are compiled once, and values are bound by position: to make a statement costs as much as many rows, and
SQLAlchemy's processing of parameters was the largest cost of a row.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

from actors.ledger.rollup import MOST
from actors.ledger.rows import AttemptRow, RequestRow

FIGURES = ("requests", "tokens", "cost", "unknown")
_INSERT: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_BY_PLACE = {"sqlite": "qmark", "postgresql": "format"}


class Putting:
    """An upsert of many rows. PostgreSQL takes them as one statement, with an array for each column.

    Sent one by one they cost it three times as much. A statement that names a row twice is refused, so no two rows
    of one call may have the same key.
    """

    def __init__(self, dialect: str, upsert: str, columns: Sequence[Column[Any]]):
        self._at_once = dialect == "postgresql"
        self._upsert = _of_arrays(upsert, columns) if self._at_once else upsert
        self._dumps = [_dump_of(column) for column in columns]

    def __call__(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        connection.exec_driver_sql(self._upsert, self._arrays(rows) if self._at_once else [tuple(row) for row in rows])

    def _arrays(self, rows: Sequence[Sequence[Any]]) -> tuple[str, ...]:
        """Return each column's values as the text of an array. psycopg's own way takes several times as long."""
        values = zip(*rows, strict=True)
        return tuple(
            "{" + ",".join(["NULL" if value is None else dump(value) for value in column]) + "}"
            for dump, column in zip(self._dumps, values, strict=True)
        )


def _dump_of(column: Column[Any]) -> Callable[[Any], str]:
    """Return what writes a value of a column as an element of an array (PostgreSQL, 8.15.2)."""
    return _quoted if isinstance(column.type, Text) else str


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _of_arrays(upsert: str, columns: Sequence[Column[Any]]) -> str:
    """Return the upsert with arrays of values where it had the values of one row."""
    types: Any = postgresql.dialect
    arrays = ", ".join(f"%s::{column.type.compile(types())}[]" for column in columns)
    values = re.compile(r"VALUES \((?:%s[:\w ]*(?:, )?)+\)")
    changed, found = values.subn(lambda _: f"SELECT * FROM unnest({arrays})", upsert)
    if found != 1:
        raise TypeError("the statement has not one list of values")
    return changed


class TableRows:
    """`kind` is what a row of the table is here."""

    def __init__(self, url: URL, table: Table, kind: type[Any]):
        dialect = url.get_backend_name()
        names = list(kind.__struct_fields__)
        columns = [table.c[name] for name in names]
        self._kind = kind
        self.all: Select[Any] = select(*columns)
        self.named = self.all.where(table.c.request_id.in_(bindparam("names", expanding=True)))
        insert = _INSERT[dialect](table).values({name: bindparam(name) for name in names})
        taken = {name: insert.excluded[name] for name in names if not table.c[name].primary_key}
        # Nobody else writes in this transaction; the condition says it again where a row is made.
        higher = insert.excluded.version > table.c.version
        upsert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=taken, where=higher)
        by_place: Any = url.get_dialect()
        compiled: Any = upsert.compile(dialect=by_place(paramstyle=_BY_PLACE[dialect]))
        self._put = Putting(dialect, str(compiled), [table.c[name] for name in compiled.positiontup])
        self._values = attrgetter(*compiled.positiontup)

    def found(self, connection: Connection, asked: Select[Any], given: Mapping[str, Any] | None = None) -> list[Any]:
        return [self._kind(*row) for row in connection.execute(asked, given)]

    def put(self, connection: Connection, rows: Sequence[RequestRow | AttemptRow]) -> None:
        self._put(connection, [self._values(row) for row in rows])


class Adding:
    """An upsert that adds to the figures of a table's rows. A line is its key's columns, then its figures."""

    def __init__(self, url: URL, table: Table, figures: Sequence[str]):
        dialect = url.get_backend_name()
        columns = tuple(table.columns.keys())
        insert = _INSERT[dialect](table).values({name: bindparam(name) for name in columns})
        added = {name: _bounded(table.c[name], insert.excluded[name]) for name in figures}
        upsert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=added)
        by_place: Any = url.get_dialect()
        # The limit is written out: a value of the upsert itself would be another place in each line.
        compiled: Any = upsert.compile(
            dialect=by_place(paramstyle=_BY_PLACE[dialect]), compile_kwargs={"render_postcompile": True}
        )
        self._put = Putting(dialect, str(compiled), list(table.columns))
        if tuple(compiled.positiontup) != columns:
            raise TypeError("the statement has other places than the table has columns")

    def put(self, connection: Connection, lines: Sequence[Sequence[Any]]) -> None:
        self._put(connection, lines)


def _bounded(old: ColumnElement[Any], more: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a sum that stops at MOST: a store that refused it would refuse all rows beside it."""
    most: ColumnElement[Any] = literal_column(str(MOST))
    return case((and_(more > literal_column("0"), old > most - more), most), else_=old + more)
