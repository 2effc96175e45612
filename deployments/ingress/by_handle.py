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
from starlette.types import ASGIApp, Message, Scope

log = logging.getLogger(f"ray.serve.{__name__}")

WAITING = 16  # messages of an answer that its reader has not taken yet


class HttpRequest(TypedDict):
    """A request as an HTTP client would send it. `url` is a path, with a query if there is one."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


class HttpHead(TypedDict):
    """The first item of an answer. All that follow are bytes of its body."""

    status: int
    headers: list[tuple[str, str]]


async def call_by_handle(app: ASGIApp, request: HttpRequest) -> AsyncGenerator[HttpHead | bytes, None]:
    """Yield the head of the answer, then the bytes of its body as they come. Closing it cancels the request."""
    put, answer = anyio.create_memory_object_stream[Message](WAITING)
    bodies = [request["body"]]

    async def receive() -> Message:
        if not bodies:
            await asyncio.Event().wait()  # the client is there until the request is cancelled
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    async def run() -> None:
        async with put:
            try:
                await app(_scope(request), receive, put.send)
            except Exception:  # it has been answered
                log.exception("A request by handle failed by a bug of Breakwater; its client got a 500")

    running = asyncio.create_task(run())
    try:
        async with answer:
            async for message in answer:
                if message["type"] == "http.response.start":
                    yield {"status": message["status"], "headers": _decoded(message["headers"])}
                elif body := message.get("body"):
                    yield body
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


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


def _decoded(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
