"""An event loop whose clock is virtual: it jumps to the next timer as soon as nothing else is to do.

A minute of waiting takes no time, and no test depends on how busy the machine is.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
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
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a virtual clock; no task may be left."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_alone(main))


async def _alone(main: Coroutine[Any, Any, T]) -> T:
    try:
        return await main
    finally:
        await asyncio.sleep(0.001)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert not left, f"tasks left behind: {left}"
