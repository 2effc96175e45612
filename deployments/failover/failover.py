"""Take a plan, try in order, report how each attempt ended. No Ray, and no I/O but through its ports.

- Until the first content a failure moves on to the next candidate, inside one deadline; after it,
  the stream ends with an error frame and without `[DONE]`. Nothing is ever sealed as whole that is not.
- The time that is left is shared with the candidates that are left (shares.py).
- Whose turn it is, and a probe's permit, are decided when the turn comes (walk.py).
- A failure that may be the request's own is judged when the request is over (comparison.py).
- A call that is cancelled gives its permit back and says nothing of the provider.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

from actors.breaker.messages import Permit
from actors.breaker.outcomes import Guilt, Outcome
from actors.breaker.plan import provider_of
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.breaker_client.client import BreakerClient
from deployments.config.settings import ImageLimits
from deployments.errors import AttemptFailed, BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.failover.attempt import Attempt, failure_in
from deployments.failover.candidates import Candidates, Turn
from deployments.failover.comparison import Comparison
from deployments.failover.deadline import Deadline
from deployments.failover.image_fetch import ImageFetcher, RequestImages, remote_images
from deployments.failover.model_rows import ModelRows
from deployments.failover.probe import hold_back
from deployments.failover.request_fit import RequestFit
from deployments.failover.stream import COVER_SECONDS, StreamAnswer
from deployments.failover.time_share import share
from deployments.openai_api.chat import Request
from deployments.providers.base import TimeLimits, call_dict
from deployments.rpc.port import CallTransport, ProviderStream
from deployments.telemetry.explain import explained
from deployments.telemetry.request_record import RequestRecord

T = TypeVar("T")
Verb = Literal["chat", "embed"]
Once = Callable[["Attempt", dict[str, Any], TimeLimits, DeadlineTimer], Awaitable[T]]
LimitOf = Callable[[TimeLimits], float]

HAND_OVER_SECONDS = 0.05  # before its time is over a probe that flows is its client's
EARLY_SECONDS = 0.001  # before a deadline that is as good as over
# What one tier can't do another may: it is the client's fault only if nobody in the row can.
_OF_ONE_TIER = frozenset({"unsupported", "too_long"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the JSON body as bytes, and who gave it."""

    target: str
    body: bytes
    usage: Mapping[str, Any] | None
    trail: RequestRecord
    dropped: tuple[str, ...] = ()  # fields that it was not asked to heed


class Failover:
    """`limits` is provider to limits, and may be replaced while running."""

    def __init__(
        self,
        rows: ModelRows,
        limits: Mapping[str, TimeLimits],
        link: BreakerClient,
        hop: CallTransport,
        images: ImageFetcher | None = None,
    ):
        self.rows = rows
        self.limits = limits
        self._link = link
        self._hop = hop
        self._images = images or ImageFetcher(ImageLimits())

    async def complete(
        self, request: Request, deadline: Deadline, trail: RequestRecord | None = None, verb: Verb = "chat"
    ) -> Answer:
        """A whole answer. Raises NoAnswer, DeadlineExceeded or UnknownModel."""

        async def once(attempt: Attempt, call: dict[str, Any], _: TimeLimits, __: DeadlineTimer) -> Answer:
            reply = await self._hop.complete(provider_of(attempt.target), {**call, "verb": verb})
            if (outcome := failure_in(attempt, reply)) is not None:
                raise AttemptFailed(outcome)
            attempt.end(Outcome("ok", content=True), whole=True, usage=reply["usage"], body=reply["body"])
            return Answer(attempt.target, reply["body"], reply["usage"], attempt.trail, attempt.dropped)

        with _ending(trail := trail or RequestRecord(clock=self._link.now)):
            return await self._failing_over(request, deadline, once, "whole", lambda limits: limits.total, trail)

    async def stream(self, request: Request, deadline: Deadline, trail: RequestRecord | None = None) -> StreamAnswer:
        """A stream whose first content has come. Raises as `complete` does, before that."""

        async def once(
            attempt: Attempt, call: dict[str, Any], limits: TimeLimits, limit: DeadlineTimer
        ) -> StreamAnswer:
            held_until = asyncio.get_running_loop().time() + limits.first_token
            source: ProviderStream = self._hop.stream(provider_of(attempt.target), call)
            try:
                first = await anext(source, None)
                if not isinstance(first, bytes):
                    raise AttemptFailed(failure_in(attempt, first or {}) or Outcome("empty"))
                attempt.hear()
                self._link.report_started(attempt.target, attempt.permit, attempt.began)
                if attempt.probe and attempt.more:
                    # While it is silent the reserve is the others'; while it flows it is no reason to end it.
                    limit.move(attempt.until)
                    held_until = min(held_until, attempt.until - HAND_OVER_SECONDS)
                    first, source, ended = await hold_back(attempt, first, source, held_until, limits.idle / 2)
                    limit.move(None)
                    if ended is not None:  # it proved its health, whether its reader stays or not
                        attempt.upstream = ended.get("upstream")
                        attempt.end(Outcome("ok", content=True), usage=ended["usage"], first=first)
            except BaseException:
                await source.aclose()
                raise
            return StreamAnswer(attempt, first, source, limits.idle, deadline)

        with _ending(trail := trail or RequestRecord(clock=self._link.now)):
            return await self._failing_over(request, deadline, once, "stream", lambda limits: limits.first_token, trail)

    async def _failing_over(
        self, request: Request, deadline: Deadline, once: Once[T], verb: str, limit_of: LimitOf, trail: RequestRecord
    ) -> T:
        bodies = self.rows.fitting(request, trail)
        walk = Candidates(self._link, self.rows, list(bodies), trail, verb)
        images, comparison = RequestImages(self._images), Comparison()
        answered, last = None, None
        try:
            while (turn := await self._turn(walk, deadline, comparison)) is not None:
                fitted = bodies[turn.candidate.target]
                attempt, body, failed = await self._begun(turn, walk, fitted, images, deadline, verb)
                if attempt is None:
                    continue
                last = failed
                if body is not None:
                    call = self._call(attempt, body, request)
                    answer, last = await self._asked(attempt, call, once, limit_of, deadline, comparison)
                    if last is None:
                        answered = (attempt.heard or (self._link.now() - attempt.began) * 1000) / 1000
                        return cast(T, answer)
                if not self._goes_on(walk, attempt.target, last or Outcome("lost")):
                    break
        finally:
            refused = last is not None and last.kind == "bad_request"
            comparison.settle(answered, refused=refused)
            self._link.leave(walk)
        raise self._no_answer(walk, trail, deadline)

    async def _turn(self, walk: Candidates, deadline: Deadline, comparison: Comparison) -> Turn | None:
        """Whose turn it is. Where nobody may be asked now, but somebody soon, that is waited for.

        What has failed is judged before that, by what is known: a probe must not be held for as long as we wait.
        """
        clock = asyncio.get_running_loop().time
        while (now := clock()) < deadline.at:
            if (turn := walk.next()) is not None:
                return turn
            comparison.settle()
            if not await self._link.hope(walk, walk.left, *walk.hope(now, deadline.at)):
                return None
            walk.again()
        return None

    async def _begun(
        self, turn: Turn, walk: Candidates, fitted: RequestFit, images: RequestImages, deadline: Deadline, verb: str
    ) -> tuple[Attempt | None, Mapping[str, Any] | None, Outcome | None]:
        """An attempt that may call its target now, and the request as that takes it.

        No attempt where somebody else probes the target; no body, but an outcome, where its images can't be had: what
        they cost is the request's own time, and no fault of the provider. So they come before the permit.
        """
        target, failure, body = turn.candidate.target, None, None
        try:
            body = await self._inlined(fitted.body, target, images, deadline)
        except AttemptFailed as error:
            failure = error.outcome
        if body is not None and body is not fitted.body:
            # Its images took their time, and its circuit may be another now.
            if (now := walk.next()) is None or now.candidate.target != target:
                return None, None, None
            turn = now
        permit: Permit | None = {"epoch": turn.candidate.epoch, "incarnation": self._link.incarnation}
        if body is not None and (permit := await self._link.permit(turn.candidate, walk)) is None:
            walk.refuse(turn)
            return None, None, None
        assert permit is not None
        walk.ask(turn)
        trail = walk.trail
        attempt = Attempt(self._link, trail, target, permit, verb=verb, more=turn.tiers > 1, dropped=fitted.dropped)
        at = asyncio.get_running_loop().time()
        attempt.until = at + share(max(0.0, deadline.at - at), turn.tiers, self._link.times.needed(target, verb))
        if trail.account is not None:
            attempt.entry = trail.account.open(target)
        trail.made += 1
        if failure is not None:
            attempt.end(failure, over=False)
        else:
            attempt.keep_lease()
        return attempt, body, failure

    async def _inlined(
        self, body: Mapping[str, Any], target: str, images: RequestImages, deadline: Deadline
    ) -> Mapping[str, Any]:
        if self.rows.kind(target) == "openai" or not body.get("messages") or not remote_images(body):
            return body
        try:
            async with asyncio.timeout_at(deadline.at):
                return await images.inlined(body)
        except TimeoutError:
            raise AttemptFailed(Outcome("deadline")) from None

    def _call(self, attempt: Attempt, body: Mapping[str, Any], request: Request) -> dict[str, Any]:
        provider, _, model = attempt.target.partition("/")
        call = call_dict(body, model, request.model, self.limits[provider])
        if attempt.trail.trace is not None:
            call["trace"] = attempt.trail.trace.place.below(attempt.trail.made).headers()
        return call

    async def _asked(
        self,
        attempt: Attempt,
        call: dict[str, Any],
        once: Once[T],
        limit_of: LimitOf,
        deadline: Deadline,
        comparison: Comparison,
    ) -> tuple[T | None, Outcome | None]:
        """Its answer, or how it ended."""
        limits = self.limits[provider_of(attempt.target)]
        gone_at = asyncio.get_running_loop().time() + limits.connect + limit_of(limits) + COVER_SECONDS
        patience = DeadlineTimer()
        try:
            with patience.until(min(attempt.until, gone_at)):
                return await once(attempt, call, limits, patience), None
        except TimeoutError:
            gone = gone_at < attempt.until and attempt.heard is None
            outcome = Outcome("stalled" if patience.stalled else "unreachable" if gone else "deadline")
        except AttemptFailed as error:
            outcome = error.outcome
        except BaseException:
            attempt.end(Outcome("cancelled"), over=False)
            raise
        finally:
            patience.close()
        attempt.end(outcome, over=False, comparison=comparison)
        return None, outcome

    def _goes_on(self, walk: Candidates, target: str, outcome: Outcome) -> bool:
        """May another be asked after this?"""
        if outcome.kind == "too_long" and target in self.rows.windows:
            walk.least = self.rows.window(target)
            return True
        return outcome.ending.failover

    def _configured(self, trail: RequestRecord) -> bool:
        """Was the target that was asked one of ours, rather than one that the client named?"""
        return trail.asked() in self.rows.targets

    def _no_answer(self, walk: Candidates, trail: RequestRecord, deadline: Deadline) -> NoAnswer:
        # A timer may fire a fraction of a millisecond before its time.
        if asyncio.get_running_loop().time() >= deadline.at - EARLY_SECONDS:
            return DeadlineExceeded("The request's deadline passed before any provider answered.", trail.entries)
        last, retry_in = trail.last, walk.retry_in
        if last is not None and last.kind == "model_missing" and not self._configured(trail):
            return NoAnswer("The provider does not know this model.", trail.entries, replace(last, kind="bad_request"))
        if last is None:
            return NoAnswer("No provider can be asked now.", trail.entries, None, retry_in or 1.0)
        if last.ending.guilt is Guilt.CALLER and self._of_the_request(last, trail):
            return NoAnswer(last.message or last.ending.why, trail.entries, last)
        first = trail.first or last
        why = f"Every provider failed, the first so: {(first.message or first.ending.why).rstrip('.')}."
        return NoAnswer(why, trail.entries, None, retry_in or first.retry_after or 1.0)

    def _larger_is_out(self, trail: RequestRecord) -> bool:
        """Was somebody left out who may hold the prompt that a tier of known size could not?"""
        window = self.rows.windows.get(trail.asked())
        known = self.rows.windows
        return window is not None and any(known.get(t, math.inf) > window for t in trail.left_out())

    def _of_the_request(self, last: Outcome, trail: RequestRecord) -> bool:
        """Is the refusal the request's own fault, rather than the limits of a tier that stood in?"""
        if last.kind == "too_long":
            return trail.first is None and not self._larger_is_out(trail)
        if last.kind in _OF_ONE_TIER:
            return trail.only(_OF_ONE_TIER)
        # Where an earlier one broke, a 400 of the next must not hide that: with the first it may be fine.
        return last.kind != "bad_request" or trail.first is None


@contextlib.contextmanager
def _ending(trail: RequestRecord) -> Iterator[None]:
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
