"""Take a plan, try in order, report how each attempt ended. No Ray, and no I/O but through its ports.

- Until the first content a failure moves on to the next candidate, inside one deadline; after it,
  the stream ends with an error frame and without `[DONE]`. Nothing is ever sealed as whole that is not.
- While another candidate is left, a share of the deadline is kept back for it.
- A call that is cancelled gives its permit back and says nothing of the provider.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from actors.outcome import Guilt, Outcome
from actors.plan import Plan, provider_of
from deployments.attempt import Attempt, Deadline, failure_in
from deployments.board_link import BoardLink
from deployments.errors import TOO_SMALL, AttemptFailed, BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.explain import explained
from deployments.images import ImageLimits, Images
from deployments.providers.base import Limits
from deployments.replica import call_dict
from deployments.rows import Rows
from deployments.stream import COVER_SECONDS, Items, StreamAnswer, held_back
from deployments.trail import Trail
from deployments.wire import Request

T = TypeVar("T")
Verb = Literal["chat", "embed"]
Once = Callable[["Attempt", dict[str, Any], Limits, asyncio.Timeout], Awaitable[T]]

OUT_OF_TIME = "the time left is kept for the last tier"
HAND_OVER_SECONDS = 0.05  # before its time is over a probe that flows is its client's
RESERVED_SHARE = 0.25  # of the whole deadline, kept for the candidates still to come
# What one tier can't do another may: it is the client's fault only if nobody in the row can.
_OF_ONE_TIER = frozenset({"unsupported", "too_long"})


class Hop(Protocol):
    """Raises AttemptFailed for what went wrong on the way; what the provider said comes as data."""

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]: ...

    def stream(self, provider: str, call: Mapping[str, Any]) -> Items:
        """What comes: bytes, then a last dict. It is always closed."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the JSON body as bytes, and who gave it."""

    target: str
    body: bytes
    usage: Mapping[str, Any] | None
    trail: Trail
    dropped: tuple[str, ...] = ()  # fields that it was not asked to heed


class Failover:
    """`limits` is provider to limits, and may be replaced while running."""

    def __init__(
        self, rows: Rows, limits: Mapping[str, Limits], link: BoardLink, hop: Hop, images: Images | None = None
    ):
        self.rows = rows
        self.limits = limits
        self._link = link
        self._hop = hop
        self._images = images or Images(ImageLimits())

    async def complete(
        self, request: Request, deadline: Deadline, trail: Trail | None = None, verb: Verb = "chat"
    ) -> Answer:
        """A whole answer. Raises NoAnswer, DeadlineExceeded or UnknownModel."""

        async def once(attempt: Attempt, call: dict[str, Any], _: Limits, __: asyncio.Timeout) -> Answer:
            reply = await self._hop.complete(provider_of(attempt.target), {**call, "verb": verb})
            if (outcome := failure_in(attempt, reply)) is not None:
                raise AttemptFailed(outcome)
            attempt.end(Outcome("ok", content=True), whole=True, usage=reply["usage"], body=reply["body"])
            return Answer(attempt.target, reply["body"], reply["usage"], attempt.trail, attempt.dropped)

        with _ending(trail := trail or Trail()):
            return await self._failing_over(request, deadline, once, lambda limits: limits.total, trail)

    async def stream(self, request: Request, deadline: Deadline, trail: Trail | None = None) -> StreamAnswer:
        """A stream whose first content has come. Raises as `complete` does, before that."""

        async def once(attempt: Attempt, call: dict[str, Any], limits: Limits, limit: asyncio.Timeout) -> StreamAnswer:
            held_until = asyncio.get_running_loop().time() + limits.first_token
            source: Items = self._hop.stream(provider_of(attempt.target), call)
            try:
                first = await anext(source, None)
                if not isinstance(first, bytes):
                    raise AttemptFailed(failure_in(attempt, first or {}) or Outcome("empty"))
                attempt.hear()
                self._link.report_started(attempt.target, attempt.permit)
                attempt.keep_lease()
                if attempt.probe and attempt.more:
                    # While it is silent the reserve is the others'; while it flows it is no reason to end it.
                    limit.reschedule(attempt.until)
                    held_until = min(held_until, attempt.until - HAND_OVER_SECONDS)
                    first, source, ended = await held_back(first, source, held_until, limits.idle / 2)
                    limit.reschedule(None)
                    if ended is not None:  # it proved its health, whether its reader stays or not
                        attempt.upstream = ended.get("upstream")
                        attempt.end(Outcome("ok", content=True), usage=ended["usage"], first=first)
            except BaseException:
                await source.aclose()
                raise
            return StreamAnswer(attempt, first, source, limits.idle, deadline)

        with _ending(trail := trail or Trail()):
            return await self._failing_over(request, deadline, once, lambda limits: limits.first_token, trail)

    async def _failing_over(
        self,
        request: Request,
        deadline: Deadline,
        once: Once[T],
        limit_of: Callable[[Limits], float],
        trail: Trail,
    ) -> T:
        bodies = self.rows.fitting(request, trail)
        plan, permit = await self.planned(list(bodies), trail)
        clock = asyncio.get_running_loop().time
        least = 0.0  # a window must be larger than this
        for number, candidate in enumerate(plan.candidates):
            last = not any(self.rows.window(c.target) > least for c in plan.candidates[number + 1 :])
            until = deadline.at if last else deadline.at - RESERVED_SHARE * deadline.total
            too_small = self.rows.window(candidate.target) <= least
            if (why := OUT_OF_TIME if until <= clock() else TOO_SMALL if too_small else None) is not None:
                trail.pass_over(candidate.target, why)
                if candidate.probe:
                    self._link.release(candidate.target, permit)
                continue
            if not candidate.probe:
                permit = {"epoch": candidate.epoch, "incarnation": self._link.incarnation}
            fitted = bodies[candidate.target]
            attempt = Attempt(self._link, trail, candidate.target, permit, first=trail.made == 0, more=not last)
            attempt.dropped, attempt.until = fitted.dropped, until
            if trail.account is not None:
                attempt.entry = trail.account.open(candidate.target)
            trail.made += 1
            provider, _, model = candidate.target.partition("/")
            limits = self.limits[provider]
            gone_at = math.inf
            try:
                body = fitted.body
                if self.rows.kind(candidate.target) != "openai" and body.get("messages"):
                    # What an image costs to fetch is the request's own time, and no fault of the provider.
                    async with asyncio.timeout_at(until):
                        body = await self._images.inlined(body)
                gone_at = clock() + limits.connect + limit_of(limits) + COVER_SECONDS
                async with asyncio.timeout_at(min(until, gone_at)) as limit:
                    call = call_dict(body, model, request.model, limits)
                    if trail.trace is not None:
                        call["trace"] = trail.trace.place.below(trail.made).headers()
                    return await once(attempt, call, limits, limit)
            except TimeoutError:
                outcome = Outcome("unreachable" if gone_at < until and attempt.heard is None else "deadline")
            except AttemptFailed as error:
                outcome = error.outcome
            except BaseException:
                attempt.end(Outcome("cancelled"), over=False)
                raise
            attempt.end(outcome, over=False)
            if outcome.kind == "too_long" and candidate.target in self.rows.windows:
                least = self.rows.window(candidate.target)
            elif not outcome.ending.failover or clock() >= deadline.at:
                break
        # A timer may fire a fraction of a millisecond before its time.
        late = clock() >= deadline.at or (trail.last is not None and trail.last.kind == "deadline")
        raise self._no_answer(plan, trail, late=late)

    async def planned(self, row: list[str], trail: Trail) -> tuple[Plan, Mapping[str, Any]]:
        """A plan that can be walked: its probe, if it has one, has its permit."""
        while True:
            plan = self._link.plan(row)
            if not plan.candidates or not plan.candidates[0].probe:
                trail.planned(plan)
                return plan, {}
            first = plan.candidates[0]
            if (permit := await self._link.ask(first.target, panic=first.panic)) is not None:
                trail.planned(plan)
                return plan, permit
            # Somebody else probes it, or a panic is not due: for this request it is not there.
            refused = replace(self._link.skipped(first.target, "open" if first.panic else "probing"), retry_in=1.0)
            if first.panic:
                plan = Plan((), (*plan.skipped, refused))
                trail.planned(plan)
                return plan, {}
            trail.skip((refused,))
            row = [t for t in row if t != first.target]

    def _configured(self, trail: Trail) -> bool:
        """Was the target that was asked one of ours, rather than one that the client named?"""
        return trail.asked() in self.rows.targets

    def _no_answer(self, plan: Plan, trail: Trail, *, late: bool) -> NoAnswer:
        if late:
            return DeadlineExceeded("The request's deadline passed before any provider answered.", trail.entries)
        last = trail.last
        if last is not None and last.kind == "model_missing" and not self._configured(trail):
            return NoAnswer("The provider does not know this model.", trail.entries, replace(last, kind="bad_request"))
        if last is None:
            return NoAnswer("No provider can be asked now.", trail.entries, None, plan.retry_in or 1.0)
        if last.ending.guilt is Guilt.CALLER and self._of_the_request(last, trail):
            return NoAnswer(last.message or last.ending.why, trail.entries, last)
        first = trail.first or last
        why = f"Every provider failed, the first so: {(first.message or first.ending.why).rstrip('.')}."
        return NoAnswer(why, trail.entries, None, plan.retry_in or first.retry_after or 1.0)

    def _larger_is_out(self, trail: Trail) -> bool:
        """Was somebody left out who may hold the prompt that a tier of known size could not?"""
        window = self.rows.windows.get(trail.asked())
        known = self.rows.windows
        return window is not None and any(known.get(t, math.inf) > window for t in trail.left_out())

    def _of_the_request(self, last: Outcome, trail: Trail) -> bool:
        """Is the refusal the request's own fault, rather than the limits of a tier that stood in?"""
        if last.kind == "too_long":
            return trail.first is None and not self._larger_is_out(trail)
        if last.kind in _OF_ONE_TIER:
            return trail.only(_OF_ONE_TIER)
        # Where an earlier one broke, a 400 of the next must not hide that: with the first it may be fine.
        return last.kind != "bad_request" or trail.first is None


@contextlib.contextmanager
def _ending(trail: Trail) -> Iterator[None]:
    """Whatever becomes of a request, its trail has an end."""
    try:
        yield
    except BaseException as error:
        trail.finish(_ending_of(error), status=getattr(error, "status", None))
        if trail.explain and isinstance(error, BreakwaterError):
            error.explained = explained(trail)
        raise


def _ending_of(error: BaseException) -> str:
    """The outcome of a request that nobody answered."""
    if not isinstance(error, BreakwaterError):
        return "cancelled" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "unclassified"
    last = getattr(error, "last", None)
    return last.kind if last is not None else error.code or "no_answer"
