"""What goes past Serve is answered as what goes through it, byte for byte, and is counted from its begin to its end.

Both ways are real: uvicorn serves the application over sockets, once with its own protocol and once with ours.
"""

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.breaker.outcomes import Outcome
from deployments.ingress.http import build_server
from deployments.ingress.server.exchange import CLIENT_LEFT, Exchange
from deployments.ingress.server.protocol import Direct, protocol_with
from deployments.ingress.server.utf8_headers import Utf8Headers
from tests.unit.world import ARGS, REQUEST, Script, World, world

SECONDS = 20.0
CHAT = "/v1/chat/completions"
NAME = b"named-by-test"


class Counted:
    """Serve's side of it. `ended` has the status of each request that went the short way."""

    def __init__(self, prefix: str = "/"):
        self.prefix, self.room = prefix, True
        self.under_way, self.ended = 0, list[int]()
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    def has_room(self) -> bool:
        return self.room

    def new_request_id(self) -> str:
        return NAME.decode()

    async def begin(self, request_id: str) -> None:
        self.under_way += 1
        self.begun.set()

    def end(self, status: int, ms: float) -> None:
        assert ms >= 0
        self.under_way -= 1
        self.ended.append(status)
        self.over.set()


class Named:
    """Gives each request a name, as Serve does around what it serves."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = [value for name, value in scope["headers"] if name == b"x-request-id"]
        if not named:
            scope["headers"].append((b"x-request-id", NAME))

        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                name = named[0] if named else NAME
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        await self._app(scope, receive, send_named)


class Served:
    def __init__(self, address: tuple[str, int], w: World, counted: Counted, server: uvicorn.Server):
        self.address, self.world, self.counted, self.server = address, w, counted, server

    async def ask(self, data: bytes, *more: bytes) -> bytes:
        """Send parts of requests, each in a turn of its own, and return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            for part in (data, *more):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02)
            return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def served(*, short: bool, prefix: str = "/", args: Any = ARGS, **scripts: Script) -> AsyncIterator[Served]:
    async with asyncio.timeout(SECONDS), world(args, **scripts) as w:
        app, direct = build_server(w.service)
        counted = Counted(prefix)
        protocol: Any = protocol_with(Direct(direct, counted)) if short else "httptools"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            around = Utf8Headers(Named(app))
            server = uvicorn.Server(uvicorn.Config(around, http=protocol, log_level="error", lifespan="off"))
            serving = asyncio.create_task(server.serve([listener]))
            yield Served(listener.getsockname(), w, counted, server)
            server.should_exit = True
            await serving
        assert counted.under_way == 0


def request(body: Any = REQUEST, path: str = CHAT, *lines: str, last: bool = True, verb: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = [f"Content-Length: {len(data)}"] if not any("ransfer-" in line for line in lines) else []
    fields = ["Host: localhost", "Content-Type: application/json", *length, *lines]
    fields += ["Connection: close"] if last else []
    return "\r\n".join([f"{verb} {path} HTTP/1.1", *fields, "", ""]).encode() + data


STREAM = {**REQUEST, "stream": True}
DOOR = {"model": "default", "input": "Hi"}
MESSAGE = {"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
# What goes the short way; the status that Serve counts.
SHORT: dict[str, tuple[bytes, int]] = {
    "whole": (request(), 200),
    "stream": (request(STREAM), 200),
    "responses": (request(DOOR, "/v1/responses"), 200),
    "a stream of responses": (request({**DOOR, "stream": True}, "/v1/responses"), 200),
    "message": (request(MESSAGE, "/v1/messages"), 200),
    "a stream of a message": (request({**MESSAGE, "stream": True}, "/v1/messages"), 200),
    "no JSON": (request(b"{'a': 1}"), 400),
    "null": (request(b"null"), 400),
    "deep": (request(b"[" * 5000 + b"]" * 5000), 400),
    "no model": (request({**REQUEST, "model": "nobody"}), 404),
    "no object": (request([1]), 400),
    "wrong type": (request().replace(b"application/json", b"text/plain"), 415),
    "wrong choice": (request(REQUEST, CHAT, "x-breakwater-explain: perhaps"), 400),
    "explained": (request(REQUEST, CHAT, "x-breakwater-explain: true"), 200),
    "named": (request(REQUEST, CHAT, "X-Request-ID: mine"), 200),
    "hurried": (request(REQUEST, CHAT, "x-request-timeout-seconds: 5", "x-request-timeout-seconds: x"), 200),
    "wrong deadline": (request(REQUEST, CHAT, "x-request-timeout-seconds: soon"), 400),
    "other site": (request(REQUEST, CHAT, "Sec-Fetch-Site: cross-site"), 403),
    "key of a request": (request(REQUEST, CHAT, "Idempotency-Key: one"), 200),
    "stream by key": (request(STREAM, CHAT, "Idempotency-Key: two"), 200),
}
# What goes the long way.
LONG: dict[str, bytes] = {
    "in chunks": request(b"2\r\n{}\r\n0\r\n\r\n", CHAT, "Transfer-Encoding: chunked"),
    "no body": request(b""),
    "large": request({**REQUEST, "user": "x" * 70_000}),
    "encoded": request(REQUEST, CHAT, "Content-Encoding: gzip"),
    "of a page": request(REQUEST, CHAT, "Origin: http://localhost"),
    "not ASCII": request(REQUEST, CHAT, "x-agent-id: m\u00fcller"),
    "of Serve alone": request(REQUEST, CHAT, "x-request-disconnect-disabled: ?1"),
    "old": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "expects": request(REQUEST, CHAT, "Expect: 100-continue"),
    "other path": request(REQUEST, "/v1/nothing"),
    "odd path": request(REQUEST, "//v1/chat/completions"),
    "with a query": request(REQUEST, CHAT + "?a=b"),
    "GET": request(b"", "/v1/models", verb="GET"),
    "GET of a short way": request(b"", CHAT, verb="GET"),
}


def comparable(answer: bytes) -> tuple[list[bytes], bytes]:
    """Return an answer without what differs each time: the dates, our names of it, times, and how chunks were cut."""
    answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"date:", b"x-breakwater-request-id:"))]
    lines = [line for line in lines if not line.startswith((b"request-id:", b"content-length:"))]
    if b"transfer-encoding: chunked" in lines:
        whole = b""
        while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
            start = body.index(b"\r\n") + 2
            whole, body = whole + body[start : start + size], body[start + size + 2 :]
        assert body == b"0\r\n\r\n"
        body = whole
    return sorted(lines), _without_names(body)


def _without_names(body: bytes) -> bytes:
    """Return a body in which every number and name that is made anew is replaced."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return "made" if isinstance(value, float) or (isinstance(value, int) and value > 10_000) else _unnamed(value)

    def line(text: bytes) -> bytes:
        begin, data = (b"data: ", text[6:]) if text.startswith(b"data: ") else (b"", text)
        try:
            return begin + json.dumps(plain(json.loads(data))).encode()
        except ValueError:
            return text

    return b"\n".join(map(line, body.split(b"\n")))


def _unnamed(value: Any) -> Any:
    if isinstance(value, str) and (value.startswith(("resp_", "msg_", "item_", "req_")) or _is_name(value)):
        return "made"
    return value


def _is_name(value: str) -> bool:
    return len(value) == 16 and all(letter in "0123456789abcdef" for letter in value)


async def both(data: bytes, *more: bytes) -> tuple[bytes, bytes, list[int]]:
    async with served(short=False) as long:
        expected = await long.ask(data, *more)
        assert not long.counted.ended
    async with served(short=True) as short:
        got = await short.ask(data, *more)
    return expected, got, short.counted.ended


@pytest.mark.parametrize("name", SHORT)
def test_the_short_way_answers_as_the_long_way(name: str) -> None:
    data, status = SHORT[name]
    expected, got, counted = asyncio.run(both(data))
    assert counted == [status]
    assert comparable(got) == comparable(expected)


@pytest.mark.parametrize("name", LONG)
def test_what_is_special_goes_the_long_way(name: str) -> None:
    expected, got, counted = asyncio.run(both(LONG[name]))
    assert counted == []
    assert comparable(got) == comparable(expected)


def test_a_body_that_comes_in_parts_goes_the_long_way_and_is_whole() -> None:
    data = request()
    for at in (len(data) - 1, len(data) - 20, data.index(b"\r\n\r\n") + 4, data.index(b"\r\n\r\n") + 2, 10):
        expected, got, counted = asyncio.run(both(data[:at], data[at:]))
        assert comparable(got) == comparable(expected)
        whole_at_once = at < data.index(b"\r\n\r\n") + 4  # the head was not
        assert counted == ([200] if whole_at_once else [])


def test_requests_on_one_connection_are_answered_in_their_order() -> None:
    """One after another goes the short way; those that come before the answer of the first wait their turn."""
    slow = {"aws": Script(seconds=0.1)}

    async def main() -> tuple[bytes, bytes, list[int]]:
        three = [request({**REQUEST, "model": "nobody"}, last=False), request(last=False), request()]
        async with served(short=True) as s:
            in_turn = await s.ask(*three)
        async with served(short=True, **slow) as piped:
            at_once = await piped.ask(request(last=False) + b"".join(three))
        return in_turn, at_once, s.counted.ended

    in_turn, at_once, counted = asyncio.run(main())
    assert counted == [404, 200, 200]
    statuses = [part[:3] for part in in_turn.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"404", b"200", b"200"]
    assert [part[:3] for part in at_once.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200", b"200"]


def test_behind_a_path_of_the_application_it_is_found_there_alone() -> None:
    async def main() -> list[int]:
        async with served(short=True, prefix="/llm") as s:
            await s.ask(request(REQUEST, "/llm" + CHAT))
            await s.ask(request(REQUEST, CHAT))
            s.counted.room = False
            await s.ask(request(REQUEST, "/llm" + CHAT))
            return s.counted.ended

    assert asyncio.run(main()) == [200]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_ends_its_request_at_its_provider(stream: bool, hard: bool) -> None:
    script = Script(seconds=0.0 if stream else 60.0, words=["word "] * 5000, pace=0.01)

    async def main() -> None:
        async with served(short=True, aws=script) as s:
            reader, writer = await asyncio.open_connection(*s.address)
            writer.write(request(STREAM if stream else REQUEST, last=False))
            if stream:
                await reader.readuntil(b"word ")
            await s.counted.begun.wait()
            if hard:
                writer.transport.abort()
            else:
                writer.close()
            await s.counted.over.wait()
            assert s.counted.under_way == 0
            await asyncio.sleep(0)
            assert s.counted.ended == [CLIENT_LEFT]
            assert script.cancelled == 1
            assert not s.server.server_state.tasks

    asyncio.run(main())


def test_a_reader_that_stops_holds_its_stream_up_and_gets_all_of_it() -> None:
    words = ["word " * 200] * 4000  # 4 MB, more than all buffers on the way hold

    async def main() -> bytes:
        async with served(short=True, aws=Script(words=words)) as s:
            reader, writer = await asyncio.open_connection(*s.address, limit=1024)
            writer.write(request(STREAM))
            await asyncio.sleep(0.5)
            assert s.counted.under_way == 1
            got = await reader.read()
            writer.close()
            return got

    got = asyncio.run(main())
    assert got.endswith(b"0\r\n\r\n")
    assert got.count(b"word ") == 200 * 4000
    assert got.count(b"[DONE]") == 1


def test_a_server_that_stops_lets_a_stream_come_to_its_end() -> None:
    async def main() -> bytes:
        async with served(short=True, aws=Script(words=["word "] * 50, pace=0.01)) as s:
            asking = asyncio.create_task(s.ask(request(STREAM, last=False)))
            await s.counted.begun.wait()
            s.server.should_exit = True
            return await asking

    assert b"[DONE]" in asyncio.run(main())


def test_a_bug_of_ours_is_a_500_and_one_in_mid_answer_closes_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    async def main() -> tuple[bytes, bytes, list[int]]:
        async with served(short=True) as s:
            patched: Any = s.world.service
            patched.complete = broken
            first = await s.ask(request())
            answer: Callable[..., Any] = s.world.service.stream

            async def begun(*arguments: Any) -> Any:
                made = await answer(*arguments)
                made._passed = broken
                return made

            patched.stream = begun
            return first, await s.ask(request(STREAM, last=False)), s.counted.ended

    first, second, counted = asyncio.run(main())
    assert first.startswith(b"HTTP/1.1 500")
    assert b"ZeroDivision" not in first + second
    assert not second.endswith(b"0\r\n\r\n"), "an answer that broke off looks whole"
    assert counted[0] == 500


@contextlib.asynccontextmanager
async def answering(response: Callable[[], Response]) -> AsyncIterator[tuple[tuple[str, int], Counted]]:
    """Serve one handler alone, by the short way."""

    async def handle(_: Request) -> Response:
        return response()

    counted = Counted()
    protocol: Any = protocol_with(Direct({CHAT: handle}, counted))
    app: Any = None
    async with asyncio.timeout(SECONDS):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_level="error", lifespan="off"))
            serving = asyncio.create_task(server.serve([listener]))
            yield listener.getsockname(), counted
            server.should_exit = True
            await serving


class Late(Response):
    """Has its head at once, and its body later; or never."""

    def __init__(self, *, ends: bool):
        super().__init__()
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b"late", "more_body": not self._ends})


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    async def main() -> tuple[float, bytes]:
        async with answering(lambda: Late(ends=True)) as (address, _):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request())
            clock = asyncio.get_running_loop().time
            await reader.readuntil(b"\r\n\r\n")
            began = clock()
            body = await reader.read()
            writer.close()
            return clock() - began, body

    apart, body = asyncio.run(main())
    assert apart > 0.1
    assert body == b"4\r\nlate\r\n0\r\n\r\n"


def test_an_answer_that_does_not_end_closes_its_connection() -> None:
    """Its client would wait for the rest, and the server for the connection."""

    async def main() -> bytes:
        async with answering(lambda: Late(ends=False)) as (address, counted):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request(last=False))
            got = await reader.read()
            writer.close()
            assert counted.ended == [200]
            return got

    assert asyncio.run(main()).endswith(b"4\r\nlate\r\n")


def test_nothing_of_a_request_is_left_for_the_collector() -> None:
    async def main() -> list[Any]:
        async with answering(lambda: Response("whole")) as (address, counted):
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(request())
                await reader.read()
                writer.close()
            await asyncio.sleep(0.05)
            assert counted.ended == [200] * 5
            return [each for each in gc.get_objects() if isinstance(each, Exchange)]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main()) == []
    finally:
        gc.enable()


def test_what_a_provider_refuses_is_told_as_on_the_long_way() -> None:
    refused = {name: Script(ends=[Outcome("bad_request", status=400, message="No.")]) for name in ("aws", "openai")}

    async def main() -> tuple[bytes, bytes]:
        async with served(short=False, **refused) as long:
            expected = await long.ask(request())
        async with served(short=True, **refused) as short:
            return expected, await short.ask(request())

    expected, got = asyncio.run(main())
    assert comparable(got) == comparable(expected)
    assert got.startswith(b"HTTP/1.1 400")
