"""The adapter of OpenAI, and of each server with its chat completions, through the openai SDK.

The SDK provides keys, endpoints and errors. Its client and its typed models are not used: a body passes through as the
bytes it was, and those models are most of the SDK's cost per call.
"""

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

import httpx2

from deployments.openai_api.json_types import JsonObject
from deployments.providers.base import Call, read_secret
from deployments.providers.credentials.addresses import Azure, Vertex
from deployments.providers.credentials.identities import EntraIdentity
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.extras import merged
from deployments.providers.http.request_body import request_body
from deployments.providers.http.timing import trace_headers
from deployments.providers.http.transport import Transport, UpstreamResponse
from deployments.providers.openai.compatible import Compatible
from deployments.providers.openai.server import Server


class OpenAIProvider(Compatible):
    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        azure: Azure | None = None,
        token: Renewed[str] | None = None,
        more: Mapping[str, str] | None = None,
        connect: float = 3.0,
        connections: int = 1024,
        traceparent: bool = False,
    ):
        self._transport = Transport(connect=connect, connections=connections)
        client = httpx2.AsyncClient(transport=self._transport)
        self._server = Server(client, api_key=api_key, base_url=base_url, azure=azure, token=token, more=more)
        super().__init__(self._server.host)
        self._traceparent = traceparent
        self.credential = token

    async def _request(self, operation: str, body: JsonObject, call: Call) -> UpstreamResponse:
        """Return the response, whose head has arrived. Raises the SDK's own error for any status but 2xx."""
        server = self._server
        headers = await server.headers()
        if self._traceparent and (trace := trace_headers()):
            headers = {**headers, **trace}
        if (name := server.name_of(body["model"])) != body["model"]:
            body = {**body, "model": name}
        url, follow = server.url(operation, name), server.follows
        if (extras := call.extras) is not None:
            body = body if operation == "embeddings" else merged(body, extras.body)
            url, headers = extras.add_query(url), extras.add_headers(headers)
            follow = follow and not extras.headers  # one of them may be a key
        data = await request_body(body, is_long=call.is_long)
        answer = await self._transport.post(url, headers, data, follow=follow)
        if 200 <= answer.status < 300:
            return answer
        with contextlib.closing(answer):
            raise server.sdk._make_status_error_from_response(await answer.for_sdk())

    async def close(self) -> None:
        if self.credential is not None:
            await self.credential.close()
        await self._server.sdk.close()


class OpenAISettings(Protocol):
    base_url: str | None
    traceparent: bool

    def key_env(self) -> str | None: ...

    def azure_address(self) -> Azure | None: ...

    def entra(self) -> EntraIdentity | None: ...

    def vertex_address(self) -> Vertex | None: ...

    def google_file(self) -> str | None: ...


def build(settings: OpenAISettings, connect: float) -> OpenAIProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    return OpenAIProvider(**arguments_of(settings, connect))


def arguments_of(settings: OpenAISettings, connect: float) -> dict[str, Any]:
    """Return the arguments of the adapter of a configured provider."""
    return {
        "api_key": read_secret(settings.key_env()) or "none",
        "base_url": settings.base_url,
        "azure": settings.azure_address(),
        "connect": connect,
        "traceparent": settings.traceparent,
        **_with_token(settings),
    }


def _with_token(settings: OpenAISettings) -> dict[str, Any]:
    """Return what differs where a token is sent in place of a key. Its SDK is imported only here."""
    if (entra := settings.entra()) is not None:
        from deployments.providers.credentials.entra import entra_token

        return {"token": entra_token(entra)}
    if (vertex := settings.vertex_address()) is not None:
        from deployments.providers.credentials.google import google_token, on_vertex

        identity, vertex = on_vertex(vertex, settings.google_file())
        more = {} if vertex.quota_project is None else {"x-goog-user-project": vertex.quota_project}
        base_url = settings.base_url or vertex.openai_url
        return {"token": google_token(identity), "base_url": base_url, "more": more}
    return {}
