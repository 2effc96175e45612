"""The upstream of every system: OpenAI's wire with nothing behind it, on httptools and uvloop, in a process of its own.

    python -m tests.bench.upstream PORT

Its bytes are made once. `POST /control?status=500` makes it answer with that status from now on, and
`POST /control?away=9` makes it go for so many seconds: its port refuses, its connections are reset. `median=60` makes
it wait before each answer, log-normally with that median in milliseconds, `slow=0.02` that share of them far longer,
from five times the median on (Pareto), and `factor=8` all of them so many times longer.
"""

import asyncio
import random
import re
import sys
from functools import lru_cache
from typing import Any, ClassVar

import httptools
import uvloop

from tests.bench.scenarios import WORD, WORDS, wanted
from tests.fakes.openai_wire import OpenAIWire

WIRE = OpenAIWire()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
STREAM = re.compile(rb'"stream":\s*true')
ORDER = re.compile(rb"(status|away|median|slow|factor)=([\d.]+)")
SPREAD, TAIL, SLOWEST = 0.5, 1.2, 5.0  # of the logarithms; of Pareto's law; times the median, of a slow one at least


@lru_cache
def whole(status: int = 200) -> bytes:
    body = WIRE.whole([WORD] * WORDS) if status == 200 else WIRE.error(status, None, f"upstream says {status}")
    head = HEAD.replace(b"200 OK", b"%d X" % status)
    return head % (b"application/json", b"content-length: %d" % len(body)) + body


@lru_cache
def stream(frames: int, usage: bool) -> list[bytes]:
    """What is written at each pace: the role goes with the first word, all that ends a stream with the last."""
    role, *words, finish, used, done = WIRE.frames([WORD] * frames)
    end = finish + (used if usage else b"") + done
    head = HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
    parts = [_chunk(word) for word in words]
    parts[0] = head + _chunk(role) + parts[0]
    parts[-1] += _chunk(end) + b"0\r\n\r\n"
    return parts


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    # Of all connections:
    status = 200
    waits: ClassVar[dict[str, float]] = {"median": 0.0, "slow": 0.0, "factor": 1.0}
    dice: ClassVar[random.Random] = random.Random(7)
    open: ClassVar[set["Upstream"]] = set()
    server: ClassVar["Server"]

    def connection_made(self, transport: Any) -> None:
        Upstream.open.add(self)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._url = b""

    def connection_lost(self, error: Exception | None) -> None:
        Upstream.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._body)
        self._body.clear()
        if self._url.startswith(b"/control"):
            self._transport.write(whole())
            self._obey(self._url)
        elif Upstream.status != 200:
            self._transport.write(whole(Upstream.status))
        else:
            self._answer(body)

    def _obey(self, url: bytes) -> None:
        for name, value in ORDER.findall(url):
            if name == b"status":
                Upstream.status = int(value)
            elif name == b"away":
                Upstream.server.leave(float(value))
            else:
                Upstream.waits[name.decode()] = float(value)

    def abort(self) -> None:
        self._transport.abort()

    def _answer(self, body: bytes) -> None:
        delay, frames, pace = wanted(body)
        delay += self._waits()
        if not frames and STREAM.search(body):  # a whole answer that is asked for as a stream
            frames = WORDS
        if frames:
            parts = stream(frames, b"include_usage" in body)
            begin = self._loop.time() + delay / 1000
            if delay:
                self._loop.call_at(begin, self._write, parts, 0, begin, pace / 1000)
            else:
                self._write(parts, 0, begin, pace / 1000)
        elif delay:
            self._loop.call_later(delay / 1000, self._transport.write, whole())
        else:
            self._transport.write(whole())

    def _waits(self) -> float:
        """Return the milliseconds before an answer, drawn anew."""
        waits, dice = Upstream.waits, Upstream.dice
        if not (median := waits["median"]):
            return 0
        slow = dice.random() < waits["slow"]
        drawn = SLOWEST * dice.paretovariate(TAIL) if slow else dice.lognormvariate(0, SPREAD)
        return median * drawn * waits["factor"]

    def _write(self, parts: list[bytes], at: int, began: float, pace: float) -> None:
        """One part, and the next at its time, counted from the first: what was late does not add up."""
        if self._transport.is_closing():
            return
        self._transport.write(parts[at])
        if (after := at + 1) == len(parts):
            return
        if pace:
            self._loop.call_at(began + after * pace, self._write, parts, after, began, pace)
        else:
            self._loop.call_soon(self._write, parts, after, began, pace)


class Server:
    def __init__(self, port: int):
        self._port = port
        self._away: asyncio.Future[float] | None = None

    def leave(self, seconds: float) -> None:
        if self._away is not None and not self._away.done():
            self._away.set_result(seconds)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._away = loop.create_future()
            server = await loop.create_server(Upstream, "127.0.0.1", self._port, backlog=1024)
            seconds = await self._away
            server.close()
            for connection in list(Upstream.open):
                connection.abort()
            await asyncio.sleep(seconds)


if __name__ == "__main__":
    Upstream.server = Server(int(sys.argv[1]))
    uvloop.run(Upstream.server.run())
