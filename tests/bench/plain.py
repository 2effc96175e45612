"""The same way of a request in plain Ray Serve, as its guide composes deployments: what Serve itself costs. Ray.

An ingress passes each chat to a deployment by handle, and that asks the upstream. There is no breaker, no failover, no
ledger, no check and no record.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from ray import serve
from ray.serve.handle import DeploymentHandle

MOST = 1000  # calls under way, so that nothing waits for Serve's own limit of 5
JSON = {"content-type": "application/json"}
app = FastAPI()


@serve.deployment(name="first", max_ongoing_requests=MOST, ray_actor_options={"num_cpus": 0.1})
class Provider:
    def __init__(self, url: str):
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    def _post(self, body: bytes) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session.post(f"{self._url}/chat/completions", data=body, headers=JSON)

    async def complete(self, body: bytes) -> bytes:
        async with self._post(body) as answer:
            whole: bytes = await answer.read()
            return whole

    async def stream(self, body: bytes) -> AsyncIterator[bytes]:
        async with self._post(body) as answer:
            async for piece in answer.content.iter_any():
                yield piece


@serve.deployment(name="Ingress", max_ongoing_requests=MOST, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(app)
class Ingress:
    def __init__(self, provider: DeploymentHandle):
        self._provider = provider

    @app.post("/v1/chat/completions")
    async def chat(self, request: Request) -> Response:
        body = await request.body()
        if (await request.json()).get("stream"):
            frames = self._provider.options(stream=True).stream.remote(body)
            return StreamingResponse(frames, media_type="text/event-stream")
        return Response(await self._provider.complete.remote(body), media_type="application/json")


def build(args: dict[str, Any]) -> Any:
    return Ingress.bind(Provider.bind(args["url"]))
