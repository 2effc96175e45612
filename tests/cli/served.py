"""Real HTTP servers on this machine, for the command that asks them.

`Serving` runs an ASGI application in a thread. `Book` is one that answers by a table: for the examples
of the page, and for what other servers and proxies say. It notes what it was asked.
"""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn

SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Book:
    """`pages` maps paths to data, to a Reply, or to what makes either of a question. Others go to `behind`."""

    pages: dict[str, Any] = field(default_factory=dict)
    behind: Any = None
    asked: list[Asked] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)  # the bodies of the answers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode()))
        asked = Asked(scope["method"], scope["raw_path"].decode(), query, headers, body)
        self.asked.append(asked)
        if (page := self.pages.get(asked.path)) is None and self.behind is not None:
            return await self.behind(scope, _once(body), self._noting(send))
        if page is None:
            page = Reply(b'{"error":{"message":"There is no such route."}}', 404)
        told = page(asked) if callable(page) else page
        reply = told if isinstance(told, Reply) else Reply(json.dumps(told).encode())
        kind = [(b"content-type", reply.kind.encode()), *reply.headers]
        send = self._noting(send)
        await send({"type": "http.response.start", "status": reply.status, "headers": kind})
        await send({"type": "http.response.body", "body": reply.body})

    def _noting(self, send: Any) -> Any:
        async def noting(message: Any) -> None:
            if "body" in message:
                self.sent.append(message["body"])
            await send(message)

        return noting


def _once(body: bytes) -> Any:
    told = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in told:
            return message
        await asyncio.Event().wait()

    return receive


@contextlib.contextmanager
def serving(make: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[tuple[str, Any]]:
    """Serve the application that `make` yields, beside what it yields it with. Yields the URL and the latter."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready, made = threading.Event(), list[Any]()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with make() as (app, world):
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
            task = asyncio.create_task(server.serve([listener]))
            made.append(world)
            stop.append(lambda: loop.call_soon_threadsafe(over.set))
            ready.set()
            await over.wait()
            server.should_exit = server.force_exit = True
            await task

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", made[0]
    finally:
        for end in stop:
            end()
        thread.join(SECONDS)
        listener.close()


@contextlib.asynccontextmanager
async def alone(book: Book) -> AsyncIterator[tuple[Book, Book]]:
    yield book, book
