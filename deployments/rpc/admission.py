"""How many calls a provider's replica takes at a time: what Serve would count in handle calls, in calls. No Ray."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from deployments.errors import failed


@dataclass(frozen=True, slots=True)
class Room:
    """A replica's name, calls at a time, calls in line (-1: any number), its node, and the node's host.

    Without a host no other node may connect.
    """

    replica: str = ""
    calls: int = 2**31
    line: int = -1
    node: str = ""
    host: str | None = None


class Admission:
    """So many calls run, so many wait in line, the rest is refused, whichever way they came.

    `alone` are those with a handle call of their own. Serve has admitted them without knowing of the others.
    """

    def __init__(self, room: Callable[[], Room]):
        self._room = room
        self._line: deque[asyncio.Future[None]] = deque()
        self.running = 0
        self.alone = 0

    @property
    def waiting(self) -> int:
        return len(self._line)

    @property
    def all(self) -> int:
        return self.running + self.waiting

    @contextlib.asynccontextmanager
    async def by_itself(self) -> AsyncGenerator[None, None]:
        """For a call with a handle call of its own. Raises AttemptFailed `busy`."""
        self.alone += 1
        try:
            await self.enter()
            try:
                yield
            finally:
                self.leave()
        finally:
            self.alone -= 1

    def _free(self, room: Room) -> bool:
        return self.running < room.calls

    async def enter(self) -> None:
        """Raises AttemptFailed `busy`."""
        room = self._room()
        if self._free(room) and not self._line:
            self.running += 1
            return
        if 0 <= room.line <= len(self._line):
            raise failed("busy", "the queue of this provider's deployment is full")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come
                self.leave()
            elif turn in self._line:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        self.running -= 1
        self._next()

    def _next(self) -> None:
        while self._line and self._free(self._room()):
            turn = self._line.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
