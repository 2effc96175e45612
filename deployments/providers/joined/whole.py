"""A provider's whole answers: asked for as streams, where that is wise, or as they are. No Ray.

A whole call says nothing until its end: one that hangs is known after `timeout_seconds`, and a long answer that flows
is ended then. As a stream it shows within `first_token` that it lives, it may take as long as it flows, and its vendor
stops to generate when its client leaves. Its body is the one that the server would have given whole.

A server may refuse to stream, by its kind, its model or its owner's rights. That is no failure: it is asked once more
for the whole answer, and asked so for an hour. So is one whose stream has told no usage: its whole answers may.
"""

import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Literal, Protocol

from msgspec import structs

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.newest import Newest
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.openai_api.refusal_text import LONGEST_TEXT, own_words
from deployments.providers.base import (
    BrokenOff,
    Call,
    Completed,
    End,
    Frames,
    Provider,
    credential_of,
    run_within_total,
    stream_within,
)
from deployments.providers.http.timing import note_again, note_joining, note_piece
from deployments.providers.http.transport import MAX_ANSWER
from deployments.providers.joined.chat import ChatJoin
from deployments.providers.joined.first_content import FirstContents
from deployments.providers.joined.native import MessageJoin, ResponseJoin
from deployments.providers.translated import translating

Choice = Literal["auto", "always", "never"]

REFUSED_SECONDS = 3600.0  # for which a model is not asked to stream again
MOST_KEPT = 1024 * 1024  # bytes of frames of an answer that broke off, by which its tokens are estimated
_MODELS = 1000


class Join(Protocol):
    def add(self, frames: bytes) -> None: ...

    def body(self) -> bytes: ...


_JOINS: Mapping[str, Callable[[], Join]] = {"": ChatJoin, "messages": MessageJoin, "responses": ResponseJoin}


class WholeAnswers:
    """`auto` leaves it to the adapter's `streams_whole`, if it has one. `now` is in seconds, monotonic."""

    def __init__(self, inner: Provider, choice: Choice = "auto", now: Callable[[], float] = time.monotonic):
        self._inner, self._choice, self._now = inner, choice, now
        self._wise: Callable[[Call], bool] = getattr(inner, "streams_whole", lambda _: True)
        self._first = FirstContents(now)
        self._refused = Newest[tuple[str, str], float](_MODELS)  # by place and model: until when
        self.credential = credential_of(inner)

    async def complete(self, call: Call) -> Completed:
        if not self._streams(call):
            return await run_within_total(self._inner.complete, call)
        try:
            if call.flows:
                return await self._joined(call)
            return await run_within_total(self._joined, call)
        except AttemptFailed as error:
            if call.again <= 0 or not may_not_stream(error.outcome, call.body):
                raise
        note_again()
        note_joining(joins=False)
        self._ask_whole(call)
        return await run_within_total(self._inner.complete, structs.replace(call, again=call.again - 1))

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]:
        return self._inner.stream(call)

    async def embed(self, call: Call) -> Completed:
        return await run_within_total(self._inner.embed, call)

    async def close(self) -> None:
        await self._inner.close()

    def _ask_whole(self, call: Call) -> None:
        self._refused[call.place, call.model] = self._now() + REFUSED_SECONDS

    def _streams(self, call: Call) -> bool:
        if self._choice == "never" or _has_sound(call.body):
            return False
        if self._refused and self._refused.get((call.place, call.model), 0.0) > self._now():
            return False
        return self._choice == "always" or self._wise(call)

    async def _joined(self, call: Call) -> Completed:
        join, kept, size, told = _JOINS[call.api](), bytearray(), 0, None
        note_joining(joins=True)
        with self._first.waiting(call) as wait:
            asked = structs.replace(
                call,
                body=_streamed(call),
                limits=structs.replace(call.limits, first_token=wait.seconds),
                join=join if isinstance(join, ChatJoin) else None,
            )
            try:
                async with contextlib.aclosing(stream_within(self._inner, asked)) as items:
                    async for item in items:
                        if isinstance(item, End):
                            if item.usage is None and self._choice == "auto":
                                self._ask_whole(call)
                            with translating():
                                join.add(item.tail)
                                return Completed(join.body(), item.usage, native=bool(call.api))
                        wait.hear()
                        note_piece()
                        told = item.told or told
                        with translating():
                            join.add(item.data)
                        if len(kept) < MOST_KEPT:
                            kept += item.data
                        if (size := size + len(item.data)) > MAX_ANSWER:
                            raise failed("malformed", f"the answer is longer than {MAX_ANSWER // 2**20} MiB")
            except AttemptFailed as error:
                if wait.heard_after is None:
                    raise
                raise BrokenOff(replace(error.outcome, content=True), bytes(kept), told) from error.__cause__
        raise AssertionError("a stream has an end")


def _streamed(call: Call) -> JsonDict:
    """Return the request's body with a wish for the usage, which a whole answer has by itself."""
    return dict(call.body) if call.api else {**call.body, "stream_options": {"include_usage": True}}


def _has_sound(body: JsonObject) -> bool:
    """Return whether the answer is spoken: no stream has the sound as a whole answer has it."""
    kinds = body.get("modalities")
    return body.get("audio") is not None or (isinstance(kinds, list) and "audio" in kinds)


# OpenAI: "Your organization must be verified to stream this model." with the param `stream`. AWS: "... is not
# authorized to perform: bedrock:InvokeModelWithResponseStream"; "The model is unsupported for streaming.";
# "This model doesn't support tool use in streaming mode."
_REFUSES = re.compile(
    r"InvokeModelWithResponseStream|must be verified to stream|unsupported for stream|in stream(?:ing)? mode"
    r"|(?:not|n't|cannot) (?:currently )?(?:support|allow|enable|permit|available)\w*[^.]{0,60}\bstream"
    r"|\bstream(?:ing|ed|s)?\b[^.]{0,60}(?:not|n't|un)[ -]?(?:currently |be )?(?:support|allow|enabl|permit|available)",
    re.IGNORECASE,
)
_KINDS = frozenset({"rejected", "bad_request", "unsupported", "credential"})


def may_not_stream(outcome: Outcome, asked: JsonObject) -> bool:
    """Return whether a server refuses to stream what it might answer whole."""
    if outcome.kind not in _KINDS or outcome.content:
        return False
    if outcome.param == "stream":
        return True
    return _REFUSES.search(own_words(outcome.message[:LONGEST_TEXT], dict(asked))) is not None
