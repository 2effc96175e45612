"""A deployment with the plain contract of kind `serve`, whose answers are those of a `FakeServer` of OpenAI's wire.

So each behaviour of a fake is one of a deployment: a status is a dict with `error`, a connection that breaks is an
exception, and what comes in mid-stream goes on as it came. As an object it is a port of the adapter; a test makes a
Serve deployment of the same class.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from deployments.providers.serve.failures import raised
from deployments.providers.serve.port import ENDED, About, Items


class Relay:
    def __init__(self, url: str):
        self._url = url

    async def chat(self, request: dict[str, Any]) -> Any:
        """Return a dict, or an async generator of server-sent events as bytes."""
        return self._events(request) if request.get("stream") else await self._whole("chat/completions", request)

    async def embeddings(self, request: dict[str, Any]) -> Any:
        return await self._whole("embeddings", request)

    async def _whole(self, path: str, request: dict[str, Any]) -> Any:
        async with self._session() as session, session.post(f"{self._url}/v1/{path}", json=request) as answer:
            return self._error_of(answer, await answer.read()) or await answer.json(content_type=None)

    async def _events(self, request: dict[str, Any]) -> AsyncGenerator[Any, None]:
        async with self._session() as session, session.post(f"{self._url}/v1/chat/completions", json=request) as answer:
            if (error := self._error_of(answer, b"" if answer.ok else await answer.read())) is not None:
                yield error
                return
            with contextlib.suppress(aiohttp.ClientPayloadError):  # a stream that is cut just ends
                async for data in answer.content.iter_any():
                    yield data

    def headers(self) -> dict[str, str]:
        """Return what the fake is told beside the request."""
        return {}

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), headers=self.headers())

    def _error_of(self, answer: aiohttp.ClientResponse, body: bytes) -> dict[str, Any] | None:
        if answer.ok:
            return None
        after = answer.headers.get("retry-after")
        more = {} if after is None else {"retry_after": float(after)}
        return {"status": answer.status, **json.loads(body), **more}


class RelayPort:
    """The relay without Serve between: what its methods raise is read as what Serve's would be."""

    def __init__(self, relay: Any):
        self.relay = relay
        self.asked: list[tuple[str, About]] = []

    async def ask(self, method: str, request: dict[str, Any], about: About) -> Any:
        self.asked.append((method, about))
        try:
            return await getattr(self.relay, method)(request)
        except Exception as error:
            raise raised(error) from error

    async def stream(self, method: str, request: dict[str, Any], about: About) -> Items:
        self.asked.append((method, about))
        return _Items(await getattr(self.relay, method)(request))


class _Items:
    def __init__(self, items: AsyncGenerator[Any, None]):
        self._items = items
        self.closed = False

    async def next(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            return ENDED
        except Exception as error:
            raise raised(error) from error

    def close(self) -> None:
        self.closed = True
