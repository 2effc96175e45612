"""How the kernel runs our processes beside each other: each works off what has come, uninterrupted by the next one.

A request passes four processes. By default each write wakes the next one, which takes the core from the writer at once,
with the writer's caches, and gives it back a few microseconds later: twice and more for each request where they share a
core. Under SCHED_BATCH a process that is woken waits until the other one sleeps or its time is over. On an idle core it
runs as soon as ever. docs/performance.md has the figures. Any process may ask for it.
"""

import contextlib
import os


def work_in_batches() -> None:
    """Have the kernel run all threads of this process, and those that they start, in that way, where it can."""
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or a sandbox forbids it
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
