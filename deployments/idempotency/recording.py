"""One answer as it comes, for any number of readers. No Ray.

It is recorded from its first byte, so who comes later reads the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message, Send

from actors.answers.messages import Head, Item

Run = Callable[[Send], Awaitable[bool]]  # answers a request into a `send`, and returns whether the answer is whole


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
    """Written by one run."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.size = 0  # bytes of its body
        self.ended = False
        self.whole = False
        self._bell = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Take one of ASGI's messages of an answer."""
        if message["type"] == "http.response.start":
            self.items.append(Head(status=message["status"], headers=list(message["headers"])))
        elif body := message.get("body"):
            self.items.append(bytes(body))
            self.size += len(body)
        else:
            return
        self._ring()

    def end(self, *, whole: bool) -> None:
        self.ended, self.whole = True, whole
        self._ring()

    async def read(self, index: int) -> tuple[list[Item], bool]:
        """Return the items from this one on, once there is one or the end, and whether these are the last ones."""
        while len(self.items) <= index and not self.ended:
            await self._bell.wait()
        return self.items[index:], self.ended

    def _ring(self) -> None:
        bell, self._bell = self._bell, asyncio.Event()
        bell.set()
