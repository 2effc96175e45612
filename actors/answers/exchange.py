"""The answers actor without Ray: the table of runs, and who waits for news of them."""

import asyncio
import math
from collections.abc import Sequence

from actors.answers.messages import Claimed, Heard, Item, LeadingByKey
from actors.answers.table import Answers

# That a question waits for news; then it is asked again, so that both ends know that the other lives.
POLL_SECONDS = 1.0
LATE_SECONDS = 0.5  # a timer that fires so late tells that this process stood still
SETTLE_SECONDS = 1.5  # of a young actor: the replicas that lead runs have told it of them by then


class Exchange:
    """`settle`: so many seconds from now a key that is not known waits, because a run may have it."""

    def __init__(self, settle: float = 0.0) -> None:
        self._answers = Answers(lambda: asyncio.get_running_loop().time())
        self._settle = settle
        self._settled_at: float | None = None
        self._bells: dict[str, asyncio.Event] = {}  # of a run, rung when there is news for who waits for it
        self._leaders: dict[str, str] = {}  # run to the bell of its replica
        self._due: dict[object, float] = {}  # by when each question that waits is answered, about the oldest first

    async def claim(self, key: str, fingerprint: str, run: str, replica: str, begin: bool = True) -> Claimed:
        await self._settled(key)
        self._look()
        claimed = self._answers.claim(key, fingerprint, run, begin=begin)
        if claimed["state"] == "join" and not claimed["ended"]:
            self._ring(self._leaders.get(claimed["run"], ""))
        elif claimed["state"] == "lead":
            self._leaders[run] = replica
        return claimed

    async def watch(self, replica: str, leading: LeadingByKey, told: Sequence[str] = ()) -> list[str]:
        """Return the runs that somebody reads, as soon as there is one that was not `told` of before."""
        until = asyncio.get_running_loop().time() + POLL_SECONDS
        names = {run["run"] for run in leading.values()}
        self._answers.renew(leading)
        self._leaders = {run: name for run, name in self._leaders.items() if self._answers.has(run)}
        self._leaders |= dict.fromkeys(names, replica)
        while not set(wanted := self._answers.wanted(names)).difference(told):
            if not await self._rung(replica, until):
                break
        return wanted

    async def put(self, run: str, index: int, items: Sequence[Item], ended: bool, keep: float) -> bool:
        taken = self._answers.put(run, index, items, ended=ended, keep=keep)
        self._ring(run)
        return taken

    async def end(self, run: str) -> bool:
        return self._answers.end(run)

    async def drop(self, run: str) -> None:
        self._answers.drop(run)
        self._ring(run)

    async def read(self, run: str, index: int) -> Heard:
        """Return what there is of a run's answer from this item on, as soon as there is anything."""
        until = asyncio.get_running_loop().time() + POLL_SECONDS
        self._look()
        while not ((heard := self._answers.read(run, index))["items"] or heard["ended"] or heard["gone"]):
            if not await self._rung(run, until):
                break
        return heard

    async def _settled(self, key: str) -> None:
        loop = asyncio.get_running_loop()
        if self._settled_at is None:
            self._settled_at = loop.time() + self._settle
        if not self._answers.knows(key) and (left := self._settled_at - loop.time()) > 0:
            await asyncio.sleep(left)

    async def _rung(self, name: str, until: float) -> bool:
        """Return whether there was news for this name before the loop's clock shows `until`."""
        bell, question = self._bells.setdefault(name, asyncio.Event()), object()
        self._due[question] = until
        try:
            async with asyncio.timeout_at(until):
                return await bell.wait()
        except TimeoutError:
            self._look()
            self._ring(name)  # whoever else waits looks once more, and no bell stays behind
            return False
        finally:
            del self._due[question]

    def _look(self) -> None:
        """Look whether this process stood still: the questions that wait should have been answered long ago."""
        oldest = next(iter(self._due.values()), math.inf)
        if asyncio.get_running_loop().time() - oldest > LATE_SECONDS:
            self._answers.spare(oldest)

    def _ring(self, name: str) -> None:
        if (bell := self._bells.pop(name, None)) is not None:
            bell.set()
