"""A re-armable timeout: a limit on each of many waits of one task, with one timer that is seldom set. No Ray.

    timer = DeadlineTimer()
    try:
        with timer.until(at):           # TimeoutError at that instant of the loop's clock
            item = await anext(items)
    except TimeoutError:
        neutral = timer.stalled         # did our own event loop stand still?
    finally:
        timer.close()

`asyncio.timeout` sets and cancels a timer for each wait. A frame arrives within milliseconds and may take seconds: so
the timer of an earlier wait stays here, and when it fires it checks the limit of the present wait.

A timer that fires late shows that our own event loop stood still. Data that arrived meanwhile is unread in sockets and
queues, and the timer may run before their readers. So a late timer grants the wait a little more time before it ends.
"""

import asyncio
from types import TracebackType

LATE = 0.005  # seconds: a timer that fires later than this counts as late
MIN_GRACE, MAX_GRACE = 0.02, 0.25  # seconds: a grace is as long as the timer was late, within these
MAX_GRACES = 3  # for each wait: an event loop that always lags must not wait for ever
STALL = 1.0  # seconds of total lateness: beyond it silence says nothing of the other end

_OVER = -1


class DeadlineTimer:
    """For one task and one wait at a time. Waits of others, `asyncio.timeout` too, may surround it or be inside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0  # the earliest instant at which the timer fires
        self._until: float | None = None  # of the present wait
        self._task: asyncio.Task[object] | None = None  # while it waits
        self._cancelling = 0
        self._graces = 0  # granted to the present wait; or _OVER
        self._lateness = 0.0  # seconds by which the timers of the present wait were late

    def until(self, at: float) -> "DeadlineTimer":
        self._until = at
        return self

    def __enter__(self) -> "DeadlineTimer":
        at, task = self._until, asyncio.current_task(self._loop)  # to look the loop up again would take longer
        assert at is not None
        assert task is not None
        self._task, self._cancelling, self._graces = task, task.cancelling(), 0
        if self._timer is None or at < self._fires_at:
            self._set(at)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task, self._task = self._task, None
        if self._graces != _OVER:
            return
        assert task is not None
        # If other code has cancelled the task too, it stays cancelled.
        if task.uncancel() <= self._cancelling and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error

    def move(self, at: float | None) -> None:
        """Change the limit of the present wait; None removes it. A wait that has timed out stays so."""
        if self._task is None:
            raise RuntimeError("no wait is active, so there is no limit to move")
        if self._graces == _OVER:
            return
        self._until, self._graces = at, 0
        if at is not None and (self._timer is None or at < self._fires_at):
            self._set(at)

    @property
    def waits(self) -> bool:
        """Is a wait active, whose limit may be moved?"""
        return self._task is not None

    @property
    def expired(self) -> bool:
        """Has the last wait timed out? Tells our own TimeoutError from one that was raised inside."""
        return self._graces == _OVER

    @property
    def stalled(self) -> bool:
        """Has the last wait timed out while our own event loop stood still? Then the other end may be healthy."""
        return self._graces == _OVER and self._lateness > STALL

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # A limit in the past does not make the timer late.
        self._timer, self._fires_at = self._loop.call_at(at, self._fire), max(at, self._loop.time())

    def _fire(self) -> None:
        self._timer = None
        if self._task is None or self._until is None or self._graces == _OVER:
            return  # no wait has a limit now; the next one sets the timer again
        now = self._loop.time()
        if now < self._until:
            self._set(self._until)
            return
        late = now - max(self._until, self._fires_at)
        self._lateness = late if self._graces == 0 else self._lateness + late
        if late > LATE and self._graces < MAX_GRACES:
            self._graces += 1
            self._set(now + min(max(late, MIN_GRACE), MAX_GRACE))
        else:
            self._graces = _OVER
            self._task.cancel()
