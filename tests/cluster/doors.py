"""One request through any door, and all that its client can see of how it ended."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2

from tests.cluster.conftest import Cluster
from tests.cluster.replies import APIS, Api, Reply


class Doors:
    """All doors of one application. The handle lives on a running loop, as a driver script's does."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._http = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=60)

    def close(self) -> None:
        self._http.close()

    def ask(self, door: str, body: dict[str, Any], timeout: float | None = None) -> Reply:
        reply, began = Reply(), time.monotonic()
        if door in APIS:
            self._ask_http(APIS[door], reply, body, timeout)
        else:
            self._cluster.run(self._ask_handle(reply, body, timeout))
        reply.seconds = time.monotonic() - began
        return reply

    @contextlib.contextmanager
    def left_alone(self, door: str, body: dict[str, Any], *, after_content: bool) -> Iterator[None]:
        """A request whose client goes away when the block ends."""
        if door in APIS:
            with self._left_http(APIS[door], body, after_content):
                yield
            return
        stop = self._cluster.run(self._left_handle(body, after_content))
        yield
        self._cluster.run(stop())

    @contextlib.contextmanager
    def _left_http(self, api: Api, body: dict[str, Any], after_content: bool) -> Iterator[None]:
        headers, body = {"content-type": "application/json"}, api.request(body)
        url = f"{self._cluster.url}{api.path}"
        if after_content:
            with self._http.stream("POST", url, json=body, headers=headers) as response:
                parts = response.iter_bytes()
                next(parts)
                yield  # with `parts` still alive: an iterator that is forgotten closes its response
            return
        # A bare connection, because a client library has nothing to leave before the headers have come.
        host, port = self._cluster.url.removeprefix("http://").split(":")
        data = json.dumps(body).encode()
        lines = [f"POST {api.path} HTTP/1.1", "host: localhost", "content-type: application/json"]
        head = "\r\n".join([*lines, f"content-length: {len(data)}", "", ""])
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(head.encode() + data)
            yield

    def _ask_http(self, api: Api, reply: Reply, body: dict[str, Any], timeout: float | None) -> None:
        headers = {} if timeout is None else {"x-request-timeout-seconds": str(timeout)}
        response = self._http.post(f"{self._cluster.url}{api.path}", json=api.request(body), headers=headers)
        reply.read(response, api)

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
