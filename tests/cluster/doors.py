"""One request through either door, and all that its client can see of how it ended."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.cluster.conftest import Cluster

DOORS = ("http", "handle")


@dataclass
class Reply:
    seconds: float = 0.0
    status: int = 200
    text: str = ""
    finish: str | None = None
    done: bool = False  # sealed as whole: `[DONE]`, or an end without an error
    error: dict[str, Any] | None = None
    provider: str | None = None
    attempts: int = 0
    usage: dict[str, Any] | None = None
    retry_after: str | None = None
    raw: str = field(default="", repr=False)

    @property
    def whole(self) -> bool:
        """Does it claim to be a whole answer?"""
        return self.error is None and self.done and self.finish is not None

    @property
    def trail(self) -> list[str]:
        return [a["outcome"] for a in (self.error or {}).get("attempts", [])]

    def take(self, data: dict[str, Any]) -> None:
        """One completion or one chunk."""
        if "error" in data:
            self.error, self.status = data["error"], data.get("status", self.status)
            return
        if by := data.get("breakwater"):
            self.provider, self.attempts = by["provider"], by["attempts"]
        self.usage = data.get("usage") or self.usage
        for choice in data["choices"]:
            said = choice.get("delta") or choice.get("message") or {}
            self.text += said.get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish

    def read(self, response: httpx2.Response) -> None:
        """A whole HTTP response."""
        self.status, self.raw = response.status_code, response.text
        self.provider = response.headers.get("x-breakwater-provider")
        self.attempts = int(response.headers.get("x-breakwater-attempts", "0"))
        self.retry_after = response.headers.get("retry-after")
        if response.headers["content-type"].startswith("application/json"):
            self.take(response.json())
            self.done = self.error is None
            return
        for event in response.text.split("\n\n"):
            if event.startswith("data: {"):
                self.take(json.loads(event[6:]))
            elif event == "data: [DONE]":
                self.done = True
            else:
                assert not event or event.startswith(":"), event


class Doors:
    """Both doors of one application. The handle lives on a running loop, as a driver script's does."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._http = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=60)

    def close(self) -> None:
        self._http.close()

    def ask(self, door: str, body: dict[str, Any], timeout: float | None = None) -> Reply:
        reply, began = Reply(), time.monotonic()
        if door == "http":
            self._ask_http(reply, body, timeout)
        else:
            self._cluster.run(self._ask_handle(reply, body, timeout))
        reply.seconds = time.monotonic() - began
        return reply

    @contextlib.contextmanager
    def left_alone(self, door: str, body: dict[str, Any], *, after_content: bool) -> Iterator[None]:
        """A request whose client goes away when the block ends."""
        if door == "http":
            with self._left_http(body, after_content):
                yield
            return
        stop = self._cluster.run(self._left_handle(body, after_content))
        yield
        self._cluster.run(stop())

    @contextlib.contextmanager
    def _left_http(self, body: dict[str, Any], after_content: bool) -> Iterator[None]:
        headers = {"content-type": "application/json"}
        url = f"{self._cluster.url}/v1/chat/completions"
        if after_content:
            with self._http.stream("POST", url, json=body, headers=headers) as response:
                parts = response.iter_bytes()
                next(parts)
                yield  # with `parts` still alive: an iterator that is forgotten closes its response
            return
        # A bare connection, because a client library has nothing to leave before the headers have come.
        host, port = self._cluster.url.removeprefix("http://").split(":")
        data = json.dumps(body).encode()
        lines = ["POST /v1/chat/completions HTTP/1.1", "host: localhost", "content-type: application/json"]
        head = "\r\n".join([*lines, f"content-length: {len(data)}", "", ""])
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(head.encode() + data)
            yield

    def _ask_http(self, reply: Reply, body: dict[str, Any], timeout: float | None) -> None:
        headers = {} if timeout is None else {"x-request-timeout-seconds": str(timeout)}
        response = self._http.post(f"{self._cluster.url}/v1/chat/completions", json=body, headers=headers)
        reply.read(response)

    async def _ask_handle(self, reply: Reply, body: dict[str, Any], timeout: float | None) -> None:
        from ray import serve

        handle = serve.get_app_handle("llm")
        if not body.get("stream"):
            reply.take(await handle.chat.remote(body, timeout))
        else:
            async for chunk in handle.options(stream=True).stream_chat.remote(body, timeout):
                assert reply.error is None, "something came after an error"
                reply.take(chunk)
        reply.done = reply.error is None

    async def _left_handle(self, body: dict[str, Any], after_content: bool) -> Any:
        from ray import serve

        handle = serve.get_app_handle("llm")
        if body.get("stream"):
            response: Any = handle.options(stream=True).stream_chat.remote(body)
            waiting = asyncio.ensure_future(anext(response))
            if after_content:
                await waiting
        else:
            response = handle.chat.remote(body)
            waiting = asyncio.ensure_future(_awaited(response))

        async def stop() -> None:
            response.cancel()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

        return stop


async def _awaited(response: Any) -> Any:
    return await response
