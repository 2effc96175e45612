"""Lines that outlive a kill -9 of their writer, on local disk, until somebody has acknowledged them.

One writer has one journal: a lock that the kernel frees when the process is gone, however it went, and
files that are appended to and thrown away whole. A line is in the page cache when `append` returns: it
survives the process, not a power failure. The process that takes the lock of a dead writer may read what it left.

When the disk refuses, lines stay in memory until it takes them; when the bound is reached, the oldest
lines are dropped and counted. It must not know what a line says, and it must never raise at its writer.
"""

import contextlib
import fcntl
import logging
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

SEGMENT = 1024 * 1024  # a file's size
MOST = 64 * 1024 * 1024  # all files of a writer
IN_MEMORY = 8 * 1024 * 1024  # while the disk refuses
_SETTLED = b'"state":"settled"'


@dataclass(slots=True)
class _Segment:
    """Bytes of the journal from `start` on: in a file, or in memory if `path` is None."""

    start: int
    path: pathlib.Path | None = None
    fd: int = -1
    size: int = 0
    memory: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        return self.start + self.size

    def write(self, data: bytes) -> None:
        """Raises OSError; what was written in part lies behind `size`, and no line end follows it."""
        if self.path is None:
            self.memory += data
        elif (written := os.write(self.fd, data)) != len(data):
            raise OSError(f"{written} of {len(data)} bytes written")
        self.size += len(data)

    def read(self, offset: int, most: int) -> bytes:
        if self.path is None:
            return bytes(self.memory[offset : offset + most])
        return os.pread(self.fd, min(most, self.size - offset), offset)

    def discard(self) -> None:
        if self.path is not None:
            os.close(self.fd)
            self.path.unlink(missing_ok=True)


class Journal:
    """Positions count all bytes ever appended. For one event loop; nothing here waits but for the disk."""

    def __init__(self, folder: pathlib.Path, owner: str, *, most: int = MOST, segment: int = SEGMENT):
        self._folder, self._owner = folder, owner
        self._most, self._segment = most, segment
        self._lock = -1
        self._segments: list[_Segment] = []
        self._alarmed = False
        self.end = 0
        self.acked = 0
        self.lines = 0  # not acknowledged
        self.dropped = 0  # settled lines that nobody will ever read
        self.drops = 0  # how often that happened
        self._roll()

    @property
    def broken(self) -> bool:
        """Return whether the disk refuses lines. Those in memory do not survive this process."""
        return self._segments[-1].path is None

    def append(self, line: bytes) -> None:
        segment = self._segments[-1]
        if segment.size >= self._segment:
            segment = self._roll()
        try:
            segment.write(line)
        except OSError as error:
            self._alarm(error)
            segment = _Segment(self.end)
            segment.write(line)
            self._segments.append(segment)
        self.end += len(line)
        self.lines += 1

    def read(self, most: int) -> tuple[bytes, int]:
        """Return whole lines from the first that is not acknowledged, and the position behind them."""
        for segment in self._segments:
            if segment.end > self.acked:
                offset = max(0, self.acked - segment.start)
                data = segment.read(offset, most)
                if data := data[: data.rfind(b"\n") + 1]:
                    return data, segment.start + offset + len(data)
                # Somebody has cut the file: go on behind it.
        return b"", self.acked

    def acknowledge(self, position: int, lines: int) -> None:
        """Drop the lines before `position`, so many: they are in the store."""
        if position <= self.acked:
            return
        self.acked = position
        self.lines = self.lines - lines if position < self.end else 0
        while len(self._segments) > 1 and self._segments[0].end <= position:
            self._segments.pop(0).discard()

    def mend(self) -> None:
        """Put what is in memory into files, if the disk takes it again."""
        for index, segment in enumerate(self._segments):
            if segment.path is None:
                if (file := self._file(segment.start)) is None:
                    return
                try:
                    if segment.size:
                        file.write(bytes(segment.memory))
                except OSError:
                    file.discard()
                    return
                self._segments[index] = file
        self._alarmed = False

    def close(self) -> None:
        """Leave. Lines that are not acknowledged stay on disk for another process to recover."""
        done = self.acked >= self.end
        for segment in self._segments:
            if done:
                segment.discard()
            elif segment.path is not None:
                os.close(segment.fd)
        self._segments = [_Segment(self.end)]
        if self._lock >= 0:
            if done:
                _lock_path(self._folder, self._owner).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _roll(self) -> _Segment:
        self._trim()
        segment = self._file(self.end) or _Segment(self.end)
        self._segments.append(segment)
        return segment

    def _file(self, start: int) -> _Segment | None:
        try:
            if self._lock < 0:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._lock = _lock(_lock_path(self._folder, self._owner), create=True)
            path = self._folder / f"{self._owner}.{start:020d}.jsonl"
            fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND, 0o600)
        except OSError as error:
            self._alarm(error)
            return None
        return _Segment(start, path, fd)

    def _alarm(self, error: OSError) -> None:
        if not self._alarmed:  # once a trouble, not once a line
            log.error("The journal can't be written to disk (%s). Rows are kept in memory until it can.", error)
        self._alarmed = True

    def _trim(self) -> None:
        """Keep the bounds, at the cost of the oldest."""
        for in_memory, most in ((True, IN_MEMORY), (False, self._most)):
            of_sort = [s for s in self._segments if (s.path is None) is in_memory]
            excess = sum(s.size for s in of_sort) + self._segment - most
            for segment in of_sort:
                if excess > 0:
                    excess -= segment.size
                    self._drop(segment)

    def _drop(self, segment: _Segment) -> None:
        offset = max(0, min(self.acked - segment.start, segment.size))
        lines = segment.read(offset, segment.size).splitlines()
        settled = sum(_SETTLED in line for line in lines)
        log.error("The journal is full. Its %d oldest settled rows are dropped: their usage is not counted.", settled)
        self.dropped += settled
        self.drops += 1
        self.lines -= len(lines)
        self._segments.remove(segment)
        segment.discard()


@dataclass(frozen=True, slots=True)
class Orphan:
    """The journal of a writer that is gone, held by us until it is discarded or released."""

    folder: pathlib.Path
    owner: str
    lock: int

    def chunks(self, most: int) -> Iterator[bytes]:
        """Yield its whole lines in order. The last may be torn: its writer never got to act on it."""
        for path in self._files():
            data = path.read_bytes()
            start, end = 0, data.rfind(b"\n") + 1
            while start < end:
                stop = end if end - start <= most else data.rfind(b"\n", start, start + most) + 1
                yield data[start:stop]
                start = stop

    def discard(self) -> None:
        """Delete it: all its lines are in the store. The lock goes last: without it nobody would look again."""
        for path in self._files():
            path.unlink(missing_ok=True)
        _lock_path(self.folder, self.owner).unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        os.close(self.lock)

    def _files(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob(f"{self.owner}.*.jsonl"))


def orphans(folder: pathlib.Path) -> Iterator[Orphan]:
    """Yield the journals whose writers are gone. Each must be discarded or released."""
    for path in sorted(folder.glob("*.lock")):
        with contextlib.suppress(OSError):
            yield Orphan(folder, path.stem, _lock(path, create=False))


def _lock_path(folder: pathlib.Path, owner: str) -> pathlib.Path:
    return folder / f"{owner}.lock"


def _lock(path: pathlib.Path, *, create: bool) -> int:
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
