"""Take a plan, try in order, report how each attempt ended. No Ray, and no I/O but through its ports.

- Until the first content a failure moves on to the next candidate, inside one deadline; after it,
  the stream ends with an error frame and without `[DONE]`. Nothing is ever sealed as whole that is not.
- While another candidate is left, a share of the deadline is kept back for it.
- A call that is cancelled gives its permit back and says nothing of the provider.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from actors.outcome import Guilt, Outcome
from actors.plan import Plan, Skipped, provider_of
from deployments.board_link import BoardLink
from deployments.errors import AttemptFailed, BadRequest, BreakwaterError, DeadlineExceeded, NoAnswer, UnknownModel
from deployments.providers.base import Limits
from deployments.replica import call_dict
from deployments.wire import DONE, ChatRequest, frame

T = TypeVar("T")
Once = Callable[["_Attempt", dict[str, Any], Limits], Awaitable[T]]

RESERVED_SHARE = 0.25  # of the whole deadline, kept for the candidates still to come
# What one tier can't do another may: it is the client's fault only if nobody in the row can.
_OF_ONE_TIER = frozenset({"unsupported", "too_long"})
_PINNABLE = re.compile(r"[\x21-\x7e]+")
RENEW_SECONDS = 10.0  # a lease is at least half a minute
COVER_SECONDS = 1.0  # how long after a replica's own limit it counts as gone


class Hop(Protocol):
    """Raises AttemptFailed for what went wrong on the way; what the provider said comes as data."""

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]: ...

    def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]: ...


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
    last: Outcome | None = None

    def out_of_time(self, target: str) -> None:
        self.entries.append(_entry(target, "skipped: the time left is kept for the last tier"))

    def skip(self, plan: Plan) -> None:
        for s in plan.skipped:
            entry = _entry(s.target, f"skipped: {s.why}")
            if s.retry_in is not None:
                entry["retry_in_seconds"] = round(s.retry_in, 3)
            self.entries.append(entry)

    def only(self, kinds: frozenset[str]) -> bool:
        """Did everybody in the row end so, with nobody skipped?"""
        return all(e["outcome"] in kinds for e in self.entries)

    def attempt(self, target: str, outcome: Outcome, ms: float) -> None:
        self.last = outcome
        entry = {**_entry(target, outcome.kind), "status": outcome.status, "ms": round(ms, 1)}
        if outcome.kind != "ok":
            entry["message"] = outcome.message or outcome.ending.why
        self.entries.append(entry)


def _entry(target: str, outcome: str) -> dict[str, Any]:
    provider, _, model = target.partition("/")
    return {"provider": provider, "model": model, "outcome": outcome}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the JSON body as bytes, and who gave it."""

    target: str
    body: bytes
    usage: Mapping[str, Any] | None
    trail: Trail


@dataclass(slots=True)
class _Attempt:
    """One attempt under way: reports exactly once how it ended."""

    link: BoardLink
    trail: Trail
    target: str
    permit: Mapping[str, Any]
    began: float = field(default_factory=time.perf_counter)
    renewed: float = field(default_factory=lambda: _now())
    ended: bool = False
    first: bool = True  # of its request

    def keep_lease(self) -> None:
        """A probe that flows for longer than its lease says so from time to time."""
        if self.permit.get("lease") and _now() - self.renewed >= RENEW_SECONDS:
            self.renewed = _now()
            self.link.report_started(self.target, self.permit)

    def end(self, outcome: Outcome, *, whole: bool = False) -> None:
        if self.ended:
            return
        self.ended = True
        ms = (time.perf_counter() - self.began) * 1000
        self.trail.attempt(self.target, outcome, ms)
        # A request that makes every model fail must not open every circuit.
        neutral = outcome.ending.poison and not self.first and not self.permit.get("lease")
        self.link.report(self.target, self.permit, outcome, ms, whole=whole, neutral=neutral)


class StreamAnswer:
    """A stream whose first content has come. Iterate `frames` once, then always `close`."""

    def __init__(
        self,
        attempt: _Attempt,
        first: bytes,
        source: AsyncGenerator[bytes | dict[str, Any], None],
        idle: float,
        deadline: Deadline,
    ):
        self.target = attempt.target
        self.trail = attempt.trail
        self.usage: Mapping[str, Any] | None = None
        self._attempt = attempt
        self._first = first
        self._source = source
        self._idle = idle
        self._deadline = deadline

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """SSE frames, ended by `[DONE]`, or by an error frame and nothing after it."""
        yield self._first
        try:
            while isinstance(item := await self._next(), bytes):
                self._attempt.keep_lease()
                yield item
        except AttemptFailed as error:
            self._attempt.end(error.outcome)
            yield self._error_frame(error.outcome)
            return
        if (outcome := _outcome_in(item)) is not None:
            self._attempt.end(outcome)
            yield self._error_frame(outcome)
            return
        self.usage = item["usage"]
        self._attempt.end(Outcome("ok", content=True))
        yield item["tail"] + DONE

    async def _next(self) -> bytes | dict[str, Any]:
        loop = asyncio.get_running_loop()
        silent_at = loop.time() + self._idle + COVER_SECONDS
        until = min(silent_at, self._deadline.at) if self._deadline.explicit else silent_at
        try:
            async with asyncio.timeout_at(until):
                item = await anext(self._source, None)
        except TimeoutError:
            kind = "unreachable" if until == silent_at else "deadline"
            raise AttemptFailed(Outcome(kind, content=True)) from None
        except AttemptFailed as error:
            raise AttemptFailed(replace(error.outcome, content=True)) from error
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


class Failover:
    """`rows` is row name to targets, `limits` provider to limits; both may be replaced while running.

    `fixed` are providers that have the models of the rows and no other: nothing else can be pinned there.
    """

    def __init__(
        self,
        rows: Mapping[str, list[str]],
        limits: Mapping[str, Limits],
        link: BoardLink,
        hop: Hop,
        fixed: frozenset[str] = frozenset(),
    ):
        self.fixed = fixed
        self.rows = rows
        self.limits = limits
        self._link = link
        self._hop = hop

    async def complete(self, request: ChatRequest, deadline: Deadline) -> Answer:
        """A whole answer. Raises NoAnswer, DeadlineExceeded or UnknownModel."""

        async def once(attempt: _Attempt, call: dict[str, Any], _: Limits) -> Answer:
            reply = await self._hop.complete(provider_of(attempt.target), call)
            if (outcome := _outcome_in(reply)) is not None:
                raise AttemptFailed(outcome)
            attempt.end(Outcome("ok", content=True), whole=True)
            return Answer(attempt.target, reply["body"], reply["usage"], attempt.trail)

        return await self._failing_over(request, deadline, once, lambda limits: limits.total)

    async def stream(self, request: ChatRequest, deadline: Deadline) -> StreamAnswer:
        """A stream whose first content has come. Raises as `complete` does, before that."""

        async def once(attempt: _Attempt, call: dict[str, Any], limits: Limits) -> StreamAnswer:
            source = self._hop.stream(provider_of(attempt.target), call)
            try:
                first = await anext(source, None)
                if not isinstance(first, bytes):
                    raise AttemptFailed(_outcome_in(first or {}) or Outcome("empty"))
            except BaseException:
                await source.aclose()
                raise
            self._link.report_started(attempt.target, attempt.permit)
            return StreamAnswer(attempt, first, source, limits.idle, deadline)

        return await self._failing_over(request, deadline, once, lambda limits: limits.first_token)

    async def _failing_over(
        self, request: ChatRequest, deadline: Deadline, once: Once[T], limit_of: Callable[[Limits], float]
    ) -> T:
        trail = Trail()
        plan, permit = await self._planned(self._row(request.model), trail)
        clock = asyncio.get_running_loop().time
        for candidate in plan.candidates:
            last = candidate is plan.candidates[-1]
            until = deadline.at if last else deadline.at - RESERVED_SHARE * deadline.total
            if until <= clock():
                trail.out_of_time(candidate.target)
                continue
            if not candidate.probe:
                permit = {"epoch": candidate.epoch, "incarnation": self._link.incarnation}
            attempt = _Attempt(self._link, trail, candidate.target, permit, first=trail.made == 0)
            trail.made += 1
            provider, _, model = candidate.target.partition("/")
            limits = self.limits[provider]
            gone_at = clock() + limits.connect + limit_of(limits) + COVER_SECONDS
            try:
                async with asyncio.timeout_at(min(until, gone_at)):
                    return await once(attempt, call_dict(request.body, model, request.model, limits), limits)
            except TimeoutError:
                outcome = Outcome("unreachable" if gone_at < until else "deadline")
            except AttemptFailed as error:
                outcome = error.outcome
            except BaseException:
                attempt.end(Outcome("cancelled"))
                raise
            attempt.end(outcome)
            if not outcome.ending.failover or clock() >= deadline.at:
                break
        # A timer may fire a fraction of a millisecond before its time.
        late = clock() >= deadline.at or (trail.last is not None and trail.last.kind == "deadline")
        raise self._no_answer(plan, trail, late=late)

    def _row(self, model: str) -> list[str]:
        """The targets of a row's name, or the one target that `provider/upstream-id` pins."""
        row = self.rows.get(model)
        if row is not None:
            return row
        provider, slash, upstream = model.partition("/")
        if slash and provider in self.limits:
            if not _PINNABLE.fullmatch(upstream):
                raise BadRequest("Invalid 'model': an upstream id is printable ASCII.", "model", "invalid_value")
            if provider not in self.fixed or any(model in row for row in self.rows.values()):
                return [model]
        known = ", ".join(self.rows)
        raise UnknownModel(f"The model '{model}' does not exist. Known models: {known}.")

    async def _planned(self, row: list[str], trail: Trail) -> tuple[Plan, Mapping[str, Any]]:
        """A plan that can be walked: its probe, if it has one, has its permit."""
        while True:
            plan = self._link.plan(row)
            if not plan.candidates or not plan.candidates[0].probe:
                trail.skip(plan)
                return plan, {}
            first = plan.candidates[0]
            if (permit := await self._link.ask(first.target, panic=first.panic)) is not None:
                trail.skip(plan)
                return plan, permit
            # Somebody else probes it, or a panic is not due: for this request it is not there.
            refused = Skipped(first.target, "open" if first.panic else "probing", 1.0)
            if first.panic:
                plan = Plan((), (*plan.skipped, refused))
                trail.skip(plan)
                return plan, {}
            trail.skip(Plan((), (refused,)))
            row = [t for t in row if t != first.target]

    def _configured(self, trail: Trail) -> bool:
        """Was the target that was asked one of ours, rather than one that the client named?"""
        target = "{provider}/{model}".format(**trail.entries[-1])
        return any(target in row for row in self.rows.values())

    def _no_answer(self, plan: Plan, trail: Trail, *, late: bool) -> NoAnswer:
        if late:
            return DeadlineExceeded("The request's deadline passed before any provider answered.", trail.entries)
        last = trail.last
        if last is not None and last.kind == "model_missing" and not self._configured(trail):
            return NoAnswer("The provider does not know this model.", trail.entries, replace(last, kind="bad_request"))
        if last is None:
            return NoAnswer("No provider can be asked now.", trail.entries, None, plan.retry_in or 1.0)
        if last.ending.guilt is Guilt.CALLER and (last.kind not in _OF_ONE_TIER or trail.only(_OF_ONE_TIER)):
            return NoAnswer(last.message or last.ending.why, trail.entries, last)
        return NoAnswer("Every provider failed.", trail.entries, None, plan.retry_in or last.retry_after or 1.0)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _outcome_in(reply: Mapping[str, Any]) -> Outcome | None:
    data = reply.get("outcome")
    return None if data is None else Outcome(**data)
