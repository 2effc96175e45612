"""Those who wait for a target, by priority. No Ray.

The critical come first, then the normal, then the batch. Who waits for long moves up, so that batch work is not starved
for ever; but never before the critical. Who could not be answered in time anyway is refused at once, and while many
wait, batch work first and then the normal.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from deployments.errors import Overloaded

Priority = Literal["critical", "normal", "batch"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
LOOK_SECONDS = 1.0  # between two looks of one that waits
AGE_SECONDS = 10.0  # that make a priority better by one
LEAST_ROOM = 16  # requests that may wait, however small a limit is
ROOM = 4.0  # times the calls that may be under way
SHARES: dict[Priority, float] = {"critical": 1.0, "normal": 0.9, "batch": 0.7}  # of the room


class Ticket(NamedTuple):
    """By what a request waits: its number, and since when, on the loop's clock."""

    number: int
    since: float


@dataclass(slots=True, eq=False)
class _Waiting:
    rank: int
    number: float
    since: float
    targets: Collection[str]
    woken: asyncio.Future[None] = field(repr=False)

    def place(self, now: float) -> tuple[int, float]:
        """Return by what it is sorted: the least is the next."""
        return _place(self.rank, self.number, now - self.since)


def _place(rank: int, number: float, waited: float) -> tuple[int, float]:
    best = min(rank, 1)  # what is not critical does not become so
    return max(best, rank - int(waited / AGE_SECONDS)), number


class Line:
    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_behind(self, priority: Priority, target: str, ticket: "Ticket | None" = None) -> bool:
        """Return whether somebody waits for a target who comes before a request with this priority, and this ticket."""
        now = asyncio.get_running_loop().time()
        number, since = ticket or (math.inf, now)
        mine = _place(PRIORITIES.index(priority), number, now - since)
        return any(w.place(now) < mine for w in self._waiting if target in w.targets)

    async def wait(
        self,
        priority: Priority,
        targets: Collection[str],
        calls: float,
        until: float,
        ticket: "Ticket | None" = None,
        seconds: float = 1.0,
    ) -> "Ticket":
        """Wait until it is this request's turn at one of the targets, or may be; return the ticket by which it waited.

        With that it waits at its old place if somebody else was faster. Raises Overloaded, at once where there is no
        sense in waiting. `calls`: how many of them may be under way at once, of so many `seconds` each. `until`: on the
        loop's clock.
        """
        loop = asyncio.get_running_loop()
        waits = self._before(priority, targets), seconds / max(1.0, calls)
        if ticket is None:
            self._check(priority, *waits, calls, until - loop.time())
            ticket = Ticket(next(self._numbers), loop.time())
        mine = _Waiting(PRIORITIES.index(priority), *ticket, targets, loop.create_future())
        self._waiting.append(mine)
        try:
            # Whoever was woken may have asked another target: so each looks by itself from time to time.
            await asyncio.wait([mine.woken], timeout=min(LOOK_SECONDS, max(0.0, until - loop.time())))
        except asyncio.CancelledError:
            self._waiting.remove(mine)
            if mine.woken.done():
                for target in targets:
                    self.wake(target)
            raise
        self._waiting.remove(mine)
        if loop.time() >= until:
            raise _refusal(waits[1] * (waits[0] + 1))
        return ticket

    def _before(self, priority: Priority, targets: Collection[str]) -> int:
        """Return how many wait for one of these targets who come before a request with this priority."""
        rank, wanted = PRIORITIES.index(priority), set(targets)
        return sum(w.rank <= rank for w in self._waiting if not wanted.isdisjoint(w.targets))

    def _check(self, priority: Priority, before: int, each: float, calls: float, left: float) -> None:
        """Raise Overloaded if too many wait already, or a request would wait for longer than it may."""
        room = max(LEAST_ROOM, ROOM * calls) * SHARES[priority]
        if before >= room or (before + 1) * each > left:
            raise _refusal((before + 1) * each)

    def wake(self, target: str, room: int = 1) -> None:
        """Let the next ones go on who wait for a target, as many as it has room for."""
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        found = [w for w in self._waiting if target in w.targets and not w.woken.done()]
        room -= sum(w.woken.done() for w in self._waiting if target in w.targets)  # who has not gone yet
        for waiting in heapq.nsmallest(max(0, room), found, key=lambda w: w.place(now)):
            waiting.woken.set_result(None)


def _refusal(seconds: float) -> Overloaded:
    error = Overloaded("All targets of this model have as many calls as they take. Try again later.")
    error.retry_after = max(1.0, seconds)
    return error
