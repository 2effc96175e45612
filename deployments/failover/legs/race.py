"""A first leg, and a second one if the first says nothing for too long: who speaks first answers. No Ray.

The first leg runs in the request's own task, so that a request whose first leg answers in time costs a timer and no
more. Only content wins: neither a role nor a keep-alive comment, and no error. A leg that fails leaves the race to the
other, which is then the failover, unless it says that nobody else can help. There is never a third. The leg that loses
has ended at that instant, for the ledger too; then it is cancelled, and its connection is closed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from actors.breaker.outcomes import Outcome

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt

T = TypeVar("T")
Asked = tuple[T | None, Outcome | None]
log = logging.getLogger(f"ray.serve.{__name__}")


class Race(Generic[T]):
    """`ask` asks an attempt's target, and `begin_second` the second leg's; that returns None if there is to be none."""

    def __init__(
        self,
        first: "Attempt",
        ask: "Callable[[Attempt], Awaitable[Asked[T]]]",
        begin_second: "Callable[[], Awaitable[Attempt | None]]",
        delay: float,
    ):
        self._first, self._ask, self._begin_second, self._delay = first, ask, begin_second, delay
        self.second: Attempt | None = None  # the second leg, if there was one
        self._leg: asyncio.Task[Asked[T] | None] | None = None
        self._winner: Attempt | None = None
        self._runner: asyncio.Task[object] | None = None
        self._called_off = 0  # how often we have cancelled the runner, and not taken that back

    async def run(self) -> "tuple[T | None, Outcome | None, Attempt]":
        """Return the answer, or how the attempt failed that ended last; and whose that is."""
        self._runner = asyncio.current_task()
        assert self._runner is not None
        timer = asyncio.get_running_loop().call_later(self._delay, self._begin)
        self._first.on_content = self._content
        asked: Asked[T] | None = None
        result: tuple[T | None, Outcome | None, Attempt] | None = None
        try:
            asked = await self._first_leg(self._runner.cancelling())
            timer.cancel()
            result = await self._result(asked)
            if self._leg is not None and result[2] is not self.second:
                await self._let_go(self._leg)
        except BaseException:
            await self._drop(asked)
            raise
        finally:
            timer.cancel()
            self._first.on_content = None
            self._take_back()
        return result

    async def _first_leg(self, cancelling: int) -> Asked[T] | None:
        """Return what has become of the first leg; None if it has lost. Raises the caller's own cancellation."""
        try:
            return await self._ask(self._first)
        except asyncio.CancelledError:
            if not self._called_off or self._take_back() > cancelling:
                raise
            return None

    async def _result(self, asked: Asked[T] | None) -> "tuple[T | None, Outcome | None, Attempt]":
        if asked is not None and self._is_final(asked):
            return (*asked, self._first)
        assert self._leg is not None
        try:
            second = await asyncio.shield(self._leg)
        except Exception:
            if asked is None:
                raise
            return (*asked, self._first)  # it is in the log
        if second is None or self.second is None:  # it never began
            assert asked is not None
            return (*asked, self._first)
        return (*second, self.second)

    def _is_final(self, asked: Asked[T]) -> bool:
        """Return whether the first leg's end is the race's: nobody else is under way, or could help."""
        failed = asked[1]
        return failed is None or self._leg is None or self._winner is self._first or not failed.ending.failover

    def _begin(self) -> None:
        if self._first.first_content_ms is None and not self._first.ended:
            self._leg = asyncio.create_task(self._run_second())
            self._leg.add_done_callback(_tell_of_bugs)

    async def _run_second(self) -> Asked[T] | None:
        self.second = await self._begin_second()
        if self.second is None:
            return None
        self.second.hedge = "lost"  # unless it wins
        self.second.on_content = self._content
        return await self._ask(self.second)

    def _content(self, attempt: "Attempt") -> None:
        """Take it that a leg has content: the first to have any wins, and the other ends."""
        if self._winner is not None:
            return
        self._winner = attempt
        if attempt is not self._first:
            attempt.hedge = attempt.record.hedged = "won"
            if not self._first.ended:
                self._first.beaten = True
                self._first.end(Outcome("cancelled"), over=False)
                assert self._runner is not None
                self._called_off += 1
                self._runner.cancel()
        elif self._leg is not None:
            if self.second is not None:
                self.second.end(Outcome("cancelled"), over=False)
            self._leg.cancel()

    def _take_back(self) -> int:
        """Take back our own cancellations of the runner, and return how many are left: those of others."""
        assert self._runner is not None
        left = self._runner.cancelling()
        while self._called_off:
            self._called_off -= 1
            left = self._runner.uncancel()
        return left

    async def _drop(self, asked: Asked[T] | None) -> None:
        """Let go of all that is not returned: the caller has gone, or an error of ours came."""
        if asked is not None:
            await _close(asked[0])
        if self._leg is not None:
            await self._let_go(self._leg)

    async def _let_go(self, leg: "asyncio.Task[Asked[T] | None]") -> None:
        """End a leg, and wait for its end whatever becomes of us: a connection is closed by then."""
        leg.cancel()
        gone: asyncio.CancelledError | None = None
        while not leg.done():
            try:
                await asyncio.wait([leg])
            except asyncio.CancelledError as error:
                gone = error
        if not leg.cancelled() and leg.exception() is None and (asked := leg.result()) is not None:
            await _close(asked[0])
        if gone is not None:
            raise gone


async def _close(answer: Any) -> None:
    """Close the stream of an answer that nobody takes."""
    if (close := getattr(answer, "close", None)) is not None:
        await close()


def _tell_of_bugs(leg: "asyncio.Task[Any]") -> None:
    if not leg.cancelled() and (error := leg.exception()) is not None:
        log.error("a second leg ended with an error that no rule classifies", exc_info=error)
