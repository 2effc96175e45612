"""Export, back-up and restore by command, with a store that is open and written meanwhile."""

import csv
import pathlib
import sqlite3

import pytest
from pyarrow import parquet

from actors.ledger.questions.usage import usage
from actors.ledger.store import LedgerStore
from deployments.ops.ledger.commands import main, store_url
from tests.ledger.rows import settled

CONFIG = """
applications:
- name: llm
  import_path: deployments.app:build_app
  args:
    providers: {local: {kind: local}}
    models: {default: {local: smollm2-135m}}
    ledger: {folder: FOLDER}
"""


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "serve_config.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path / "state")))
    return str(path)


@pytest.fixture
def open_store(config: str) -> LedgerStore:
    store = LedgerStore(store_url(config))
    store.start()
    store.write([settled("r1", agent='a,"b"\n', cost=None), settled("r2")])
    return store


def test_each_table_is_exported_as_csv_and_as_parquet(
    config: str, open_store: LedgerStore, tmp_path: pathlib.Path
) -> None:
    for table, rows in (("requests", 2), ("attempts", 2), ("days", 4)):
        as_csv, as_parquet = tmp_path / f"{table}.csv", tmp_path / f"{table}.parquet"
        assert main(["export", config, table, str(as_csv)]) == 0
        assert main(["export", config, table, str(as_parquet)]) == 0
        with as_csv.open(newline="") as file:
            lines = list(csv.DictReader(file))
        columns = parquet.read_table(as_parquet).to_pylist()
        assert len(lines) == len(columns) == rows
        assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in columns] == lines
    open_store.close()


def test_a_backup_holds_what_is_in_the_log_and_a_restore_brings_it_back_under_an_open_store(
    config: str, open_store: LedgerStore, tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "usage.backup"
    assert main(["backup", config, str(target)]) == 0
    before = usage(open_store, {}, ["agent"])
    open_store.write([settled("r3")])
    assert usage(open_store, {})[0]["requests"] == 3
    assert main(["restore", config, str(target)]) == 0
    assert usage(open_store, {}, ["agent"]) == before
    open_store.write([settled("r4")])
    assert usage(open_store, {})[0]["requests"] == 3
    open_store.close()


def test_no_command_writes_over_a_file_and_no_damaged_backup_is_restored(
    config: str, open_store: LedgerStore, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("mine")
    assert main(["export", config, "days", str(there)]) == 1
    assert main(["backup", config, str(there)]) == 1
    assert there.read_text() == "mine"
    other = tmp_path / "other.sqlite3"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    for no_backup in (there, other, tmp_path / "none"):
        assert main(["restore", config, str(no_backup)]) == 1
    assert usage(open_store, {})[0]["requests"] == 2
    assert main(["export", config, "colours", "x.csv"]) == 1
    assert "Say export" in capsys.readouterr().err
    open_store.close()


def test_a_store_in_postgres_is_backed_up_by_its_own_programs(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pathlib.Path(config)
    path.write_text(path.read_text().replace("{folder:", "{url_env: STORE, folder:"))
    monkeypatch.setenv("STORE", "postgresql+psycopg://ledger@/postgres")
    assert main(["backup", config, "x"]) == 1
    assert "pg_dump" in capsys.readouterr().err
