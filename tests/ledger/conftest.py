"""The ledger on real stores: SQLite always, PostgreSQL if this machine has it.

PostgreSQL is started once, on a unix socket in a folder of its own, without a TCP port; it refuses to
run as root, so root starts it as another user.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from actors.ledger.store import LedgerStore

PLACES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
DIALECTS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


def programs() -> pathlib.Path | None:
    found = shutil.which("initdb")
    places = [pathlib.Path(found).parent] if found else []
    return next((p for p in [*places, *PLACES] if (p / "postgres").exists() and (p / "initdb").exists()), None)


def unprivileged() -> dict[str, Any]:
    """Whom to run as: ourselves, unless we are root."""
    if os.getuid() != 0:
        return {}
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@dataclass
class Postgres:
    """A server of our own. With an address it listens there too, for machines of that network, on the usual port."""

    where: pathlib.Path  # its programs
    folder: pathlib.Path
    who: dict[str, Any]
    address: str = ""
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://ledger@/postgres?host={self.folder}"

    @property
    def _quiet(self) -> dict[str, Any]:
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        return {"stdout": subprocess.DEVNULL, "cwd": self.folder, "env": environment, **self.who}

    def create(self) -> None:
        command = [self.where / "initdb", "-D", self.folder / "data", "-A", "trust", "-U", "ledger", "-E", "UTF8"]
        subprocess.run([*command, "--no-sync"], check=True, **self._quiet)
        if self.address:
            with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")

    def start(self) -> None:
        settings = f"listen_addresses={self.address}", f"unix_socket_directories={self.folder}", "fsync=off"
        options = [word for setting in settings for word in ("-c", setting)]
        command = [self.where / "postgres", "-D", self.folder / "data", *options]
        self.server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **self._quiet)
        until(lambda: answers(self.url))

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends all connections; `immediate` is a crash, after which it recovers."""
        assert self.server is not None
        self.server.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self.server.wait(20)

    def restart(self, mode: str, seconds: float) -> None:
        self.stop(mode)
        time.sleep(seconds)
        self.start()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: neither initdb on the path nor in /usr/lib/postgresql")
    with own_server() as server:
        yield server


@contextlib.contextmanager
def own_server(address: str = "") -> Iterator[Postgres]:
    """Run a server, and leave nothing of it behind. Raises RuntimeError if PostgreSQL is not installed."""
    if (where := programs()) is None:
        raise RuntimeError("PostgreSQL is not installed")
    who = unprivileged()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ledger-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    server = Postgres(where, folder, who, address)
    server.create()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(postgres_server: Postgres) -> str:
    """The URL of a server of our own."""
    return postgres_server.url


@pytest.fixture(scope="module", params=DIALECTS)
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all examples of a module, which is empty at first."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('shared') / 'usage.sqlite3'}"
    return emptied(request.getfixturevalue("postgres"))


def emptied(url: str) -> str:
    """Return the URL of a PostgreSQL database that has nothing in it any more."""
    with raw(url) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return url


def until(what: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def raw(url: str) -> Iterator[Connection]:
    """A connection without our own code between; nothing of it is left behind."""
    with create_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


def answers(url: str) -> bool:
    try:
        with raw(url) as connection:
            return bool(connection.execute(text("SELECT 1")).scalar())
    except OperationalError:
        return False


@pytest.fixture(params=DIALECTS)
def url(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[str]:
    """An empty store of each dialect."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'usage.sqlite3'}"
        return
    yield emptied(request.getfixturevalue("postgres"))


@pytest.fixture
def store(url: str) -> Iterator[LedgerStore]:
    made = LedgerStore(url)
    made.start()
    yield made
    made.close()
