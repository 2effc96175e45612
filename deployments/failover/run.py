"""One request's failover, step by step: whose turn it is, its attempt, its call, and the error at the end. No Ray."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from actors.breaker.messages import Permit
from actors.breaker.outcomes import Outcome
from actors.breaker.plan import provider_of
from deployments.errors import AttemptFailed, DeadlineExceeded, NoAnswer
from deployments.failover.attempt import Attempt
from deployments.failover.attempts.comparison import Comparison
from deployments.failover.attempts.deadline import Deadline
from deployments.failover.attempts.one_target import EARLY_SECONDS, MOST_EXTRA_CALLS, OneTarget
from deployments.failover.attempts.time_share import share
from deployments.failover.candidates import Candidates, Mark, Turn
from deployments.failover.fitting import Fitting
from deployments.failover.ground import Ground
from deployments.failover.legs.hedge import Hedge, may_have_two_legs
from deployments.failover.legs.race import Race
from deployments.failover.no_answer import no_answer
from deployments.failover.row_order import row_of
from deployments.failover.streams.rest import Rest
from deployments.failover.tried import Tried
from deployments.latency.classes import class_of
from deployments.openai_api.chat import Request
from deployments.providers.kinds import KINDS
from deployments.routing.image_fetch import RequestImages, remote_images
from deployments.routing.request_fit import RequestFit
from deployments.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from deployments.failover.calls import CallKind
    from deployments.failover.streams.opening import Opening

T = TypeVar("T", bound="Answered")


class Answered(Protocol):
    """An answer, whole or begun, and who gave it."""

    @property
    def target(self) -> str: ...


@dataclass(slots=True)
class _Beside:
    """A target that is asked beside a silent one: how all was before it, and its attempt."""

    rest: Rest | None
    forms: dict[str, RequestFit]
    deadline: Deadline
    seam: str
    asked: Mark
    failures: int
    leg: Attempt | None = None


class FailoverRun(Generic[T]):
    """`answer` runs it to its end: the answer of the first target that gives one, or an error."""

    def __init__(
        self,
        ground: Ground,
        request: Request,
        deadline: Deadline,
        kind: "CallKind[T]",
        images: RequestImages,
        record: RequestRecord,
    ):
        self._rows, self._limits, self._breaker = ground.rows, ground.limits, ground.breaker
        self._ground = ground
        self._request, self._record, self._deadline = request, record, deadline
        self._kind, self._images = kind, images
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._one = OneTarget(ground.rows, ground.limits, ground.refusals, request, kind, loop)
        self._tried = Tried(record)
        self._fits = self._forms = Fitting(ground.rows, ground.refusals, request, record, self._tried).fits()
        self._rest: Rest | None = None  # of a text that another target has begun
        row = row_of(self._fits, request, record, ground)
        record.row_order = tuple(row)
        self._candidates = Candidates(self._breaker, self._rows, row, self._tried, kind.verb)
        self._comparison = Comparison()
        self._latency_class = class_of(request.body, request.size)
        self._hedge = self._hedging(ground)
        self._beside: _Beside | None = None

    async def answer(self) -> T:
        """Return the answer. Raises NoAnswer or DeadlineExceeded."""
        if (answer := await self._first_answer()) is not None:
            return answer
        raise self._no_answer()

    async def restart(self, target: str, outcome: Outcome) -> T | None:
        """Return another target's answer to the same request, from its beginning, after one broke off in mid-stream.

        None if no target can give one now that is known to be healthy: nobody is probed then, and nothing waited for.
        """
        self._leave(target, outcome)
        self._record.seam, self._rest = "restart", None
        return await self._first_answer()

    async def go_on(self, target: str, outcome: Outcome, text: str, used: int) -> "tuple[T, Opening] | None":
        """Return another target's answer that goes on with a text, and what is to prove it. None as in `restart`.

        `used` are the tokens that the text took.
        """
        self._leave(target, outcome)
        rest = self._ask_for_rest(text, used)
        answer = await self._first_answer()
        return None if answer is None else (answer, rest.opening(answer.target))

    def _ask_for_rest(self, text: str, used: int) -> Rest:
        self._rest = rest = Rest(self._rows, self._ground.no_prefill, text, used)
        self._forms = rest.fits(self._fits)
        for other in self._fits.keys() - self._forms.keys():
            self._candidates.leave_out(other)
        return rest

    @property
    def may_rescue(self) -> bool:
        """Whether another target may be asked beside one that falls silent in mid-stream."""
        return self._hedge is not None and not self._record.hedged

    async def beside(self, text: str | None, used: int) -> "tuple[T, Opening | None] | None":
        """Return another target's answer while an attempt is silent: from its beginning, or to the rest of a text.

        None if no second leg may be sent, or it has failed. `take_over` or `call_off` it.
        """
        if (hedge := self._hedge) is None or not self.may_rescue:
            return None
        before = _Beside(
            self._rest,
            self._forms,
            self._deadline,
            self._record.seam,
            self._candidates.mark(),
            len(self._tried.failures),
        )
        self._beside = before
        self._prepare()
        rest = None if text is None else self._ask_for_rest(text, used)
        if rest is None:
            self._record.seam, self._rest = "restart", None
        answered = None
        try:
            before.leg = leg = await self._second_leg(hedge, hedge.turn_beside())
            if leg is None:
                return None
            leg.hedge = "lost"  # unless it goes on before the first one does
            answer, _ = await self._ask(leg)
            if answer is None:
                return None
            answered = (leg.first_content_ms or 0.0) / 1000
            return answer, None if rest is None else rest.opening(answer.target)
        finally:
            self._comparison.settle(answered)
            self._breaker.leave(self._candidates)

    def take_over(self, target: str, outcome: Outcome) -> None:
        """Take it that the target that was asked beside goes on, and that the answer of `target` has ended so."""
        self._beside = None
        self._note_end(target, outcome)

    def end_beside(self) -> None:
        """End the attempt of the target that was asked beside: it belongs to the request, which may end before it."""
        if self._beside is not None and (leg := self._beside.leg) is not None:
            leg.end(Outcome("cancelled", content=leg.first_content_ms is not None), over=False)

    def call_off(self, failed: Outcome | None) -> None:
        """Take it that the target that was asked beside is of no use: all is as before, but for how it has failed."""
        before, self._beside = self._beside, None
        if before is None:
            return
        self._rest, self._forms, self._deadline, self._record.seam = (
            before.rest,
            before.forms,
            before.deadline,
            before.seam,
        )
        if failed is not None and before.leg is not None:
            self._tried.fail(before.leg.target, failed)
        self._candidates.back_to(before.asked)
        for target, outcome in self._tried.failures[before.failures :] if self._rows.places else ():
            self._candidates.share(target, outcome)

    def _leave(self, target: str, outcome: Outcome) -> None:
        """Leave a target whose answer broke off in mid-stream. Who is asked from now on must be known to be well."""
        self._note_end(target, outcome)
        self._prepare()

    def _note_end(self, target: str, outcome: Outcome) -> None:
        self._tried.fail(target, outcome)
        if self._rows.places:
            self._candidates.share(target, outcome)

    def _prepare(self) -> None:
        """Prepare to ask others behind a stream that has begun."""
        self._candidates.sure = True
        self._as_chats()
        self._deadline = self._deadline.anew()

    def _as_chats(self) -> None:
        """Have those asked as chats that would be asked in the client's own words: the stream has begun as a chat."""
        for target in self._candidates.left:
            if (fit := self._fits[target]).extras is not None:
                self._fits[target] = fit = self._rows.fit_as_chat(target, self._request)
            if fit.lacks:
                self._candidates.leave_out(target)

    async def _first_answer(self) -> T | None:
        """Return the answer of the first target that gives one; None if none does."""
        answered, failed = None, None
        try:
            while (turn := await self._next_turn()) is not None:
                if (attempt := await self._begin(turn)) is None:
                    continue
                failed = self._tried.failures[-1][1] if attempt.ended else None
                if failed is None:
                    answer, failed, attempt = await self._ask_hedged(attempt)
                    if failed is None:
                        answered = (attempt.first_content_ms or (self._breaker.now() - attempt.began) * 1000) / 1000
                        assert answer is not None
                        return answer
                if not self._goes_on():
                    break
        finally:
            refused = failed is not None and failed.kind in ("bad_request", "rejected")
            self._comparison.settle(answered, refused=refused)
            self._breaker.leave(self._candidates)
        return None

    async def _next_turn(self) -> Turn | None:
        """Return whose turn it is. Where nobody may be asked now, but somebody soon, that is waited for.

        What has failed is judged before that, by what is known: a probe must not be held for as long as we wait.
        """
        clock, candidates, until = self._clock, self._candidates, self._deadline.at
        while (now := clock()) < until:
            if (turn := candidates.next()) is not None or candidates.sure:
                return turn
            if candidates.full:
                self._comparison.settle()
                if await candidates.room(until):
                    continue
                return None
            self._comparison.settle()
            if not await self._breaker.hope(candidates, candidates.left, *candidates.hope(now, until)):
                return None
            candidates.again()
        return None

    async def _begin(self, turn: Turn) -> Attempt | None:
        """Return an attempt that may call its target now; None where somebody else probes the target.

        Where the request's images can't be had the attempt has ended: what they cost is the request's own time, and no
        fault of the provider. So they come before the permit.
        """
        target = turn.candidate.target
        fit = self._forms[target]
        body = fit.body
        if fit.extras is None and self._wants_images(body, target):
            try:
                body = await self._with_images(body)
            except AttemptFailed as error:
                attempt = self._attempt(turn, self._breaker.plain_permit(turn.candidate), fit)
                self._end(attempt, error.outcome)
                return attempt
            # Its images took their time, and its circuit may be another now.
            if (now := self._candidates.next()) is None or now.candidate.target != target:
                return None
            turn = now
        candidate = turn.candidate
        if candidate.probe:
            permit = await self._breaker.permit(candidate, self._candidates)
        else:
            permit = self._breaker.plain_permit(candidate)
        if permit is None:
            self._candidates.refuse(turn)
            return None
        attempt = self._attempt(turn, permit, fit)
        attempt.body, attempt.extras, attempt.has_images = body, fit.extras, body is not fit.body
        attempt.row = fit.row
        attempt.extra_calls = MOST_EXTRA_CALLS
        attempt.keep_lease()
        attempt.note_waiting()
        return attempt

    def _attempt(self, turn: Turn, permit: Permit, fit: RequestFit) -> Attempt:
        """Return the attempt of this turn, with its share of the time and its row in the ledger."""
        target, record, verb = turn.candidate.target, self._record, self._kind.verb
        self._candidates.ask(turn)
        attempt = Attempt(self._breaker, record, target, permit, verb=verb, more=turn.tiers > 1, dropped=fit.dropped)
        attempt.hurried, attempt.kind = self._deadline.hurries(turn.tiers), self._latency_class
        at = self._clock()
        usual = self._breaker.times.needed(target, verb)
        attempt.until = at + share(self._deadline.left_for(turn.tiers, at), turn.tiers, usual)
        if record.usage is not None:
            attempt.usage = record.usage.open(target)
        record.made += 1
        attempt.number = record.made
        if self._rest is not None:
            attempt.seam = self._rest.word(target)
        return attempt

    def _wants_images(self, body: Mapping[str, Any], target: str) -> bool:
        """Does it name images by URL, for a provider that takes bytes alone?"""
        return not KINDS[self._rows.kind(target)].takes_urls and bool(body.get("messages") and remote_images(body))

    async def _with_images(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout_at(self._deadline.at):
                return await self._images.inline(body)
        except TimeoutError:
            raise AttemptFailed(Outcome("deadline")) from None

    def _hedging(self, ground: Ground) -> Hedge | None:
        """Return the request's second leg, where its row has hedging and its caller takes it."""
        settings = self._rows.settings_of(self._request.model).hedging
        if settings is None or not self._record.caller.hedge:
            return None
        terms = settings.terms
        if not may_have_two_legs(self._request, terms):
            return None
        row = self._rows.name_of(self._request.model)
        return Hedge(row, terms, ground.hedges, self._breaker, self._candidates)

    async def _ask_hedged(self, attempt: Attempt) -> tuple[T | None, Outcome | None, Attempt]:
        """Return the answer, or how the attempt failed that ended last, and that attempt: a second leg's, if it won."""
        hedge = self._hedge
        delay = None if hedge is None else hedge.delay(attempt, self._limits[provider_of(attempt.target)].first_token)
        if hedge is None or delay is None:
            return (*await self._ask(attempt), attempt)

        async def second() -> Attempt | None:
            return await self._second_leg(hedge, hedge.turn(attempt))

        race = Race(attempt, self._ask, second, delay)
        try:
            return await race.run()
        finally:
            if race.second is not None:
                hedge.note_result(attempt.target, race.second)

    async def _second_leg(self, hedge: Hedge, turn: Turn | None) -> Attempt | None:
        """Begin a second leg, whose turn is taken from the row's budget; None if it does not come to that."""
        if turn is None:
            return None
        begun = None
        try:
            begun = await self._begin(turn)
        finally:
            if gone := begun is None or begun.ended:
                hedge.give_back()
        return None if gone else begun

    async def _ask(self, attempt: Attempt) -> tuple[T | None, Outcome | None]:
        """Return the target's answer, or how the attempt failed. However it ends, the attempt has ended too."""
        try:
            answer, failed = await self._one.ask(attempt, self._deadline, self._rest)
            if failed is not None:
                self._end(attempt, failed, self._comparison)
        except BaseException:
            attempt.end(Outcome("cancelled"), over=False)
            raise
        return answer, failed

    def _end(self, attempt: Attempt, outcome: Outcome, comparison: Comparison | None = None) -> None:
        if self._rest is not None:
            outcome = self._rest.as_it_counts(attempt.target, outcome)
        attempt.end(outcome, over=False, comparison=comparison)
        self._tried.fail(attempt.target, outcome)
        if attempt.for_load:
            self._candidates.ask_again(attempt.target)
        elif self._rows.places:
            self._candidates.share(attempt.target, outcome)
        if self._hedge is not None and outcome.kind == "throttled":
            self._hedge.note_throttled()

    def _goes_on(self) -> bool:
        """May another target be asked after the last failure?"""
        target, outcome = self._tried.failures[-1]
        if self._rest is not None:  # the request is not the client's own, whatever is said of it
            return outcome.kind != "content_filter"
        if outcome.kind == "too_long" and target in self._rows.windows:
            self._candidates.least = self._rows.window(target)
            return True
        return outcome.ending.failover and not self._tried.refused_alike

    def _no_answer(self) -> NoAnswer:
        # A timer may fire a fraction of a millisecond before its time.
        late = bool(self._tried.failures) and self._tried.failures[-1][1].kind == "deadline"
        if late or self._clock() >= self._deadline.at - EARLY_SECONDS:
            message = "The request's deadline passed before any provider answered."
            return DeadlineExceeded(message, self._record.entries)
        return no_answer(self._tried, self._rows, self._candidates.retry_in)
