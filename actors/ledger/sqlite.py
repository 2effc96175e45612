"""What SQLite lacks: sums beyond 64 bits, a lock from a transaction's beginning on, an end of long work. Blocks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

READER_KILOBYTES = 32 * 1024  # of pages, for each connection that reads
PROGRESS_STEPS = 20_000  # of its machine between two looks at the clock: well under a millisecond


class _WideSum:
    """A sum that 64 bits do not hold, as a text. SQLite's own fails; it is asked only after that has."""

    def __init__(self) -> None:
        self._sum = 0

    def step(self, value: int | None) -> None:
        self._sum += value or 0

    def finalize(self) -> str:
        return str(self._sum)


def prepare(connection: Any, _: Any) -> None:
    connection.create_aggregate("wide_sum", 1, _WideSum)
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own comes too late to lock
    for setting in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")


def keep_pages(connection: Any, _: Any) -> None:
    # A question by tenant reads the rollup in the order of an index: with SQLite's own 2 MB it reads each page anew.
    connection.execute(f"PRAGMA cache_size={-READER_KILOBYTES}")


@contextmanager
def stopped_at(connection: Connection, until: float) -> Iterator[None]:
    raw: Any = connection.connection.dbapi_connection
    raw.set_progress_handler(lambda: int(time.monotonic() >= until), PROGRESS_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
