"""One attempt under way, the trail of a request's attempts, and a stream that has begun. No Ray."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from actors.outcome import Guilt, Outcome
from actors.plan import Plan, target_of
from deployments.account import Entry
from deployments.board_link import BoardLink
from deployments.errors import AttemptFailed, BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.wire import DONE, frame

RENEW_SECONDS = 10.0  # shorter than any lease
LONGEST_PROBE = 600.0  # a reader that takes longer loses the lease: one client must not hold a target for ever
COVER_SECONDS = 1.0  # how long after a replica's own limit it counts as gone


OUT_OF_TIME = "the time left is kept for the last tier"
TOO_SMALL = "no larger context window"
_NO_BETTER = (f"skipped: {TOO_SMALL}", "skipped: unsupported ")


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is on the event loop's clock. `explicit`: the caller named it, so it ends streams too."""

    at: float
    total: float
    explicit: bool

    @classmethod
    def after(cls, seconds: float, *, explicit: bool) -> "Deadline":
        return cls(asyncio.get_running_loop().time() + seconds, seconds, explicit)


@dataclass(slots=True)
class Trail:
    """What one request went through: who was skipped and why, and each attempt."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    made: int = 0
    first: Outcome | None = None  # the first that was not the caller's own fault
    last: Outcome | None = None

    def pass_over(self, target: str, why: str) -> None:
        self.entries.append(_entry(target, f"skipped: {why}"))

    def skip(self, plan: Plan) -> None:
        for s in plan.skipped:
            entry = _entry(s.target, f"skipped: {s.why}")
            if s.retry_in is not None:
                entry["retry_in_seconds"] = round(s.retry_in, 3)
            self.entries.append(entry)

    def only(self, kinds: frozenset[str]) -> bool:
        """Did everybody in the row end so, with nobody skipped who might have done better?"""
        return all(e["outcome"] in kinds or e["outcome"].startswith(_NO_BETTER) for e in self.entries)

    def asked(self) -> str:
        """The target that was asked last."""
        return [_target_in(e) for e in self.entries if not e["outcome"].startswith("skipped")][-1]

    def left_out(self) -> list[str]:
        """Targets that were skipped, but not for what they can't do."""
        out = [e for e in self.entries if e["outcome"].startswith("skipped")]
        return [_target_in(e) for e in out if not e["outcome"].startswith(_NO_BETTER)]

    def attempt(self, target: str, outcome: Outcome, ms: float) -> None:
        if self.first is None and outcome.ending.guilt is not Guilt.CALLER:
            self.first = outcome
        self.last = outcome
        entry = {**_entry(target, outcome.kind), "status": outcome.status, "ms": round(ms, 1)}
        if outcome.kind != "ok":
            entry["message"] = outcome.message or outcome.ending.why
        self.entries.append(entry)


def _entry(target: str, outcome: str) -> dict[str, Any]:
    provider, _, model = target.partition("/")
    return {"provider": provider, "model": model, "outcome": outcome}


def _target_in(entry: Mapping[str, Any]) -> str:
    return target_of(entry["provider"], entry["model"])


@dataclass(slots=True)
class Attempt:
    """One attempt under way: reports exactly once how it ended."""

    link: BoardLink
    trail: Trail
    target: str
    permit: Mapping[str, Any]
    began: float = field(default_factory=time.perf_counter)
    renewal: asyncio.Task[None] | None = None
    ended: bool = False
    first: bool = True  # of its request
    dropped: tuple[str, ...] = ()  # fields that this target's provider has no use for
    more: bool = False  # is another left to ask?
    until: float = 0.0  # on the loop's clock: then the time that is kept for the others begins
    heard: bool = False  # has its content begun?
    entry: Entry | None = None  # its row in the ledger

    @property
    def probe(self) -> bool:
        return bool(self.permit.get("lease"))

    def keep_lease(self) -> None:
        """A probe whose stream outlives its lease says so from time to time, however slow its reader is."""
        if self.probe:
            self.renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        for _ in range(int(LONGEST_PROBE / RENEW_SECONDS)):
            await asyncio.sleep(RENEW_SECONDS)
            self.link.report_started(self.target, self.permit)

    def end(
        self,
        outcome: Outcome,
        *,
        whole: bool = False,
        usage: Mapping[str, Any] | None = None,
        body: bytes = b"",
        first: bytes = b"",
        over: bool = True,
    ) -> None:
        """`first`, `over`: see account.Entry.settle."""
        if self.ended:
            return
        self.ended = True
        if self.entry is not None:
            self.entry.settle(outcome, usage, body, first=first, over=over)
        if self.renewal is not None:
            self.renewal.cancel()
        ms = (time.perf_counter() - self.began) * 1000
        self.trail.attempt(self.target, outcome, ms)
        # A request that makes every model fail must not open every circuit.
        neutral = outcome.ending.poison and not self.first and not self.probe
        self.link.report(self.target, self.permit, outcome, ms, whole=whole, neutral=neutral)


class Items(Protocol):
    """A provider's stream, and the way to let go of it."""

    def __aiter__(self) -> AsyncIterator[bytes | dict[str, Any]]: ...

    def __anext__(self) -> Awaitable[bytes | dict[str, Any]]: ...

    def aclose(self) -> Awaitable[None]: ...


async def held_back(
    first: bytes, source: Items, until: float, silent: float
) -> tuple[bytes, Items, dict[str, Any] | None]:
    """A probe's frames until it has ended or `until` has come: what breaks meanwhile costs no client its answer.

    The frames so far, whatever is still to come, and the answer's end if it has come. One that has been
    silent for `silent` seconds then is not handed over before it speaks again: who gets it would gain nothing.
    Raises AttemptFailed as long as nothing has been sent, so that the next candidate can be asked.
    """
    clock, frames = asyncio.get_running_loop().time, [first]
    spoke = clock()
    try:
        while (now := clock()) < until:
            coming = asyncio.ensure_future(_following(source))
            try:
                await asyncio.wait([coming], timeout=until - now)
                if not coming.done() and clock() - spoke < silent:
                    return b"".join(frames), _Resumed(coming, source), None
                await asyncio.wait([coming])
            except asyncio.CancelledError:
                coming.cancel()
                await asyncio.wait([coming])
                raise
            item, spoke = coming.result(), clock()
            if not isinstance(item, bytes):
                ended = item or {"outcome": asdict(Outcome("lost", message="the replica's stream stopped"))}
                if (outcome := outcome_in(ended)) is not None:
                    raise AttemptFailed(outcome)
                await source.aclose()
                return b"".join(frames), _just(ended), ended
            frames.append(item)
    except AttemptFailed as error:
        raise AttemptFailed(replace(error.outcome, content=True)) from error
    return b"".join(frames), source, None


async def _following(source: Items) -> bytes | dict[str, Any] | None:
    return await anext(source, None)


class _Resumed:
    """The source again, from an item on that is awaited already. No generator: one that nobody began can't clean up."""

    def __init__(self, coming: "asyncio.Future[bytes | dict[str, Any] | None]", source: "Items"):
        self._coming: asyncio.Future[bytes | dict[str, Any] | None] | None = coming
        self._source = source

    def __aiter__(self) -> "_Resumed":
        return self

    async def __anext__(self) -> bytes | dict[str, Any]:
        coming, self._coming = self._coming, None
        if coming is None:
            return await anext(self._source)
        try:
            item = await coming
        except BaseException:
            self._coming = coming  # whoever closes must still wait for it
            raise
        if item is None:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait([self._coming])
        await self._source.aclose()


async def _just(item: dict[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
    yield item


class StreamAnswer:
    """A stream whose first content has come. Iterate `frames` once, then always `close`."""

    def __init__(
        self,
        attempt: Attempt,
        first: bytes,
        source: Items,
        idle: float,
        deadline: Deadline,
    ):
        self.target = attempt.target
        self.trail = attempt.trail
        self.dropped = attempt.dropped
        self.usage: Mapping[str, Any] | None = None
        self._attempt = attempt
        self._first = first
        self._source = source
        self._idle = idle
        self._deadline = deadline

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """SSE frames, ended by `[DONE]`, or by an error frame and nothing after it."""
        entry = self._attempt.entry
        if entry is not None:
            entry.delivered(self._first)
        yield self._first
        try:
            while isinstance(item := await self._next(), bytes):
                if entry is not None:
                    entry.delivered(item)
                yield item
        except AttemptFailed as error:
            self._attempt.end(error.outcome)
            yield self._error_frame(error.outcome)
            return
        if (outcome := outcome_in(item)) is not None:
            self._attempt.end(outcome)
            yield self._error_frame(outcome)
            return
        self.usage = item["usage"]
        self._attempt.end(Outcome("ok", content=True), usage=self.usage)
        yield item["tail"] + DONE

    async def _next(self) -> bytes | dict[str, Any]:
        loop = asyncio.get_running_loop()
        silent_at = loop.time() + self._idle + COVER_SECONDS
        until = min(silent_at, self._deadline.at) if self._deadline.explicit else silent_at
        link = self._attempt.link
        link.silence.wait(self.target, self, link.now())
        try:
            async with asyncio.timeout_at(until):
                item = await anext(self._source, None)
            if isinstance(item, bytes) or (item and "usage" in item):
                link.silence.heard(self.target, self, link.now())
        except TimeoutError:
            kind = "unreachable" if until == silent_at else "deadline"
            raise AttemptFailed(Outcome(kind, content=True)) from None
        except AttemptFailed as error:
            raise AttemptFailed(replace(error.outcome, content=True)) from error
        finally:
            link.silence.gone(self.target, self)
        if item is None:
            raise AttemptFailed(Outcome("lost", content=True, message="the replica's stream stopped"))
        return item

    def _error_frame(self, outcome: Outcome) -> bytes:
        error: BreakwaterError
        if outcome.kind == "deadline":
            error = DeadlineExceeded("The request's deadline passed in mid-stream.", self.trail.entries)
        else:
            text = outcome.message or outcome.ending.why
            error = NoAnswer(f"The stream from {self.target} broke off: {text}.", self.trail.entries)
            error.code = "stream_interrupted"
        return frame({"error": error.body()})

    async def close(self) -> None:
        """Let go of the provider. A stream that has not ended counts as cancelled by its reader."""
        self._attempt.end(Outcome("cancelled", content=True))
        await self._source.aclose()


def outcome_in(reply: Mapping[str, Any]) -> Outcome | None:
    data = reply.get("outcome")
    return None if data is None else Outcome(**data)
