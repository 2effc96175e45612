"""The adapter of Anthropic's Messages API.

No SDK of the vendor is needed: an address, five headers and a key are all that it knows of a call. Bodies are the API's
own JSON (request.py, codec.py), over connections of ours.
"""

import contextlib
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Protocol

from actors.breaker.outcomes import Outcome
from deployments.errors import failed
from deployments.openai_api.chat import Head, max_tokens_of
from deployments.openai_api.json_types import JsonDict, parse_leniently
from deployments.providers.anthropic.classify import classify, refusal_of
from deployments.providers.anthropic.codec import StreamCodec, from_messages
from deployments.providers.anthropic.native import NativeReader, native_answer, native_body
from deployments.providers.anthropic.request import Terms, to_messages
from deployments.providers.anthropic.server import OwnServer, Server, VertexServer, with_betas
from deployments.providers.base import Call, Completed, End, Frames, end_of, read_secret
from deployments.providers.claude.thoughts import refuses_thoughts
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.extras import merged
from deployments.providers.http.request_body import body_with_bytes
from deployments.providers.http.timing import note_again, note_model
from deployments.providers.http.transport import Transport, UpstreamResponse
from deployments.providers.sse import SseEvents, has_event, payloads
from deployments.providers.translated import translated, translating
from deployments.providers.translation.offer import call_limit

_ROOM = re.compile(r"exceed context limit: (?P<prompt>\d+) \+ \d+ > (?P<window>\d+)")
_MOST = re.compile(r"max_tokens: \d+ > (?P<most>\d+)")


class AnthropicProvider:
    """`credential` is what must be renewed beside the calls, if anything."""

    def __init__(self, server: Server, *, connect: float = 3.0, connections: int = 1024):
        self._transport = Transport(connect=connect, connections=connections)
        self._server = server
        self.credential = server.credential

    async def complete(self, call: Call) -> Completed:
        try:
            with contextlib.closing(await self._ask(call, stream=False)) as answer:
                data = await answer.whole()
            with translating():
                message = _object(data)
                note_model(message.get("model"))
                if call.api:
                    return native_answer(message, data)
                return Completed(*from_messages(message, call))
        except Exception as error:
            raise classify(error) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        head, events, ended = Head.new(call.name), SseEvents(), False
        codec = NativeReader() if call.api else StreamCodec.of(head, call.model, call_limit(call.body))
        try:
            with contextlib.closing(await self._ask(call, stream=True)) as answer:
                while not ended:
                    data = await answer.read()
                    ended = not data
                    whole = events.end() if ended else events.feed(data)
                    batch = translated(codec.frames(_object(one), one) for one in payloads(whole) if has_event(one))
                    if batch.data or codec.finished:
                        end = end_of(head, codec.usage, call) if codec.finished else None
                        yield Frames(batch.data, content=batch.content, end=end, told=codec.usage)
                    if batch.error is not None:
                        raise batch.error
                    if events.overlong:
                        raise failed("malformed", "an event of the stream is too long")
        except Exception as error:
            raise classify(error) from error
        finally:
            note_model(codec.model)
        if not codec.finished:
            raise failed("broken", "the stream ended without a stop reason")
        yield end_of(head, codec.usage, call)

    async def _ask(self, call: Call, *, stream: bool) -> UpstreamResponse:
        """Return the response, whose head has arrived. What the server refuses of our own words, it gets otherwise."""
        terms, left = Terms(), call.again
        while True:
            made, betas = (
                native_body(call, terms, stream=stream) if call.api else (to_messages(call, terms, stream=stream), ())
            )
            made = self._server.body(made)
            url, headers = await self._server.endpoint(call.model, stream=stream)
            if betas:
                headers = with_betas(headers, betas)
            if (extras := call.extras) is not None:
                made, url, headers = merged(made, extras.body), extras.add_query(url), dict(extras.add_headers(headers))
            body = await body_with_bytes(made, is_long=call.is_long)
            answer = await self._transport.post(url, headers, body)
            if answer.status == 200:
                return answer
            with contextlib.closing(answer):
                refusal = refusal_of(
                    answer.status, answer.headers, await answer.beginning(), call.body, native=bool(call.api)
                )
            other = _terms_after(terms, refusal.outcome, call)
            if left == 0 or other == terms:
                raise refusal
            terms, left = other, left - 1
            note_again()

    async def embed(self, call: Call) -> Completed:
        raise failed("unsupported", "Anthropic makes no embeddings.", param="model")

    async def close(self) -> None:
        if self.credential is not None:
            await self.credential.close()
        await self._transport.aclose()


def _terms_after(terms: Terms, refused: Outcome, call: Call) -> Terms:
    """Return the words in which the server may take a request that it has refused; the same if there are no others.

    A signature may be another account's, or of a conversation that its client has changed since: thoughts are no part
    of what was said, so the answer comes without them.
    """
    if refused.kind != "rejected":
        return terms
    if refuses_thoughts(refused.message):
        return replace(terms, thoughts=False)
    if max_tokens_of(call.body) is None:
        if (found := _ROOM.search(refused.message)) is not None:
            return replace(terms, most=max(1, int(found["window"]) - int(found["prompt"])))
        if (found := _MOST.search(refused.message)) is not None:
            return replace(terms, most=int(found["most"]) or None)
    return terms


def _object(data: bytes) -> JsonDict:
    message = parse_leniently(data)
    if not isinstance(message, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 (of one kind with what is no JSON)
    return message


class AnthropicSettings(Protocol):
    api_key_env: str
    auth: str
    base_url: str | None
    anthropic_version: str
    betas: list[str]
    workspace_id: str | None

    def vertex_address(self) -> Vertex | None: ...
    def google_file(self) -> str | None: ...


def build(settings: AnthropicSettings, connect: float) -> AnthropicProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    return AnthropicProvider(_server_of(settings), connect=connect)


def _server_of(settings: AnthropicSettings) -> Server:
    if (vertex := settings.vertex_address()) is not None:
        from deployments.providers.credentials.google import google_token, on_vertex  # its SDK, only where it is used

        identity, vertex = on_vertex(vertex, settings.google_file())
        return VertexServer(vertex, google_token(identity), base_url=settings.base_url, betas=settings.betas)
    return OwnServer(
        api_key=read_secret(settings.api_key_env),
        base_url=settings.base_url,
        bearer=settings.auth == "bearer",
        version=settings.anthropic_version,
        betas=settings.betas,
        workspace_id=settings.workspace_id,
    )
