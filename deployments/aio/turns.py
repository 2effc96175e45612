"""Long work in slices, between which others get their turn. No Ray."""

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.001  # of work, before others get their turn
AT_FULL_SPEED = 10  # slices; after them the others get as much time as the long work


async def in_turns(slices: Generator[None, None, T]) -> T:
    """Run through slices, with a turn for others whenever some time has passed. Return what a generator returns."""
    turns, until = 0, time.perf_counter() + SLICE_SECONDS
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() >= until:
            turns += 1
            # A request needs a dozen turns of the loop: one slice between each two of them would be a long wait.
            await asyncio.sleep(0 if turns <= AT_FULL_SPEED else SLICE_SECONDS)
            until = time.perf_counter() + SLICE_SECONDS
