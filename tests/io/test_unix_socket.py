"""uvicorn's real server with a UNIX socket beside its port."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from deployments.ingress.server.unix_socket import NAME, ServerWithUnixSocket, abstract_name, pid_behind
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
async def served() -> AsyncIterator[int]:
    """Serve as Ray Serve does, and yield the port."""
    server = ServerWithUnixSocket(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.timeout(SECONDS):
            serving = asyncio.create_task(server.serve([listener]))
            await until(lambda: server.started and len(server.servers) == 2)
            yield listener.getsockname()[1]
            server.should_exit = True
            await serving


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
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


async def by_unix_socket(port: int) -> bytes:
    return await answer(*await asyncio.open_unix_connection(sock=connected(port)))


async def by_port(port: int) -> bytes:
    return await answer(*await asyncio.open_connection("127.0.0.1", port))


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


def test_who_is_behind_a_connection_is_known_of_unix_sockets_alone() -> None:
    seen = list[int | None]()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            seen.append(pid_behind(transport))
            cast("asyncio.Transport", transport).abort()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as near, socket.create_server(("127.0.0.1", 0)) as far:
            near.bind(abstract_name(1))
            async with (
                asyncio.timeout(SECONDS),
                await loop.create_unix_server(Protocol, sock=near),
                await loop.create_server(Protocol, sock=far),
            ):
                for connection in (
                    asyncio.open_unix_connection(sock=connected(1)),
                    asyncio.open_connection(*far.getsockname()),
                ):
                    reader, writer = await connection
                    with contextlib.suppress(ConnectionResetError):
                        await reader.read()
                    writer.close()

    for loop in (uvloop.new_event_loop, asyncio.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(run())
    assert seen == [os.getpid(), None] * 2


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
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(abstract_name(1))
        listener.listen()
        name = start_haproxy.UNIX_SOCKET.format(port=1)
        assert start_haproxy.is_ours(name)
        monkeypatch.setattr(start_haproxy.os, "geteuid", lambda: 12345)
        assert not start_haproxy.is_ours(name)
    assert not start_haproxy.is_ours(name)


def test_both_ends_have_one_name() -> None:
    assert start_haproxy.UNIX_SOCKET == NAME
