"""Long work in slices, between which others get their turn. No Ray."""

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SLICE_SECONDS = 0.0005  # of work, before others get their turn
AT_FULL_SPEED = 10  # slices; after them the others get twice as much time as the long work

# Of each event loop: eight long works that each left most of the time to others would leave none.
_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def in_turns(slices: Generator[None, None, T]) -> T:
    """Run through slices, with a turn for others whenever some time has passed. Return what a generator returns.

    Several long works share the time of one: a slice of one and the turn after it, then those of the next.
    """
    turns, loop = 0, asyncio.get_running_loop()
    if (lock := _one_at_a_time.get(loop)) is None:
        lock = _one_at_a_time[loop] = asyncio.Lock()
    while True:
        async with lock:
            until = time.perf_counter() + SLICE_SECONDS
            try:
                next(slices)
                while time.perf_counter() < until:
                    next(slices)
            except StopIteration as end:
                result: T = end.value
                return result
            turns += 1
            # A request needs a dozen turns of the loop: one slice between each two of them would be a long wait.
            await asyncio.sleep(0 if turns <= AT_FULL_SPEED else 2 * SLICE_SECONDS)
