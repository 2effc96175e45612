"""One attempt under way: its lease, and the one report of how it ended. No Ray.

A failure that may be the request's own fault is reported when the request is over (comparison.py); its probe's
lease is kept until then.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from actors.breaker.messages import Permit, is_exclusive
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.plan import provider_of
from deployments.failover.attempts.comparison import Comparison
from deployments.rpc.port import outcome_in
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from deployments.breaker_client.client import BreakerClient
    from deployments.overload.limit import Limit
    from deployments.usage.records import AttemptUsage

RENEW_SECONDS = 5.0  # shorter than any lease; a probe that has flowed for so long closes its circuit
_CUT = frozenset({"deadline", "cancelled"})  # ends by which others have ended an attempt that had said nothing
_FAILED = frozenset({Verdict.FAILED_START, Verdict.FAILED_STREAM})
_TOO_MANY = frozenset({"throttled", "overloaded"})
SHORT_RETRY = 1.0  # seconds: who asks for no longer pause has too many calls at once, and no quota that is used up
LONGEST_PROBE = 600.0  # a reader that takes longer loses the lease: one client must not hold a target for ever


class Attempt(Struct, eq=False):
    """One attempt under way: it reports exactly once how it ended.

    `began` and `content_at` are on the breaker client's clock.
    """

    breaker: "BreakerClient"
    record: RequestRecord
    target: str
    permit: Permit
    began: float = 0.0
    renewal: asyncio.Task[None] | None = None
    ended: bool = False
    verb: str = "whole"  # or stream
    asked_at: float | None = None  # when its target was asked, on the clock that stands still while our own loop does
    content_at: float = 0.0  # when content last came
    dropped: tuple[str, ...] = ()  # fields that this target's provider has no use for
    more: bool = False  # whether another target is left to ask
    until: float = 0.0  # on the loop's clock: when its share of the time is over
    first_content_ms: float | None = None  # from its beginning until its content began
    upstream: Mapping[str, Any] | None = None  # what its replica has measured
    usage: "AttemptUsage | None" = None  # its row in the ledger
    used: Mapping[str, Any] = field(default_factory=dict)  # what it has used, once it has ended
    body: Mapping[str, Any] | None = None  # the request as this target takes it
    extras: Mapping[str, Any] | None = None  # beside the chat, where it is asked as its client asks
    kind: str = ""  # of its request, by which times are compared
    row: str | None = None  # where the configuration adds something to requests of this row's target
    has_images: bool = False  # whether images that we have fetched are in it
    hurried: bool = False  # whether its caller has named the deadline
    on_content: "Callable[[Attempt], None] | None" = None  # is called once, with its first content
    number: int = 0  # of its request's attempts, in the order in which they begin
    hedge: str = ""  # of a second leg: won, lost or failed
    beaten: bool = False  # whether a second leg had content first
    seam: str = ""  # how it goes on behind an answer that broke off in mid-stream
    limit: "Limit | None" = None  # of its target's calls
    for_load: bool = False  # its target refused it because of the number of its calls
    unbound: bool = False  # whether it may take longer than its share of the time, as long as it flows
    pieces: int = 0  # of a whole answer that comes as a stream: how often it was heard of
    extra_calls: int = 0  # how often the target may still be asked again, in other words or without a hint

    def __post_init__(self) -> None:
        self.began, self.seam = self.record.clock(), self.record.seam
        self.breaker.under_way[provider_of(self.target)] += 1
        self.limit = self.breaker.loads.limit(self.target) if self.breaker.loads else None
        if self.limit is not None:
            self.limit.take(self.breaker.now())

    @property
    def probe(self) -> bool:
        return is_exclusive(self.permit)

    def note_waiting(self) -> None:
        """Note that its target is asked now."""
        whole = self.verb != "stream"
        self.asked_at = now = self.breaker.listened()
        self.breaker.latencies.begin(self.target, self, self.kind, now, of_whole=whole)

    def note_first_content(self) -> None:
        """Note that its content has begun."""
        if self.on_content is not None:
            self.on_content(self)
        self.first_content_ms = self._ms()
        self.content_at = now = self.breaker.now()
        self._note_answer(now - self.began)
        self._note_content(now, of_whole=False)

    def _note_content(self, now: float, *, of_whole: bool) -> None:
        if self.limit is not None:
            self.limit.answered(now - self.began, now)
        latencies, listened = self.breaker.latencies, self.breaker.listened()
        seconds = listened - (self.asked_at or listened)
        latencies.first_content(self.target, self.kind, seconds, listened, of_whole=of_whole, call=self)

    def note_piece(self) -> None:
        """Note that pieces of a whole answer come. One that goes on for seconds is evidence, as a stream is."""
        self.pieces += 1
        self.content_at = now = self.breaker.now()
        if self.pieces == 1:
            if self.on_content is not None:
                self.on_content(self)
            self.first_content_ms = self._ms()
            self._note_content(now, of_whole=True)
        elif self.pieces == 2:
            self.breaker.report_started(self.target, self.permit, self.began)
            self.breaker.flows.add(self)

    def _ms(self) -> float:
        return self.record.since(self.began)

    def keep_lease(self) -> None:
        """Let a probe report from time to time that it is still under way, however slow its provider or its reader is.

        Once content has come for a while it says that it flows: then it is no probe any more.
        """
        if self.probe and self.renewal is None:
            self.renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        for _ in range(int(LONGEST_PROBE / RENEW_SECONDS)):
            since = self.breaker.now()
            await asyncio.sleep(RENEW_SECONDS)
            if self.content_at > since:
                self.breaker.report_flowing(self.target, self.permit, self.began, RENEW_SECONDS)
                return
            self.breaker.report_started(self.target, self.permit, self.began)

    def failure_in(self, reply: Mapping[str, Any]) -> Outcome | None:
        """Return how a replica's last word ends the attempt, if badly. What the replica measured is noted."""
        self.upstream = reply.get("upstream")
        if self.usage is not None and (came := reply.get("came")):
            self.usage.delivered(came)
        if told := reply.get("told"):
            self.hear_usage(told)
        return outcome_in(reply)

    def hear_usage(self, told: Mapping[str, Any]) -> None:
        """Keep the usage that the provider has told so far: it counts if the answer breaks off or its client leaves."""
        if self.usage is not None:
            self.usage.told = told

    def end(
        self,
        outcome: Outcome,
        *,
        whole: bool = False,
        usage: Mapping[str, Any] | None = None,
        body: bytes = b"",
        first: bytes = b"",
        over: bool = True,
        comparison: Comparison | None = None,
    ) -> None:
        """End it. `first` and `over` are AttemptUsage's. `comparison` judges what may be the request's fault."""
        if self.ended:
            return
        self.ended = True
        self.breaker.under_way[provider_of(self.target)] -= 1
        self.for_load = self.limit is not None and self._give_back(outcome)
        self.breaker.flows.remove(self)
        if outcome.kind == "ok":
            self.record.mark_sent()
        if outcome.kind == "ok" and self.on_content is not None and self.first_content_ms is None:
            self.on_content(self)  # a whole answer that comes at once: the other leg ends before it
        ms = self._ms()
        if self.hedge == "lost" and outcome.kind != "cancelled":
            self.hedge = "won" if outcome.kind == "ok" else "failed"
        if self.first_content_ms is None:
            self._note_time(outcome)
        self.used = used = {} if self.usage is None else self.usage.count(outcome, usage, body, first=first)
        # Before its row is settled: that may write the request's last line, which tells of this attempt too.
        self.record.add_attempt(self._step(outcome, ms, used))
        if self.usage is not None:
            self.usage.settle(outcome, over=over, trail=self.record.trail, hedge=self._leg(outcome))
        if self.for_load:
            self._say(outcome, ms, whole, Verdict.NEUTRAL)  # it is well, and has as many calls as it takes
        else:
            self._report(outcome, ms, whole, comparison)
        if over and outcome.last:
            self.record.finish(outcome.kind, self.target if outcome.content else None)

    def _leg(self, outcome: Outcome) -> str:
        """Return what the ledger has of it as one of two legs; empty if it was alone."""
        return "beaten" if self.beaten or outcome.kind == "overtaken" else self.hedge

    def _give_back(self, outcome: Outcome) -> bool:
        """Free its place among the calls of its target. Return whether it was refused for their number."""
        limit, now, ok = self.limit, self.breaker.now(), outcome.kind == "ok"
        assert limit is not None
        refused = outcome.kind in _TOO_MANY and not outcome.content and (outcome.retry_after or 0.0) <= SHORT_RETRY
        for_load = refused and limit.is_for_load(now)
        if ok and self.first_content_ms is None:
            limit.answered(now - self.began, now)
        had_begun = ok or self.first_content_ms is not None
        limit.release(now, now - self.began, ok=ok, refused=for_load, had_begun=had_begun)
        self.breaker.loads.line.wake(self.target, limit.room)
        return for_load

    def used_tokens(self) -> dict[str, Any] | None:
        """Return the tokens that it has used, once it has ended, and who counted them; None if nobody did."""
        if self.used.get("counted") in (None, "none"):
            return None
        used = self.used
        return {
            "prompt_tokens": used["tokens_in"],
            "completion_tokens": used["tokens_out"],
            "counted": used["counted"],
        }

    def _note_time(self, outcome: Outcome) -> None:
        """Note how long an attempt took that had no first content before its end."""
        latencies, now, of_whole = self.breaker.latencies, self.breaker.listened(), self.verb != "stream"
        seconds = now - (self.asked_at or now)
        if outcome.kind == "ok":
            latencies.whole_answer(self.target, self.kind, self)
        elif outcome.kind in _CUT:
            latencies.ended(self.target, self.kind, seconds, now, of_whole=of_whole, call=self)
        elif outcome.verdict in _FAILED:
            latencies.failed(self.target, self)
        else:
            latencies.forget(self.target, self)

    def _report(self, outcome: Outcome, ms: float, whole: bool, comparison: Comparison | None) -> None:
        if whole and outcome.kind == "ok":
            self._note_answer(ms / 1000)
        if comparison is None or self.first_content_ms is not None or not comparison.takes(outcome):
            self._say(outcome, ms, whole)
            return
        seconds = self.breaker.now() - self.began
        if outcome.kind == "deadline":
            self.breaker.times.cut(self.target, self.verb, seconds)

        alone = outcome.kind == "empty" and not self._others_had_nothing()

        def charge(verdict: Verdict | None) -> None:
            if verdict is Verdict.FAILED_START and self._is_own_hurry(outcome):
                verdict = Verdict.NEUTRAL
            self._say(outcome, ms, whole, Verdict.REFUSED if alone else verdict)

        comparison.hold(outcome, seconds, self.breaker.times.usual(self.target, self.verb), charge)

    def _note_answer(self, seconds: float) -> None:
        self.breaker.times.note(self.target, self.verb, seconds)
        self.breaker.cut_calls.note_answer(self.target, self.record.caller.account, self.began)

    def _others_had_nothing(self) -> bool:
        return self.breaker.empty_answers.note(self.target, self.record.caller.account, self.breaker.now())

    def _is_own_hurry(self, outcome: Outcome) -> bool:
        """Return whether only this caller's own deadline was too short, while its target answered others."""
        if outcome.kind != "deadline" or not self.hurried:
            return False
        return not self.breaker.cut_calls.counts(
            self.target, self.record.caller.account, self.began, self.breaker.now()
        )

    def _say(self, outcome: Outcome, ms: float, whole: bool, verdict: Verdict | None = None) -> None:
        if self.renewal is not None:
            self.renewal.cancel()
        self.breaker.report(self.target, self.permit, outcome, ms, whole=whole, verdict=verdict, began=self.began)

    def _step(self, outcome: Outcome, ms: float, used: Mapping[str, Any]) -> AttemptRecord:
        return AttemptRecord(
            self.target,
            outcome.kind,
            round((self.began - self.record.began) * 1000, 2),
            ms,
            self.first_content_ms,
            self.upstream,
            outcome.status,
            None if outcome.kind == "ok" else outcome.message or outcome.ending.why,
            outcome.verdict.value,
            self.probe,
            epoch=self.permit["epoch"],
            used=used,
            param=outcome.param,
            seam=self.seam,
            hedge=self.hedge,
            number=self.number,
        )
