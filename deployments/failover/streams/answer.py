"""A stream that has begun: its frames, its limits, and how one that breaks off goes on or ends. No Ray.

As long as its client has had nothing of the answer itself, another provider begins anew, and the client sees no seam:
see `kept.py`, `hold.py` and `seam.py`. Where its row lets a text go on, another one goes on with it, if that is proven:
see `deployments/continuation`. Else it ends with an error frame and without `[DONE]`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.breaker.outcomes import Outcome
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.continuation.stitch import Unverified
from deployments.errors import AttemptFailed
from deployments.failover.streams.elsewhere import Elsewhere
from deployments.failover.streams.hold import SIGN, SIGN_SECONDS, Hold, Holds
from deployments.failover.streams.kept import Kept, head_of
from deployments.failover.streams.opening import Opening
from deployments.failover.streams.parts import Parts
from deployments.failover.streams.reader_watch import ReaderWatch
from deployments.failover.streams.rescue import Rescue, Rescued
from deployments.failover.streams.seam import SecondHead, marker
from deployments.openai_api.chat import DONE, NATIVE_FRAME, Head, bare_chunk
from deployments.providers.openai.stream.content import is_json
from deployments.providers.time_limits import COVER_SECONDS
from deployments.rpc.port import AnswerStream, EndMessage

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt
    from deployments.failover.attempts.deadline import Deadline
    from deployments.telemetry.request_record import RequestRecord


class WayOn(NamedTuple):
    """What another provider is asked for: the rest of a text, or without one all of the answer."""

    text: str | None


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
        self.target, self.record, self.dropped = attempt.target, attempt.record, attempt.dropped
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
        self._elsewhere: Elsewhere | None = None  # where another provider is asked
        self._rescue: Rescue | None = None
        self._attempts_left = 0  # to go on with a text
        self._must_be_json = False  # the text, where another one has gone on with it
        self._went_on = False
        self._opening: Opening | None = None  # of a provider that goes on, until it is proven that it does
        self._kept: Kept | None = None  # while another provider may begin anew
        self._hold: Hold | None = None
        self._second: SecondHead | None = None  # behind a seam
        self._parts = Parts()
        self._counted = False  # whether the next frames were counted when they came
        self._sent_at = 0.0  # when its client last got something
        self._reader = ReaderWatch(deadline, self._leave)
        self._abandoned: Outcome | None = None  # how it ended while its reader took nothing
        self._closing: asyncio.Task[None] | None = None

    def may_begin_anew(self, elsewhere: Elsewhere, holds: Holds) -> None:
        """Let another provider answer where this one breaks off and its client has had nothing yet."""
        if not self.native:
            self._elsewhere, self._kept = elsewhere, Kept()
            self._hold = None if holds is None else Hold(holds)

    def may_go_on(self, attempts: int, kept: Kept, *, must_be_json: bool) -> None:
        """Let others go on, so many times, with a text that this one has begun."""
        if not self.native:
            self._attempts_left, self._kept = attempts, kept
            self._must_be_json = must_be_json

    def may_be_rescued(self) -> None:
        """Let another provider answer, or go on, where this one falls silent and has not broken off yet."""
        if (elsewhere := self._elsewhere) is not None and not self._attempt.probe:
            self._rescue = Rescue(self._beside, self._interrupt, elsewhere.end_beside, elsewhere.call_off)

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield SSE frames, ended by `[DONE]`, or by an error frame and nothing after it."""
        clock = asyncio.get_running_loop().time
        self._reader.start()
        item: bytes | EndMessage | None = self._first
        self._begin()
        while item is not None:
            try:
                while isinstance(item, bytes):
                    if self._entry is not None and not self._counted:
                        self._entry.delivered(item)
                    self._counted = False
                    self._reader.frame_at = clock()
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
                explained = self._explain(self.record) if self.record.explain else None
                yield self._parts.error_frame(outcome, self._attempt, explained)

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
        return held + self._parts.summed(tail, self._attempt) + self._explained() + DONE

    def _is_json(self) -> bool:
        text = None if self._kept is None else self._kept.text(ended=True)
        return text is not None and is_json(text)

    async def _anew(self, outcome: Outcome) -> bytes | None:
        """Return the first frames of another provider's answer behind a seam; None if the stream ends with an error."""
        self._reader.frame_at = None
        rescued = await self._rescued(outcome)
        may_ask = rescued is None and self._abandoned is None and outcome.ending.failover
        way = self._way_on() if may_ask else None
        if way is None and rescued is None:
            self._attempt.end(outcome, over=not self._parts.before)
            self._finish(outcome)
            return None
        self._attempt.end(outcome, over=False)
        before, self._opening = self._attempt, None
        await self._source.aclose()
        if rescued is not None:
            self._adopt(rescued, outcome)
            return self._marked(rescued.first) if rescued.has_text else self._behind_the_seam(rescued.first)
        assert way is not None
        later, opening = await self._asked(way, before.target, outcome)
        if later is not None and later.native:  # no client reads a chat that goes on in another API's words
            await later.close()
            later = None
        if later is None:
            self._finish(outcome)
            return None
        self._move_to(later, outcome)
        self._opening = opening
        return self._behind_the_seam(later._first) if opening is None else later._first

    def _move_to(self, later: "StreamAnswer", outcome: Outcome) -> None:
        """Take the frames from another provider, after the answer of the one before it has ended so."""
        if self._hold is not None:
            self._hold.drop()
        self._parts.add(self._attempt, outcome)
        self._attempt.breaker.silence.gone(self._attempt.target, self)
        later._timer.close()
        self._attempt, self._source, self._idle = later._attempt, later._source, later._idle
        self._begin()

    async def _rescued(self, outcome: Outcome) -> Rescued | None:
        """Return who goes on that was asked while this stream was silent; None if nobody was, or does.

        Until it is adopted `close` lets go of it, wherever the client leaves.
        """
        if self._rescue is None:
            return None
        if self._abandoned is not None or not outcome.ending.failover:
            await self._rescue.close()
            rescued = None
        else:
            rescued = await self._rescue.result()
        if rescued is None:
            self._rescue = None
        return rescued

    def _adopt(self, rescued: Rescued, outcome: Outcome) -> None:
        """Take the frames from who was asked while this stream was silent."""
        assert self._rescue is not None
        assert self._elsewhere is not None
        self._rescue.adopt()
        self._rescue = None
        second = rescued.later._attempt
        second.hedge = second.record.hedged = "won"
        self._elsewhere.take_over(self._attempt.target, outcome)
        self._move_to(rescued.later, outcome)
        self._counted = rescued.has_text

    def _finish(self, outcome: Outcome) -> None:
        """End the record of a stream that nobody goes on with, as its client sees it: as the first one broke off."""
        self.record.finish(self._parts.first_end(outcome).kind, self._parts.first(self._attempt).target)

    def _way_on(self) -> "WayOn | None":
        """Return what another provider is asked for: all of the answer, or the rest of its text; None if none is."""
        if self._kept is None or self._elsewhere is None:
            return None
        if self._kept.thoughts_alone():
            return WayOn(None)
        text = self._kept.text() if self._attempts_left > 0 else None
        return None if text is None else WayOn(text)

    async def _asked(self, way: "WayOn", target: str, outcome: Outcome) -> "tuple[StreamAnswer | None, Opening | None]":
        assert self._elsewhere is not None
        if way.text is None:
            return await self._elsewhere.restart(target, outcome), None
        return await self._elsewhere.go_on(
            target, outcome, way.text, self._parts.used_for(way.text, self._attempt)
        ) or (None, None)

    async def _beside(self) -> "tuple[StreamAnswer, Opening | None] | None":
        """Ask another provider while this one is silent."""
        way = None if self._parts.before or self._opening is not None else self._way_on()
        if way is None or self._elsewhere is None:
            return None
        used = 0 if way.text is None else self._parts.used_for(way.text, self._attempt)
        return await self._elsewhere.beside(way.text, used)

    def _interrupt(self) -> None:
        """End the wait for a silent provider: another one is proven to go on."""
        if self._timer.waits:
            self._timer.move(asyncio.get_running_loop().time())

    async def first_behind(self, opening: "Opening | None") -> bytes:
        """Return the first frames of an answer that goes on, once that is proven. Raises AttemptFailed, Unverified."""
        self._begin()
        item: bytes | EndMessage = self._first
        while isinstance(item, bytes):
            if opening is None:
                return item
            if self._entry is not None:
                self._entry.delivered(item)
            if (opened := opening.add(item)) is not None:
                return opened
            item = await self._next()
        if (outcome := self._attempt.failure_in(item)) is not None:
            raise AttemptFailed(outcome)
        raise Unverified("the answer ended before it was known to go on")

    async def give_up(self, outcome: Outcome) -> None:
        """Let go of an answer that is not used after all. Its request goes on."""
        self._end_wait()
        self._attempt.end(outcome, over=False)
        await self._source.aclose()

    def _marked(self, opened: bytes) -> bytes:
        """Return the frames of a provider that is proven to go on with the text, with the marker before them."""
        self._attempts_left, self._went_on = self._attempts_left - 1, True
        return self._behind_the_seam(opened)

    def _behind_the_seam(self, first: bytes) -> bytes:
        """Return the frames with which another provider begins, with the marker before them, under the known head."""
        assert self._kept is not None
        told = self._parts.seam(self._attempt, len(self._kept.text() or "") if self._kept.said else None)
        if (head := self._kept.head()) is None:  # the client has had nothing at all, so this one is the first
            head = head_of(first) or (self.record.request_id, self.record.began_at // 1000)
            return marker(head, self.record.row, told) + first
        self._second = SecondHead(head)
        return marker(head, self.record.row, told) + self._second.first(first)

    def _leave(self, outcome: Outcome) -> None:
        """Let go of the provider: the reader has taken no frame for too long."""
        self._abandoned = outcome
        self._attempt.end(outcome)
        self._closing = asyncio.ensure_future(self._source.aclose())

    async def _next(self) -> bytes | EndMessage:
        self._reader.frame_at = None
        if self._abandoned is not None:
            raise AttemptFailed(self._abandoned)
        clock = asyncio.get_running_loop().time
        now = clock()
        silent_at = now + self._idle + COVER_SECONDS
        if (rescue := self._rescue) is not None:
            rescue.wait(now)
        until = min(silent_at, self._deadline.end) if self._deadline.explicit else silent_at
        breaker, target, item = self._attempt.breaker, self._attempt.target, None
        breaker.silence.wait(target, self, breaker.now())
        try:
            with self._timer.until(until):
                item = await anext(self._source, None)
            if isinstance(item, bytes) or (item and "usage" in item):
                if rescue is not None:
                    rescue.heard(clock())
                self._attempt.content_at = now = breaker.now()
                breaker.silence.heard(target, self, now)
        except TimeoutError:
            if rescue is not None and rescue.proven is not None:
                raise AttemptFailed(Outcome("overtaken", content=True)) from None
            stalled = "stalled" if self._timer.stalled else "unreachable"
            kind = stalled if until == silent_at else "deadline"
            raise AttemptFailed(Outcome(kind, content=True)) from None
        except AttemptFailed as error:
            raise AttemptFailed(replace(error.outcome, content=True)) from error
        finally:
            if not isinstance(item, bytes):
                breaker.silence.gone(target, self)
        if item is None:
            raise AttemptFailed(Outcome("lost", content=True, message="the replica's stream stopped"))
        return item

    def _end_wait(self) -> None:
        self._timer.close()
        self._attempt.breaker.silence.gone(self._attempt.target, self)

    def _explained(self) -> bytes:
        """Return a chunk without a choice, as the one with the usage is."""
        if not self.record.explain:
            return b""
        head = Head(self.record.request_id, self.record.began_at // 1000, self.record.row)
        return bare_chunk(head, breakwater={"explained": self._explain(self.record)})

    async def close(self) -> None:
        """Let go of the provider. A stream that has not ended counts as cancelled by its reader."""
        self._end_wait()
        if self._kept is not None:
            self._kept.close()
        self._reader.close()
        rescue, self._rescue = self._rescue, None  # it holds this stream: both would wait for a search for garbage
        if rescue is not None:
            rescue.drop()
        self._attempt.end(Outcome("cancelled", content=True))
        self.record.finish("cancelled", self._attempt.target)  # does nothing if it has ended
        # Whoever closes it may be cancelled from here on: nothing is waited for before that.
        if rescue is not None:
            await rescue.close()
        if self._closing is not None:
            await self._closing
        await self._source.aclose()
