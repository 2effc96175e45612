"""The adapter of Google Gemini through google-genai: generateContent and streamGenerateContent.

The SDK provides endpoints, keys and errors. Its typed models are not used: bodies are the API's own JSON (request.py,
codec.py), over connections of ours. That avoids the SDK's retries, automatic function calling, automatic continuation
(which sends, and bills, again), and a parser that fails at a comment in a stream.
"""

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from google.genai import errors, types
from msgspec import structs

from deployments.aio.gather import gather
from deployments.errors import failed
from deployments.openai_api.chat import Head
from deployments.openai_api.embeddings import Vectors, join_vectors, normalise, texts_of
from deployments.providers.base import Call, Completed, End, Frames, end_of, read_secret
from deployments.providers.credentials.addresses import Vertex, objection_by_generate_content
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.embedding import completed
from deployments.providers.extras import merged
from deployments.providers.google.classify import classify
from deployments.providers.google.codec import StreamCodec, from_generate, to_generate
from deployments.providers.google.endpoint import Endpoints, WithExtras, sdk_over
from deployments.providers.http.request_body import request_body
from deployments.providers.http.timing import note_model
from deployments.providers.http.transport import Transport, UpstreamResponse
from deployments.providers.sse import SseEvents, payloads
from deployments.providers.translated import translated, translating
from deployments.providers.translation.offer import call_limit

MOST_TEXTS = 100  # of one call: Gemini refuses more


class GoogleProvider:
    """`token` is sent as a Bearer token in place of a key, and asked for with each call."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        api_version: str | None = None,
        vertex: Vertex | None = None,
        token: Renewed[str] | None = None,
        connect: float = 3.0,
        connections: int = 1024,
    ):
        self._transport = Transport(connect=connect, connections=connections)
        self.credential = token

        where: dict[str, Any] = {"api_key": api_key, "base_url": base_url, "api_version": api_version, "vertex": vertex}
        if token is not None:
            where["token"] = token.latest
        self._for_sdk = WithExtras(self._transport)
        self._sdk, self._endpoints = sdk_over(self._for_sdk, **where), Endpoints(**where)
        self._on_vertex = vertex is not None

    async def complete(self, call: Call) -> Completed:
        try:
            with contextlib.closing(await self._request(call, stream=False)) as answer:
                data = await answer.whole()
            with translating():
                answered = _object(data)
                note_model(answered.get("modelVersion"))
                return Completed(*from_generate(answered, call))
        except Exception as error:
            raise classify(error, call.body) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        codec, events = StreamCodec(Head.new(call.name), call_limit(call.body)), SseEvents()
        continues, ended = False, False
        try:
            with contextlib.closing(await self._request(call, stream=True)) as answer:
                while not ended:
                    data = await answer.read()
                    ended = not data
                    before = codec.finished
                    whole = events.end() if ended else events.feed(data)
                    batch = translated(codec.frames(_chunk(payload)) for payload in payloads(whole))
                    continues = continues or (before and batch.content)
                    made = batch.data + (codec.end() if ended and codec.finished and batch.error is None else b"")
                    if made or codec.finished:
                        end = _end(codec, call) if codec.finished and not continues else None
                        yield Frames(made, content=batch.content, end=end, told=codec.usage)
                    if batch.error is not None:
                        raise batch.error
                    if events.overlong:
                        raise failed("malformed", "an event of the stream is too long")
        except Exception as error:
            raise classify(error, call.body) from error
        if failure := codec.end_failure:
            raise failure
        yield _end(codec, call)

    async def _request(self, call: Call, *, stream: bool) -> UpstreamResponse:
        """Return the response, whose head has arrived. Raises the SDK's own error for any status but 200."""
        if self._on_vertex and (why := objection_by_generate_content(call.model)) is not None:
            raise failed("unsupported", why, param="model")
        url, headers = await self._endpoints.of(call.model, stream=stream)
        made = to_generate(call)
        if (extras := call.extras) is not None:
            made, url, headers = merged(made, extras.body), extras.add_query(url), dict(extras.add_headers(headers))
        body = await request_body(made, is_long=call.is_long)
        if self.credential is not None:
            token = self.credential.usable() or await self.credential.get()
            headers = {**headers, "authorization": f"Bearer {token}"}
        answer = await self._transport.post(url, headers, body)
        if answer.status == 200:
            return answer
        with contextlib.closing(answer):
            await errors.APIError.raise_for_async_response(await answer.for_sdk())
        raise failed("unclassified", f"HTTP {answer.status}")

    async def embed(self, call: Call) -> Completed:
        if self.credential is not None:
            await self.credential.get()  # the SDK takes what is there
        self._for_sdk.extras = call.extras  # of an embedding they are the provider's, and so always the same
        texts = texts_of(call.body)
        batches = [texts[at : at + MOST_TEXTS] for at in range(0, len(texts), MOST_TEXTS)]
        try:
            parts = await gather(self._embedded(call, batch) for batch in batches)
        except Exception as error:
            raise classify(error, call.body) from error
        vectors, tokens = join_vectors(parts)
        # Gemini scales only its longest vectors to length one.
        return completed(call, [normalise(v) for v in vectors], tokens)

    async def _embedded(self, call: Call, texts: list[str]) -> Vectors:
        response = await self._sdk.aio.models.embed_content(
            model=call.model,
            contents=[types.Content(parts=[types.Part(text=text)]) for text in texts],
            config=types.EmbedContentConfig(output_dimensionality=call.body.get("dimensions")),
        )
        made = response.embeddings or []
        return [e.values or [] for e in made], _tokens_of(response, made)

    async def close(self) -> None:
        if self.credential is not None:
            await self.credential.close()
        await self._sdk.aio.aclose()
        await self._endpoints.close()
        await self._transport.aclose()


class GoogleSettings(Protocol):
    api_key_env: str
    base_url: str | None
    api_version: str | None

    def vertex_address(self) -> Vertex | None: ...

    def google_file(self) -> str | None: ...


def build(settings: GoogleSettings, connect: float) -> GoogleProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    where: dict[str, Any] = {"base_url": settings.base_url, "api_version": settings.api_version, "connect": connect}
    vertex = settings.vertex_address()
    if vertex is None or vertex.express:
        return GoogleProvider(api_key=read_secret(settings.api_key_env), vertex=vertex, **where)
    from deployments.providers.credentials.google import google_token, on_vertex

    identity, vertex = on_vertex(vertex, settings.google_file())
    return GoogleProvider(vertex=vertex, token=google_token(identity), **where)


def _tokens_of(response: types.EmbedContentResponse, made: list[types.ContentEmbedding]) -> int | None:
    """Return the tokens of the texts, None if they are not told. Vertex AI's older models tell those of each text."""
    if response.usage_metadata is not None:
        return response.usage_metadata.prompt_token_count
    counts = [e.statistics.token_count for e in made if e.statistics and e.statistics.token_count is not None]
    return round(sum(counts)) if counts and len(counts) == len(made) else None


def _end(codec: StreamCodec, call: Call) -> End:
    end = end_of(codec.head, codec.usage, call)
    return structs.replace(end, tail=codec.tail + end.tail)


def _chunk(payload: bytes) -> dict[str, Any]:
    chunk = _object(payload)
    note_model(chunk.get("modelVersion"))
    if error := chunk.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        errors.APIError.raise_error(code if isinstance(code, int) else 500, chunk, None)
    return chunk


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
        data = data[0] if isinstance(data, list) and len(data) == 1 else data  # as some errors come
    except (ValueError, RecursionError):
        raise failed("malformed", "the provider's answer is not JSON that can be read", status=200) from None
    if not isinstance(data, dict):
        raise failed("malformed", "the provider's answer is not an object", status=200)
    return data
