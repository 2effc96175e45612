"""The adapter of OpenAI, and of each server with its chat completions, through the openai SDK.

The SDK provides keys, endpoints and errors. Its client and its typed models are not used: a body passes through as the
bytes it was, and those models are most of the SDK's cost per call.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import httpx2
import openai

from deployments.errors import failed
from deployments.openai_api.chat import dump, stops_of
from deployments.openai_api.embeddings import count_inputs, lengths_in
from deployments.openai_api.json_types import JsonObject
from deployments.openai_api.usage import account_of, with_tier
from deployments.providers.base import Call, Completed, End, Frames, read_secret
from deployments.providers.credentials.addresses import Azure, Vertex
from deployments.providers.credentials.identities import EntraIdentity
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.embedding import embedded
from deployments.providers.extras import merged
from deployments.providers.openai.answer import answer_of, object_of
from deployments.providers.openai.dialect import Dialect, Dialects, changed_in, gist, lesson
from deployments.providers.openai.errors.classify import classify
from deployments.providers.openai.request import chat_body, embedding_body
from deployments.providers.openai.server import Server
from deployments.providers.openai.stops import cut_answer, stop_cutter
from deployments.providers.openai.stream.scan import SseScan
from deployments.providers.request_body import request_body
from deployments.providers.timing import note_again, note_model, trace_headers
from deployments.providers.transport import Transport, UpstreamResponse


class OpenAIProvider:
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
        self._dialects, self._traceparent = Dialects(self._server.host), traceparent
        self.credential = token

    async def complete(self, call: Call) -> Completed:
        try:
            response, dialect = await self._ask(call, stream=False)
            with contextlib.closing(response):
                data = await response.whole()
        except Exception as error:
            raise classify(error, call.body) from error
        answer = answer_of(data)
        if not dialect.stop and (stops := stops_of(call.body)):
            answer = cut_answer(answer, stops)
        note_model(answer.get("model"))
        # To search the bytes for the name costs as much as to write the JSON again.
        usage = with_tier(account_of(answer.get("usage")), answer.get("service_tier"))
        return Completed(dump({**answer, "model": call.name}), usage)

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        scan = SseScan(call.name, keep_usage=call.wants_usage)
        done, choices, continues, ended = False, call.body.get("n") or 1, False, False
        try:
            answer, dialect = await self._ask(call, stream=True)
            cut = stop_cutter(call, dialect.stop)
            with contextlib.closing(answer):
                while not ended:
                    data = await answer.read()
                    before = len(scan.ended)
                    batch = scan.feed(data) if data else scan.end()
                    ended = not data
                    continues = continues or (batch.content and before >= choices)
                    frames = cut.frames(batch.frames)
                    whole = len(scan.ended) >= choices and not continues
                    if cut.over and not whole:
                        # To leave stops a model that writes on, and what it has cost is estimated. To read on for its
                        # usage would cost more than it tells. If it has ended by itself, its usage comes next.
                        yield Frames(frames, content=True)
                        yield End(scan.usage, cut.tail(scan.tail))
                        return
                    end = End(scan.usage, cut.tail(scan.tail)) if whole else None
                    if frames or batch.content or batch.finished or end:
                        yield Frames(frames, content=batch.content or batch.finished > 0, end=end, told=scan.usage)
                    if batch.error is not None:
                        raise batch.error
                    if batch.malformed:
                        raise failed("malformed", "an event of the stream is not JSON")
                    if batch.done:
                        done = True
                        await drain(answer)
                        break
        except Exception as error:
            raise classify(error, call.body) from error
        finally:
            note_model(scan.model)
        # Without `[DONE]` each choice must have a finish reason.
        if len(scan.ended) < (1 if done else choices):
            raise failed("broken", "the stream ended without a finish reason")
        yield End(scan.usage, cut.tail(scan.tail))

    async def embed(self, call: Call) -> Completed:
        """Return OpenAI's embeddings as they are, except for the model's name."""
        answer = object_of(await self._whole("embeddings", embedding_body(call), call))
        note_model(answer.get("model"))
        try:
            lengths = lengths_in(answer)
        except (KeyError, TypeError, ValueError):
            raise failed("malformed", "the answer has no embeddings", status=200) from None
        if (wanted := call.body.get("dimensions")) is not None and lengths != {wanted}:
            raise failed("malformed", f"vectors of {sorted(lengths)} dimensions, and the row has {wanted}", status=200)
        if (inputs := count_inputs(call.body)) != (vectors := len(answer["data"])):
            raise failed("malformed", f"the provider returned {vectors} vectors for {inputs} inputs", status=200)
        return embedded(call, answer)

    async def _ask(self, call: Call, *, stream: bool) -> tuple[UpstreamResponse, Dialect]:
        """Return the response to a chat, and how it was asked.

        What the server refuses of our own words is put into other words. They are remembered once it has taken them, or
        refuses something else.
        """
        dialect, settled, left = self._dialects.of(call.model), frozenset[str](), call.again
        refused = None
        while True:
            body = chat_body(call, stream=stream, dialect=dialect)
            try:
                response = await self._request("chat/completions", body, call)
            except openai.APIStatusError as error:
                outcome = classify(error, call.body).outcome
                if settled and outcome.kind == "rejected" and gist(outcome) != refused:
                    self._dialects.learn(call.model, dialect)
                refused = gist(outcome)
                learned = lesson(dialect, outcome, call.body, settled) if outcome.kind == "rejected" else None
                if left == 0 or learned is None or chat_body(call, stream=stream, dialect=learned) == body:
                    raise
            else:
                if settled:
                    self._dialects.learn(call.model, dialect)
                return response, dialect
            settled |= changed_in(dialect, learned)
            dialect, left = learned, left - 1
            note_again()

    async def _whole(self, operation: str, body: JsonObject, call: Call) -> bytes:
        try:
            with contextlib.closing(await self._request(operation, body, call)) as answer:
                return await answer.whole()
        except Exception as error:
            raise classify(error, body) from error

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


async def drain(answer: UpstreamResponse) -> None:
    """Read the body's end after `[DONE]`, so that the connection can be reused."""
    with contextlib.suppress(TimeoutError, httpx2.TransportError):
        async with asyncio.timeout(0.1):
            while await answer.read():
                pass
