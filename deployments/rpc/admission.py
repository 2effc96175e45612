"""The concurrency limit and the queue of one provider replica, for calls by handle and over connections. No Ray.

Serve counts handle calls. One of those may open a connection that carries many calls, so the limit is
kept here, per call.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from deployments.errors import failed

QUEUE_FULL = "the queue of this provider's deployment is full"


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a replica may take, and where it runs.

    `calls` is the number of calls at a time, `queue` the number of calls that may wait (-1: any number). Without a
    `host` no other node may connect.
    """

    replica: str = ""
    calls: int = 2**31
    queue: int = -1
    node: str = ""
    host: str | None = None


class Admission:
    """Run a limited number of calls, queue a limited number, and refuse the rest, however they reached the replica.

    `handle_calls` counts the calls that have a handle call of their own. Serve has admitted these without knowing of
    the others.
    """

    def __init__(self, capacity: Callable[[], Capacity]):
        self._capacity = capacity
        self._queue: deque[asyncio.Future[None]] = deque()
        self.running = 0
        self.handle_calls = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def total(self) -> int:
        return self.running + self.waiting

    @contextlib.asynccontextmanager
    async def admit_handle_call(self) -> AsyncGenerator[None, None]:
        """Admit a call that has a handle call of its own, for as long as the context lasts.

        Raises AttemptFailed `busy` if the queue is full.
        """
        self.handle_calls += 1
        try:
            await self.acquire()
            try:
                yield
            finally:
                self.release()
        finally:
            self.handle_calls -= 1

    async def acquire(self) -> None:
        """Take a slot, waiting in the queue if none is free. Raises AttemptFailed `busy` if the queue is full."""
        capacity = self._capacity()
        if self.running < capacity.calls and not self._queue:
            self.running += 1
            return
        if 0 <= capacity.queue <= len(self._queue):
            raise failed("busy", QUEUE_FULL)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot was granted before the call was cancelled
                self.release()
            elif turn in self._queue:
                self._queue.remove(turn)
            raise

    def release(self) -> None:
        """Give the slot back, and start the calls that now have one."""
        self.running -= 1
        while self._queue and self.running < self._capacity().calls:
            turn = self._queue.popleft()
            if not turn.done():
                self.running += 1
                turn.set_result(None)
