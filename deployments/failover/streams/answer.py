"""A stream that has begun: its frames, its limits, and how one that breaks off goes on or ends. No Ray.

As long as its client has had nothing of the answer itself, another provider begins anew, and the client sees no seam:
see `kept.py`, `hold.py` and `seam.py`. Where its row lets a text go on, another one goes on with it, if that is proven:
see `deployments/continuation`. Else it ends with an error frame and without `[DONE]`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from actors.breaker.outcomes import Outcome
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.continuation.stitch import Unverified
from deployments.errors import AttemptFailed, BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.failover.streams.hold import SIGN, SIGN_SECONDS, Hold, Holds
from deployments.failover.streams.kept import Kept, head_of
from deployments.failover.streams.opening import Opening
from deployments.failover.streams.seam import SecondHead, marker, with_sum
from deployments.openai_api.chat import DONE, NATIVE_FRAME, Head, bare_chunk, frame, usage_of
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.stream.content import is_json
from deployments.rpc.port import AnswerStream, EndMessage

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt
    from deployments.failover.deadline import Deadline
    from deployments.telemetry.request_record import RequestRecord

# Asks another target for the same answer from its beginning, after that target's answer ended so; None if none can.
Restart = Callable[[str, Outcome], Awaitable[Optional["StreamAnswer"]]]
# Asks another target for the rest of a text, for which so many tokens were used; None if none can give it.
GoOn = Callable[[str, Outcome, str, int], Awaitable[tuple["StreamAnswer", Opening] | None]]
WayOn = Callable[[str, Outcome], Awaitable[tuple[Optional["StreamAnswer"], Opening | None]]]

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
        deadline: "Deadline",
        explain: "Callable[[RequestRecord], Mapping[str, Any] | None]",
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
        self._explain = explain
        self._timer = DeadlineTimer()
        self._entry = attempt.usage
        self._restart: Restart | None = None
        self._go_on: GoOn | None = None
        self._attempts_left = 0  # to go on with a text
        self._must_be_json = False  # the text, where another one has gone on with it
        self._went_on = False
        self._opening: Opening | None = None  # of a provider that goes on, until it is proven that it does
        self._kept: Kept | None = None  # while another provider may begin anew
        self._hold: Hold | None = None
        self._second: SecondHead | None = None  # behind a seam
        self._before: list[tuple[Attempt, Outcome]] = []  # whose answers broke off, and how
        self._sent_at = 0.0  # when its client last got something
        self._frame_at: float | None = None  # since when its reader has had a frame, on the loop's clock
        self._watch: asyncio.TimerHandle | None = None
        self._abandoned: Outcome | None = None  # how it ended while its reader took nothing
        self._closing: asyncio.Task[None] | None = None

    def may_begin_anew(self, restart: "Restart", holds: Holds) -> None:
        """Let another provider answer, by `restart`, where this one breaks off and its client has had nothing yet."""
        if not self.native:
            self._restart, self._kept = restart, Kept()
            self._hold = None if holds is None else Hold(holds)

    def may_go_on(self, go_on: "GoOn", attempts: int, kept: Kept, *, must_be_json: bool) -> None:
        """Let others go on, by `go_on`, with a text that this one has begun, so many times."""
        if not self.native:
            self._go_on, self._attempts_left, self._kept = go_on, attempts, kept
            self._must_be_json = must_be_json

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield SSE frames, ended by `[DONE]`, or by an error frame and nothing after it."""
        clock = asyncio.get_running_loop().time
        self._watch_reader()
        item: bytes | EndMessage | None = self._first
        self._begin()
        while item is not None:
            try:
                while isinstance(item, bytes):
                    if self._entry is not None:
                        self._entry.delivered(item)
                    self._frame_at = clock()
                    if frames := self._passed(item):
                        yield frames
                    item = await self._next()
                if (outcome := self._attempt.failure_in(item)) is None:
                    yield self._end(item)
                    return
            except AttemptFailed as error:
                outcome = error.outcome
            except Unverified as error:
                outcome = Outcome("unverified", content=True, message=str(error))
            if (item := await self._anew(outcome)) is None:
                yield self._error_frame(outcome)

    def _begin(self) -> None:
        self._entry = self._attempt.usage
        if not self._attempt.ended:  # a probe that was held back to its end has
            self._attempt.breaker.flows.add(self._attempt)

    def _passed(self, frames: bytes) -> bytes:
        """Return what the client gets for these frames. Frames behind which nobody begins anew pass as they are.

        Raises Unverified.
        """
        if self._opening is not None:
            if (opened := self._opening.add(frames)) is None:
                return self._sign()
            frames, self._opening = self._marked(opened), None
        elif self._second is not None:
            frames = self._second.rest(frames)
        if self._kept is None:
            self.record.mark_sent()
            return frames
        if self._hold is not None:
            return self._held_back(frames)
        self.record.mark_sent()
        self._keep(frames)
        return frames

    def _sign(self) -> bytes:
        """Return a sign of life now and then, as long as nothing else goes to the client."""
        now = asyncio.get_running_loop().time()
        if not self._sent_at or now - self._sent_at < SIGN_SECONDS:
            self._sent_at = self._sent_at or now
            return b""
        self._sent_at = now
        return SIGN

    def _keep(self, frames: bytes) -> None:
        assert self._kept is not None
        self._kept.add(frames)
        if not self._kept.open and self._hold is None:
            self._kept = None

    def _held_back(self, frames: bytes) -> bytes:
        assert self._hold is not None
        now = asyncio.get_running_loop().time()
        if passed := self._hold.take(frames):
            self._keep(passed)
            self.record.mark_sent()
        elif now - self._sent_at >= SIGN_SECONDS and self._sent_at:
            passed = SIGN
        if passed or not self._sent_at:
            self._sent_at = now
        return passed

    def _end(self, item: EndMessage) -> bytes:
        """Return the last frames of an answer that is whole. Raises Unverified."""
        if self._opening is not None:
            raise Unverified("the answer ended before it was known to go on")
        if self._must_be_json and self._went_on and not self._is_json():
            raise Unverified("with what follows the text is no JSON")
        held = b"" if self._hold is None else self._hold.release()
        self.record.mark_sent()
        self.usage, tail = item["usage"], item["tail"]
        self._attempt.end(Outcome("ok", content=True), usage=self.usage)
        if self._second is not None:
            tail = self._second.rest(tail)
        if self._before:
            tail = self._summed(tail)
        return held + tail + self._explained() + DONE

    def _is_json(self) -> bool:
        text = None if self._kept is None else self._kept.text(ended=True)
        return text is not None and is_json(text)

    async def _anew(self, outcome: Outcome) -> bytes | None:
        """Return the first frames of another provider's answer behind a seam; None if the stream ends with an error."""
        ask = self._way_on() if self._abandoned is None and outcome.ending.failover else None
        if ask is None:
            self._attempt.end(outcome, over=not self._before)
            self._finish(outcome)
            return None
        self._attempt.end(outcome, over=False)
        before, self._frame_at = self._attempt, None
        self._opening = None
        await self._source.aclose()
        later, opening = await ask(before.target, outcome)
        if later is not None and later.native:  # no client reads a chat that goes on in another API's words
            await later.close()
            later = None
        if later is None:
            self._finish(outcome)
            return None
        if self._hold is not None:
            self._hold.drop()
        self._before.append((before, outcome))
        self._attempt, self._source, self._idle = later._attempt, later._source, later._idle
        self._begin()
        self._opening = opening
        return self._behind_the_seam(later._first) if opening is None else later._first

    def _finish(self, outcome: Outcome) -> None:
        """End the record of a stream that nobody goes on with, as its client sees it: as the first one broke off."""
        first = self._before[0][0] if self._before else self._attempt
        self.record.finish(self._first_end(outcome).kind, first.target)

    def _way_on(self) -> WayOn | None:
        """Return how another provider is asked: for all of the answer, or for the rest of its text; None if none is."""
        restart, go_on = self._restart, self._go_on
        if self._kept is None:
            return None
        if restart is not None and self._kept.thoughts_alone():

            async def begin_anew(target: str, outcome: Outcome) -> tuple[StreamAnswer | None, None]:
                return await restart(target, outcome), None

            return begin_anew
        if go_on is None or self._attempts_left <= 0 or (text := self._kept.text()) is None:
            return None

        async def ask_for_rest(target: str, outcome: Outcome) -> tuple[StreamAnswer | None, Opening | None]:
            return await go_on(target, outcome, text, self._used_for(text)) or (None, None)

        return ask_for_rest

    def _used_for(self, text: str) -> int:
        """Return how many tokens of the answer were made, or about how many: rather too many than too few."""
        ended = [*(attempt for attempt, _ in self._before), self._attempt]
        counted = sum(used["completion_tokens"] for attempt in ended if (used := attempt.used_tokens()) is not None)
        return counted or len(text) // 3 + 1

    def _marked(self, opened: bytes) -> bytes:
        """Return the frames of a provider that is proven to go on with the text, with the marker before them."""
        self._attempts_left, self._went_on = self._attempts_left - 1, True
        return self._behind_the_seam(opened)

    def _behind_the_seam(self, first: bytes) -> bytes:
        """Return the frames with which another provider begins, with the marker before them, under the known head."""
        assert self._kept is not None
        before, outcome = next(it for it in reversed(self._before) if it[1].kind != "unverified")
        told: JsonDict = {"from": before.target, "to": self._attempt.target, "method": self._attempt.seam}
        told |= {"why": outcome.kind, **({"at": len(self._kept.text() or "")} if self._kept.said else {})}
        if (head := self._kept.head()) is None:  # the client has had nothing at all, so this one is the first
            head = head_of(first) or (self.record.request_id, self.record.began_at // 1000)
            return marker(head, self.record.row, told) + first
        self._second = SecondHead(head)
        return marker(head, self.record.row, told) + self._second.first(first)

    def _summed(self, tail: bytes) -> bytes:
        """Return the last frames with the usage of all providers, those included whose answers broke off."""
        attempts = [*(attempt for attempt, _ in self._before), self._attempt]
        used = [attempt.used_tokens() for attempt in attempts]
        told = [{"target": a.target, **u} for a, u in zip(attempts, used, strict=True) if u is not None]
        usages = [usage_of(u["prompt_tokens"], u["completion_tokens"]) for u in used[:-1] if u is not None]
        return with_sum(tail, usages, told)

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
        breaker, target = self._attempt.breaker, self._attempt.target
        breaker.silence.wait(target, self, breaker.now())
        try:
            with self._timer.until(until):
                item = await anext(self._source, None)
            if isinstance(item, bytes) or (item and "usage" in item):
                self._attempt.content_at = now = breaker.now()
                breaker.silence.heard(target, self, now)
        except TimeoutError:
            stalled = "stalled" if self._timer.stalled else "unreachable"
            kind = stalled if until == silent_at else "deadline"
            raise AttemptFailed(Outcome(kind, content=True)) from None
        except AttemptFailed as error:
            raise AttemptFailed(replace(error.outcome, content=True)) from error
        finally:
            breaker.silence.gone(target, self)
        if item is None:
            raise AttemptFailed(Outcome("lost", content=True, message="the replica's stream stopped"))
        return item

    def _first_end(self, outcome: Outcome) -> Outcome:
        """Return how the first of the answers broke off: what came of going on is no news to its client."""
        return self._before[0][1] if self._before else outcome

    def _error_frame(self, outcome: Outcome) -> bytes:
        error: BreakwaterError
        outcome = self._first_end(outcome)
        if outcome.kind == "deadline":
            error = DeadlineExceeded("The request's deadline passed in mid-stream.", self.record.entries)
        else:
            text = outcome.message or outcome.ending.why
            error = NoAnswer(f"The stream from {self.target} broke off: {text}.", self.record.entries)
            error.code = "stream_interrupted"
        told = {"breakwater": {"explained": self._explain(self.record)}} if self.record.explain else {}
        return frame({"error": error.body(), **told})

    def _explained(self) -> bytes:
        """Return a chunk without a choice, as the one with the usage is."""
        if not self.record.explain:
            return b""
        head = Head(self.record.request_id, self.record.began_at // 1000, self.record.row)
        return bare_chunk(head, breakwater={"explained": self._explain(self.record)})

    async def close(self) -> None:
        """Let go of the provider. A stream that has not ended counts as cancelled by its reader."""
        self._timer.close()
        if self._kept is not None:
            self._kept.close()
        if self._watch is not None:
            self._watch.cancel()
        self._attempt.end(Outcome("cancelled", content=True))
        self.record.finish("cancelled", self._attempt.target)  # does nothing if it has ended
        if self._closing is not None:
            await self._closing
        await self._source.aclose()
