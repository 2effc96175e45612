"""A provider on a real socket, as raw HTTP/1.1: what a test says, byte for byte.

Runs on a thread of its own, so that the same object serves pure tests and a Ray cluster. A vendor
says what its bytes look like; a `Behaviour` says what becomes of them.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.fakes.going_on import told
from tests.fakes.tool_use import Called, Mind, Talk, Turn, pieces
from tests.fakes.vendors import Rule, first_refusal


class Vendor(Protocol):
    stream_type: str

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool: ...

    def whole(self, words: Sequence[str]) -> bytes: ...

    def frames(self, words: Sequence[str]) -> list[bytes]:
        """The stream: an opening, one frame a word, then what ends it."""
        ...

    def closing(self) -> int:
        """How many of the last frames end the stream."""
        ...

    def error(self, status: int, code: str | None, message: str) -> bytes: ...

    def in_band_error(self, code: str | None = None) -> bytes: ...

    def malformed(self) -> bytes:
        """A frame that is none."""
        ...

    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        """Body and headers, if it is embeddings that are asked for."""
        ...

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        """Why the real API would refuse this request."""
        ...

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        """What the model calls: something if tools are offered and none has just answered."""
        ...

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes: ...

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]: ...

    def talk(self, body: Mapping[str, Any]) -> Talk:
        """Return the conversation as a `Mind` sees it."""
        ...

    # And `told_whole(body, answer)` and `told_frames(body, frames)`, where an answer tells of its request's options.


@dataclass(frozen=True)
class Behaviour:
    """What becomes of a request. `after`: how many frames go out before it happens (streams)."""

    # answer | endless | status | hang | reset | cut | stall | no_end | in_band | malformed | raw
    kind: str = "answer"
    status: int = 200
    code: str | None = None
    message: str | None = None  # of an error
    headers: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    raw: bytes = b""
    content_type: str = "application/json"
    pace: float = 0.0  # seconds between frames
    streamed: "Behaviour | None" = None  # what becomes of a request for a stream instead
    until: threading.Event | None = None  # set: what was endless comes to its end


ANSWER = Behaviour()


def status(code: int, vendor_code: str | None = None, **headers: str) -> Behaviour:
    return Behaviour(
        "status", status=code, code=vendor_code, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""
    gone: threading.Event = field(default_factory=threading.Event)  # the client closed the connection
    gone_at: float = 0.0  # on time.monotonic
    finished: threading.Event = field(default_factory=threading.Event)  # we said all there was to say
    sent: int = 0  # frames of a stream that went out
    beside: int = 0  # requests that were under way when it came, with itself

    @property
    def route(self) -> str:
        """The path without its query, which a gateway before a vendor may want."""
        return self.path.partition("?")[0]

    @property
    def under_way(self) -> bool:
        return not (self.finished.is_set() or self.gone.is_set())

    def leave(self) -> None:
        self.gone_at = time.monotonic()
        self.gone.set()


class FakeServer:
    """`behave` is read at each request; `script` is used up before it, by requests that are not refused.

    `rules` are the vendor's (tests/fakes/vendors): what one of them refuses is not answered. `refused` has their names.
    A `mind` says what is answered, where there is one: else each tool is called once, and then come the `words`. With
    a `text` that is told, and gone on with: see going_on.py.
    """

    def __init__(
        self,
        vendor: Vendor,
        words: Sequence[str] = ("Paris", " is", " the", " capital", "."),
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ):
        self._tls, self._host = tls, host
        self.vendor = vendor
        self._words = words
        self.words = list(words)
        self.mind: Mind | None = None
        self.text: str | None = None
        self.behave = ANSWER
        self.script: list[Behaviour] = []
        self.received: list[Received] = []
        self.objections: list[str] = []
        self.rules: Sequence[Rule] = ()
        self.refused: list[str] = []
        self.arrived = threading.Event()
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = port
        self.listen()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://{self._host}:{self.port}"

    def reset(self) -> None:
        """Back to answering, with nothing remembered."""
        self.behave, self.script, self.received, self.objections = ANSWER, [], [], []
        self.rules, self.refused, self.mind, self.text = (), [], None, None
        self.words = list(self._words)
        self.arrived.clear()
        if self._server is None:
            self.listen()

    def change(self, behave: Behaviour, script: Sequence[Behaviour] = ()) -> None:
        """Behave in another way from the next request on, while requests are under way; forget what was received."""
        self._do(self._change(behave, script))

    async def _change(self, behave: Behaviour, script: Sequence[Behaviour]) -> None:
        self.behave, self.script = behave, list(script)
        self.received, self.objections, self.refused = [], [], []

    def listen(self) -> None:
        self._do(self._listen())

    def refuse(self) -> None:
        """Stop listening: connections are refused from now on, and the open ones are cut."""
        self._do(self._refuse())

    def stop(self) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    async def _listen(self) -> None:
        # A vendor takes a burst; with asyncio's own backlog of 100 it may be met with resets.
        self._server = await asyncio.start_server(
            self._serve, self._host, self.port, limit=2**24, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        request = None
        try:
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                request.beside = sum(r.under_way for r in self.received)
                self.arrived.set()
                behaviour = self._next(request)
                if not await self._answer(request, behaviour, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            if request is not None:
                request.leave()
        except asyncio.CancelledError:
            return
        finally:
            self._open.discard(writer)
            writer.close()

    def _next(self, request: Received) -> Behaviour:
        """Return what becomes of a request. One that the real API would refuse uses up nothing of the script."""
        if not self.script:
            return self._checked(request, self.behave)
        refusals = len(self.refused) + len(self.objections)
        behaviour = self._checked(request, self.script[0])
        if len(self.refused) + len(self.objections) == refusals:
            del self.script[0]
        return behaviour

    def _checked(self, request: Received, b: Behaviour) -> Behaviour:
        """An answer only to what the real API would answer."""
        if b.kind == "answer" and (found := first_refusal(self.rules, request)) is not None:
            name, refusal = found
            self.refused.append(name)
            return Behaviour("raw", status=refusal.status, raw=refusal.raw, headers=refusal.headers)
        if b.kind == "answer" and (made := self.vendor.embedded(request.route, request.body)) is not None:
            return Behaviour("raw", raw=made[0], headers=made[1])
        objection = self._objection(request) if b.kind == "answer" else None
        if objection is None:
            return b
        self.objections.append(objection)
        return status(400)

    def _objection(self, request: Received) -> str | None:
        """Return why the real API would refuse the request, whatever JSON stands in it."""
        try:
            return self.vendor.objection(request.route, request.body)
        except (LookupError, TypeError, AttributeError) as error:
            return f"a value of a wrong type ({error})"

    def _turn(self, request: Received) -> Turn:
        """Return no calls where the tools are none that a fake understands: it answers in words."""
        if self.text is not None:
            anew: bool = getattr(self.vendor, "begins_anew", False)
            return Turn(pieces(told(self.text, request.body, begins_anew=anew)))
        if self.mind is not None:
            return self.mind(self.vendor.talk(request.body))
        try:
            calls = self.vendor.calls(request.body)
        except (LookupError, TypeError, AttributeError):
            calls = []
        return Turn((), calls) if calls else Turn(self.words)

    def _body(self, request: Received) -> bytes:
        turn = self._turn(request)
        body = self.vendor.whole_calls(turn.calls, turn.words) if turn.calls else self.vendor.whole(turn.words)
        tell: Callable[[Mapping[str, Any], bytes], bytes] | None = getattr(self.vendor, "told_whole", None)
        return body if tell is None else tell(request.body, body)

    def _frames(self, request: Received) -> list[bytes]:
        turn = self._turn(request)
        made = self.vendor.frames_calls(turn.calls, turn.words) if turn.calls else self.vendor.frames(turn.words)
        tell: Callable[[Mapping[str, Any], list[bytes]], list[bytes]] | None
        tell = getattr(self.vendor, "told_frames", None)
        return made if tell is None else tell(request.body, made)

    async def _answer(
        self, request: Received, b: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection may be used again."""
        watch = asyncio.ensure_future(reader.read(1)) if b.kind in ("hang", "stall", "no_end") or b.pace else None
        try:
            streamed = self.vendor.wants_stream(request.route, request.body)
            b = b.streamed or b if streamed else b
            alive = await (self._stream if streamed else self._whole)(b, writer, request, watch)
        finally:
            if watch is not None and not watch.cancel() and not watch.cancelled():
                watch.exception()  # a reset that nobody waited for
        request.finished.set()
        return alive and watch is None

    async def _whole(
        self, b: Behaviour, writer: asyncio.StreamWriter, request: Received, watch: "asyncio.Future[bytes] | None"
    ) -> bool:
        match b.kind:
            case "hang" | "stall":
                if b.kind == "stall":
                    writer.write(_head(200, {"content-type": "application/json", "content-length": "999"}))
                assert watch is not None
                await watch
                request.leave()
                return False
            case "reset":
                return _reset(writer)
            case "cut":
                body = self._body(request)
                writer.write(_head(200, {"content-type": "application/json", "content-length": str(len(body))}))
                writer.write(body[: len(body) // 2])
                await writer.drain()
                return _reset(writer)
            case "status":
                body, code = self.vendor.error(b.status, b.code, b.message or f"upstream says {b.status}"), b.status
            case "raw":
                body, code = b.raw, b.status
            case _:
                body, code = self._body(request), 200
        if b.pace:
            await asyncio.sleep(b.pace)
        headers = {"content-type": b.content_type, **self._extra(b), **b.headers, "content-length": str(len(body))}
        writer.write(_head(code, headers) + body)
        await writer.drain()
        return True

    async def _stream(
        self, b: Behaviour, writer: asyncio.StreamWriter, request: Received, watch: "asyncio.Future[bytes] | None"
    ) -> bool:
        if b.kind in ("status", "raw", "reset") or (b.kind == "hang" and not b.after):
            return await self._whole(b, writer, request, watch)
        frames, closing = self._frames(request), self.vendor.closing()
        last = frames[-1]
        if b.kind == "no_end":
            frames = frames[:-closing]
        elif b.kind not in ("answer", "endless"):
            frames = frames[: b.after]
        if b.kind == "in_band":
            frames.append(self.vendor.in_band_error(b.code))
        if b.kind == "malformed":
            frames += [self.vendor.malformed(), *self.vendor.frames(self.words)[b.after :]]
        writer.write(_head(200, {"content-type": self.vendor.stream_type, "transfer-encoding": "chunked", **b.headers}))
        for frame in _endless(frames, closing, b.until) if b.kind == "endless" else frames:
            writer.write(b"%x\r\n%b\r\n" % (len(frame), frame))
            await writer.drain()
            request.sent += 1
            if frame is last:
                request.finished.set()  # for its client too, who does not wait for the pace
            if await _left(watch, b.pace):
                request.leave()
                return False
        if b.kind == "cut":
            return _reset(writer)
        if b.kind == "stall":
            assert watch is not None
            await watch
            request.leave()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _extra(self, b: Behaviour) -> dict[str, str]:
        extra: Callable[[int, str | None], dict[str, str]] | None = getattr(self.vendor, "error_headers", None)
        return extra(b.status, b.code) if extra and b.kind == "status" else {}


def _endless(frames: list[bytes], closing: int, until: threading.Event | None) -> Iterator[bytes]:
    """No buffer on the way holds it, however large the kernel's are."""
    yield from frames[:-closing]
    while until is None or not until.is_set():
        yield frames[-closing - 1]
    yield from frames[-closing:]


async def _left(watch: "asyncio.Future[bytes] | None", seconds: float) -> bool:
    """Wait for the pace; has the client gone meanwhile?"""
    if watch is None or not seconds:
        return False
    done, _ = await asyncio.wait([watch], timeout=seconds)
    return bool(done)


async def _read(reader: asyncio.StreamReader) -> Received | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, json.loads(body) if body else {}, body)


def _head(status_code: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"HTTP/1.1 {status_code} X\r\n{lines}\r\n".encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> bool:
    """A TCP reset rather than a clean close."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
