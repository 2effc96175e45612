"""The journal of one writer: lines on local disk until somebody has acknowledged them.

One writer has one journal: a lock that the kernel frees when the process is gone, however it went, and
files that are written in order and thrown away whole. A line is in the page cache when `append` returns: it
survives the process, not a power failure. The process that takes the lock of a dead writer may read what it left.

When the disk refuses, or holds its writer up, lines stay in memory until it takes them; when the bound is reached,
the oldest lines are dropped and counted. It must not know what a line says, and it must never raise at its writer.
"""

import logging
import os
import pathlib
import time
from collections.abc import Callable

from actors.ledger.journal.lines import take_lines
from actors.ledger.journal.locks import is_at, lock_path, take_lock
from actors.ledger.journal.segment import Segment
from actors.private_files import make_private_folder

log = logging.getLogger(__name__)

SEGMENT = 1024 * 1024  # a file's size
MOST = 64 * 1024 * 1024  # all files of a writer
IN_MEMORY = 8 * 1024 * 1024  # while the disk refuses
SLOW_SECONDS = 1.0  # a write that takes longer has held up every request of its process
REST_SECONDS = 30.0  # how long such a disk is left alone
_SETTLED = b'"state":"settled"'


class Journal:
    """Positions count all bytes ever appended. For one event loop; nothing here waits but for the disk."""

    def __init__(
        self,
        folder: pathlib.Path,
        owner: str,
        *,
        most: int = MOST,
        segment: int = SEGMENT,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder, self._owner = folder, owner
        self._most, self._segment = most, segment
        self._clock = clock
        self._lock = -1
        self._files = 0  # ever opened: no two have one name
        self._segments: list[Segment] = []
        self._alarmed = False
        self._rests_until = clock()
        self.end = 0
        self.acked = 0
        self.dropped = 0  # lines that nobody will ever read: settled ones, or what somebody has cut off
        self.drops = 0  # how often that happened
        self._roll()

    @property
    def lines(self) -> int:
        """Return how many lines are not acknowledged."""
        return sum(segment.lines for segment in self._segments)

    @property
    def broken(self) -> bool:
        """Return whether lines are in memory alone. Those do not survive this process."""
        return any(segment.path is None for segment in self._segments)

    def append(self, line: bytes) -> None:
        segment = self._segments[-1]
        if segment.size >= self._segment:
            segment = self._roll()
        began = self._clock()
        try:
            segment.write(line)
        except OSError as error:
            self._alarm(error)
            segment = self._go_to_memory()
            segment.write(line)
        segment.lines += 1
        self.end += len(line)
        if segment.path is not None and self._clock() - began > SLOW_SECONDS:
            self._rest(self._clock() - began)

    def read(self, most: int) -> tuple[bytes, int]:
        """Return whole lines from the first that is not acknowledged, and the position behind them.

        Bytes that are no lines are returned with a line end, for their reader to count.
        """
        for segment in list(self._segments):
            if segment.end <= self.acked:
                continue
            offset = max(0, self.acked - segment.start)
            if data := segment.read(offset, most):
                taken, end = take_lines(data, more=offset + len(data) < segment.size)
                return taken, segment.start + offset + end
            self._give_up(segment)
        return b"", self.acked

    def acknowledge(self, position: int, lines: int) -> None:
        """Drop the lines before `position`, so many: they are in the store."""
        if position <= self.acked:
            return
        self.acked = position
        for segment in self._segments:
            if segment.start < position <= segment.end:
                segment.lines = max(0, segment.lines - lines) if position < segment.end else 0
        while len(self._segments) > 1 and self._segments[0].end <= position:
            self._segments.pop(0).discard()

    def mend(self) -> None:
        """Put into files what is in memory, or in a file without a name, if the disk takes it. To be called often."""
        if self._clock() < self._rests_until:
            return
        self._keep_lock()
        for index, segment in enumerate(self._segments):
            if segment.path is not None and not segment.vanished:
                continue
            began = self._clock()
            if (file := self._moved(segment)) is None:
                return
            self._segments[index] = file
            if self._clock() - began > SLOW_SECONDS:
                self._rest(self._clock() - began)
                return
        self._alarmed = False

    def close(self, *, found_by_others: bool = False) -> None:
        """Leave. Lines that are not acknowledged stay on disk for another process to recover.

        With `found_by_others` the lock stays in any case, so that another process finds that we are gone.
        """
        done = self.acked >= self.end
        if in_memory := sum(segment.lines for segment in self._segments if segment.path is None):
            log.error("The journal is closed while the disk refuses it. Its %d rows in memory are lost.", in_memory)
        for segment in self._segments:
            if done:
                segment.discard()
            elif segment.path is not None:
                os.close(segment.fd)
        self._segments = [Segment(self.end)]
        if self._lock >= 0:
            if done and not found_by_others:
                lock_path(self._folder, self._owner).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _roll(self) -> Segment:
        """Begin a new segment, and keep the bounds at the cost of the oldest."""
        self._trim()
        resting = self._clock() < self._rests_until
        segment = (None if resting else self._file(self.end)) or Segment(self.end)
        self._segments.append(segment)
        return segment

    def _go_to_memory(self) -> Segment:
        """Begin a segment in memory. A file that has got no line yet is not kept beside it."""
        if self._segments and self._segments[-1].size == 0:
            self._segments.pop().discard()
        self._segments.append(Segment(self.end))
        return self._segments[-1]

    def _file(self, start: int) -> Segment | None:
        try:
            if self._lock < 0:
                self._lock = self._take_lock()
            self._files += 1
            path = self._folder / f"{self._owner}.{start:020d}-{self._files}.jsonl"
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            self._alarm(error)
            return None
        return Segment(start, path, fd)

    def _moved(self, segment: Segment) -> Segment | None:
        """Return the segment in a new file; None if the disk refuses it."""
        if (file := self._file(segment.start)) is None:
            return None
        try:
            file.write(segment.read(0, segment.size))
        except OSError as error:
            self._alarm(error)
            file.discard()
            return None
        # What somebody has cut off is not there to be moved: later lines keep their positions all the same.
        file.size, file.lines = segment.size, segment.lines
        if segment.path is not None:
            log.error("A file of the journal has vanished under its writer. Its rows are written once more.")
            os.close(segment.fd)
        return file

    def _keep_lock(self) -> None:
        """Take the lock again if somebody has deleted it: without it nobody would look for our lines."""
        if self._lock < 0 or is_at(self._lock, lock_path(self._folder, self._owner)):
            return
        try:
            lock = self._take_lock()
        except OSError as error:
            self._alarm(error)
            return
        os.close(self._lock)
        self._lock = lock

    def _take_lock(self) -> int:
        make_private_folder(self._folder)
        return take_lock(lock_path(self._folder, self._owner), create=True)

    def _alarm(self, error: OSError) -> None:
        if not self._alarmed:  # once a trouble, not once a line
            log.error("The journal can't be written to disk (%s). Rows are kept in memory until it can.", error)
        self._alarmed = True

    def _rest(self, seconds: float) -> None:
        log.warning(
            "The journal's disk took %.2f s for a write, and held up all requests. Rows are kept in memory for %g s.",
            seconds,
            REST_SECONDS,
        )
        self._rests_until = self._clock() + REST_SECONDS
        self._go_to_memory()

    def _trim(self) -> None:
        for in_memory, most in ((True, IN_MEMORY), (False, self._most)):
            of_sort = [s for s in self._segments if (s.path is None) is in_memory]
            excess = sum(s.size for s in of_sort) + self._segment - most
            for segment in of_sort:
                if excess > 0:
                    excess -= segment.size
                    self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        offset = max(0, min(self.acked - segment.start, segment.size))
        settled = sum(_SETTLED in line for line in segment.read(offset, segment.size).splitlines())
        log.error("The journal is full. Its %d oldest settled rows are dropped: their usage is not counted.", settled)
        self._forget(segment, settled)

    def _give_up(self, segment: Segment) -> None:
        """Go on behind lines that are not there any more."""
        log.error("A file of the journal was cut under its writer. Its last %d rows are lost.", segment.lines)
        self.acked = max(self.acked, segment.end)
        if segment is self._segments[-1]:
            self._segments.append(Segment(self.end))
        self._forget(segment, segment.lines)

    def _forget(self, segment: Segment, lost: int) -> None:
        self.dropped += lost
        self.drops += 1
        self._segments.remove(segment)
        segment.discard()
