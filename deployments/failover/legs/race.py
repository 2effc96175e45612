"""A first leg, and a second one if the first says nothing for too long: who speaks first answers. No Ray.

The first leg runs in the request's own task, so that a request whose first leg answers in time costs a timer and no
more. Only content wins: neither a role nor a keep-alive comment, and no error. A leg that fails leaves the race to the
other, which is then the failover. There is never a third. The leg that loses is cancelled: its connection is closed,
and that says nothing of its provider.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from actors.breaker.outcomes import Outcome

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt

T = TypeVar("T")
Asked = tuple[T | None, Outcome | None]


class Race(Generic[T]):
    """`ask` asks an attempt's target, and `second` begins the second leg; it returns None if there is to be none."""

    def __init__(
        self,
        first: "Attempt",
        ask: "Callable[[Attempt], Awaitable[Asked[T]]]",
        second: "Callable[[], Awaitable[Attempt | None]]",
        delay: float,
    ):
        self._first, self._ask, self._begin_second, self._delay = first, ask, second, delay
        self._other: Attempt | None = None
        self._leg: asyncio.Task[Asked[T] | None] | None = None
        self._winner: Attempt | None = None
        self._runner: asyncio.Task[object] | None = None

    @property
    def second(self) -> "Attempt | None":
        """The second leg, if there was one."""
        return self._other

    async def run(self) -> "tuple[T | None, Outcome | None, Attempt]":
        """Return the answer, or how the attempt failed that ended last; and whose that is."""
        self._runner = asyncio.current_task()
        assert self._runner is not None
        cancelling, self._first.on_content = self._runner.cancelling(), self._content
        timer = asyncio.get_running_loop().call_later(self._delay, self._begin)
        asked: Asked[T] | None = None
        try:
            try:
                asked = await self._ask(self._first)
            except asyncio.CancelledError:
                if not self._second_won or self._runner.uncancel() > cancelling:
                    raise
            timer.cancel()
            if asked is not None and (asked[1] is None or self._leg is None):
                return (*asked, self._first)
            return await self._seconds(asked)
        finally:
            timer.cancel()
            self._first.on_content = None
            await self._close()

    @property
    def _second_won(self) -> bool:
        return self._winner is not None and self._winner is self._other

    async def _seconds(self, asked: Asked[T] | None) -> "tuple[T | None, Outcome | None, Attempt]":
        """Return what becomes of the second leg, after the first has lost or failed."""
        assert self._leg is not None
        second = await self._leg
        if second is None or self._other is None:  # it never began
            assert asked is not None
            return (*asked, self._first)
        return (*second, self._other)

    def _begin(self) -> None:
        if self._first.first_content_ms is None and not self._first.ended:
            self._leg = asyncio.create_task(self._run_second())
            self._leg.add_done_callback(self._second_ended)

    async def _run_second(self) -> Asked[T] | None:
        self._other = await self._begin_second()
        if self._other is None:
            return None
        self._other.hedge = "lost"  # unless it wins
        self._other.on_content = self._content
        return await self._ask(self._other)

    def _content(self, attempt: "Attempt") -> None:
        """Take it that a leg has content: the first to have any wins, and the other ends."""
        if self._winner is not None:
            return
        self._winner = attempt
        if attempt is self._first:
            if self._leg is not None:
                self._leg.cancel()
        else:
            attempt.hedge = attempt.record.hedged = "won"
            assert self._runner is not None
            if not self._first.ended:
                self._runner.cancel()

    def _second_ended(self, leg: "asyncio.Task[Asked[T] | None]") -> None:
        """Take a whole answer that came at once for content."""
        if leg.cancelled() or leg.exception() is not None or self._other is None:
            return
        asked = leg.result()
        if asked is not None and asked[1] is None:
            self._content(self._other)

    async def _close(self) -> None:
        """End a second leg that lost. An answer that it had already is let go."""
        if self._leg is None or (self._leg.done() and self._second_won):
            return
        self._leg.cancel()
        await asyncio.wait([self._leg])
        if self._leg.cancelled() or self._leg.exception() is not None or (asked := self._leg.result()) is None:
            return
        if not self._second_won and (close := getattr(asked[0], "close", None)) is not None:
            await close()
