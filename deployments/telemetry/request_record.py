"""The record of one request, from its beginning to its one end. No Ray.

A record has an attempt record for each target that was skipped or asked, in order. When the request is over, its usage
record and its observers (metrics, log, traces, `/v1/requests`) each get it once: the observers as the same
`RequestSummary`. The record knows none of them.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypedDict

from msgspec import Struct, field

from actors.breaker.plan import Skipped
from actors.ledger.messages import RequestTrail
from actors.ledger.rows import encode_json
from deployments.openai_api.json_types import JsonDict
from deployments.telemetry.attempt_record import SKIPPED, AttemptRecord, not_reached, not_reached_json
from deployments.telemetry.trace_context import Trace
from deployments.usage.caller import Caller

if TYPE_CHECKING:
    from deployments.usage.records import UsageRecord

log = logging.getLogger(f"ray.serve.{__name__}")

TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
_TOTALS = (*TOKENS, "cost")


class UsageTotals(TypedDict):
    """What all attempts of a request have used."""

    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    cost: int | None  # nano-dollars; None if the cost of one attempt is unknown


class RequestSummary(Struct, frozen=True):
    """One request that is over.

    Attributes:
        outcome: "ok", a kind of `actors/breaker/outcomes.py`, or the code of an error.
        began_at: wall clock, milliseconds since the epoch.
        ms: milliseconds from its begin to its end.
        first_ms: milliseconds until its first content went to the client.
        added_ms: our own part of `first_ms`: what no provider took. None if it is unknown.
        target: the target that answered.
        records: of each target that was skipped or asked, in order.
        candidates_json: the records, and the candidates that were not reached, as a JSON list.
        status: HTTP status of the error that the caller got instead of content.
        trace: only where traces are on.
        session: the key of its conversation, if its caller names one.
        failed_over: whether another target answered than the one whose turn it was.
    """

    request_id: str
    row: str
    caller: Caller
    stream: bool
    outcome: str
    began_at: int
    ms: float
    first_ms: float | None
    added_ms: float | None
    target: str | None
    records: tuple[AttemptRecord, ...]
    candidates_json: str
    used: UsageTotals
    status: int | None = None
    trace: Trace | None = None
    session: bytes | None = None
    failed_over: bool = False

    @property
    def attempts(self) -> list[AttemptRecord]:
        """Return the records of the targets that were asked."""
        return [record for record in self.records if record.skipped is None]


Observer = Callable[[RequestSummary], None]
Ending = tuple[str, float | None, bool]  # candidates_json, added_ms and failed_over of a summary


class RequestRecord(Struct):
    """The record of a request that is under way. It decides nothing.

    Attributes:
        usage: its usage record, where there is a ledger.
        observer: is called with the summary when the request is over.
        clock: seconds, monotonic. The event loop's own clock may know whole milliseconds only.
        began: on `clock`.
        began_at: wall clock, milliseconds since the epoch.
        row_order: all targets that can take it, in the order in which they stand before it is known who is healthy.
        order: the candidates of its first plan, in order.
        scope: tags that a target must have to serve it.
        slow: targets that stood behind others because they are slow now.
        barred: targets that its caller's limits can't count.
        session: the key of its conversation, if its caller names one.
        bound: the target that had the conversation's prompt in its cache.
        spread_key: by which its places are chosen, where a provider's sessions are spread over them.
        made: how many attempts have begun.
        hedged: what became of a second leg, if one was sent: `won`, `lost` or `failed`.
        seam: how the attempts that are made now go on behind an answer that broke off; empty if there is none.
        sent_at: milliseconds until its first content went to the client.
        summary: None until the request is over.
    """

    row: str = ""
    caller: Caller = field(default_factory=lambda: Caller("handle"))
    stream: bool = False
    usage: "UsageRecord | None" = None
    request_id: str = ""
    observer: Observer | None = None
    clock: Callable[[], float] = time.monotonic
    trace: Trace | None = None
    began: float = 0.0
    began_at: int = field(default_factory=lambda: int(time.time() * 1000))
    records: list[AttemptRecord] = field(default_factory=list)
    row_order: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    slow: frozenset[str] = frozenset()
    barred: frozenset[str] = frozenset()
    scope: frozenset[str] = frozenset()
    session: bytes | None = None
    bound: str | None = None
    spread_key: bytes = b""
    made: int = 0
    seam: str = ""
    hedged: str = ""
    sent_at: float | None = None
    summary: RequestSummary | None = None
    _told: tuple[tuple[int, float | None], Ending] | None = None  # the ending, when so many records were there

    def __post_init__(self) -> None:
        self.began = self.clock()
        if self.usage is not None:
            self.began_at = self.usage.began_at

    @property
    def explain(self) -> bool:
        """Return whether the caller wants the explanation in the answer."""
        return self.caller.explain

    @property
    def entries(self) -> list[JsonDict]:
        """Return the attempt records as the `attempts` of an error have them."""
        return [record.as_dict() for record in self.records]

    def words_of(self, parts: Collection[str]) -> dict[str, str]:
        """Return who asks, for a vendor that is told: what is known of `tenant`, `agent` and `request_id`."""
        known = {"tenant": self.caller.tenant, "agent": self.caller.agent, "request_id": self.request_id or None}
        return {name: word for name, word in known.items() if name in parts and word is not None}

    def pass_over(self, target: str, reason: str) -> None:
        """Add a target that can't take this request."""
        self.records.append(AttemptRecord(target, f"{SKIPPED}{reason}", self._now()))

    def skip(self, skipped: tuple[Skipped, ...]) -> None:
        """Add targets that can't be asked now."""
        at = self._now()
        for s in skipped:
            outcome = f"{SKIPPED}{s.why}"
            self.records.append(
                AttemptRecord(s.target, outcome, at, state=s.state, epoch=s.epoch, since=s.since, retry_in=s.retry_in)
            )

    def add_attempt(self, record: AttemptRecord) -> None:
        """Add an attempt that is over."""
        self.records.append(record)
        self.hedged = record.hedge or self.hedged

    def mark_sent(self) -> None:
        """Note that content goes to the client now. Only the first call counts."""
        if self.sent_at is None:
            self.sent_at = self._now()

    def finish(self, outcome: str, target: str | None = None, status: int | None = None) -> None:
        """End the request, and tell its usage record and its observer. Only the first call counts."""
        if self.summary is not None:
            return
        if self.usage is not None:
            self.usage.finish(outcome, self.trail)
        self.summary = self._summary_of(outcome, target, status)
        if self.observer is not None:
            try:
                self.observer(self.summary)
            except Exception:
                log.exception("request %s: an observer of its end failed; the request is not affected", self.request_id)

    def trail(self) -> RequestTrail:
        """Return what it went through until now, for the ledger."""
        candidates_json, added_ms, failed_over = self._ending()
        return {
            "trail": candidates_json,
            "first_ms": self.sent_at,
            "added_ms": added_ms,
            "failed_over": int(failed_over),
        }

    def _ending(self) -> Ending:
        """Return what the ledger and the summary need one after the other: it is kept until there is more to tell."""
        known = len(self.records), self.sent_at
        if self._told is None or self._told[0] != known:
            self._told = known, self._ending_at_once() or (self._candidates_json(), self._added_ms(), self.failed_over)
        return self._told[1]

    def _ending_at_once(self) -> Ending | None:
        """Return the same for a request that the first target has answered, with no more to say; None for others.

        Most are of this kind, and what was not reached is then the same text each time.
        """
        if len(self.records) != 1 or self.bound is not None or self.slow:
            return None
        served = self.records[0]
        if served.outcome != "ok" or served.seam or served.hedge or self.hedged:
            return None
        told = encode_json(served.as_candidate())
        others = "".join([not_reached_json(target) for target in self.order if target != served.target])
        return f"[{told}{others}]", self._added_ms(), False

    @property
    def failed_over(self) -> bool:
        """Return whether another target answers than the one whose turn it was, because that failed or is known to.

        A target that can't take the request is no reason, and neither is one of two legs that the other has beaten.
        """
        places = reversed(range(len(self.records)))
        served = next((place for place in places if self._has_served(self.records[place])), None)
        if served is None:
            return False
        target, before = self.records[served].target, self.records[:served]
        if self.records[served].seam or any(map(_has_failed, before)):
            return True
        if not any(record.state is not None for record in before):
            return False
        stands = {of: place for place, of in enumerate(self.row_order)}
        return any(r.state is not None and stands.get(r.target, -1) < stands.get(target, 0) for r in before)

    def _has_served(self, record: AttemptRecord) -> bool:
        """Return whether its content went to the client, at least some."""
        if record.skipped is not None or record.hedge in ("lost", "failed"):
            return False
        return record.outcome == "ok" or (self.stream and record.first_ms is not None)

    def _candidates_json(self) -> str:
        """Return the records, and the candidates that were not reached, as a JSON list."""
        seen = {record.target for record in self.records}
        told = [(r.target, r.as_candidate()) for r in self.records]
        told += [(target, not_reached(target)) for target in self.order if target not in seen]
        for target, candidate in told if self.bound is not None else ():
            if target == self.bound:
                candidate["session"] = True
        for target, candidate in told if self.slow else ():
            if target in self.slow:
                candidate["slow"] = True
        return encode_json([candidate for _, candidate in told])

    def since(self, then: float) -> float:
        """Return the milliseconds since `then`, which is on `clock`."""
        return round((self.clock() - then) * 1000, 2)

    def _now(self) -> float:
        return self.since(self.began)

    def _summary_of(self, outcome: str, target: str | None, status: int | None) -> RequestSummary:
        candidates_json, added_ms, failed_over = self._ending()
        return RequestSummary(
            self.request_id,
            self.row,
            self.caller,
            self.stream,
            outcome,
            self.began_at,
            self._now(),
            self.sent_at,
            added_ms,
            target,
            tuple(self.records),
            candidates_json,
            _total(self.records),
            status,
            self.trace,
            self.session,
            failed_over,
        )

    def _added_ms(self) -> float | None:
        """Return the part of the time to the first content that no provider took; None if it is unknown."""
        asked = [record for record in self.records if record.skipped is None]
        beside = self.hedged or any(record.hedge or record.seam for record in asked)  # their times are no sum
        if self.sent_at is None or not asked or beside:
            return None
        *failed, served = asked
        upstream_ms = (served.upstream or {}).get("first_ms" if self.stream else "ms")
        if upstream_ms is None:
            return None
        return max(0.0, round(self.sent_at - sum(r.ms or 0.0 for r in failed) - float(upstream_ms), 2))


def _has_failed(record: AttemptRecord) -> bool:
    beside = record.hedge in ("lost", "failed")  # another leg, which had the turn, goes on
    return record.skipped is None and not beside and record.outcome not in ("ok", "cancelled")


def _total(records: list[AttemptRecord]) -> UsageTotals:
    used = [record.used for record in records if record.used]
    if len(used) == 1:
        only = used[0]
        return {name: only[name] for name in _TOTALS}  # type: ignore[return-value]
    costs = [u["cost"] for u in used]
    return {
        "tokens_in": sum(u["tokens_in"] for u in used),
        "tokens_out": sum(u["tokens_out"] for u in used),
        "tokens_cached": sum(u["tokens_cached"] for u in used),
        "tokens_reasoning": sum(u["tokens_reasoning"] for u in used),
        "cost": None if None in costs else sum(costs),
    }
