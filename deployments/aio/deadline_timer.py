"""A limit on each of many waits of one task, with one timer that is seldom set. No Ray.

    patience = Patience()
    try:
        with patience.until(at):        # TimeoutError at that instant of the loop's clock
            item = await anext(items)
    except TimeoutError:
        neutral = patience.stalled      # was it we who stood still?
    finally:
        patience.close()

`asyncio.timeout` sets a timer, and takes it away again, for each wait. A frame comes within milliseconds and may take
seconds: here the timer of an earlier wait stays, and when it rings it looks how long the present one may take.

A timer that rings late says that our own loop stood still. What came meanwhile lies unread in sockets and queues, and
the timer's turn may be before theirs. So a late timer gives the wait a little more, and only then ends it.
"""

import asyncio
from types import TracebackType

LATE = 0.005  # seconds after its time, from which on a timer is late
LEAST_GRACE, MOST_GRACE = 0.02, 0.25  # seconds: as much as the timer was late, within these
GRACES = 3  # so often a wait may be given more; a loop that lags without an end must not wait without one
STALL = 1.0  # seconds of lateness in all, from which on silence proves nothing

_OVER = -1


class Patience:
    """For one task and one wait at a time. Waits of others, `asyncio.timeout` too, may surround it or be inside it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when the timer can, at the earliest
        self._until: float | None = None  # of the present wait
        self._task: asyncio.Task[object] | None = None  # while it waits
        self._cancelling = 0
        self._graces = 0  # that the present wait was given, or that it is over
        self._lateness = 0.0  # of the present wait's timer, where it was late at all

    def until(self, at: float) -> "Patience":
        self._until = at
        return self

    def __enter__(self) -> "Patience":
        at, task = self._until, asyncio.current_task()
        assert at is not None
        assert task is not None
        self._task, self._cancelling, self._graces = task, task.cancelling(), 0
        if self._timer is None or at < self._rings:
            self._set(at)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self._task = self._task, None
        if self._graces != _OVER:
            return
        assert task is not None
        # Somebody else may have cancelled the task too: then it is cancelled.
        if task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def move(self, at: float | None) -> None:
        """Change the limit of the present wait; None takes it away. A wait whose time was over stays so."""
        if self._task is None:
            raise RuntimeError("there is no wait whose limit could be moved")
        if self._graces == _OVER:
            return
        self._until, self._graces = at, 0
        if at is not None and (self._timer is None or at < self._rings):
            self._set(at)

    @property
    def expired(self) -> bool:
        """Was the time of the last wait over? Tells our own TimeoutError from one that came from inside."""
        return self._graces == _OVER

    @property
    def stalled(self) -> bool:
        """Did the last wait's time pass while our own loop stood still? Then the silence proves nothing."""
        return self._graces == _OVER and self._lateness > STALL

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A limit that has passed already is no timer that is late.
        self._timer, self._rings = self._loop.call_at(at, self._ring), max(at, self._loop.time())

    def _ring(self) -> None:
        self._timer = None
        if self._task is None or self._until is None or self._graces == _OVER:
            return  # nobody waits for a limit now; the next wait sets it again
        now = self._loop.time()
        if now < self._until:
            self._set(self._until)
            return
        late = now - max(self._until, self._rings)
        self._lateness = late if self._graces == 0 else self._lateness + late
        if late > LATE and self._graces < GRACES:
            self._graces += 1
            self._set(now + min(max(late, LEAST_GRACE), MOST_GRACE))
        else:
            self._graces = _OVER
            self._task.cancel()
