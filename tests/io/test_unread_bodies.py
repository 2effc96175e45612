"""What a real server does with a body that nobody read: the connection ends, or the next request is whole."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deployments.ingress.body.unread_bodies import UnreadBodies

SECONDS = 30.0
CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
MOST = 2000  # of them: 130 MB, far more than all buffers on the way hold


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, whatever is still to come."""
    await Response(scope["path"], 415)(scope, receive, send)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(UnreadBodies(refuse), log_level="warning", lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            server.should_exit = True
            await serving


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return head, await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))


def test_a_body_without_end_ends_with_its_connection() -> None:
    async def main() -> int:
        sent = 0
        async with asyncio.timeout(SECONDS), connected() as (reader, writer):
            writer.write(b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNK)
            head, _ = await answer(reader)
            with contextlib.suppress(ConnectionError):
                while sent < MOST:
                    writer.write(CHUNK)
                    await writer.drain()
                    sent += 1
            assert b"connection: close" in head
            return sent

    assert asyncio.run(main()) < MOST, "the server read on"


def test_a_small_body_that_nobody_read_leaves_the_next_request_whole() -> None:
    async def main() -> None:
        async with asyncio.timeout(SECONDS), connected() as (reader, writer):
            for path in (b"/a", b"/b"):
                writer.write(
                    b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 21\r\n\r\nGET /c HTTP/1.1\r\n\r\nxy" % path
                )
                head, body = await answer(reader)
                assert (body, b"connection: close" in head) == (path, False)

    asyncio.run(main())
