"""A part of a journal: a file on disk, or bytes in memory while the disk refuses.

It is written at the place that it has counted itself, never at the file's end: what others append to the file, or
cut from it, shifts no line of ours.
"""

import errno
import os
import pathlib
from dataclasses import dataclass, field

from actors.ledger.journal.locks import is_at


@dataclass(slots=True)
class Segment:
    """Bytes of the journal from `start` on: in a file, or in memory if `path` is None."""

    start: int
    path: pathlib.Path | None = None
    fd: int = -1
    size: int = 0
    lines: int = 0  # not acknowledged
    memory: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def vanished(self) -> bool:
        """Return whether the file has lost its name: nobody would find it after our death."""
        return self.path is not None and not is_at(self.fd, self.path)

    def write(self, data: bytes) -> None:
        """Raises OSError; what was written in part is taken back."""
        if self.path is None:
            self.memory += data
        elif (written := os.pwrite(self.fd, data, self.size)) != len(data):
            os.ftruncate(self.fd, self.size)
            raise OSError(errno.ENOSPC, f"{written} of {len(data)} bytes written")
        self.size += len(data)

    def read(self, offset: int, most: int) -> bytes:
        """Return what is there, less than was written if somebody has cut the file."""
        if self.path is None:
            return bytes(self.memory[offset : offset + most])
        return os.pread(self.fd, min(most, self.size - offset), offset)

    def discard(self) -> None:
        """Close it, and delete its file, unless the name is another file's by now."""
        if self.path is not None:
            ours = not self.vanished
            os.close(self.fd)
            if ours:
                self.path.unlink(missing_ok=True)
