"""What an ingress tells a provider's replicas beside its calls: which it has given up, which shall wait. No Ray."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping

Tell = Callable[[list[int], Mapping[int, float]], Awaitable[None]]

TELL_SPACING_SECONDS = 0.02
TELL_TRIES, TELL_AGAIN_SECONDS = 5, 0.2
AGAIN_SECONDS = 0.5  # after so long a word that seems lost is said again


class Words:
    """Gathered, and said again if they were lost."""

    def __init__(self, tell: Tell):
        self._tell = tell
        self._drop: set[int] = set()
        self._hold: dict[int, float] = {}
        self._told: dict[int, float] = {}  # calls that were given up: when it was last said
        self._task: asyncio.Task[None] | None = None
        self._failed = 0

    def drop(self, number: int) -> None:
        self._told[number] = asyncio.get_running_loop().time()
        self._drop.add(number)
        self._soon()

    def again(self, number: int) -> bool:
        """Say it again if it is a while since. True if it was said long ago, and more than once."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(number, now) < AGAIN_SECONDS and number in self._told:
            return False
        said = number in self._told
        self.drop(number)
        return said

    def hold(self, number: int, seconds: float) -> None:
        self._hold[number] = seconds
        self._soon()

    def forget(self, number: int) -> None:
        self._told.pop(number, None)

    def _soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._say(), context=contextvars.Context())

    async def _say(self) -> None:
        while self._drop or self._hold:
            drop, self._drop = list(self._drop), set()
            hold, self._hold = self._hold, {}
            try:
                await self._tell(drop, hold)
            except Exception:  # what is lost for good shows by what still comes
                self._failed += 1
                if self._failed <= TELL_TRIES:
                    self._drop.update(drop)
                    self._hold = hold | self._hold
                await asyncio.sleep(TELL_AGAIN_SECONDS)
            else:
                self._failed = 0
            self._forget_old()
            await asyncio.sleep(TELL_SPACING_SECONDS)

    def _forget_old(self) -> None:
        if len(self._told) > 10_000:
            self._told = {}
