"""An event loop whose clock is virtual: it jumps to the next timer as soon as nothing else is to do.

A minute of waiting takes no time, and no test depends on how busy the machine is.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TURNS = 3_000_000  # of the loop, about a minute of real time: no test of one thing needs so many


class RunsAway(BaseException):
    """A test does not come to its end. No `except Exception` of the code under test may swallow that."""


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        self.loop.turns -= 1
        if self.loop.turns == 0:
            raise RunsAway(f"the loop still turns, {self.loop.now:.0f} s after it began")
        if timeout is not None and len(self._fd_to_key) == 1:
            # Nothing is open but the loop's own end, by which others wake it from a sleep: and it never sleeps.
            if timeout > 0:
                self.loop.now += timeout
            return []
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = TURNS
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_virtually(main: Coroutine[Any, Any, T], turns: int = TURNS) -> T:
    """Run to the end on a virtual clock, in so many turns of the loop; no task may be left. Raises RunsAway."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.turns = turns
        return runner.run(_alone(main))


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    try:
        return await main
    finally:
        await asyncio.sleep(0.001)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
