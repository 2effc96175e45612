"""Make folders and files that their owner alone may read: the ledger's rows name tenants, agents and costs."""

import functools
import logging
import os
import pathlib
import stat

log = logging.getLogger(__name__)

FOLDER, FILE = 0o700, 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_folder(folder: pathlib.Path) -> None:
    """Make the folder, and those above it that are missing. One that is there stays as it is.

    If others may read it, the log says so once: perhaps that is meant. Raises OSError.
    """
    if folder.is_dir():
        _tell_if_open(folder)
        return
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(FOLDER, exist_ok=True)  # another process may have made it meanwhile


def make_private_file(path: pathlib.Path, *, new: bool = False) -> None:
    """Make an empty file, unless it is there; with `new`, raise FileExistsError then. Whoever opens it keeps its mode.

    SQLite gives its log and its shared memory the mode of their file (sqlite3's os_unix.c, findCreateFileMode).
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE))
    except FileExistsError:
        if new:
            raise


@functools.cache
def _tell_if_open(folder: pathlib.Path) -> None:
    if (mode := stat.S_IMODE(folder.stat().st_mode)) & OTHERS:
        log.warning(
            "%s, with the ledger's files, is open to other users of this machine (mode %o). "
            "If that is not meant: chmod -R go= %s",
            *(folder, mode, folder),
        )
