"""The ledger on real stores: SQLite always, PostgreSQL if this machine has it.

PostgreSQL is started once, on a unix socket in a folder of its own, without a TCP port; it refuses to
run as root, so root starts it as another user.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server of our own."""
    where = programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed: neither initdb on the path nor in /usr/lib/postgresql")
    who = unprivileged()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ledger-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "cwd": folder, "env": {"LC_ALL": "C", "PATH": os.environ["PATH"]}}
    subprocess.run(
        [where / "initdb", "-D", data, "-A", "trust", "-U", "ledger", "-E", "UTF8", "--no-sync"],
        check=True,
        **quiet,
        **who,
    )
    settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    server = subprocess.Popen([where / "postgres", "-D", data, *settings], stderr=subprocess.DEVNULL, **quiet, **who)
    url = f"postgresql+psycopg://ledger@/postgres?host={folder}"
    try:
        until(lambda: answers(url))
        yield url
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


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
    server = request.getfixturevalue("postgres")
    with raw(server) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield server


@pytest.fixture
def store(url: str) -> Iterator[LedgerStore]:
    made = LedgerStore(url)
    made.start()
    yield made
    made.close()
