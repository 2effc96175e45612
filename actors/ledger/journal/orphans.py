"""The journals of writers that are gone: who finds one holds it, reads it, and deletes it when it is in the store."""

import contextlib
import logging
import os
import pathlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from actors.ledger.journal.lines import take_lines
from actors.ledger.journal.locks import lock_path, take_lock

log = logging.getLogger(__name__)

MOST_OF_A_FILE = 64 * 1024 * 1024  # bytes; a writer's whole journal is no longer
UNLOCKED_SECONDS = 60.0  # a living writer whose lock was deleted takes another one long before


@dataclass(frozen=True, slots=True)
class Orphan:
    """The journal of a writer that is gone, held by us until it is discarded or released."""

    folder: pathlib.Path
    owner: str
    lock: int

    def chunks(self, most: int) -> Iterator[bytes]:
        """Yield its lines in order. The last may be torn: its writer never got to act on it.

        Bytes that are no lines are yielded too, for their reader to count. Each chunk ends with a line end.
        """
        for path in self._files():
            with path.open("rb") as file:
                yield from _chunks(file.fileno(), most)
                if os.fstat(file.fileno()).st_size > MOST_OF_A_FILE:
                    log.error(
                        "%s is longer than any journal. What is behind %d bytes is left out.", path.name, MOST_OF_A_FILE
                    )

    def discard(self) -> None:
        """Delete it: all its lines are in the store. The lock goes last: without it nobody would look soon again."""
        for path in self._files():
            path.unlink(missing_ok=True)
        lock_path(self.folder, self.owner).unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        os.close(self.lock)

    def _files(self) -> list[pathlib.Path]:
        return sorted(path for path in self.folder.glob(f"{self.owner}.*.jsonl") if path.is_file())


def _chunks(fd: int, most: int) -> Iterator[bytes]:
    offset, size = 0, min(os.fstat(fd).st_size, MOST_OF_A_FILE)
    while data := os.pread(fd, min(most, size - offset), offset):
        taken, end = take_lines(data, more=offset + len(data) < size)
        offset += end
        yield taken


def orphans(folder: pathlib.Path) -> Iterator[Orphan]:
    """Yield the journals whose writers are gone. Each must be discarded or released."""
    locked = {path.stem for path in folder.glob("*.lock")}
    for owner in sorted(locked | _without_lock(folder, locked)):
        with contextlib.suppress(OSError):
            yield Orphan(folder, owner, take_lock(lock_path(folder, owner), create=owner not in locked))


def _without_lock(folder: pathlib.Path, locked: set[str]) -> set[str]:
    """Return the writers whose locks somebody has deleted, and whose files nobody has written to for long."""
    before = time.time() - UNLOCKED_SECONDS
    found = set()
    for path in folder.glob("*.jsonl"):
        owner = path.name.partition(".")[0]
        with contextlib.suppress(OSError):
            if owner not in locked and path.stat().st_mtime < before:
                found.add(owner)
    return found
