"""Many calls to one provider over few connections: which lane a call takes, and when there are lanes. No Ray.

A lane is opened by a handle call, so Serve chooses its replica. While calls come, Serve is asked again, each replica
about once a second: that finds those that are new, and affirms those that it still sends to. A lane that was not
affirmed for a while, though others were, takes no new calls: its replica is about to stop. An unused one is closed.
Replicas to which no lane leads get their part of the calls by handle.

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

from deployments.rpc.connection import Way
from deployments.rpc.framing import connected
from deployments.rpc.in_flight import Loads
from deployments.rpc.server import LEAST_ROOM

log = logging.getLogger(f"ray.serve.{__name__}")

Anchor = Callable[[], AsyncGenerator[Mapping[str, Any], None]]  # what Lanes.board yields, by handle

SOON_SECONDS = 1.0  # calls that follow each other within it are worth a lane
LINGER_SECONDS = 1.0  # an empty lane waits so long for the next call
LOOK_SECONDS = 0.5
# A lane takes no new calls once others were named instead of it for so long, and so often each.
FRESH_SECONDS, PASSED = 5.0, 4
OPEN_SECONDS = 0.05  # the longest that a call waits for a lane
ANSWER_SECONDS = 3.0  # the longest that Serve, a replica and a connection to it may take
AGAIN_SECONDS, NARROW_SECONDS = 1.0, 10.0  # until it is tried again where none could be opened, or is worth it
SHUN_SECONDS = 10.0  # until a connection is tried again to a replica on another node to which none could be made
GOODBYE_SECONDS = 5.0


class Boarding:
    def __init__(self, provider: str, anchor: Anchor, loads: Loads):
        self._provider = provider
        self._anchor = anchor
        self._loads = loads
        self._ways: dict[str, Way] = {}  # by replica
        self._anchors: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._shunned: dict[str, float] = {}  # replicas to which no connection could be made, and until when
        self._laneless: dict[str, float] = {}  # replicas to which no lane leads, and when they were named last
        self._answers = 0
        self._failing = False
        self._needed_at = self._asked_at = self._answered_at = self._not_before = float("-inf")

    def way(self) -> Way | None:
        """For the next call, if it should not go by handle: of any two the one with fewer calls."""
        now = asyncio.get_running_loop().time()
        last, self._needed_at = self._needed_at, now
        ways = [way for way in self._ways.values() if way.open and self._affirmed(way)]
        if not ways:
            if now - last < SOON_SECONDS:
                self._ask(now)
            return None
        if len(ways) == 1 and not self._laneless:
            return ways[0]
        clock = time.monotonic()
        roomy = [way for way in ways if self._loads.of(way.replica, clock) < way.room]
        others = len(self._laneless)
        if others and (not roomy or random.random() * (len(ways) + others) < others):
            return None
        ways = roomy or ways
        return min(random.sample(ways, min(2, len(ways))), key=lambda way: self._loads.of(way.replica, clock))

    @property
    def opening(self) -> bool:
        """Is the first lane to be expected soon?"""
        return self._asking is not None and self._left_to_wait() > 0 and not self._any_open()

    def _any_open(self) -> bool:
        return any(way.open for way in self._ways.values())

    async def opened(self) -> Way | None:
        """The lane that opens now, if it does so in time."""
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=self._left_to_wait())
        return self.way()

    def _left_to_wait(self) -> float:
        return self._asked_at + OPEN_SECONDS - asyncio.get_running_loop().time()

    def _affirmed(self, way: Way) -> bool:
        """While Serve does not answer, the lanes that work are kept."""
        passed = self._answers - way.affirmed_in
        return self._answered_at - way.affirmed_at < FRESH_SECONDS or passed < PASSED * max(2, len(self._ways))

    def _ask(self, now: float) -> None:
        """In a context of its own: else Serve would end the anchor with the request that happened to need it."""
        if self._asking is None and now >= self._not_before:
            loop = asyncio.get_running_loop()
            self._asked_at, self._asking = now, loop.create_future()
            task = loop.create_task(self._anchored(), context=contextvars.Context())
            self._anchors.add(task)
            task.add_done_callback(self._anchors.discard)

    def _answered(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.set_result(None)

    async def _anchored(self) -> None:
        """One handle call, and the lane that it opens if it opens one."""
        way = None
        try:
            async with contextlib.aclosing(self._anchor()) as said:
                async with asyncio.timeout(ANSWER_SECONDS):
                    hello = await anext(said)
                    way = await self._welcomed(hello)
                if way is not None:
                    self._answered()
                    self._ask(asyncio.get_running_loop().time())  # until one is named that is known
                    await _until_over(way, said)
                elif "address" not in hello:
                    self._answered()
                    async with asyncio.timeout(GOODBYE_SECONDS):
                        await anext(said, None)  # it ends by itself; to close it would be to cancel it
        except Exception as error:  # calls go over other lanes meanwhile, or by handle
            self._failed(error)
        finally:
            if way is None:
                self._answered()
            else:
                way.close()
                if self._ways.get(way.replica) is way:
                    del self._ways[way.replica]

    async def _welcomed(self, hello: Mapping[str, Any]) -> Way | None:
        now = asyncio.get_running_loop().time()
        replica, room = hello["replica"], hello["room"]
        self._loads.learn(replica, hello["under_way"], time.monotonic())
        self._answered_at, self._answers = now, self._answers + 1
        self._laneless = {name: at for name, at in self._laneless.items() if now - at < FRESH_SECONDS}
        if "address" in hello and now >= self._shunned.get(replica, now):
            return await self._joined(replica, room, hello)
        if "address" not in hello and (known := self._ways.get(replica)) is not None:
            self._affirm(known)
        else:
            self._laneless[replica] = now
        if not self._any_open():
            self._not_before = now + (NARROW_SECONDS if room < LEAST_ROOM else AGAIN_SECONDS)
        return None

    def _affirm(self, way: Way) -> None:
        way.affirmed_at, way.affirmed_in = self._answered_at, self._answers

    async def _joined(self, replica: str, room: int, hello: Mapping[str, Any]) -> Way:
        loop = asyncio.get_running_loop()
        try:
            pipe = await connected(hello["address"], hello["secret"])
        except Exception:
            if not isinstance(hello["address"], str):  # on one node it was only slow
                now = loop.time()
                self._shunned = {name: until for name, until in self._shunned.items() if until > now}
                self._shunned[replica] = now + SHUN_SECONDS
                self._laneless[replica] = now
            raise
        way = self._ways[replica] = Way(replica, room, pipe, self._loads)
        self._affirm(way)
        self._laneless.pop(replica, None)
        self._failing = False
        if self._keeper is None:
            self._keeper = loop.create_task(self._keep(), context=contextvars.Context())
        return way

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            log.warning("%s: a lane could not be opened: %r", self._provider, error)
        self._failing = True
        if not self._any_open():
            self._not_before = asyncio.get_running_loop().time() + AGAIN_SECONDS

    async def _keep(self) -> None:
        """The more replicas, the more often Serve is asked: each is to be named long before its lane is forgotten."""
        loop = asyncio.get_running_loop()
        while self._ways:
            await asyncio.sleep(2 * LOOK_SECONDS / max(2, len(self._ways) + len(self._laneless)))
            now = loop.time()
            for way in self._ways.values():
                unused = now - way.used_at > LINGER_SECONDS
                if not way.rides and (unused or not self._affirmed(way)):
                    way.close()
            if self._needed_at > self._asked_at:
                self._ask(now)
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
