"""How one of our processes runs: how often it looks for garbage, and how the kernel has it run beside others. No Ray.

A request passes four processes. By default each write wakes the next one, which takes the core from the writer at once,
with the writer's caches, and gives it back a few microseconds later: twice and more for each request where they share a
core. Under SCHED_BATCH a process that is woken waits until the other one sleeps or its time is over. On an idle core it
runs as soon as ever. docs/performance.md has the figures. Any process may ask for it.
"""

import contextlib
import gc
import os
from collections.abc import Iterator

# Allocations without deallocation. Python's own 700 is reached many times a second under load, and 10,000 by each
# thirty requests where many are under way: a collection then looks at all of those, for a twentieth of all CPU.
THRESHOLD = 100_000
BACKGROUND = 15  # the niceness that Ray gives its workers where it isn't told another


def tune_process() -> None:
    """Have this process work off what has come, uninterrupted by the next one, and collect cyclic garbage seldom.

    Serve freezes the objects of a replica's start, and reference counting frees those of a request.
    """
    gc.set_threshold(THRESHOLD)
    interrupt_nobody()


def interrupt_nobody() -> None:
    """Have this process, and those that it starts, wait for their turn when they are woken."""
    for thread in _threads():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or a sandbox forbids it
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


def yield_to_others() -> None:
    """Have the kernel prefer other processes: this one computes for seconds, and others answer within milliseconds."""
    for thread in _threads():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, BACKGROUND)


def _threads() -> Iterator[int]:
    """Yield the threads of this process. Those that they start run as they do."""
    with contextlib.suppress(FileNotFoundError):  # no Linux, and so neither SCHED_BATCH
        yield from map(int, os.listdir("/proc/self/task"))
