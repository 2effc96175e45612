"""The lock of a journal: held by its living writer, or by the one process that reads what a dead one has left."""

import fcntl
import os
import pathlib


def lock_path(folder: pathlib.Path, owner: str) -> pathlib.Path:
    return folder / f"{owner}.lock"


def take_lock(path: pathlib.Path, *, create: bool) -> int:
    """Return the held lock's descriptor. Raises OSError if another process holds it."""
    while True:
        fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            os.close(fd)
            if not create:
                raise
        except BaseException:
            os.close(fd)
            raise
        else:
            os.close(fd)  # somebody discarded it between our opening and our locking


def is_at(fd: int, path: pathlib.Path) -> bool:
    """Return whether the path is still the name of an open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
