"""The answers actor without Ray: the table of runs, and who waits for news of them."""

import asyncio
from collections.abc import Sequence

from actors.answers.messages import Claimed, Heard, Item, LeadingByKey
from actors.answers.table import Answers

POLL_SECONDS = (
    1.0  # that a question waits for news; then it is asked again, so that both ends know that the other lives
)


class Exchange:
    def __init__(self) -> None:
        self._answers = Answers(lambda: asyncio.get_running_loop().time())
        self._bells: dict[str, asyncio.Event] = {}  # of a run or a replica, rung when there is news for who waits there

    async def claim(self, key: str, fingerprint: str, run: str, replica: str, begin: bool = True) -> Claimed:
        claimed = self._answers.claim(key, fingerprint, run, replica, begin=begin)
        if claimed["state"] == "join" and not claimed["ended"]:
            self._ring(self._answers.replica_of(claimed["run"]))
        return claimed

    async def watch(self, replica: str, leading: LeadingByKey, told: Sequence[str] = ()) -> list[str]:
        """Return the runs that somebody wants to read, as soon as there is one that was not `told` of before."""
        until = asyncio.get_running_loop().time() + POLL_SECONDS
        while not (wanted := self._answers.renew(replica, leading)) or not set(wanted).difference(told):
            if not await self._rung(replica, until):
                break
        return wanted

    async def put(self, run: str, index: int, items: Sequence[Item], ended: bool, keep: float) -> bool:
        taken = self._answers.put(run, index, items, ended=ended, keep=keep)
        self._ring(run)
        return taken

    async def end(self, run: str) -> bool:
        return self._answers.end(run)

    async def read(self, run: str, index: int) -> Heard:
        """Return what there is of a run's answer from this item on, as soon as there is anything."""
        until = asyncio.get_running_loop().time() + POLL_SECONDS
        while not ((heard := self._answers.read(run, index))["items"] or heard["ended"] or heard["gone"]):
            if not await self._rung(run, until):
                break
        return heard

    async def _rung(self, name: str, until: float) -> bool:
        """Return whether there was news for this name before the loop's clock shows `until`."""
        bell = self._bells.setdefault(name, asyncio.Event())
        try:
            async with asyncio.timeout_at(until):
                return await bell.wait()
        except TimeoutError:
            self._ring(name)  # whoever else waits looks once more, and no bell stays behind
            return False

    def _ring(self, name: str) -> None:
        if (bell := self._bells.pop(name, None)) is not None:
            bell.set()
