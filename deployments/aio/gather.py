"""A gather that cancels the other coroutines at the first failure."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Never, TypeVar

T = TypeVar("T")


async def gather(calls: Iterable[Coroutine[object, Never, T]]) -> list[T]:
    """Run coroutines at once, and return their results in order.

    The first failure cancels the others, and is raised as it is, not in an ExceptionGroup.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures.exceptions[0].__cause__
    return [task.result() for task in tasks]
