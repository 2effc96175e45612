"""Chats and embeddings in OpenAI's words, whoever carries them: a server over HTTP, or a deployment of the cluster.

What passes through, passes through as the bytes it was. Who carries it says in `_request` how it is sent.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Protocol

import httpx2
import openai

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.chat import dump, stops_of
from deployments.openai_api.embeddings import count_inputs, lengths_in
from deployments.openai_api.json_types import JsonObject
from deployments.openai_api.usage import account_of, with_tier
from deployments.providers.base import Call, Completed, End, Frames
from deployments.providers.embedding import embedded
from deployments.providers.http.timing import note_again, note_model
from deployments.providers.openai.answer import answer_of, object_of
from deployments.providers.openai.dialect import Dialect, Dialects, changed_in, gist, is_openai, lesson
from deployments.providers.openai.errors.classify import classify
from deployments.providers.openai.request import chat_body, embedding_body
from deployments.providers.openai.stops import NoCutter, StopCutter, cut_answer, stop_cutter
from deployments.providers.openai.stream.events import EventScan
from deployments.providers.openai.stream.joining import JoinScan
from deployments.providers.openai.stream.scan import SseScan


class Response(Protocol):
    """An answer that has begun: JSON, or the events of a stream."""

    @property
    def ended(self) -> bool:
        """Return whether all of it was read."""
        ...

    async def read(self) -> bytes:
        """Return the unread bytes that have arrived, waiting for at least one; empty at the end."""
        ...

    async def whole(self) -> bytes: ...

    def close(self) -> None:
        """Let go of the answer. What is still to come is not wanted."""
        ...


_NOTHING: frozenset[str] = frozenset()
_WHOLE_ALONE = ("tools", "functions", "logprobs", "top_logprobs")


class Compatible:
    """`host` is the server's, by whose name some of its ways are known; empty where there is none."""

    def __init__(self, host: str):
        self._host, self._dialects = host, Dialects(host)

    async def _request(self, operation: str, body: JsonObject, call: Call) -> Response:
        """Return the response to a call's body, once it has begun. Raises an error that `classify` reads."""
        raise NotImplementedError

    def streams_whole(self, call: Call) -> bool:
        """Return whether a whole answer may be asked for as a stream.

        Others' servers lose arguments of calls in their streams (vllm-project/vllm#9693, #21046, #55082), or fields
        that their whole answers have.
        """
        body = call.body
        return is_openai(self._host, call.model) or not (
            (body.get("n") or 1) > 1 or any(body.get(name) for name in _WHOLE_ALONE)
        )

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
        scan: EventScan | None = None
        done, choices, continues, ended = False, call.body.get("n") or 1, False, False
        try:
            answer, dialect = await self._ask(call, stream=True)
            cut = stop_cutter(call, dialect.stop)
            scan = _scan_of(call, cut)
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
            note_model(None if scan is None else scan.model)
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

    async def _ask(self, call: Call, *, stream: bool) -> tuple[Response, Dialect]:
        """Return the response to a chat, and how it was asked.

        What the server refuses of our own words is put into other words. They are remembered once it has taken them, or
        refuses something else.
        """
        dialect, settled, left = self._dialects.of(call.model), _NOTHING, call.again
        refused = None
        while True:
            body = chat_body(call, stream=stream, dialect=dialect)
            try:
                response = await self._request("chat/completions", body, call)
            except (openai.APIStatusError, AttemptFailed) as error:
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


def _scan_of(call: Call, cut: StopCutter | NoCutter) -> EventScan:
    """Return what reads the stream. A whole answer is joined of its frames only where those are cut."""
    if call.join is None or isinstance(cut, StopCutter):
        return SseScan(call.name, keep_usage=call.wants_usage)
    return JoinScan(call.name, call.join)


async def drain(answer: Response) -> None:
    """Read the body's end after `[DONE]`, so that the connection can be reused."""
    if answer.ended:
        return
    with contextlib.suppress(TimeoutError, httpx2.TransportError, AttemptFailed):
        async with asyncio.timeout(0.1):
            while await answer.read():
                pass
