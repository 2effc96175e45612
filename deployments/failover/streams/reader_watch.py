"""A reader that takes no frame must not hold a provider for longer than it may. No Ray."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.breaker.outcomes import Outcome

if TYPE_CHECKING:
    from deployments.failover.attempts.deadline import Deadline

READER_SECONDS = (
    600.0  # without taking a frame: a client that reads so slowly must not hold a provider's connection for ever
)


class ReaderWatch:
    """`leave` is called with the outcome once the reader has taken no frame for too long.

    `frame_at` is since when it has had a frame that it has not asked to follow, on the loop's clock.
    """

    def __init__(self, deadline: "Deadline", leave: Callable[[Outcome], None]):
        self._deadline, self._leave = deadline, leave
        self.frame_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Set a timer, seldom: it is set for a whole wait, and looks again where a frame was taken meanwhile."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = (now if self.frame_at is None else self.frame_at) + READER_SECONDS
        if self._deadline.explicit:
            until = min(until, max(self._deadline.end, now))
        if self.frame_at is not None and until <= now:
            late = self._deadline.explicit and now >= self._deadline.end
            why = f"the client read nothing for {READER_SECONDS:g} s"
            ended = Outcome("deadline", content=True) if late else Outcome("cancelled", content=True, message=why)
            self._leave(ended)
        else:
            self._timer = loop.call_at(max(until, now + 1.0), self.start)

    def close(self) -> None:
        """End it. Its stream is let go of, which holds it: else both would stay until the next search for garbage."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._leave = None, _nobody_leaves


def _nobody_leaves(_: Outcome) -> None:
    """Stand for `leave` once the stream is over."""
