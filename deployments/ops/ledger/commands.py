"""Export, back up and restore the ledger's store of a Serve config file.

    python -m deployments.ops.ledger export serve_config.yaml requests requests.csv
    python -m deployments.ops.ledger backup serve_config.yaml usage.backup
    python -m deployments.ops.ledger restore serve_config.yaml usage.backup

Each prints one sentence, and exits with 1 if it could not be done. The server may run.
"""

import os
import pathlib
import sqlite3
import sys
from collections.abc import Sequence

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from actors.ledger.store import LedgerStore
from deployments.config.application import parse
from deployments.config.check import read_applications
from deployments.errors import ConfigError
from deployments.ops.ledger.backup import back_up, restore
from deployments.ops.ledger.export import TABLES, export

USAGE = (
    f"export CONFIG {'|'.join(TABLES)} FILE.csv|FILE.parquet, backup CONFIG FILE or restore CONFIG FILE;"
    " after CONFIG the name of one of several applications: CONFIG#NAME"
)


def main(arguments: Sequence[str]) -> int:
    try:
        print(run(arguments))
    except (ConfigError, OSError, ValueError, ImportError, sqlite3.Error, SQLAlchemyError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    return 0


def run(arguments: Sequence[str]) -> str:
    """Do the command. Return a sentence about what was done."""
    match arguments:
        case ["export", config, table, name] if table in TABLES and name.endswith((".csv", ".parquet")):
            return _exported(store_url(config), table, pathlib.Path(name))
        case ["backup", config, name]:
            back_up(_sqlite_file(config), pathlib.Path(name))
            return f"{name} holds the ledger as of now."
        case ["restore", config, name]:
            restore(pathlib.Path(name), _sqlite_file(config))
            return f"The ledger is as {name} holds it. Restart the ledger actor, so that budgets are read again."
        case _:
            raise ValueError(f"Say {USAGE}.")


def _exported(url: str, table: str, path: pathlib.Path) -> str:
    store = LedgerStore(url)
    try:
        return f"{path} holds {export(store, table, path)} rows."
    finally:
        store.close()


def store_url(config: str) -> str:
    """Return the URL of the ledger's store of a config file's application. Raises ConfigError."""
    path, _, wanted = config.partition("#")
    applications = read_applications(path)
    named = {str(application.get("name", "default")): application for application in applications}
    if not wanted and len(named) > 1:
        raise ConfigError(f"{path}: which application? {', '.join(f'{path}#{name}' for name in named)}")
    name = wanted or next(iter(named))
    if name not in named:
        raise ConfigError(f"{path}: no application {name}")
    ledger = parse(named[name].get("args")).ledger
    if (missing := ledger.missing()) is not None:
        raise ConfigError(f"ledger.{missing}")
    return os.environ[ledger.url_env] if ledger.url_env else ledger.for_actor(name)["url"]


def _sqlite_file(config: str) -> pathlib.Path:
    url = make_url(store_url(config))
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigError("the ledger is in PostgreSQL: use pg_dump and pg_restore, as docs/operations.md says")
    return pathlib.Path(url.database)
