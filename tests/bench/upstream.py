"""The upstream of every system: OpenAI's wire with nothing behind it, on httptools and uvloop, in a process of its own.

    python -m tests.bench.upstream PORT

Its bytes are made once. `POST /control?status=500` makes it answer with that status from now on, and
`POST /control?away=9` makes it go for so many seconds: its port refuses, its connections are reset.
"""

import asyncio
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
ORDER = re.compile(rb"(status|away)=([\d.]+)")


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
        found = ORDER.search(url)
        if found is None:
            return
        if found[1] == b"status":
            Upstream.status = int(found[2])
        else:
            Upstream.server.leave(float(found[2]))

    def abort(self) -> None:
        self._transport.abort()

    def _answer(self, body: bytes) -> None:
        delay, frames, pace = wanted(body)
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
