"""Many calls to one provider in one handle call: the ingress's side; see lanes.py for the other. No Ray.

The calls that arrive within one turn of the loop go as one batch. The first never waits. Where many come, those
that come while a batch is under way are the next one, when it has arrived: a busy replica gets few large batches
instead of many small ones, and an idle one has taken a batch before there is another.

- A call that is given up is told to the replica. As long as its batch has not arrived the word is kept back;
  whatever still comes of it later says that the word was lost, and it is told again.
- A reader that is behind has its call held. What comes all the same has a bound; beyond it the call ends.
- What ends a lane ends each call on it, each by itself, as `lost`.
"""

import asyncio
import contextlib
import contextvars
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from deployments.errors import AttemptFailed
from deployments.lanes import Boarded, Item, Message
from deployments.loads import Loads
from deployments.providers.base import failed
from deployments.spacing import LEAST, Rate
from deployments.words import Tell, Words

Send = Callable[[int, list[Boarded]], AsyncGenerator[Message, None]]  # raises AttemptFailed; aclose cancels it

BATCH = 1024 * 1024  # bytes
BEHIND = 256 * 1024  # bytes that a reader has not taken: its call is held
TOO_FAR_BEHIND = 16 * 1024 * 1024  # its call ends
HOLD_SECONDS = 5.0
WAIT_SECONDS = 0.02  # the longest that calls wait for the batch before them to arrive
WORTH = 2  # calls that are to be expected meanwhile; else nobody waits


class Ride:
    """One call as its reader sees it."""

    def __init__(self, number: int, streams: bool, boarding: "Boarding"):
        self.number = number
        self.streams = streams  # a whole answer has a reader that never waits
        self.lane: int | None = None  # not known before its batch has arrived
        self.replica = ""
        self.batch: int | None = None  # not known before it has left
        self.held = False
        self.ended = False
        self.size = 0  # bytes that wait for the reader
        self._boarding = boarding
        self._items: deque[Item] = deque()
        self._error: AttemptFailed | None = None
        self._ready: asyncio.Future[None] | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def put(self, item: Item) -> None:
        self._items.append(item)
        if isinstance(item, bytes):
            self.size += len(item)
        else:
            self.ended = True
        self._wake()

    def fail(self, error: AttemptFailed) -> None:
        """After what has come already."""
        self._error = self._error or error
        self._wake()

    async def next(self) -> Item:
        """All bytes that have come, or the last word."""
        while not self._items:
            if self._error is not None:
                raise self._error
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
            self._boarding.let_go(self)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class Boarding:
    """All calls of this ingress to one provider that share a way."""

    def __init__(self, send: Send, tell: Tell, learn: Callable[[Mapping[str, Any]], None], loads: Loads):
        """`learn` is told what a replica says of itself; see lanes.py."""
        self._send = send
        self._learn = learn
        self._loads = loads
        self._numbers = itertools.count(1)
        self._rides: dict[int, Ride] = {}
        self._waiting: list[Boarded] = []
        self._left_at = 0.0
        self._rate = Rate()
        self._timer: asyncio.TimerHandle | None = None  # of whoever waits
        self._batches: dict[int, asyncio.Task[None]] = {}
        self._under_way: dict[int, set[int]] = {}  # batches that have left and not arrived: their calls
        self._lanes: set[int] = set()
        self._words = Words(tell)

    async def complete(self, verb: str, call: bytes) -> dict[str, Any]:
        parts: list[bytes] = []
        async with contextlib.aclosing(self.stream(call, verb)) as items:
            async for item in items:
                if isinstance(item, dict):
                    return {**item, "body": b"".join([*parts, item["body"]])} if parts else item
                parts.append(item)
        raise failed("lost", "the replica's answer stopped")

    async def stream(self, call: bytes, verb: str = "stream") -> AsyncGenerator[Item, None]:
        ride = self._enlist(verb, call)
        try:
            while True:
                item = await ride.next()
                if isinstance(item, dict):
                    self._rides.pop(ride.number, None)
                yield item
                if isinstance(item, dict):
                    return
        finally:
            self._loads.end(ride.replica)
            if self._rides.pop(ride.number, None) is not None:
                self._give_up(ride)

    def let_go(self, ride: Ride) -> None:
        ride.held = False
        self._words.hold(ride.number, 0.0)

    def _enlist(self, verb: str, call: bytes) -> Ride:
        ride = Ride(next(self._numbers), verb == "stream", self)
        self._rides[ride.number] = ride
        if not self._waiting:
            self._depart_after(self._gap())
        self._waiting.append((ride.number, verb, call))
        return ride

    def _gap(self) -> float:
        """Between two batches."""
        expected = self._rate.at(asyncio.get_running_loop().time()) * WAIT_SECONDS
        return WAIT_SECONDS if self._under_way and expected >= WORTH else LEAST

    def _depart_after(self, gap: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._left_at + gap, self._depart)

    def _taken(self, batch: int) -> set[int]:
        """The batch is under way no more: its calls. Who has waited for that goes now."""
        calls = self._under_way.pop(batch, set())
        if self._timer is not None and not self._under_way:
            self._depart_after(LEAST)
        return calls

    def _depart(self) -> None:
        """In a context of its own: else Serve would end the lane with the request that happened to open it."""
        loop = asyncio.get_running_loop()
        self._timer = None
        self._left_at = loop.time()
        self._rate.left(self._left_at, len(self._waiting))
        waiting, self._waiting = [b for b in self._waiting if b[0] in self._rides], []
        while waiting:
            size, count = 0, 0
            while count < len(waiting) and (count == 0 or size + len(waiting[count][2]) <= BATCH):
                size += len(waiting[count][2])
                count += 1
            self._dispatch(loop, waiting[:count])
            waiting = waiting[count:]

    def _dispatch(self, loop: asyncio.AbstractEventLoop, calls: list[Boarded]) -> None:
        batch = calls[0][0]
        self._under_way[batch] = {number for number, _, _ in calls}
        for number in self._under_way[batch]:
            self._rides[number].batch = batch
        task = loop.create_task(self._travel(batch, calls), context=contextvars.Context())
        self._batches[batch] = task
        task.add_done_callback(lambda _: self._batches.pop(batch, None))

    async def _travel(self, batch: int, calls: list[Boarded]) -> None:
        error = failed("lost", "the replica's stream stopped")
        try:
            async with contextlib.aclosing(self._send(batch, calls)) as messages:
                async for message in messages:
                    if isinstance(message, dict):
                        self._arrive(batch, message)
                    else:
                        self._deal(batch, message)
        except AttemptFailed as failure:
            error = failure
        finally:
            self._lanes.discard(batch)
            missing = self._taken(batch)
            for ride in list(self._rides.values()):
                if ride.lane == batch or ride.number in missing:
                    ride.fail(error)

    def _arrive(self, batch: int, hello: Mapping[str, Any]) -> None:
        lane = hello["lane"]
        self._learn(hello)
        self._loads.learn(hello["replica"], hello["under_way"], time.monotonic())
        if lane == batch:
            self._lanes.add(lane)
        for number in self._taken(batch):
            if (ride := self._rides.get(number)) is None:
                self._words.drop(number)  # the word may have come before the call
                continue
            ride.lane, ride.replica = lane, hello["replica"]
            if lane not in self._lanes:
                ride.fail(failed("lost", "the replica's stream stopped"))

    def _deal(self, lane: int, items: list[tuple[int, Item]]) -> None:
        for number, item in items:
            ride = self._rides.get(number)
            if ride is not None and not ride.failed:
                ride.put(item)
                if ride.size > BEHIND and ride.streams:
                    self._behind(ride)
            elif isinstance(item, bytes):
                self._not_heard(lane, number)
            else:
                self._words.forget(number)

    def _not_heard(self, lane: int, number: int) -> None:
        """Something came of a call that was given up. Where words do not arrive, what helps is to end the lane."""
        if self._words.again(number) and not any(ride.lane == lane for ride in self._rides.values()):
            self._cancel(lane)

    def _behind(self, ride: Ride) -> None:
        if ride.size > TOO_FAR_BEHIND:
            ride.fail(failed("lost", "its reader was too far behind"))
            self._words.drop(ride.number)
        elif not ride.held:
            ride.held = True
            self._hold(ride)

    def _hold(self, ride: Ride) -> None:
        if ride.held and ride.number in self._rides:
            self._words.hold(ride.number, HOLD_SECONDS)
            asyncio.get_running_loop().call_later(HOLD_SECONDS / 2, self._hold, ride)

    def _give_up(self, ride: Ride) -> None:
        """Its reader has left before its end."""
        if ride.ended or ride.batch is None:
            return
        if not any(number in self._rides for number in self._under_way.get(ride.batch, (ride.number,))):
            self._cancel(ride.batch if ride.lane is None else None)
        self._words.drop(ride.number)

    def _cancel(self, batch: int | None) -> None:
        if batch is not None and (task := self._batches.get(batch)) is not None:
            task.cancel()
