"""An ingress and its provider's replicas: boarding.py, ride.py and lanes.py against each other, on real sockets.

The clock jumps; what lies in a socket is there at once.
"""

import asyncio
import contextlib
import os
import pickle
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from deployments.errors import failed
from deployments.rpc.admission import Capacity
from deployments.rpc.connection import ClientStream, Connection
from deployments.rpc.framing import Address
from deployments.rpc.in_flight import InFlightCounts
from deployments.rpc.pool import (
    FRESH_SECONDS,
    IDLE_SECONDS,
    REFRESH_SECONDS,
    ConnectionPool,
)
from deployments.rpc.server import ConnectionServer, Item, Tell
from tests.clock import run_virtually

FRAME = b"data: {}\n\n"
END = {"usage": None, "tail": b""}
NODE, ELSEWHERE = "this node", "another"
NOBODY = f"breakwater-test-{os.getpid()}"  # such names are the machine's, and other tests may run on it


class Upstream:
    """What a provider does: `call` names one of its methods. It knows which calls are open."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.began: list[str] = []
        self.given: dict[str, int] = {}

    async def run(self, verb: str, call: Mapping[str, Any], tell: Tell) -> AsyncGenerator[Item, None]:
        name = call["name"]
        self.began.append(name)
        self.open.add(name)
        try:
            async for item in getattr(self, call["does"])(call):
                self.given[name] = self.given.get(name, 0) + 1
                yield item
        finally:
            self.open.discard(name)

    async def answers(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        await asyncio.sleep(call.get("after", 0))
        yield {"body": b"x" * call.get("size", 3), "name": call["name"]}

    async def echoes(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield {"body": call["text"].encode()}

    async def streams(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        for _ in range(call.get("frames", 3)):
            yield call.get("frame", FRAME)
            await asyncio.sleep(call.get("every", 0.005))
        yield END

    async def tells(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield {"told": {"prompt_tokens": 7}}
        yield FRAME
        await asyncio.sleep(1)
        yield {"told": {"prompt_tokens": 8}}
        yield FRAME
        yield END

    async def breaks(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield FRAME
        raise ZeroDivisionError("a bug")

    async def cancels(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield FRAME
        raise asyncio.CancelledError

    async def waits(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        await asyncio.Event().wait()
        yield END


class World:
    """One ingress and its provider's replicas; the first is chosen unless `chosen` says another."""

    def __init__(self, *capacities: Capacity):
        self.upstream = Upstream()
        self.capacities = list(capacities) or [Capacity("replica", node=NODE)]
        self.in_flight = InFlightCounts()
        self.replicas = [ConnectionServer(self.upstream.run, lambda room=room: room) for room in self.capacities]  # type: ignore[misc]
        self.pool = ConnectionPool("openai", self.control_call, self.in_flight)
        self.chosen = 0
        self.control_calls = 0  # that were asked for
        self.open = 0  # that last
        self.broken = False
        self.older = False  # replicas of the version before
        self.slow = 0.0  # seconds that an control_call takes to arrive
        self.node = NODE
        self.cut = asyncio.Event()
        self.swallowed: Address | None = None  # where connections that are made lead to nobody
        self.swallows = {0}  # to these replicas

    @contextlib.asynccontextmanager
    async def swallowing(self, near: bool = False) -> AsyncGenerator[socket.socket, None]:
        """As between nodes whose packets are dropped, or where nobody has the time to answer."""
        with socket.socket(socket.AF_UNIX) if near else socket.create_server(("127.0.0.1", 0)) as nobody:
            if near:
                nobody.bind(f"\0{NOBODY}")
                nobody.listen()
            nobody.setblocking(False)
            self.swallowed = NOBODY if near else nobody.getsockname()
            yield nobody
            self.swallowed = None

    @property
    def server(self) -> ConnectionServer:
        return self.replicas[0]

    async def control_call(self) -> AsyncGenerator[Mapping[str, Any], None]:
        self.control_calls += 1
        await asyncio.sleep(self.slow)
        if self.broken:
            raise failed("unreachable", "this provider's deployment is unavailable")
        self.open += 1
        try:
            async with aclosing(self.replicas[self.chosen].serve("ingress", self.node)) as said:
                async for word in _until(said, self.cut):
                    if self.swallowed and self.chosen in self.swallows and "address" in word:
                        word["address"] = self.swallowed
                    if self.older:
                        for added in ("parts", "beats"):
                            word.pop(added, None)
                    yield pickle.loads(pickle.dumps(word))
        finally:
            self.open -= 1

    async def connection(self) -> Connection:
        """As soon as there is a lane."""
        connection = self.pool.pick() or self.pool.pick() or await self.pool.wait_and_pick()
        assert connection is not None
        return connection

    async def complete(self, name: str, does: str = "answers", **more: Any) -> dict[str, Any]:
        connection = await self.connection()
        return await connection.begin("chat", pickle.dumps({"name": name, "does": does, **more})).read_reply()

    async def stream(self, name: str, does: str = "streams", **more: Any) -> ClientStream:
        connection = await self.connection()
        return connection.begin("stream", pickle.dumps({"name": name, "does": does, **more}))

    async def read(self, name: str, does: str = "streams", **more: Any) -> list[Item]:
        return await rest(await self.stream(name, does, **more))


async def _until(said: AsyncGenerator[Any, None], cut: asyncio.Event) -> AsyncGenerator[Any, None]:
    """As a handle call that may break."""
    while True:
        coming = asyncio.ensure_future(anext(said, None))
        cutting = asyncio.ensure_future(cut.wait())
        try:
            await asyncio.wait([coming, cutting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            cutting.cancel()
            if not coming.done():
                coming.cancel()
                await asyncio.wait([coming])
        if cut.is_set():
            raise failed("lost", "the provider's replica went away")
        if (word := coming.result()) is None:
            return
        yield word


async def rest(stream: ClientStream) -> list[Item]:
    """Up to the last word."""
    found: list[Item] = []
    try:
        while (item := await anext(stream, None)) is not None:
            found.append(item)
    finally:
        await stream.aclose()
    return found


def on(main: Callable[[World], Awaitable[Any]], *capacities: Capacity) -> Any:
    async def run() -> Any:
        world = World(*capacities)
        try:
            async with asyncio.timeout(1000):
                return await main(world)
        finally:
            await asyncio.sleep(IDLE_SECONDS + FRESH_SECONDS + 2 * REFRESH_SECONDS)
            assert not world.upstream.open, "a call upstream is still open"
            assert not world.open, "an control_call is still open"
            assert not world.pool._connections
            for server in world.replicas:
                assert (server.admission.running, server.admission.waiting, server.admission.total) == (0, 0, 0)

    return run_virtually(run())


def frames_in(items: list[Item]) -> int:
    assert items[-1] == END
    return b"".join(i for i in items if isinstance(i, bytes)).count(FRAME)


async def flowing(world: World, items: int, **more: Any) -> ClientStream:
    """A stream from which so many items were read."""
    stream = await world.stream(**more)
    for _ in range(items):
        await anext(stream)
    return stream
