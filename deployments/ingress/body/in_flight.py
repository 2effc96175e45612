"""How many bytes of bodies one replica holds at once. No Ray.

A body is counted from its first byte until its request is over. What does not fit is refused, and it is always the
largest of those that are still arriving: so bodies that never end can't keep out those that come at once.
"""

import asyncio
from typing import Self

from msgspec import Struct

from deployments.errors import TooBusy

MOST_BYTES = 256 * 1024 * 1024


class Held(Struct, eq=False):
    """The bytes of one request's body. They are released where a `with` of it ends, unless a response keeps them."""

    owner: "BytesInFlight"
    size: int = 0
    arriving: asyncio.Timeout | None = None  # while it is still read; to end it is to end the reading
    refused: bool = False
    kept: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.kept:
            self.release()

    def keep(self) -> Self:
        """Leave it to the response to release it: a stream's request is over when its last frame is sent."""
        self.kept = True
        return self

    def grow(self, size: int) -> None:
        """Count more bytes. Raises TooBusy if there are too many, and this body is the largest."""
        self.size += size
        self.owner.held += size
        if self.owner.held > self.owner.most:
            self.owner.make_room()
        if self.refused:
            raise TooBusy(f"This replica holds {self.owner.most} bytes of requests, and can't take more at once.")

    def release(self) -> None:
        """Count it no longer, once its request is over. Does nothing the second time."""
        self.owner.held -= self.size
        self.size = 0


class BytesInFlight:
    def __init__(self, most: int = MOST_BYTES):
        self.most, self.held = most, 0
        self.arriving: set[Held] = set()

    def make_room(self) -> None:
        """Refuse the largest of the bodies that are arriving, until what is left fits."""
        for held in sorted(self.arriving, key=lambda held: held.size, reverse=True):
            if self.held <= self.most:
                return
            held.refused = True
            held.release()
            if held.arriving is not None:
                held.arriving.reschedule(asyncio.get_running_loop().time())
