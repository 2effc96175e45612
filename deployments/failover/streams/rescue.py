"""Another provider beside a stream that has fallen silent: who speaks first goes on. No Ray.

A stream that stalls is known to be lost at its idle limit only, after many seconds. A rescue asks another provider
sooner, as a second leg does before the first content, and takes from the same budget. If the first one speaks before
the other is proven to go on, the other is let go, and the client has seen nothing of it. There is one for each request
at the most.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.breaker.outcomes import Outcome
from deployments.continuation.stitch import Unverified
from deployments.errors import AttemptFailed

if TYPE_CHECKING:
    from deployments.failover.streams.answer import StreamAnswer
    from deployments.failover.streams.opening import Opening

log = logging.getLogger(f"ray.serve.{__name__}")

SILENT_SECONDS = 2.0  # no pause is longer that a reader of a flowing text would call one
PAUSES = 3.0  # times the longest pause that the stream has made by itself
LATE_SECONDS = 0.25  # a timer that fires so late tells of our own process, and not of the provider


@dataclass(frozen=True, slots=True)
class Rescued:
    """Who goes on, its first frames, and whether it goes on with a text."""

    later: "StreamAnswer"
    first: bytes
    has_text: bool


class Rescue:
    """Watches one stream, which says when it begins to wait and when it has heard something.

    `begin` asks another provider, `ready` is called once that is proven to go on, `end` once it is known not to be
    needed, and `call_off` when all of it is over that is not used.
    The stream must `adopt` its `result`, or `close` it.
    """

    def __init__(
        self,
        begin: "Callable[[], Awaitable[tuple[StreamAnswer, Opening | None] | None]]",
        ready: Callable[[], None],
        end: Callable[[], None],
        call_off: Callable[[Outcome | None], None],
    ):
        self._begin, self._ready, self._end, self._call_off = begin, ready, end, call_off
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None  # when the stream began to wait; None while it does not
        self._longest = 0.0  # pause of the stream
        self._task: asyncio.Task[None] | None = None
        self._known, self._decided = asyncio.Event(), asyncio.Event()
        self._proven: Rescued | None = None
        self._taken = self._dropped = False
        self._due = self._loop.time() + SILENT_SECONDS
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._due, self._look)

    def wait(self, now: float) -> None:
        """Take it that the stream waits for its provider from now on."""
        self._since = now

    def heard(self, now: float) -> None:
        """Take it that the provider has spoken."""
        if self._since is not None and (pause := now - self._since) > self._longest:
            self._longest = pause
        self._since = None
        if self._task is not None:
            self._drop()

    @property
    def proven(self) -> Rescued | None:
        """Who goes on, as long as the first one has said nothing."""
        return None if self._dropped else self._proven

    async def result(self) -> Rescued | None:
        """Return who goes on, once that is known; None if nobody does: then all of it is over."""
        self._stop_timer()
        if self._task is None:
            return None
        await self._known.wait()
        if self.proven is None:
            await asyncio.wait([self._task])
        return self.proven

    def adopt(self) -> None:
        """Take it that who goes on is the stream's own from now on."""
        self._taken = True
        self._decided.set()

    def drop(self) -> None:
        """Begin to let go of what was not adopted. It has ended for the request then; `close` waits for the rest."""
        self._stop_timer()
        if not self._taken:
            self._drop()

    async def close(self) -> None:
        """Let go of what was not adopted."""
        self.drop()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _drop(self) -> None:
        if not self._dropped and self._task is not None:
            self._dropped = True
            self._end()
            self._task.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Look whether the stream is silent for too long. It is looked at seldom, whatever comes of it."""
        now = self._loop.time()
        if self._since is not None and now - self._due > LATE_SECONDS:
            self._since = now
        silent = max(SILENT_SECONDS, PAUSES * self._longest)
        if self._since is not None and now - self._since >= silent:
            self._timer = None
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._over)
            return
        self._due = silent + (now if self._since is None else self._since)
        self._timer = self._loop.call_at(self._due, self._look)

    async def _run(self) -> None:
        """Ask another provider, and keep its answer until it is decided whether that is needed."""
        begun, failed = None, None
        try:
            begun = await self._begin()
            if begun is not None and not begun[0].native:  # no client reads a chat that goes on in another API's words
                first = await begun[0].first_behind(begun[1])
                self._proven = Rescued(begun[0], first, begun[1] is not None)
                self._known.set()
                self._ready()
                await self._decided.wait()
        except Unverified as error:
            failed = Outcome("unverified", content=True, message=str(error))
        except AttemptFailed as error:
            failed = error.outcome
        except asyncio.CancelledError:  # by us: the first one has spoken, or the client has left
            pass
        finally:
            if not self._taken:
                if begun is not None:
                    await begun[0].give_up(failed or Outcome("cancelled", content=True))
                self._call_off(failed)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._known.set()  # also where it was cancelled before it began
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a rescue ended with an error that no rule classifies", exc_info=error)
