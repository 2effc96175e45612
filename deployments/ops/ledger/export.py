"""Rows of the ledger's store as a file of CSV or Parquet. Reads one state of the store, some rows at a time."""

import csv
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Double, Table, select

from actors.ledger.store import LedgerStore
from actors.ledger.tables import ATTEMPTS, DAYS, REQUESTS
from actors.private_files import make_private_file

TABLES = {"requests": REQUESTS, "attempts": ATTEMPTS, "days": DAYS}
ROWS = 5000  # at a time


def export(store: LedgerStore, name: str, path: pathlib.Path) -> int:
    """Write a table into a new file, by the end of whose name the format is known. Return how many rows.

    Raises FileExistsError, and ImportError where Parquet is asked for without pyarrow.
    """
    write = {".csv": _write_csv, ".parquet": _write_parquet}[path.suffix]
    make_private_file(path, new=True)  # never over another file
    return write(TABLES[name], _chunks(store, TABLES[name]), path)


def _chunks(store: LedgerStore, table: Table) -> Iterator[Sequence[Any]]:
    with store.reading() as connection:
        found = connection.execution_options(stream_results=True).execute(select(table))
        yield from found.partitions(ROWS)


def _write_csv(table: Table, chunks: Iterator[Sequence[Any]], path: pathlib.Path) -> int:
    written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns.keys())
        for rows in chunks:
            writer.writerows(rows)
            written += len(rows)
    return written


def _write_parquet(table: Table, chunks: Iterator[Sequence[Any]], path: pathlib.Path) -> int:
    import pyarrow  # an extra: only this format needs it
    from pyarrow import parquet

    kinds = {BigInteger: pyarrow.int64(), Boolean: pyarrow.bool_(), Double: pyarrow.float64()}
    schema = pyarrow.schema([(c.name, kinds.get(type(c.type), pyarrow.string())) for c in table.columns])
    written = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in chunks:
            columns = [list(column) for column in zip(*rows, strict=True)]
            arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            written += len(rows)
    return written
