"""Google Gemini through google-genai: generate_content and generate_content_stream.

The SDK has helpers that would act behind our back: retries, automatic function calling, automatic
continuation (which sends, and bills, again), and a switch to aiohttp when that can be imported. All
are off, and the transport is ours, because the SDK has one number for every kind of timeout.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types
from pydantic import ValidationError

from actors.outcome import Outcome
from deployments.embeddings import Vectors, completed, joined, normalised, texts_of
from deployments.errors import AttemptFailed
from deployments.providers.base import (
    Call,
    Completed,
    End,
    Frames,
    Inbox,
    end_of,
    failed,
    kind_of_status,
    retry_after_of,
)
from deployments.providers.conversation import call_limit
from deployments.providers.google_codec import StreamCodec, from_generate, to_generate
from deployments.providers.timing import answered_by, note_connections
from deployments.together import together
from deployments.wire import Head

MOST_TEXTS = 100  # of one call: Gemini refuses more


class GoogleProvider:
    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        api_version: str | None = None,
        connect: float = 3.0,
        connections: int = 1024,
    ):
        pool = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx2.AsyncClient(
            transport=_Transport(connect, pool), event_hooks={"request": [note_connections]}
        )
        client = genai.Client(
            vertexai=False,
            api_key=api_key,
            http_options=types.HttpOptions(
                base_url=base_url,
                api_version=api_version,
                retry_options=types.HttpRetryOptions(attempts=1),
                httpx_async_client=self._http,
            ),
        )
        self._models = client.aio.models
        self._client = client

    async def complete(self, call: Call) -> Completed:
        try:
            response = await self._models.generate_content(**_arguments(call, raw=True))
            raw = response.sdk_http_response
            answer = _object(raw.body if raw else None)
            answered_by(answer.get("modelVersion"))
            return Completed(*from_generate(answer, call))
        except Exception as error:
            raise classified(error) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec = StreamCodec(Head.new(call.name), call_limit(call.body))
        inbox, goes_on = Inbox(), False
        # The SDK lets a connection go at once only if it is cancelled while it waits for the next
        # chunk; closing its generator does not. So a task waits there, and is what we cancel.
        pump = asyncio.create_task(self._pump(_arguments(call), inbox))
        try:
            while chunks := await inbox.drain():
                before = codec.finished
                made = [codec.frames(chunk) for chunk in chunks]
                goes_on = goes_on or (before and any(content for _, content in made))
                data = b"".join(frames for frames, _ in made)
                if data or codec.finished:
                    end = end_of(codec.head, codec.usage, call) if codec.finished and not goes_on else None
                    yield Frames(data, content=any(content for _, content in made), end=end)
        except Exception as error:
            raise classified(error) from error
        finally:
            pump.cancel()
            await asyncio.wait([pump])
        if not codec.finished:
            raise failed("broken", "the stream ended without a finish reason")
        yield end_of(codec.head, codec.usage, call)

    async def _pump(self, arguments: dict[str, Any], inbox: Inbox) -> None:
        try:
            async for chunk in await self._models.generate_content_stream(**arguments):
                answered_by(chunk.model_version)
                inbox.put(chunk.model_dump(mode="json", by_alias=True, exclude_none=True))
        except Exception as error:
            inbox.end(error)
        else:
            inbox.end()

    async def embed(self, call: Call) -> Completed:
        texts = texts_of(call.body)
        batches = [texts[at : at + MOST_TEXTS] for at in range(0, len(texts), MOST_TEXTS)]
        try:
            parts = await together(self._embedded(call, batch) for batch in batches)
        except Exception as error:
            raise classified(error) from error
        vectors, told = joined(parts)
        # Gemini scales only its longest vectors to length one.
        return completed(call, [normalised(v) for v in vectors], told)

    async def _embedded(self, call: Call, texts: list[str]) -> Vectors:
        response = await self._models.embed_content(
            model=call.model,
            contents=[types.Content(parts=[types.Part(text=text)]) for text in texts],
            config=types.EmbedContentConfig(output_dimensionality=call.body.get("dimensions")),
        )
        told = response.usage_metadata.prompt_token_count if response.usage_metadata else None
        return [e.values or [] for e in response.embeddings or []], told

    async def close(self) -> None:
        await self._client.aio.aclose()
        await self._http.aclose()


class _Transport(httpx2.AsyncHTTPTransport):
    """A connect limit and no read limit: first token, idle and total are kept by whoever calls."""

    def __init__(self, connect: float, limits: httpx2.Limits):
        super().__init__(limits=limits)
        self._timeout = {"connect": connect, "pool": connect, "read": None, "write": None}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions["timeout"] = self._timeout
        return await super().handle_async_request(request)


def _arguments(call: Call, *, raw: bool = False) -> dict[str, Any]:
    contents, options = to_generate(call)
    try:
        config = types.GenerateContentConfig(
            **options,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
            should_return_http_response=raw or None,
        )
    except ValueError as error:
        raise failed("bad_request", f"Google can't take this: {error}", status=400) from None
    return {"model": call.model, "contents": contents, "config": config}


def _object(body: str | None) -> dict[str, Any]:
    try:
        data = json.loads(body or "")
    except ValueError:
        raise failed("malformed", "the answer is not JSON", status=200) from None
    if not isinstance(data, dict):
        raise failed("malformed", "the answer is not an object", status=200)
    return data


_KINDS = {
    "RESOURCE_EXHAUSTED": "throttled",
    "UNAUTHENTICATED": "credential",
    "PERMISSION_DENIED": "credential",
    "NOT_FOUND": "model_missing",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "server_error",
    "INTERNAL": "server_error",
}


def classified(error: Exception) -> AttemptFailed:
    """The SDK's errors by type, code and reason; transport errors come unwrapped."""
    match error:
        case AttemptFailed():
            return error
        case errors.APIError():
            return _api_error(error)
        case ValidationError():
            return failed("malformed", "the answer is of a shape that the SDK does not know", status=200)
        case errors.UnknownApiResponseError() | json.JSONDecodeError() | UnicodeDecodeError():
            return failed("malformed", str(error), status=200)
        case httpx2.PoolTimeout():
            return failed("busy", "our own connections to this provider are all in use")
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return failed("connect", str(error) or type(error).__name__)
        case httpx2.TransportError():
            return failed("broken", str(error) or type(error).__name__)
        case _:
            return failed("unclassified", f"{type(error).__name__}: {error}")


def _api_error(error: errors.APIError) -> AttemptFailed:
    details = _details(error)
    reason = next((d["reason"] for d in details if isinstance(d.get("reason"), str)), None)
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    retry_after = retry_after_of(headers)
    for detail in details:
        retry_after = _seconds(detail.get("retryDelay")) or retry_after
    kind = _KINDS.get(error.status or "") or kind_of_status(error.code or 500, None, retry_after)
    if reason == "API_KEY_INVALID":
        kind = "credential"
    message = error.message or f"HTTP {error.code}"
    if kind == "bad_request" and "exceeds the maximum number of tokens" in message:
        kind = "too_long"  # Google has no code for it
    if kind == "overloaded" and retry_after is not None:
        kind = "throttled"
    outcome = Outcome(kind, status=error.code, message=message, code=reason or error.status, retry_after=retry_after)
    return AttemptFailed(outcome)


def _details(error: errors.APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error", body)
    details = inner.get("details") if isinstance(inner, dict) else None
    return [d for d in details or [] if isinstance(d, dict)]


def _seconds(text: Any) -> float | None:
    """A protobuf duration: "36s"."""
    try:
        return float(str(text).removesuffix("s")) if text else None
    except ValueError:
        return None
