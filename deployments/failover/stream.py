"""A stream that has begun: its frames, its limits, and the error frame of one that breaks off. No Ray."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.breaker.outcomes import Outcome
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.failover.deadline import Deadline
from deployments.openai_api.chat import DONE, NATIVE_FRAME, Head, bare_chunk, frame
from deployments.rpc.port import AnswerStream, EndMessage
from deployments.telemetry.explain import explain

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt

COVER_SECONDS = 1.0  # how long after a replica's own limit it counts as gone
READER_SECONDS = (
    600.0  # without taking a frame: a client that reads so slowly must not hold a provider's connection for ever
)


class StreamAnswer:
    """A stream whose first content has come. Iterate `frames` once, then always `close`."""

    def __init__(
        self,
        attempt: "Attempt",
        first: bytes,
        source: AnswerStream,
        idle: float,
        deadline: Deadline,
    ):
        self.target = attempt.target
        self.record = attempt.record
        self.dropped = attempt.dropped
        self.native = first.startswith(NATIVE_FRAME)  # whether its frames are in the client's own words
        self.usage: Mapping[str, Any] | None = None
        self._attempt = attempt
        self._first = first
        self._source = source
        self._idle = idle
        self._deadline = deadline
        self._timer = DeadlineTimer()
        self._frame_at: float | None = None  # since when its reader has had a frame, on the loop's clock
        self._watch: asyncio.TimerHandle | None = None
        self._abandoned: Outcome | None = None  # how it ended while its reader took nothing
        self._closing: asyncio.Task[None] | None = None

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield SSE frames, ended by `[DONE]`, or by an error frame and nothing after it."""
        entry, clock = self._attempt.usage, asyncio.get_running_loop().time
        if not self._attempt.ended:  # a probe that was held back to its end has
            self._attempt.breaker.flows.add(self._attempt)
        if entry is not None:
            entry.delivered(self._first)
        self.record.mark_sent()
        self._frame_at = clock()
        self._watch_reader()
        yield self._first
        try:
            while isinstance(item := await self._next(), bytes):
                if entry is not None:
                    entry.delivered(item)
                self._frame_at = clock()
                yield item
        except AttemptFailed as error:
            self._attempt.end(error.outcome)
            yield self._error_frame(error.outcome)
            return
        if (outcome := self._attempt.failure_in(item)) is not None:
            self._attempt.end(outcome)
            yield self._error_frame(outcome)
            return
        self.usage = item["usage"]
        self._attempt.end(Outcome("ok", content=True), usage=self.usage)
        yield item["tail"] + self._explained() + DONE

    def _watch_reader(self) -> None:
        """Set a timer, seldom: a reader that takes no frame must not hold a provider for longer than it may."""
        clock = asyncio.get_running_loop().time
        until = clock() if self._frame_at is None else self._frame_at
        until += READER_SECONDS
        if self._deadline.explicit:
            until = min(until, max(self._deadline.end, clock()))
        if self._frame_at is not None and until <= clock():
            self._leave()
        else:
            later = max(until, clock() + 1.0)
            self._watch = asyncio.get_running_loop().call_at(later, self._watch_reader)

    def _leave(self) -> None:
        """Let go of the provider: the reader has taken no frame for too long."""
        late = self._deadline.explicit and asyncio.get_running_loop().time() >= self._deadline.end
        why = f"the client read nothing for {READER_SECONDS:g} s"
        self._abandoned = Outcome("deadline", content=True) if late else Outcome("cancelled", content=True, message=why)
        self._attempt.end(self._abandoned)
        self._closing = asyncio.ensure_future(self._source.aclose())

    async def _next(self) -> bytes | EndMessage:
        self._frame_at = None
        if self._abandoned is not None:
            raise AttemptFailed(self._abandoned)
        silent_at = asyncio.get_running_loop().time() + self._idle + COVER_SECONDS
        until = min(silent_at, self._deadline.end) if self._deadline.explicit else silent_at
        breaker = self._attempt.breaker
        breaker.silence.wait(self.target, self, breaker.now())
        try:
            with self._timer.until(until):
                item = await anext(self._source, None)
            if isinstance(item, bytes) or (item and "usage" in item):
                self._attempt.content_at = now = breaker.now()
                breaker.silence.heard(self.target, self, now)
        except TimeoutError:
            stalled = "stalled" if self._timer.stalled else "unreachable"
            kind = stalled if until == silent_at else "deadline"
            raise AttemptFailed(Outcome(kind, content=True)) from None
        except AttemptFailed as error:
            raise AttemptFailed(replace(error.outcome, content=True)) from error
        finally:
            breaker.silence.gone(self.target, self)
        if item is None:
            raise AttemptFailed(Outcome("lost", content=True, message="the replica's stream stopped"))
        return item

    def _error_frame(self, outcome: Outcome) -> bytes:
        error: BreakwaterError
        if outcome.kind == "deadline":
            error = DeadlineExceeded("The request's deadline passed in mid-stream.", self.record.entries)
        else:
            text = outcome.message or outcome.ending.why
            error = NoAnswer(f"The stream from {self.target} broke off: {text}.", self.record.entries)
            error.code = "stream_interrupted"
        told = {"breakwater": {"explained": explain(self.record)}} if self.record.explain else {}
        return frame({"error": error.body(), **told})

    def _explained(self) -> bytes:
        """Return a chunk without a choice, as the one with the usage is."""
        if not self.record.explain:
            return b""
        head = Head(self.record.request_id, self.record.began_at // 1000, self.record.row)
        return bare_chunk(head, breakwater={"explained": explain(self.record)})

    async def close(self) -> None:
        """Let go of the provider. A stream that has not ended counts as cancelled by its reader."""
        self._timer.close()
        if self._watch is not None:
            self._watch.cancel()
        self._attempt.end(Outcome("cancelled", content=True))
        if self._closing is not None:
            await self._closing
        await self._source.aclose()
