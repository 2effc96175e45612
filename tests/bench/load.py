"""The load: requests over kept-alive connections, on the closed loop and on the open one.

Closed: so many connections, each asking again as soon as it is answered. Open: a request is due every
so often, however long the last one takes, and its time counts from when it was *due*: a system that
stands still is charged for those who would have asked meanwhile (no coordinated omission).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httptools

from tests.bench.figures import Sample
from tests.bench.scenarios import WORD

MARK = WORD.encode()
Clock = Callable[[], float]
Send = Callable[[float], Awaitable[Sample]]  # asks once; its time counts from the instant that is given


class Connection(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self.lost = False
        self._first, self._parts = 0.0, list[bytes]()
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-breakwater-attempts":
            self._attempts = int(value)

    def on_body(self, body: bytes) -> None:
        if not self._first and MARK in body:
            self._first = time.perf_counter()
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._end = time.perf_counter()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def ask(self, request: bytes, words: int, at: float) -> Sample:
        """Whole only with status 200, all its words, and the end of a stream where it is one."""
        self._parts = []
        self._status, self._first, self._end, self._attempts = 0, 0.0, 0.0, 1
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done
        body = b"".join(self._parts)
        ended = not body.startswith(b"data:") or body.rstrip().endswith(b"[DONE]")
        whole = self._status == 200 and body.count(MARK) == words and ended
        end = self._end or time.perf_counter()
        return Sample(at, (self._first or end) - at, end - at, words if whole else 0, whole, self._attempts)

    def close(self) -> None:
        self._transport.close()


class Pool:
    """Connections to one server, and the one request that goes over them."""

    def __init__(self, port: int, request: bytes, words: int):
        self._port, self._request, self._words = port, request, words
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def send(self, at: float) -> Sample:
        connection = await self._connection()
        sample = await connection.ask(self._request, self._words, at)
        if not connection.lost:
            self._idle.append(connection)
        return sample

    async def _connection(self) -> Connection:
        while self._idle:
            if not (known := self._idle.pop()).lost:
                return known
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(Connection, "127.0.0.1", self._port)
        self._all.append(made)
        return made

    async def open(self, connections: int) -> None:
        """So many connections beforehand: a handshake is no part of a request."""
        self._idle = [await self._connection() for _ in range(connections)]

    def close(self) -> None:
        for connection in self._all:
            connection.close()


async def closed_loop(
    send: Send, connections: int, seconds: float, spread: float = 0.0, clock: Clock = time.perf_counter
) -> list[Sample]:
    """Ask until the time is over, then wait for what is under way: nobody's answers are cut off.

    They begin one after another over the first `spread` seconds.
    """
    samples: list[Sample] = []
    until = clock() + seconds

    async def one(number: int) -> None:
        await asyncio.sleep(number / connections * spread)
        while (now := clock()) < until:
            samples.append(await send(now))

    await asyncio.gather(*(one(number) for number in range(connections)))
    return samples


async def open_loop(send: Send, rate: float, seconds: float, clock: Clock = time.perf_counter) -> list[Sample]:
    """Ask `rate` times a second, whatever comes back; times count from when each was due."""
    began = clock()
    tasks: list[asyncio.Future[Sample]] = []
    for number in range(round(rate * seconds)):
        due = began + number / rate
        while (left := due - clock()) > 0:  # noqa: ASYNC110 - an instant is no event
            await asyncio.sleep(max(left, 0.001))  # the loop's timers know no less
        tasks.append(asyncio.ensure_future(send(due)))
    return list(await asyncio.gather(*tasks))


def request_bytes(port: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = {
        "host": f"127.0.0.1:{port}",
        "content-type": "application/json",
        "authorization": "Bearer sk-fake",
        **headers,
        "content-length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + body
