"""The HTTP API by Python handle, for SDKs whose own HTTP client sends its requests there instead. No Ray.

A vendor's SDK inside a Ray actor then needs no port and no key, and speaks the same API.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import TypedDict
from urllib.parse import unquote

import anyio
from starlette.types import ASGIApp, Message, Scope, Send

log = logging.getLogger(f"ray.serve.{__name__}")

WAITING = 16  # messages of an answer that its reader has not taken yet


class HttpRequest(TypedDict):
    """A request as an HTTP client would send it. `url` is a path, with a query if there is one."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


class HttpAnswer(TypedDict):
    """A whole answer, or the first item of one, whose other items are bytes of its body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


async def call_by_handle(app: ASGIApp, request: HttpRequest) -> AsyncGenerator[HttpAnswer | bytes, None]:
    """Yield the head of the answer with the first bytes of its body, then the others as they come.

    An item over a handle costs most of a millisecond, so the head is none. Closing it cancels the request.
    """
    put, answer = anyio.create_memory_object_stream[Message](WAITING)

    async def run() -> None:
        async with put:
            await _run(app, request, put.send)

    running = asyncio.create_task(run())
    try:
        async with answer:
            start: Message | None = None
            async for message in answer:
                if message["type"] == "http.response.start":
                    start = message
                elif start is not None:
                    yield _answer(start, message.get("body", b""))
                    start = None
                elif body := message.get("body"):
                    yield body
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def answer_by_handle(app: ASGIApp, request: HttpRequest) -> HttpAnswer:
    """Return the whole answer as one. It costs half as much as the same in pieces."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await _run(app, request, send)
    start, *parts = sent
    return _answer(start, b"".join(part.get("body", b"") for part in parts))


async def _run(app: ASGIApp, request: HttpRequest, send: Send) -> None:
    bodies = [request["body"]]

    async def receive() -> Message:
        if not bodies:
            await asyncio.Event().wait()  # the client is there until the request is cancelled
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    try:
        await app(_scope(request), receive, send)
    except Exception:  # it has been answered
        log.exception("A request by handle failed by a bug of Breakwater; its client got a 500")


def _scope(request: HttpRequest) -> Scope:
    path, _, query = request["url"].partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": request["method"],
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request["headers"]],
        "client": None,
        "server": None,
    }


def _answer(start: Message, body: bytes) -> HttpAnswer:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return {"status": start["status"], "headers": headers, "body": body}
