"""Who may read what the ledger writes: its owner alone, whatever the umask."""

import logging
import os
import pathlib
import stat
from collections.abc import Iterator

import pytest

from actors.ledger.journal.journal import Journal
from actors.ledger.store import LedgerStore
from actors.private_files import make_private_folder
from deployments.ops.ledger.backup import back_up, restore
from deployments.ops.ledger.export import export
from tests.ledger.rows import settled


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """A umask that takes nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: pathlib.Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*")}


def filled(file: pathlib.Path) -> LedgerStore:
    store = LedgerStore(f"sqlite:///{file}")
    store.start()
    store.write([settled("r1")])
    return store


def test_store_log_and_shared_memory_are_their_owners_alone(tmp_path: pathlib.Path) -> None:
    store = filled(tmp_path / "state" / "llm" / "usage.sqlite3")
    assert modes(tmp_path) == {
        "state": 0o700,
        "state/llm": 0o700,
        "state/llm/usage.sqlite3": 0o600,
        "state/llm/usage.sqlite3-wal": 0o600,
        "state/llm/usage.sqlite3-shm": 0o600,
    }
    store.close()


def test_a_journal_is_its_owners_alone(tmp_path: pathlib.Path) -> None:
    journal = Journal(tmp_path / "state" / "journal", "me")
    journal.append(b'{"state":"open"}\n')
    found = modes(tmp_path)
    journal.close()
    assert {found.pop("state"), found.pop("state/journal")} == {0o700}
    assert len(found) == 2
    assert set(found.values()) == {0o600}


def test_backups_and_exports_are_their_owners_alone(tmp_path: pathlib.Path) -> None:
    file, away = tmp_path / "usage.sqlite3", tmp_path / "away"
    store = filled(file)
    back_up(file, tmp_path / "copy")
    for name in ("rows.csv", "rows.parquet"):
        assert export(store, "requests", tmp_path / name) == 1
    store.close()
    restore(tmp_path / "copy", away / "usage.sqlite3")
    found = modes(tmp_path)
    assert found.pop("away") == 0o700
    assert found.keys() >= {"copy", "rows.csv", "rows.parquet", "away/usage.sqlite3"}
    assert set(found.values()) == {0o600}


def test_a_file_that_is_there_keeps_its_rights(tmp_path: pathlib.Path) -> None:
    """Somebody may have given them to a group."""
    file = tmp_path / "usage.sqlite3"
    filled(file).close()
    file.chmod(0o640)
    filled(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_folder_that_others_may_read_stays_so_and_is_told_once(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "wide"
    folder.mkdir(0o755)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            make_private_folder(folder)
        make_private_folder(tmp_path / "new")
        make_private_folder(tmp_path / "new")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{folder}, with the ledger's files, is open to other users of this machine (mode 755)")
