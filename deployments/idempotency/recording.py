"""One answer as it comes, for any number of readers. No Ray.

It is recorded from its first byte, so who comes later reads the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message, Send

from actors.answers.messages import Head, Item

Run = Callable[[Send], Awaitable[bool]]  # answers a request into a `send`, and returns whether the answer is whole

MOST_AHEAD = 256 * 1024  # bytes that an answer may be ahead of its fastest reader


class Gone(Exception):
    """Nobody gives this answer any more."""


class Source(Protocol):
    """An answer that can be read, here or from another replica."""

    async def read(self, index: int) -> tuple[list[Item], bool]:
        """Return the items from this one on, once there is one or the end, and whether these are the last ones.

        Raises Gone.
        """
        ...

    def leave(self, *, delivered: bool) -> None:
        """Note that one reader reads no more. `delivered`: it has passed all of the answer on."""
        ...


class Recording:
    """Written by one run.

    Attributes:
        full: whether all bytes of the answer are there.
        ended: whether its run is over.
        whole: of one that is over, whether it is a whole answer.
        broken: of one that is over, whether it broke off: who reads it is not to take the end for one.
        ahead: while it is true, a run that is far ahead of its readers does not wait for them.
        forgets: whether what was read is kept for nobody.
    """

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0  # bytes of its body
        self.full = self.ended = self.whole = self.broken = self.ahead = self.forgets = False
        self._read = self._read_bytes = 0  # how far the fastest reader is
        self._bell = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Take one of ASGI's messages of an answer. Waits while all readers are far behind."""
        if message["type"] == "http.response.start":
            self.items.append(Head(status=message["status"], headers=list(message["headers"])))
        else:
            if body := message.get("body"):
                self.items.append(bytes(body))
                self.size += len(body)
            self.full = not message.get("more_body", False)
        self.ring()
        while self.size - self._read_bytes > MOST_AHEAD and not self.ahead:
            await self._bell.wait()

    def end(self, *, whole: bool, broken: bool = False) -> None:
        self.ended, self.whole, self.broken = True, whole, broken
        self.ring()

    async def read(self, index: int) -> tuple[list[Item], bool]:
        """Return the items from this one on, once there is one or the end, and whether these are the last ones.

        Raises Gone for what follows where it broke off.
        """
        self._pass(index)
        while len(self.items) <= index and not (self.full or self.ended):
            await self._bell.wait()
        if len(self.items) <= index and self.broken and not self.full:
            raise Gone
        return self.items[index:], (self.full or self.ended) and not (self.broken and not self.full)

    async def wait_beyond(self, index: int) -> None:
        """Wait until there is an item more, or its run is over. It is no reader that a run would wait for."""
        while len(self.items) <= index and not self.ended:
            await self._bell.wait()

    def _pass(self, index: int) -> None:
        """Note that a reader has passed on all before this item."""
        if index <= self._read:
            return
        for at in range(self._read, index):
            item = self.items[at]
            if isinstance(item, bytes):
                self._read_bytes += len(item)
                if self.forgets:
                    self.items[at] = b""
        self._read = index
        self.ring()

    def ring(self) -> None:
        """Wake all who wait for news of it."""
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()
