"""Connections to PostgreSQL whose every answer has a deadline. Imported only where PostgreSQL is used.

A server that hangs (its process is stopped, its disk does not answer) keeps the connection alive: its kernel still
takes what we send, so no limit of TCP is ever reached, and the server's own limits hang with it. Then the thread that
waits would wait for ever, with all rows behind it, even when another server has long taken the place of the first.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

SETTINGS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "client_encoding": "utf8",
    "tcp_user_timeout": 10_000,
    # Its compiler takes 0.4 s for a question that takes 0.5 s without.
    "options": "-c statement_timeout=20000 -c lock_timeout=10000 -c jit=off",
}


class _BoundedConnection(psycopg.Connection[Any]):
    answer_seconds: float | None = None  # None: an answer may take as long as it likes

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # what would still come is no answer to the next question
            raise psycopg.OperationalError(f"PostgreSQL has not answered within {self.answer_seconds} s") from None


def bound_answers(engine: Engine, seconds: float) -> None:
    """Let each connection of an engine wait so long for an answer, and no longer."""

    @event.listens_for(engine, "do_connect")
    def connect(_: Any, __: Any, arguments: Any, settings: Any) -> Any:
        connection = _BoundedConnection.connect(*arguments, **settings)
        connection.answer_seconds = seconds
        return connection


def wait_for_ever(connection: Connection) -> None:
    """Let this connection's statements take as long as they like, on the server and here, and close it afterwards."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.connection.driver_connection.answer_seconds = None  # type: ignore[union-attr]
    connection.detach()


@contextmanager
def stopped_at(connection: Connection, until: float) -> Iterator[None]:
    """Each statement may take what is left. The setting ends with the transaction."""

    def limit(_: Any, cursor: Any, *__: Any) -> None:
        cursor.execute(f"SET LOCAL statement_timeout = {max(1, int((until - time.monotonic()) * 1000))}")

    event.listen(connection, "before_cursor_execute", limit)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", limit)
