"""The adapter of servers that are asked by the Responses API: OpenAI, and others that have it.

It differs from the adapter of chat completions in what it sends and reads. Keys, addresses, connections and errors are
the same, and so are embeddings.
"""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import openai

from deployments.errors import failed
from deployments.openai_api.chat import Head, dump, stops_of
from deployments.openai_api.json_types import JsonDict, parse_leniently
from deployments.openai_api.usage import with_tier
from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.http.timing import note_again, note_model
from deployments.providers.http.transport import UpstreamResponse
from deployments.providers.openai.adapter import OpenAIProvider, OpenAISettings, arguments_of
from deployments.providers.openai.answer import object_of
from deployments.providers.openai.compatible import drain
from deployments.providers.openai.errors.classify import classify
from deployments.providers.openai.responses_api.answer import completion_from
from deployments.providers.openai.responses_api.native import NativeReader, native_answer, native_body, wants_reasoning
from deployments.providers.openai.responses_api.request import responses_body
from deployments.providers.openai.responses_api.stream import EventReader
from deployments.providers.openai.responses_api.terms import KnownTerms, terms_after
from deployments.providers.openai.stops import cut_answer, stop_cutter
from deployments.providers.sse import SseEvents, has_event, payloads
from deployments.providers.translated import Translated, translated, translating


class ResponsesProvider(OpenAIProvider):
    def __init__(self, **where: Any):
        super().__init__(**where)
        self._terms = KnownTerms()

    def streams_whole(self, call: Call) -> bool:
        """Return True: the event that ends a stream tells the whole response."""
        return True

    async def complete(self, call: Call) -> Completed:
        try:
            with contextlib.closing(await self._responses(call, stream=False)) as response:
                data = await response.whole()
            with translating():
                answer = object_of(data)
                note_model(answer.get("model"))
                if call.api:
                    return native_answer(answer, data)
                completion = completion_from(answer, call.name)
                if stops := stops_of(call.body):  # this API has none
                    completion = cut_answer(completion, stops)
                return Completed(dump(completion), with_tier(completion["usage"], answer.get("service_tier")))
        except Exception as error:
            raise classify(error, call.body) from error

    async def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        reader = NativeReader() if call.api else EventReader(Head.new(call.name))
        events, cut, ended = SseEvents(), stop_cutter(call, kept=bool(call.api)), False
        try:
            with contextlib.closing(await self._responses(call, stream=True)) as answer:
                while not (ended or reader.finished):
                    data = await answer.read()
                    ended = not data
                    batch = _batch(reader, events.end() if ended else events.feed(data))
                    frames = cut.frames(batch.data)
                    end = reader.end(call) if reader.finished else None
                    if frames or batch.content or end:
                        yield Frames(frames, content=batch.content, end=end, told=reader.usage)
                    if batch.error is not None:
                        raise batch.error
                    if events.overlong:
                        raise failed("malformed", "an event of the stream is too long")
                    if cut.over and not reader.finished:
                        break  # what it has cost is estimated: see the adapter of chat completions
                if reader.finished:
                    await drain(answer)
        except Exception as error:
            raise classify(error, call.body) from error
        finally:
            note_model(reader.model)
        if not (reader.finished or cut.over):
            raise failed("broken", "the stream ended without `response.completed`")
        yield reader.end(call)

    def _takes_cache_key(self, call: Call) -> bool:
        return self._dialects.of(call.model).cache_key

    async def _responses(self, call: Call, *, stream: bool) -> UpstreamResponse:
        """Return the response. A server that does not take what is said of reasoning is asked again without it."""
        terms = self._terms.of(call.model, wanted=bool(call.api) and wants_reasoning(call.body))
        left, asked_again = call.again, False
        while True:
            body = (native_body if call.api else responses_body)(call, terms, stream=stream)
            if call.cache_key is not None and body.get("prompt_cache_key") is None and self._takes_cache_key(call):
                body["prompt_cache_key"] = call.cache_key
            try:
                response = await self._request("responses", body, call)
            except openai.APIStatusError as error:
                outcome = classify(error, call.body).outcome
                other = terms_after(terms, outcome)
                if left == 0 or other is None:
                    raise
            else:
                if asked_again:
                    self._terms.learn(call.model, terms)
                return response
            terms, left, asked_again = other, left - 1, True
            note_again()


def build(settings: OpenAISettings, connect: float) -> ResponsesProvider:
    """Return the adapter of a configured provider. `connect` is in seconds."""
    return ResponsesProvider(**arguments_of(settings, connect))


def _batch(reader: EventReader | NativeReader, events: bytes) -> Translated:
    told = (data for data in payloads(events) if has_event(data))
    return translated(frames for data in told for frames in reader.read(_event(data), data))


def _event(data: bytes) -> JsonDict:
    event = parse_leniently(data)
    if not isinstance(event, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 (of one kind with what is no JSON)
    if "type" not in event and event.get("error"):  # as a body that is no stream tells an error
        return {**event, "type": "error"}
    return event
