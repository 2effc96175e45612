"""The adapter of OpenAI, and of each server with its chat completions, through the openai SDK.

The SDK provides keys, endpoints and errors. Its client and its typed models are not used: a body passes through as the
bytes it was, and those models are most of the SDK's cost per call.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Protocol

import httpx2
import openai
from yarl import URL

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.chat import dump
from deployments.openai_api.embeddings import count_inputs, is_cut, lengths_in
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.base import Call, Completed, End, Frames, kind_of_status, read_secret, retry_after_of
from deployments.providers.sse import SseScan
from deployments.providers.timing import note_model, trace_headers
from deployments.providers.transport import Transport, UpstreamResponse, classify_transport_error


class OpenAIProvider:
    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        connect: float = 3.0,
        connections: int = 1024,
        traceparent: bool = False,
    ):
        self._transport = Transport(connect=connect, connections=connections)
        self._sdk = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, http_client=httpx2.AsyncClient(transport=self._transport)
        )
        base = URL(str(self._sdk.base_url), encoded=True)
        self._chat = base.joinpath("chat/completions", encoded=True)
        self._embeddings = base.joinpath("embeddings", encoded=True)
        headers = {**self._sdk.auth_headers, **self._sdk.default_headers}
        self._headers = {k: v for k, v in headers.items() if isinstance(v, str)}
        if base.user is not None:
            self._headers.pop("Authorization", None)  # the URL holds the credentials
        self._strict, self._traceparent = _is_openai(self._sdk.base_url.host), traceparent

    async def complete(self, call: Call) -> Completed:
        data = await self._whole(self._chat, chat_body(call, stream=False, strict=self._strict))
        answer = _answer_of(data)
        note_model(answer.get("model"))
        # To search the bytes for the name costs as much as to write the JSON again.
        return Completed(dump({**answer, "model": call.name}), answer.get("usage"))

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        scan = SseScan(call.name, keep_usage=call.wants_usage)
        finished, done, choices, continues = 0, False, call.body.get("n") or 1, False
        try:
            with contextlib.closing(
                await self._request(self._chat, chat_body(call, stream=True, strict=self._strict))
            ) as answer:
                while data := await answer.read():
                    batch = scan.feed(data)
                    continues = continues or (batch.content and finished >= choices)
                    finished = len(scan.ended)
                    end = End(scan.usage) if finished >= choices and not continues else None
                    if batch.frames or end:
                        yield Frames(batch.frames, content=batch.content or batch.finished > 0, end=end)
                    if batch.error is not None:
                        raise _in_band(batch.error)
                    if batch.malformed:
                        raise failed("malformed", "an event of the stream is not JSON")
                    if batch.done:
                        done = True
                        await _drain(answer)
                        break
        except Exception as error:
            raise classify(error) from error
        finally:
            note_model(scan.model)
        # Without `[DONE]` each choice must have a finish reason.
        if finished < (1 if done else choices):
            raise failed("broken", "the stream ended without a finish reason")
        yield End(scan.usage)

    async def embed(self, call: Call) -> Completed:
        """Return OpenAI's embeddings as they are, except for the model's name."""
        answer = _object_of(await self._whole(self._embeddings, embedding_body(call)))
        note_model(answer.get("model"))
        try:
            lengths = lengths_in(answer)
        except (KeyError, TypeError, ValueError):
            raise failed("malformed", "the answer has no embeddings", status=200) from None
        if (wanted := call.body.get("dimensions")) is not None and lengths != {wanted}:
            raise failed("malformed", f"vectors of {sorted(lengths)} dimensions, and the row has {wanted}", status=200)
        if (inputs := count_inputs(call.body)) != (vectors := len(answer["data"])):
            raise failed("malformed", f"the provider returned {vectors} vectors for {inputs} inputs", status=200)
        return Completed(dump({**answer, "model": call.name}), answer.get("usage"))

    async def _whole(self, url: URL, body: JsonObject) -> bytes:
        try:
            with contextlib.closing(await self._request(url, body)) as answer:
                return await answer.whole()
        except Exception as error:
            raise classify(error) from error

    async def _request(self, url: URL, body: JsonObject) -> UpstreamResponse:
        """Return the response, whose head has arrived. Raises the SDK's own error for any status but 2xx."""
        trace = trace_headers() if self._traceparent else None
        headers = {**self._headers, **trace} if trace else self._headers
        answer = await self._transport.post(url, headers, dump(body), follow=True)
        if 200 <= answer.status < 300:
            return answer
        with contextlib.closing(answer):
            raise self._sdk._make_status_error_from_response(await answer.for_sdk())

    async def close(self) -> None:
        await self._sdk.close()


class OpenAISettings(Protocol):
    base_url: str | None
    traceparent: bool

    def key_env(self) -> str | None: ...


def build(settings: OpenAISettings, connect: float) -> OpenAIProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    return OpenAIProvider(
        api_key=read_secret(settings.key_env()) or "none",
        base_url=settings.base_url,
        connect=connect,
        traceparent=settings.traceparent,
    )


async def _drain(answer: UpstreamResponse) -> None:
    """Read the body's end after `[DONE]`, so that the connection can be reused."""
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(0.1):
            while await answer.read():
                pass


def chat_body(call: Call, *, stream: bool, strict: bool) -> JsonDict:
    body = {**call.body, "model": call.model, "stream": stream}
    if stream:
        # Usage is always requested: the stream's cost must be known. The client gets it if it asked.
        body["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if strict:
        body["messages"] = [_of_openai(message) for message in body["messages"]]
    return body


def _is_openai(host: str) -> bool:
    """Is it OpenAI itself? It refuses fields that a compatible server may have added, and wants back."""
    return host.endswith((".openai.com", ".openai.azure.com"))


_NOT_OPENAIS = frozenset({"reasoning_content", "extra_content"})


def _of_openai(message: JsonObject) -> JsonObject:
    """Return a message without the fields that another provider's answer added to it and to its calls."""
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else None  # OpenAI itself refuses anything but a list
    if not calls and _NOT_OPENAIS.isdisjoint(message):
        return message
    kept = _without(message)
    return {**kept, "tool_calls": [_without(call) for call in calls]} if calls else kept


def _without(value: JsonValue) -> JsonValue:
    return {k: v for k, v in value.items() if k not in _NOT_OPENAIS} if isinstance(value, dict) else value


def embedding_body(call: Call) -> JsonDict:
    body = {**call.body, "model": call.model, "encoding_format": call.body.get("encoding_format") or "float"}
    if body.get("dimensions") is None or not is_cut(call.model):
        body.pop("dimensions", None)  # other models refuse a parameter that they can't change
    return body


def _object_of(data: bytes) -> JsonDict:
    try:
        answer = json.loads(data)
    except ValueError:
        raise failed("malformed", "the answer is not JSON", status=200) from None
    if not isinstance(answer, dict):
        raise failed("malformed", "the answer is not an object", status=200)
    if answer.get("error"):
        error = answer["error"]
        raise _in_band(error if isinstance(error, dict) else {"message": str(error)})
    return answer


def _answer_of(data: bytes) -> JsonDict:
    answer = _object_of(data)
    choices = answer.get("choices")
    ended = isinstance(choices, list) and all(isinstance(c, dict) and c.get("finish_reason") for c in choices)
    if not choices or not ended:
        raise failed("malformed", "the answer has no choice with a finish reason", status=200)
    return answer


def _in_band(error: JsonObject) -> AttemptFailed:
    """Return the failure for an error object under status 200."""
    code = error.get("code")
    status = code if isinstance(code, int) else None
    text = _code_of(code, error.get("type"))
    kind = kind_of_status(status or 500, text, None)
    if text in ("rate_limit_exceeded", "rate_limit_error", "tokens"):
        kind = "throttled"
    message, param = str(error.get("message") or "the stream contains an error without a message"), error.get("param")
    return failed(kind, message, status=status, code=text, param=param if isinstance(param, str) else None)


def classify(error: Exception) -> AttemptFailed:
    """Return the failure for an SDK's exception, by its type, status and code; never by its text."""
    if isinstance(error, AttemptFailed):
        return error
    if isinstance(error, openai.APIStatusError):
        return _http_error(error)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if (found := classify_transport_error(cause)) is not None:
        return found
    return failed("unclassified", f"{type(error).__name__}: {error}")


def _http_error(error: openai.APIStatusError) -> AttemptFailed:
    body: JsonObject = error.body if isinstance(error.body, dict) else {}
    code = _code_of(error.code, body.get("type"))
    retry_after = retry_after_of(error.response.headers)
    return AttemptFailed(
        Outcome(
            kind_of_status(error.status_code, code, retry_after),
            status=error.status_code,
            message=str(body.get("message") or f"HTTP {error.status_code}"),
            code=code,
            type=body["type"] if isinstance(body.get("type"), str) else None,
            param=error.param if isinstance(error.param, str) else None,
            retry_after=retry_after,
        )
    )


def _code_of(code: JsonValue, kind: JsonValue) -> str | None:
    """Return the error's code in OpenAI's words. Some servers only repeat the status as their code."""
    word = code if code and not str(code).isdigit() else kind or code
    return _FOREIGN_CODES.get(str(word), str(word)) if word else None


_FOREIGN_CODES = {"exceed_context_size_error": "context_length_exceeded"}
