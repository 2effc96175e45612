"""One call on a lane as its reader sees it, and the ingress's end of that lane; lanes.py is the other. No Ray.

- A call that is given up is told to the replica, after the call itself: the connection keeps the order.
- A reader that is behind has its call held. What comes all the same has a bound; beyond it the call ends. One that
  takes nothing for long loses its call: the replica ends it, and says so after what had come.
- What ends a lane ends each call on it, each by itself, as `lost`.
"""

import asyncio
import itertools
import time
from collections import deque
from typing import Any

from deployments.errors import AttemptFailed, failed
from deployments.rpc.framing import Pipe
from deployments.rpc.in_flight import Loads
from deployments.rpc.server import PIECE, Boarded, Item, Message

BEHIND = 256 * 1024  # bytes that a reader has not taken: its call is held
TOO_FAR_BEHIND = 16 * 1024 * 1024  # its call ends


class Ride:
    """An async iterator of what comes. Whoever has it closes it."""

    def __init__(self, number: int, streams: bool, way: "Way"):
        self.number = number
        self.streams = streams  # a whole answer has a reader that never waits
        self.held = False
        self.size = 0  # bytes that wait for the reader
        self._way = way
        self._items: deque[Item] = deque()
        self._ended = False
        self._error: AttemptFailed | None = None
        self._ready: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        self._items.append(item)
        if isinstance(item, bytes):
            self.size += len(item)
        else:
            self._ended = True
        self._wake()

    def fail(self, error: AttemptFailed) -> None:
        """After what has come already."""
        self._error = self._error or error
        self._wake()

    async def __anext__(self) -> Item:
        """All bytes that have come, or the last word. Raises AttemptFailed."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        if not isinstance(self._items[0], bytes):
            return self._items.popleft()
        parts = []
        while self._items and isinstance(part := self._items[0], bytes):
            parts.append(part)
            self._items.popleft()
        self.size = 0
        if self.held:
            self.held = False
            self._way.wait(self.number, held=False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def whole(self) -> dict[str, Any]:
        """A whole answer, whose body may have come in pieces."""
        try:
            parts: list[bytes] = []
            while isinstance(item := await self.__anext__(), bytes):
                parts.append(item)
            return {**item, "body": b"".join([*parts, item.get("body", b"")])} if parts else item
        finally:
            self.leave()

    async def aclose(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Its reader takes no more."""
        self._way.left(self, self._ended)

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class Way:
    """The ingress's end of one lane: the calls that it carries to one replica."""

    def __init__(self, replica: str, room: int, pipe: Pipe, loads: Loads):
        self.replica = replica
        self.room = room  # calls at a time
        self.rides: dict[int, Ride] = {}
        self.used_at = self.affirmed_at = asyncio.get_running_loop().time()
        self.affirmed_in = 0  # of the answers that Serve has given
        self.over = asyncio.Event()
        self._loads = loads
        self._loop = asyncio.get_running_loop()
        self._pipe = pipe
        self._numbers = itertools.count(1)
        self._calls: list[Boarded] = []
        self._drop: list[int] = []
        self._wait: dict[int, bool] = {}
        self._soon = False
        pipe.listen(self._heard, self._lost)

    @property
    def open(self) -> bool:
        return not self._pipe.closed and not self._pipe.full

    def begin(self, verb: str, call: bytes) -> Ride:
        ride = Ride(next(self._numbers), verb == "stream", self)
        self.rides[ride.number] = ride
        self.used_at = self._loop.time()
        self._loads.begin(self.replica)
        self._calls.append((ride.number, verb, call))
        self._speak()
        return ride

    def wait(self, number: int, *, held: bool) -> None:
        self._wait[number] = held
        self._speak()

    def left(self, ride: Ride, ended: bool) -> None:
        if self.rides.pop(ride.number, None) is None:
            return
        self._loads.end(self.replica)
        self.used_at = self._loop.time()
        if not ended:
            self._drop.append(ride.number)
            self._speak()

    def close(self) -> None:
        self._pipe.close()

    def _speak(self) -> None:
        """With all that is to be said in this turn of the loop."""
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._say)

    def _say(self) -> None:
        """In pieces, as the other end does. What is said of a call comes after the call itself."""
        self._soon = False
        *pieces, last = _in_pieces(self._calls)
        for piece in pieces:
            self._pipe.send((piece, [], {}))
        self._pipe.send((last, self._drop, self._wait))
        self._calls, self._drop, self._wait = [], [], {}

    def _heard(self, message: Message) -> None:
        under_way, items = message
        self._loads.learn(self.replica, under_way, time.monotonic())
        for number, item in items:
            if (ride := self.rides.get(number)) is not None:  # else it was given up
                ride.put(item)
                if ride.size > BEHIND and ride.streams:
                    self._behind(ride)

    def _behind(self, ride: Ride) -> None:
        if ride.size > TOO_FAR_BEHIND:
            ride.fail(failed("lost", "its reader was too far behind"))
            self.left(ride, ended=False)
        elif not ride.held:
            ride.held = True
            self.wait(ride.number, held=True)

    def _lost(self) -> None:
        for ride in list(self.rides.values()):
            ride.fail(failed("lost", "the provider's replica went away"))
        self.over.set()


def _in_pieces(calls: list[Boarded]) -> list[list[Boarded]]:
    """At least one piece, each of at most PIECE bytes if no single call is larger."""
    pieces: list[list[Boarded]] = [[]]
    size = 0
    for call in calls:
        size += len(call[2])
        if pieces[-1] and size > PIECE:
            pieces.append([])
            size = len(call[2])
        pieces[-1].append(call)
    return pieces
