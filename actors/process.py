"""How one of our processes runs: how often it looks for garbage, and how the kernel has it run beside others. No Ray.

A request passes four processes. By default each write wakes the next one, which takes the core from the writer at once,
with the writer's caches, and gives it back a few microseconds later: twice and more for each request where they share a
core. Under SCHED_BATCH a process that is woken waits until the other one sleeps or its time is over. On an idle core it
runs as soon as ever. docs/performance.md has the figures. Any process may ask for it.

Where another program computes on the core without a pause, each such wait takes milliseconds. That is little for one of
many requests, which wait for each other anyhow, and much for one that is alone. So what handles requests asks for it
while they are many.
"""

import contextlib
import gc
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

# Allocations without deallocation. Python's own 700 is reached many times a second under load, and 10,000 by each
# thirty requests where many are under way: a collection then looks at all of those, for a twentieth of all CPU.
THRESHOLD = 100_000
MANY = 8  # requests under way in one process, by which the core is shared with more patience
CALM_SECONDS = 1.0  # without so many, after which it is not
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
        _set_policy(os.SCHED_BATCH, thread)


def yield_to_others() -> None:
    """Have the kernel prefer other processes: this one computes for seconds, and others answer within milliseconds."""
    for thread in _threads():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, BACKGROUND)


def _threads(pid: int | None = None) -> Iterator[int]:
    """Yield the threads of a process, by default of this one. Those that they start run as they do."""
    # It has ended, or no file can be opened; or this is no Linux, which alone has SCHED_BATCH.
    with contextlib.suppress(OSError):
        yield from map(int, os.listdir(f"/proc/{pid or 'self'}/task"))


def _set_policy(policy: int, thread: int = 0) -> None:
    """Set how the kernel runs a thread; 0 is the one that asks."""
    with contextlib.suppress(OSError):  # it has ended meanwhile, or a sandbox forbids it
        os.sched_setscheduler(thread, policy, os.sched_param(0))


class CoreSharing:
    """Has the thread of an event loop wait for its turn while many requests are under way, and not while few are.

    It does the same for HAProxy's threads, because HAProxy does not know how many requests are under way. While those
    are many it repeats this each second, because another ingress of the node may have set the other policy.
    """

    def __init__(
        self,
        set_policy: Callable[[int, int], None] = _set_policy,
        threads: Callable[[int], Iterable[int]] = _threads,
    ):
        self._set_policy, self._threads = set_policy, threads
        self._patient, self._many_at = True, -math.inf  # as `tune_process` leaves it
        self._repeated_at = -math.inf
        self._connections = Counter[int]()  # of HAProxy, by its pid: two of them while one replaces the other

    def note(self, under_way: int, now: float) -> None:
        """Take it that so many requests are under way now, in seconds of any clock. Call it in the event loop."""
        if under_way >= MANY:
            self._many_at = now
            if not self._patient or now - self._repeated_at > CALM_SECONDS:
                self._repeated_at = now
                self._turn(patient=True)
        elif self._patient and now - self._many_at > CALM_SECONDS:
            self._turn(patient=False)

    def connected(self, pid: int) -> None:
        """Take a connection of a HAProxy of this node."""
        self._connections[pid] += 1
        if self._connections[pid] == 1:
            self._set_all(pid)

    def disconnected(self, pid: int) -> None:
        """Take it that such a connection has ended. Without any connection, the pid may soon be another process's."""
        self._connections[pid] -= 1
        if self._connections[pid] <= 0:
            del self._connections[pid]

    def _turn(self, *, patient: bool) -> None:
        if self._patient != patient:
            self._patient = patient
            self._set(0)
        for pid in self._connections:
            self._set_all(pid)

    def _set_all(self, pid: int) -> None:
        for thread in self._threads(pid):
            self._set(thread)

    def _set(self, thread: int) -> None:
        if hasattr(os, "SCHED_BATCH"):
            self._set_policy(os.SCHED_BATCH if self._patient else os.SCHED_OTHER, thread)


SHARING = CoreSharing()  # of this process's event loop
