"""Ask one target, and once more without each hint that it refuses. No Ray."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from actors.breaker.outcomes import Outcome
from actors.breaker.plan import provider_of
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed
from deployments.failover.attempts.message import message_of
from deployments.openai_api.chat import Request
from deployments.providers.time_limits import COVER_SECONDS, TimeLimits
from deployments.routing.concessions import Concession, Lesson, concede, concede_extra
from deployments.routing.refusals import Refusals

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt
    from deployments.failover.attempts.deadline import Deadline
    from deployments.failover.calls import CallKind
    from deployments.failover.streams.rest import Rest
    from deployments.routing.model_rows import ModelRows

T = TypeVar("T")

EARLY_SECONDS = 0.001  # before a deadline that is as good as over
MOST_EXTRA_CALLS = 5  # of one attempt, those of the provider's adapter included: a vendor names one fault at a time


class OneTarget(Generic[T]):
    """`limits` is provider to time limits. To look up the running loop takes longer than to have it."""

    def __init__(
        self,
        rows: "ModelRows",
        limits: Mapping[str, TimeLimits],
        refusals: Refusals,
        request: Request,
        kind: "CallKind[T]",
        loop: asyncio.AbstractEventLoop,
    ):
        self._rows, self._limits, self._refusals = rows, limits, refusals
        self._request, self._kind, self._loop = request, kind, loop

    async def ask(
        self, attempt: "Attempt", deadline: "Deadline", rest: "Rest | None"
    ) -> tuple[T | None, Outcome | None]:
        """Return the target's answer, or how it failed; the attempt is ended by the caller then.

        A target that refuses a hint is asked once more without it. If it then answers, that is remembered. `rest` is
        that of the text with which it is to go on.
        """
        lessons: list[Lesson] = []
        of_fields = 0
        answer, failed = await self._call_once(attempt, deadline, rest)
        while failed is not None and attempt.extra_calls > 0 and self._may_leave_out(failed):
            if (made := self._concede(attempt, failed, of_fields)) is None:
                break
            attempt.dropped = tuple(dict.fromkeys((*attempt.dropped, *made.dropped)))
            attempt.extra_calls -= 1
            lessons += made.lessons
            of_fields += made.of_field
            answer, failed = await self._call_once(attempt, deadline, rest)
        if failed is None and lessons:
            self._refusals.learn(attempt.target, lessons)
        return answer, failed

    def _concede(self, attempt: "Attempt", refusal: Outcome, of_fields: int) -> Concession | None:
        """Leave out of an attempt's request what its target refuses; return None if the refusal names no hint."""
        assert attempt.body is not None
        if attempt.extras and (made := concede_extra(refusal, attempt.extras)) is not None:
            attempt.extras = made.body
        elif (made := concede(refusal, attempt.body, of_fields)) is not None:
            attempt.body = made.body
        return made

    def _may_leave_out(self, refusal: Outcome) -> bool:
        return refusal.kind == "rejected" and not refusal.content and self._rows.may_drop_hints(self._request)

    async def _call_once(
        self, attempt: "Attempt", deadline: "Deadline", rest: "Rest | None"
    ) -> tuple[T | None, Outcome | None]:
        limits = self._limits[provider_of(attempt.target)]
        now = self._loop.time()
        gone_at = now + limits.connect + self._kind.limit(limits) + COVER_SECONDS
        message = message_of(attempt, self._request, self._rows, limits, rest, now)
        timer = DeadlineTimer(self._loop)
        attempt.upstream = None
        try:
            with timer.until(min(attempt.until, gone_at)):
                return await self._kind.begin(attempt, message, limits, timer), None
        except TimeoutError:
            late = _late(attempt, gone_at, deadline)
            outcome = Outcome("stalled" if timer.stalled else late, content=attempt.pieces > 0)
        except AttemptFailed as error:
            outcome = error.outcome
            attempt.extra_calls -= attempt.upstream.get("again", 0) if attempt.upstream else 0
        finally:
            timer.close()
        return None, outcome


def _late(attempt: "Attempt", gone_at: float, deadline: "Deadline") -> str:
    """Return the kind of an attempt whose time is over: what ended it, the request's time or the replica's silence?

    A probe that has spoken has its share of the time alone, in which it may flow.
    """
    if attempt.pieces:
        over = asyncio.get_running_loop().time() >= deadline.at - EARLY_SECONDS
        return "deadline" if over or not attempt.unbound else "unreachable"
    return "unreachable" if gone_at < attempt.until and attempt.first_content_ms is None else "deadline"
