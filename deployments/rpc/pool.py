"""The connection pool of one provider: which connection takes a call, and when connections open and close. No Ray.

A connection is opened by a control call, a handle call, so Serve chooses its replica. While calls arrive, Serve is
asked again, for each replica about once a second: that finds new replicas, and confirms those that Serve still sends
to. A connection that was not confirmed for a while, though others were, takes no new calls: its replica is about to
stop. An unused connection is closed. An *unconnected* replica, to which no connection can lead, gets its share of the
calls by handle.

Where calls are rare there is no connection, and each is a handle call. Calls that follow another one soon wait for the
connection that is being opened, for as long as a handle call takes on a busy machine.
"""

import asyncio
import contextlib
import contextvars
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable

from deployments.rpc.connection import Connection
from deployments.rpc.framing import connect
from deployments.rpc.in_flight import InFlightCounts
from deployments.rpc.port import HelloMessage
from deployments.rpc.server import MIN_CALLS

log = logging.getLogger(f"ray.serve.{__name__}")

ControlCall = Callable[[], AsyncGenerator[HelloMessage, None]]  # the handle call that ConnectionServer.serve answers

FOLLOW_UP_SECONDS = 1.0  # calls that follow each other within it are worth a connection
IDLE_SECONDS = 1.0  # after which an unused connection is closed
REFRESH_SECONDS = 0.5
# Stop using a connection when Serve has not returned its replica for 5 s and for at least 4 answers per connection.
FRESH_SECONDS, MISSED_ANSWERS = 5.0, 4
OPEN_SECONDS = 0.05  # the longest that a call waits for a connection
HANDSHAKE_SECONDS = 3.0  # the longest that Serve, the replica and the connection may take together
# Until the next attempt after one that failed, and after one that found a replica with less than MIN_CALLS.
RETRY_SECONDS, SMALL_REPLICA_SECONDS = 1.0, 10.0
BACKOFF_SECONDS = 10.0  # until the next attempt to reach a replica on another node that could not be reached
CLOSE_SECONDS = 5.0
LATE_SECONDS = 0.5  # by which this process may be late, and still know that a replica is silent


class ConnectionPool:
    def __init__(self, provider: str, control_call: ControlCall, in_flight: InFlightCounts):
        self._provider = provider
        self._control_call = control_call
        self._in_flight = in_flight
        self._connections: dict[str, Connection] = {}  # by replica
        self._control_calls: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Future[None] | None = None
        self._maintenance: asyncio.Task[None] | None = None
        self._backoff: dict[str, float] = {}  # replicas that could not be reached, and the end of their backoff
        self._unconnected: dict[str, float] = {}  # replicas without a connection, and when Serve named them last
        self._answers = 0
        self._failing = False
        self._needed_at = self._asked_at = self._answered_at = self._not_before = float("-inf")

    def pick(self) -> Connection | None:
        """Return the connection for the next call; None if it should go by handle.

        Of any two connections the one with fewer calls in flight is taken.
        """
        now = asyncio.get_running_loop().time()
        last, self._needed_at = self._needed_at, now
        usable = [c for c in self._connections.values() if c.open and self._is_fresh(c)]
        if len(usable) > 1:
            usable = [c for c in usable if not c.is_quiet(now)] or usable
        if not usable:
            if now - last < FOLLOW_UP_SECONDS:
                self._ask(now)
            return None
        if len(usable) == 1 and not self._unconnected:
            return usable[0]
        clock = time.monotonic()
        free = [c for c in usable if self._in_flight.of(c.replica, clock) < c.capacity]
        others = len(self._unconnected)
        if others and (not free or random.random() * (len(usable) + others) < others):
            return None
        usable = free or usable
        return min(random.sample(usable, min(2, len(usable))), key=lambda c: self._in_flight.of(c.replica, clock))

    @property
    def opening(self) -> bool:
        """Is the first connection expected soon?"""
        return self._opening is not None and self._wait_left() > 0 and not self._any_open()

    def _any_open(self) -> bool:
        return any(c.open for c in self._connections.values())

    async def wait_and_pick(self) -> Connection | None:
        """As `pick`, after waiting up to OPEN_SECONDS for the connection that is being opened."""
        if self._opening is not None:
            await asyncio.wait([self._opening], timeout=self._wait_left())
        return self.pick()

    def _wait_left(self) -> float:
        return self._asked_at + OPEN_SECONDS - asyncio.get_running_loop().time()

    def _is_fresh(self, connection: Connection) -> bool:
        """Has Serve confirmed the replica lately? While Serve does not answer, working connections stay fresh."""
        missed = self._answers - connection.confirmed_in
        return self._answered_at - connection.confirmed_at < FRESH_SECONDS or missed < MISSED_ANSWERS * max(
            2, len(self._connections)
        )

    def _ask(self, now: float) -> None:
        """Start a control call in a context of its own: else Serve would end it with the request that needed it."""
        if self._opening is None and now >= self._not_before:
            loop = asyncio.get_running_loop()
            self._asked_at, self._opening = now, loop.create_future()
            task = loop.create_task(self._run_control_call(), context=contextvars.Context())
            self._control_calls.add(task)
            task.add_done_callback(self._control_calls.discard)

    def _end_opening(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(None)

    async def _run_control_call(self) -> None:
        """Make one control call, and keep the connection that it opens, if it opens one, until that ends."""
        connection = None
        try:
            async with contextlib.aclosing(self._control_call()) as replies:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    hello = await anext(replies)
                    connection = await self._take_hello(hello)
                if connection is not None:
                    self._end_opening()
                    self._ask(asyncio.get_running_loop().time())  # until Serve names a replica that is known
                    await _wait_until_closed(connection, replies)
                elif "address" not in hello:
                    self._end_opening()
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await anext(replies, None)  # it ends by itself; to close it would be to cancel it
        except Exception as error:  # calls use other connections meanwhile, or handles
            self._note_failure(error)
        finally:
            if connection is None:
                self._end_opening()
            else:
                connection.close()
                if self._connections.get(connection.replica) is connection:
                    del self._connections[connection.replica]

    async def _take_hello(self, hello: HelloMessage) -> Connection | None:
        """Connect if the hello says where, and return the new connection; else confirm the one that is known."""
        now = asyncio.get_running_loop().time()
        replica, capacity = hello["replica"], hello["room"]
        self._in_flight.learn(replica, hello["under_way"], time.monotonic())
        self._answered_at, self._answers = now, self._answers + 1
        self._unconnected = {name: at for name, at in self._unconnected.items() if now - at < FRESH_SECONDS}
        if "address" in hello and now >= self._backoff.get(replica, now):
            return await self._connect(replica, capacity, hello)
        if "address" not in hello and (known := self._connections.get(replica)) is not None:
            self._confirm(known)
        else:
            self._unconnected[replica] = now
        if not self._any_open():
            self._not_before = now + (SMALL_REPLICA_SECONDS if capacity < MIN_CALLS else RETRY_SECONDS)
        return None

    def _confirm(self, connection: Connection) -> None:
        connection.confirmed_at, connection.confirmed_in = self._answered_at, self._answers

    async def _connect(self, replica: str, capacity: int, hello: HelloMessage) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            framed = await connect(hello["address"], hello["secret"])
        except Exception:
            if not isinstance(hello["address"], str):  # a connection on one node was only slow
                now = loop.time()
                self._backoff = {name: until for name, until in self._backoff.items() if until > now}
                self._backoff[replica] = now + BACKOFF_SECONDS
                self._unconnected[replica] = now
            raise
        able = {name: bool(hello.get(name)) for name in ("parts", "apart", "beats")}
        connection = Connection(replica, capacity, framed, self._in_flight, **able)
        self._connections[replica] = connection
        self._confirm(connection)
        self._unconnected.pop(replica, None)
        self._failing = False
        if self._maintenance is None:
            self._maintenance = loop.create_task(self._maintain(), context=contextvars.Context())
        return connection

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            log.warning(
                "%s: connection to a provider replica failed; calls go by handle until a retry succeeds: %s: %s",
                *(self._provider, type(error).__name__, error),
            )
        self._failing = True
        if not self._any_open():
            self._not_before = asyncio.get_running_loop().time() + RETRY_SECONDS

    async def _maintain(self) -> None:
        """Close unused and silent connections, and ask Serve the more often the more replicas there are.

        Each replica must be named long before its connection would no longer be fresh.
        """
        loop = asyncio.get_running_loop()
        while self._connections:
            pause = 2 * REFRESH_SECONDS / max(2, len(self._connections) + len(self._unconnected))
            due = loop.time() + pause
            await asyncio.sleep(pause)
            now = loop.time()
            for connection in self._connections.values():
                if connection.closed.is_set():
                    continue
                if now - due > LATE_SECONDS:
                    connection.heard_at = now  # what has come meanwhile is not read yet
                elif connection.is_silent(now):
                    log.warning("%s: replica %s is silent and gets no calls.", self._provider, connection.replica)
                    connection.give_up()
                    continue
                unused = now - connection.used_at > IDLE_SECONDS
                if not connection.streams and (unused or not self._is_fresh(connection)):
                    connection.close()
            if self._needed_at > self._asked_at:
                self._ask(now)
        self._maintenance = None


async def _wait_until_closed(connection: Connection, replies: AsyncGenerator[HelloMessage, None]) -> None:
    """Wait until the connection or its control call ends. The replica ends the call of a connection closed here."""
    ended = asyncio.ensure_future(anext(replies, None))
    closed = asyncio.ensure_future(connection.closed.wait())
    try:
        await asyncio.wait([ended, closed], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait([ended], timeout=CLOSE_SECONDS)
    finally:
        closed.cancel()
        ended.cancel()
        await asyncio.wait([ended, closed])
        if not ended.cancelled():
            ended.exception()
