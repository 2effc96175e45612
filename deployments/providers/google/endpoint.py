"""The endpoint and the headers of a call, taken from the request that google-genai would send, once for each model.

The SDK has no public API for it. So it gets a transport that sends nothing, and is asked to generate. A token that
expires is no part of what is kept: the adapter adds the present one to each call.
"""

from collections.abc import Callable
from typing import Any

import google.auth.credentials
import httpx2
from google import genai
from google.genai import types
from yarl import URL

from deployments.newest import Newest
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.extras import Extras

MOST_KEPT = 1000  # a client may name any model

Endpoint = tuple[URL, dict[str, str]]


class HeldToken(google.auth.credentials.Credentials):
    """Credentials of google-auth whose token is renewed elsewhere: the SDK never finds them expired."""

    def __init__(self, token: Callable[[], str | None], quota_project: str | None):
        self._present = token
        super().__init__()  # type: ignore[no-untyped-call]
        self._quota_project_id = quota_project

    @property
    def token(self) -> str:
        return self._present() or "none"

    @token.setter
    def token(self, value: str | None) -> None:
        pass  # the base class clears it

    @property
    def expired(self) -> bool:
        return False

    def refresh(self, request: Any) -> None:
        raise NotImplementedError("the token is renewed beside the calls")


def sdk_over(
    transport: httpx2.AsyncBaseTransport,
    *,
    api_key: str | None,
    base_url: str | None,
    api_version: str | None,
    vertex: Vertex | None = None,
    token: Callable[[], str | None] = lambda: None,
) -> genai.Client:
    options = types.HttpOptions(
        base_url=base_url,
        api_version=api_version,
        retry_options=types.HttpRetryOptions(attempts=1),
        # Without a client of ours it would take aiohttp where that can be imported.
        httpx_async_client=httpx2.AsyncClient(transport=transport),
    )
    if vertex is None or vertex.express:
        return genai.Client(vertexai=vertex is not None, api_key=api_key, http_options=options)
    return genai.Client(
        vertexai=True,
        project=vertex.project,
        location=vertex.location,
        credentials=HeldToken(token, vertex.quota_project),
        http_options=options,
    )


class Endpoints:
    def __init__(self, **where: Any):
        self._sdk = sdk_over(_Unsent(), **where)
        self._known = Newest[tuple[str, bool], Endpoint](MOST_KEPT)

    async def of(self, model: str, *, stream: bool) -> Endpoint:
        """Return the URL of a model's calls, and their headers without a token."""
        if (known := self._known.get((model, stream))) is not None:
            return known
        request = await self._request(model, stream)
        headers = {k: v for k, v in request.headers.items() if k not in _LEFT_OUT}
        endpoint = self._known[model, stream] = URL(str(request.url), encoded=True), headers
        return endpoint

    async def _request(self, model: str, stream: bool) -> httpx2.Request:
        models = self._sdk.aio.models
        config = types.GenerateContentConfig(
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
        )
        try:
            if stream:
                await anext(aiter(await models.generate_content_stream(model=model, contents=".", config=config)))
            else:
                await models.generate_content(model=model, contents=".", config=config)
        except _Ready as ready:
            return ready.request
        raise RuntimeError("google-genai returned without sending a request")

    async def close(self) -> None:
        await self._sdk.aio.aclose()


class WithExtras(httpx2.AsyncBaseTransport):
    """A transport that adds headers and a query to each request of the SDK. `extras` may be set at any time."""

    def __init__(self, inner: httpx2.AsyncBaseTransport):
        self._inner = inner
        self.extras: Extras | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.extras is not None:
            request.headers.update(self.extras.headers)
            request.url = request.url.copy_merge_params(dict(self.extras.query))
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


# Headers that the transport writes itself, and the token.
_LEFT_OUT = frozenset({"host", "connection", "content-length", "accept-encoding", "authorization"})


class _Ready(Exception):
    """The request that the SDK would have sent."""

    def __init__(self, request: httpx2.Request):
        super().__init__(request)
        self.request = request


class _Unsent(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise _Ready(request)
