"""uvicorn's real server with a UNIX socket beside its port."""

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from actors.process import CoreSharing
from deployments.ingress.server import protocol, unix_socket
from deployments.ingress.server.protocol import Direct
from deployments.ingress.server.unix_socket import NAME, ServerWithUnixSocket, abstract_name, is_unix, pid_behind
from deployments.ops import start_haproxy

SECONDS = 20.0
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110  # uvicorn tells nobody
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def served(answers: ASGIApp = app, http: Any = "httptools", ways: int = 2) -> AsyncIterator[int]:
    """Serve as Ray Serve does, in so many ways, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = ServerWithUnixSocket(uvicorn.Config(answers, http=http, port=port, log_level="error", lifespan="off"))
        async with asyncio.timeout(SECONDS):
            serving = asyncio.create_task(server.serve([listener]))
            await until(lambda: server.started and len(server.servers) == ways)
            yield port
            server.should_exit = True
            await serving


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    writer.write(request)
    with contextlib.closing(writer):
        return (await reader.read()).split(b"\r\n")[0]


def connected(port: int) -> socket.socket:
    near = socket.socket(socket.AF_UNIX)
    near.setblocking(False)
    try:
        near.connect(abstract_name(port))
    except OSError:
        near.close()
        raise
    return near


async def by_unix_socket(port: int, request: bytes = REQUEST) -> bytes:
    return await answer(*await asyncio.open_unix_connection(sock=connected(port)), request)


async def by_port(port: int, request: bytes = REQUEST) -> bytes:
    return await answer(*await asyncio.open_connection("127.0.0.1", port), request)


def test_one_server_answers_at_both_and_both_end_with_it() -> None:
    async def run() -> None:
        async with served() as port:
            assert await by_port(port) == b"HTTP/1.1 200 OK"
            assert await by_unix_socket(port) == b"HTTP/1.1 200 OK"
            assert start_haproxy.is_ours(start_haproxy.UNIX_SOCKET.format(port=port))
        for ask in (by_unix_socket, by_port):
            with pytest.raises(ConnectionRefusedError):
                await ask(port)

    asyncio.run(run())


HAPROXYS = b"x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
UPGRADE += b"sec-websocket-key: " + b64encode(bytes(16)) + b"\r\n\r\n"


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_request_is_the_same_by_both_and_haproxy_is_known_while_it_has_a_connection(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing = CoreSharing(lambda *_: None)
    monkeypatch.setattr(protocol, "SHARING", sharing)
    scopes, known = list[Scope](), list[dict[int, int]]()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        known.append(dict(sharing._connections))
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        scopes.append(scope)
        await app(scope, receive, send)

    async def run() -> None:
        async with served(noting, protocol.protocol_with(Direct({}))) as port:
            request = REQUEST.replace(b"host: x\r\n", b"host: x\r\n" + HAPROXYS)
            assert await by_port(port, request) == await by_unix_socket(port, request) == b"HTTP/1.1 200 OK"
            assert await by_unix_socket(port, UPGRADE) == b"HTTP/1.1 403 Forbidden"
            await until(lambda: not sharing._connections)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    assert known == [{}, {os.getpid(): 1}, {}]
    first, second = ({name: scope[name] for name in ("client", "server", "scheme")} for scope in scopes)
    assert first == second
    assert (first["client"], first["scheme"]) == (("9.9.9.9", 0), "https")


def test_a_process_of_another_user_is_not_taken_for_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return one

    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert is_unix(Transport())
        assert pid_behind(Transport()) == os.getpid()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert pid_behind(Transport()) is None
        one.getpeername()  # it is still open


@pytest.mark.parametrize(("most", "opened"), [("128", 1), ("4096", 2)])
def test_where_the_kernel_lets_few_wait_the_port_is_the_only_way(
    most: str, opened: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "somaxconn").write_text(f"{most}\n")
    monkeypatch.setattr(unix_socket, "_SOMAXCONN", tmp_path / "somaxconn")

    async def run() -> None:
        async with served(ways=opened) as port:
            assert await by_port(port) == b"HTTP/1.1 200 OK"

    asyncio.run(run())
    assert ("net.core.somaxconn is 128" in caplog.text) == (opened == 1)


def test_a_name_that_is_taken_leaves_the_port(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        asyncio.run(without_name(caplog))


async def without_name(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as taken:
        port = listener.getsockname()[1]
        taken.bind(abstract_name(port))
        server = ServerWithUnixSocket(uvicorn.Config(app, log_level="error", lifespan="off"))
        async with asyncio.timeout(SECONDS):
            serving = asyncio.create_task(server.serve([listener]))
            await until(lambda: bool(caplog.messages))
            assert await by_port(port) == b"HTTP/1.1 200 OK"
            server.should_exit = True
            await serving
    assert f"HAProxy reaches port {port} by TCP" in caplog.text


def test_haproxy_takes_no_name_that_another_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as listener:
        number = port.getsockname()[1]
        listener.bind(abstract_name(number))
        listener.listen()
        name = start_haproxy.UNIX_SOCKET.format(port=number)
        assert start_haproxy.is_ours(name)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert not start_haproxy.is_ours(name)
        listener.close()
        assert not start_haproxy.is_ours(name)


def test_both_ends_have_one_name() -> None:
    assert start_haproxy.UNIX_SOCKET == NAME
