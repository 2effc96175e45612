"""Run what waits for Ray's control store (the GCS) on one thread beside an event loop. No Ray.

While the control store is away, each of Ray's synchronous calls of it hangs without limit (ray#24400). On an event
loop that would hold up every request and stream of the process. A call that hangs here holds up the thread alone: of
each name one call is under way at most, so nothing piles up however often it is asked for.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

WAIT_SECONDS = 1.0  # how long the control store may take; it usually answers within a millisecond or two


class ControlStoreAway(ConnectionError):
    """The control store has not answered within WAIT_SECONDS."""


class ControlThread:
    """One daemon thread, which begins with the first call: it never keeps a process from ending."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._under_way: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._began: float | None = None  # when the call began that runs now

    async def run(self, name: str, work: Callable[[], T], *, patient: bool = False) -> T:
        """Return what `work` returns. If a call of this name is under way already, wait for that one instead.

        Raises ControlStoreAway when the thread's call has hung for WAIT_SECONDS, unless `patient`. The call goes on.
        """
        answer = asyncio.shield(asyncio.wrap_future(self._begin(name, work)))
        if patient:
            return await answer
        try:
            async with asyncio.timeout(self._patience()):
                return await answer
        except TimeoutError:
            raise ControlStoreAway(f"Ray's control store has not answered within {WAIT_SECONDS:g} s") from None

    def _patience(self) -> float:
        """Return how long to wait: less where the thread hangs already, so that a known absence costs no time."""
        began = self._began
        return WAIT_SECONDS if began is None else max(0.0, began + WAIT_SECONDS - self._clock())

    def _begin(self, name: str, work: Callable[[], T]) -> "Future[T]":
        with self._lock:
            known = self._under_way.get(name)
            if known is None:
                known = self._under_way[name] = Future()
                self._queue.put((name, work, known))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="control-store", daemon=True)
                self._thread.start()
        return known

    def _work(self) -> None:
        while True:
            name, work, future = self._queue.get()
            self._began = self._clock()
            try:
                result, error = work(), None
            except BaseException as caught:
                result, error = None, caught
            self._began = None
            with self._lock:
                del self._under_way[name]
            future.set_result(result) if error is None else future.set_exception(error)


CONTROL = ControlThread()  # of this process
