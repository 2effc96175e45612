"""A limit on each of many waits of one task, with one timer that is seldom set. No Ray.

    patience = Patience()
    try:
        with patience.until(at):        # TimeoutError at that instant of the loop's clock
            item = await anext(items)
    finally:
        patience.close()

`asyncio.timeout` sets a timer, and takes it away again, for each wait. A frame comes within milliseconds and may take
seconds: here the timer of an earlier wait stays, and when it rings it looks how long the present one may take.
"""

import asyncio
from types import TracebackType


class Patience:
    """For one task and one wait at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when the timer does
        self._until: float | None = None  # of the present wait
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._over = False

    def until(self, at: float) -> "Patience":
        self._until = at
        return self

    def __enter__(self) -> None:
        at, task = self._until, asyncio.current_task()
        assert at is not None
        assert task is not None
        self._task, self._cancelling, self._over = task, task.cancelling(), False
        if self._timer is None or at < self._rings:
            self._set(at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._until = None
        if not self._over:
            return
        assert self._task is not None
        # Somebody else may have cancelled the task too: then it is cancelled.
        if self._task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = self._loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._timer = None
        if self._until is None:
            return  # nobody waits now; the next wait sets it again
        if self._loop.time() < self._until:
            self._set(self._until)
        elif self._task is not None and not self._over:
            self._over = True
            self._task.cancel()
