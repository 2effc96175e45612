"""A PostgreSQL that is there and answers nothing becomes an error, and is used again when it answers."""

import contextlib
import pathlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from actors.ledger import postgres as bounded
from actors.ledger.store import LedgerStore
from tests.ledger.conftest import Postgres
from tests.ledger.rows import settled

pytestmark = pytest.mark.postgres
PATIENCE = 20.0  # seconds: of a machine that is busy


class Line:
    """A TCP port in front of a server. While it is silent it takes all that comes, and passes nothing on."""

    def __init__(self, server: pathlib.Path):
        self._server, self._speaks = server, threading.Event()
        self._speaks.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server))
                self._open += [client, server]
                for source, to in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, to), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._speaks.wait()
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.speak()
        for each in (self._listener, *self._open):
            each.close()


@pytest.fixture
def line(postgres_server: Postgres) -> Iterator[Line]:
    made = Line(postgres_server.folder / ".s.PGSQL.5432")
    yield made
    made.close()


@pytest.fixture
def store(line: Line) -> Iterator[LedgerStore]:
    made = LedgerStore(f"postgresql+psycopg://ledger@127.0.0.1:{line.port}/postgres", answer_seconds=1.0)
    made.start()
    yield made
    made.close()


def error_of(store: LedgerStore) -> tuple[Exception | None, float]:
    """Write a row in a thread, and return what that raised, and after how many seconds."""
    found, began = list[Exception | None](), time.monotonic()

    def write() -> None:
        try:
            store.write([settled()])
            found.append(None)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it waits for ever"
    return found[0], time.monotonic() - began


def test_a_server_that_falls_silent_on_an_open_connection_is_an_error_and_not_a_thread_that_waits(
    store: LedgerStore, line: Line
) -> None:
    assert error_of(store)[0] is None
    line.silence()
    error, _ = error_of(store)
    assert isinstance(error, OperationalError)
    line.speak()
    assert error_of(store)[0] is None, "a new connection is made"


def test_a_server_that_accepts_and_says_nothing_is_an_error_within_seconds(line: Line) -> None:
    line.silence()
    error, seconds = error_of(LedgerStore(f"postgresql+psycopg://ledger@127.0.0.1:{line.port}/postgres"))
    assert isinstance(error, OperationalError)
    assert seconds < PATIENCE


def test_to_bring_a_large_store_up_to_date_may_take_longer_than_any_answer(store: LedgerStore) -> None:
    with store._writing() as connection:
        bounded.wait_for_ever(connection)
        connection.exec_driver_sql("SELECT pg_sleep(1.3)")
    assert error_of(store)[0] is None
