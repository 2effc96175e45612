"""A copy of the ledger's SQLite file, and back, while the server runs.

SQLite's backup API copies one state, with what is still in the write-ahead log (sqlite.org/backup.html). PostgreSQL has
programs of its own for this: pg_dump and pg_restore.
"""

import pathlib
import sqlite3
from contextlib import closing

from actors.private_files import make_private_file, make_private_folder

PAGES = 1024  # copied at once: so long a writer waits at most


def back_up(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy the store into a new file, whole or not at all. Raises FileExistsError and sqlite3.Error."""
    if target.exists():
        raise FileExistsError(f"{target} exists")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    _opened(source).close()
    make_private_file(part, new=True)
    _copy(source, part)
    part.rename(target)


def restore(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a back-up into the store in one transaction. What was written since then is gone from it.

    Raises ValueError if the back-up is damaged or no ledger, and sqlite3.Error.
    """
    with closing(_opened(source)) as connection:
        if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            raise ValueError(f"{source} is damaged")
        asked = "SELECT count(*) FROM sqlite_master WHERE name = 'ledger_schema'"
        if connection.execute(asked).fetchone() != (1,):
            raise ValueError(f"{source} is no back-up of a ledger")
    make_private_folder(target.parent)
    make_private_file(target)
    _copy(source, target)


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    with closing(_opened(source)) as of, closing(sqlite3.connect(target, timeout=30)) as to:
        of.backup(to, pages=PAGES)


def _opened(path: pathlib.Path) -> sqlite3.Connection:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    return sqlite3.connect(path, timeout=30)
