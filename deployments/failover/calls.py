"""The two ways to call a provider: for a whole answer, and for a stream whose first content has come. No Ray."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar, cast

from msgspec import Struct

from actors.breaker.outcomes import Outcome
from actors.breaker.plan import provider_of
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed
from deployments.failover.attempt import Attempt
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.streams.answer import StreamAnswer
from deployments.failover.streams.probe import hold_back
from deployments.providers.base import CallMessage
from deployments.providers.time_limits import COVER_SECONDS, TimeLimits
from deployments.rpc.port import (
    PIECE_SECONDS,
    AnswerStream,
    CallTransport,
    EndMessage,
    ProviderStream,
    usage_in,
)
from deployments.telemetry.explain import explain
from deployments.telemetry.request_record import RequestRecord

T_co = TypeVar("T_co", covariant=True)
Verb = Literal["chat", "embed"]

_ANSWERED = Outcome("ok", content=True)
HAND_OVER_SECONDS = 0.05  # before its time is over a probe that flows is its client's


class Answer(Struct, frozen=True):
    """A whole answer: the JSON body as bytes, and who gave it."""

    target: str
    body: bytes
    usage: Mapping[str, Any] | None
    record: RequestRecord
    dropped: tuple[str, ...] = ()  # fields that it was not asked to heed
    native: bool = False  # whether the body is in the client's own words


class CallKind(Protocol[T_co]):
    """`verb` names how long answers take apart: `whole` or `stream`."""

    verb: str

    def limit(self, limits: TimeLimits) -> float:
        """Return the seconds until the replica itself ends a call of this kind that says nothing."""
        ...

    async def begin(self, attempt: Attempt, call: CallMessage, limits: TimeLimits, timer: DeadlineTimer) -> T_co:
        """Return the answer. Raises AttemptFailed. `timer` ends the wait; it may be moved."""
        ...


class WholeCall:
    """Its provider may answer in pieces: what the deadline leaves it may take then, as long as they come."""

    verb = "whole"

    def __init__(self, transport: CallTransport, verb: Verb, deadline: Deadline):
        self._transport = transport
        self._verb = verb
        self._deadline = deadline

    def limit(self, limits: TimeLimits) -> float:
        return limits.total

    async def begin(self, attempt: Attempt, call: CallMessage, limits: TimeLimits, timer: DeadlineTimer) -> Answer:
        silence = limits.idle + PIECE_SECONDS + COVER_SECONDS

        def on_piece() -> None:
            attempt.note_piece()
            if not (attempt.probe and attempt.more):  # else the time that is kept for the others stays theirs
                attempt.unbound = True
                timer.move(min(asyncio.get_running_loop().time() + silence, self._deadline.at))

        message: CallMessage = {**call, "verb": self._verb}
        reply = await self._transport.complete(provider_of(attempt.target), message, on_piece)
        if (outcome := attempt.failure_in(reply)) is not None:
            raise AttemptFailed(outcome)
        attempt.end(_ANSWERED, whole=True, usage=reply["usage"], body=reply["body"])
        native = reply.get("native", False)
        return Answer(attempt.target, reply["body"], reply["usage"], attempt.record, attempt.dropped, native)


class StreamCall:
    verb = "stream"

    def __init__(self, transport: CallTransport, deadline: Deadline):
        self._transport = transport
        self._deadline = deadline

    def limit(self, limits: TimeLimits) -> float:
        return limits.first_token

    async def begin(
        self, attempt: Attempt, call: CallMessage, limits: TimeLimits, timer: DeadlineTimer
    ) -> StreamAnswer:
        held_until = asyncio.get_running_loop().time() + limits.first_token
        source: AnswerStream = UsageReader(attempt, self._transport.stream(provider_of(attempt.target), call))
        try:
            first = await anext(source, None)
            if not isinstance(first, bytes):
                raise AttemptFailed(attempt.failure_in(first or {}) or Outcome("empty"))
            attempt.note_first_content()
            attempt.breaker.report_started(attempt.target, attempt.permit, attempt.began)
            if attempt.probe and attempt.more:
                # While it is silent the reserve is the others'; while it flows it is no reason to end it.
                timer.move(attempt.until)
                held_until = min(held_until, attempt.until - HAND_OVER_SECONDS)
                first, source, ended = await hold_back(attempt, first, source, held_until, limits.idle / 2)
                timer.move(None)
                if ended is not None:  # it proved its health, whether its reader stays or not
                    attempt.upstream = ended.get("upstream")
                    attempt.end(Outcome("ok", content=True), usage=ended["usage"], first=first)
        except BaseException:
            await source.aclose()
            raise
        return StreamAnswer(attempt, first, source, limits.idle, self._deadline, explain)


class UsageReader:
    """A stream's frames and its end. What the provider has told of its usage by then is kept for its attempt.

    So a client who leaves is counted by what the provider said, where it said something.
    """

    def __init__(self, attempt: Attempt, source: ProviderStream):
        self._attempt = attempt
        self._source = source

    async def __anext__(self) -> bytes | EndMessage:
        while True:
            item = await anext(self._source)
            if isinstance(item, bytes):
                return item
            if (told := usage_in(item)) is None:
                return cast(EndMessage, item)
            self._attempt.hear_usage(told)

    async def aclose(self) -> None:
        await self._source.aclose()
