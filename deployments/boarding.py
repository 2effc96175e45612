"""Many calls to one provider over few connections: which lane a call takes, and when there are lanes. No Ray.

A lane is opened by a handle call, so Serve chooses its replica. While calls come, Serve is asked again twice a second:
that finds replicas which are new, and affirms those that it still sends to. A lane that was not affirmed for a while
takes no new calls, for its replica may be about to stop. One that nobody uses is closed.

Where calls are rare there is no lane, and each is a handle call. Of those that come soon after another, all wait for
the lane that opens, for as long as a handle call takes on a busy machine.
"""

import asyncio
import contextlib
import contextvars
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from deployments.loads import Loads
from deployments.pipe import connected
from deployments.ride import Way

log = logging.getLogger(f"ray.serve.{__name__}")

Anchor = Callable[[], AsyncGenerator[Mapping[str, Any], None]]  # what Lanes.board yields, by handle

SOON_SECONDS = 1.0  # calls that follow each other within it are worth a lane
LINGER_SECONDS = 1.0  # an empty lane waits so long for the next call
LOOK_SECONDS = 0.5
FRESH_SECONDS = 5.0  # after so long without being affirmed a lane takes no new calls
OPEN_SECONDS = 0.05  # the longest that a call waits for a lane
AGAIN_SECONDS, NARROW_SECONDS = 1.0, 10.0  # until it is tried again where none could be opened, or is worth it
GOODBYE_SECONDS = 5.0
LEAST_ROOM = 16  # handle calls at a time: anchors take some of them


class Boarding:
    def __init__(self, provider: str, anchor: Anchor, loads: Loads):
        self._provider = provider
        self._anchor = anchor
        self._loads = loads
        self._ways: dict[str, Way] = {}  # by replica
        self._anchors: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._failing = False
        self._asked_at = self._opened_at = self._not_before = float("-inf")

    def way(self) -> Way | None:
        """For the next call, if there is one now."""
        now = asyncio.get_running_loop().time()
        last, self._asked_at = self._asked_at, now
        ways = [way for way in self._ways.values() if way.open and now - way.affirmed_at < FRESH_SECONDS]
        if not ways:
            if now - last < SOON_SECONDS:
                self._open(now)
            return None
        if len(ways) > 1:
            clock = time.monotonic()
            return min(random.sample(ways, 2), key=lambda way: self._loads.of(way.replica, clock))
        return ways[0]

    @property
    def opening(self) -> bool:
        return self._opening is not None

    async def opened(self) -> Way | None:
        """The lane that opens now, if it does so in time."""
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=OPEN_SECONDS)
        return self.way()

    def _open(self, now: float) -> None:
        """In a context of its own: else Serve would end the anchor with the request that happened to need it."""
        if self._opening is None and now >= self._not_before:
            loop = asyncio.get_running_loop()
            self._opened_at, self._opening = now, loop.create_future()
            task = loop.create_task(self._anchored(), context=contextvars.Context())
            self._anchors.add(task)
            task.add_done_callback(self._anchors.discard)

    def _done(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(None)

    async def _anchored(self) -> None:
        """One handle call, and the lane that it opens if it opens one."""
        way = None
        try:
            async with contextlib.aclosing(self._anchor()) as said:
                way = await self._welcomed(await anext(said))
                self._done()
                if way is not None:
                    await _until_over(way, said)
        except Exception as error:  # calls go by handle meanwhile
            if not self._failing:
                log.warning("%s: no lane can be opened, each call is a handle call: %r", self._provider, error)
            self._failing = True
            self._not_before = asyncio.get_running_loop().time() + AGAIN_SECONDS
        finally:
            if way is None:
                self._done()
            else:
                way.close()
                if self._ways.get(way.replica) is way:
                    del self._ways[way.replica]

    async def _welcomed(self, hello: Mapping[str, Any]) -> Way | None:
        loop = asyncio.get_running_loop()
        self._loads.learn(hello["replica"], hello["under_way"], time.monotonic())
        if hello["room"] < LEAST_ROOM:
            self._not_before = loop.time() + NARROW_SECONDS
            return None
        if "address" not in hello:
            if (known := self._ways.get(hello["replica"])) is not None:
                known.affirmed_at = loop.time()
            else:
                self._not_before = loop.time() + AGAIN_SECONDS
            return None
        way = Way(hello["replica"], await connected(hello["address"], hello["secret"]), self._loads)
        self._ways[way.replica] = way
        self._failing = False
        if self._keeper is None:
            self._keeper = loop.create_task(self._keep(), context=contextvars.Context())
        return way

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ways:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            for way in self._ways.values():
                if not way.rides and now - min(way.used_at, way.affirmed_at + FRESH_SECONDS) > LINGER_SECONDS:
                    way.close()
            if self._ways and self._asked_at > self._opened_at:
                self._open(now)
        self._keeper = None


async def _until_over(way: Way, said: AsyncGenerator[Mapping[str, Any], None]) -> None:
    """Until the lane or its anchor ends; a lane that was closed here takes its anchor with it."""
    ended: asyncio.Future[Any] = asyncio.ensure_future(anext(said, None))
    over = asyncio.ensure_future(way.over.wait())
    try:
        await asyncio.wait([ended, over], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait([ended], timeout=GOODBYE_SECONDS)
    finally:
        over.cancel()
        ended.cancel()
        await asyncio.wait([ended, over])
        if not ended.cancelled():
            ended.exception()
