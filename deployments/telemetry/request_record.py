"""What one request goes through, from its beginning to its one end. No Ray.

A trail has a step for each target that was skipped and for each attempt, in order. When the request is
over, it is told once to its account and to whoever watches: metrics, log, traces, `/v1/requests`. Each of
them gets the same frozen `RequestSummary`, and none of them is known here.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.breaker.plan import Plan, Skipped
from actors.ledger.rows import encode_json
from deployments.telemetry.trace_context import Trace
from deployments.usage.caller import Caller
from deployments.usage.records import UsageRecord

log = logging.getLogger(f"ray.serve.{__name__}")

LONGEST_MESSAGE = 200
TOKENS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
_SKIPPED = "skipped: "


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One target: skipped, or asked. Milliseconds; `at` is since the request began, `first` until content came.

    `upstream` is what the provider's replica has measured: `{connect_ms?, first_ms?, ms}`; no `connect_ms`
    where a connection was used again.
    """

    target: str
    outcome: str  # a kind of actors/breaker/outcomes.py, or "skipped: why"
    at: float
    ms: float | None = None
    first: float | None = None
    upstream: Mapping[str, Any] | None = None
    status: int | None = None
    message: str | None = None
    verdict: str | None = None
    probe: bool = False
    state: str | None = None  # of its circuit, if it was skipped for that
    epoch: int | None = None
    since: float | None = None  # seconds in that state
    retry_in: float | None = None  # seconds
    used: Mapping[str, Any] = field(default_factory=dict)  # tokens and cost, filled when they are counted

    @property
    def skipped(self) -> str | None:
        """Why it was skipped."""
        return self.outcome.removeprefix(_SKIPPED) if self.outcome.startswith(_SKIPPED) else None

    def told(self) -> dict[str, Any]:
        """As an error's `attempts` have it."""
        provider, _, model = self.target.partition("/")
        told: dict[str, Any] = {"provider": provider, "model": model, "outcome": self.outcome}
        if self.skipped is None:
            told |= {"status": self.status, "ms": self.ms}
        if self.message is not None:
            told["message"] = self.message
        if self.retry_in is not None:
            told["retry_in_seconds"] = round(self.retry_in, 3)
        return told

    def explained(self) -> dict[str, Any]:
        """As `/v1/requests` has it."""
        more: dict[str, Any] = {"at_ms": self.at}
        if self.skipped is None:
            upstream = {f"upstream_{name}": value for name, value in (self.upstream or {}).items()}
            more |= {"verdict": self.verdict, "probe": self.probe, "epoch": self.epoch, "first_token_ms": self.first}
            more |= upstream
        elif self.state is not None:
            since = None if self.since is None else round(self.since, 3)
            more |= {"state": self.state, "epoch": self.epoch, "since_seconds": since}
        told = self.told()
        if self.message is not None:
            told["message"] = self.message[:LONGEST_MESSAGE]
        return told | more


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """One request that is over. Milliseconds; `added` is our own part of the time to the first content."""

    request_id: str
    row: str
    caller: Caller
    stream: bool
    outcome: str  # ok, a kind of actors/breaker/outcomes.py, or the code of an error
    began_at: int  # wall clock, milliseconds since the epoch
    ms: float
    first: float | None
    added: float | None
    target: str | None  # that answered
    steps: tuple[AttemptRecord, ...]
    text: str  # the steps and what was not reached, as JSON
    used: Mapping[str, Any]  # tokens_in, tokens_out, tokens_cached, tokens_reasoning, cost in nano-dollars or None
    status: int | None = None  # of the error that its caller got instead of content
    trace: Trace | None = None  # only where traces are on

    @property
    def attempts(self) -> list[AttemptRecord]:
        return [step for step in self.steps if step.skipped is None]


Observer = Callable[[RequestSummary], None]


@dataclass(slots=True)
class RequestRecord:
    """`watch` is told when the request is over."""

    row: str = ""
    caller: Caller = field(default_factory=lambda: Caller("handle"))
    stream: bool = False
    account: UsageRecord | None = None
    request_id: str = ""
    watch: Observer | None = None
    clock: Callable[[], float] = time.monotonic  # a loop's own may know whole milliseconds only
    trace: Trace | None = None
    began: float = 0.0
    began_at: int = field(default_factory=lambda: int(time.time() * 1000))
    steps: list[AttemptRecord] = field(default_factory=list)
    order: tuple[str, ...] = ()  # the plan's candidates
    made: int = 0
    sent_at: float | None = None  # milliseconds until its content went to the client
    ended: RequestSummary | None = None
    _text: tuple[int, str] = (-1, "")  # of so many steps

    def __post_init__(self) -> None:
        self.began = self.clock()
        if self.account is not None:
            self.began_at = self.account.began_at

    @property
    def explain(self) -> bool:
        """Does the caller want to read it in the answer?"""
        return self.caller.explain

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The steps as an error tells them."""
        return [step.told() for step in self.steps]

    def pass_over(self, target: str, why: str) -> None:
        self.steps.append(AttemptRecord(target, f"{_SKIPPED}{why}", self._now()))

    def skip(self, skipped: tuple[Skipped, ...]) -> None:
        at = self._now()
        for s in skipped:
            why = f"{_SKIPPED}{s.why}"
            self.steps.append(
                AttemptRecord(s.target, why, at, state=s.state, epoch=s.epoch, since=s.since, retry_in=s.retry_in)
            )

    def planned(self, plan: Plan) -> None:
        self.skip(plan.skipped)
        self.order = tuple(candidate.target for candidate in plan.candidates)

    def attempted(self, step: AttemptRecord) -> None:
        self.steps.append(step)

    def sent(self) -> None:
        """Its content goes to the client now."""
        if self.sent_at is None:
            self.sent_at = self._now()

    def finish(self, outcome: str, target: str | None = None, status: int | None = None) -> None:
        """The request is over. Only the first ending counts."""
        if self.ended is not None:
            return
        if self.account is not None:
            self.account.finish(outcome, self.text)
        self.ended = self._ended(outcome, target, status)
        if self.watch is not None:
            try:
                self.watch(self.ended)
            except Exception:
                log.exception("who watches must not fail a request")

    def text(self) -> str:
        """Steps, and whoever was not reached, as JSON. Ledger and log ask for the same, one after the other."""
        if self._text[0] != len(self.steps):
            made = {step.target for step in self.steps}
            later = [_not_reached(t) for t in self.order if t not in made]
            self._text = len(self.steps), encode_json([s.explained() for s in self.steps] + later)
        return self._text[1]

    def since(self, then: float) -> float:
        """Milliseconds."""
        return round((self.clock() - then) * 1000, 2)

    def _now(self) -> float:
        return self.since(self.began)

    def _ended(self, outcome: str, target: str | None, status: int | None) -> RequestSummary:
        return RequestSummary(
            self.request_id,
            self.row,
            self.caller,
            self.stream,
            outcome,
            self.began_at,
            self._now(),
            self.sent_at,
            self._added(),
            target,
            tuple(self.steps),
            self.text(),
            _summed(self.steps),
            status,
            self.trace,
        )

    def _added(self) -> float | None:
        """What of the time to the first content no provider had; None if that can't be told."""
        asked = [step for step in self.steps if step.skipped is None]
        if self.sent_at is None or not asked:
            return None
        *before, served = asked
        theirs = (served.upstream or {}).get("first_ms" if self.stream else "ms")
        if theirs is None:
            return None
        return max(0.0, round(self.sent_at - sum(s.ms or 0.0 for s in before) - float(theirs), 2))


def _summed(steps: list[AttemptRecord]) -> dict[str, Any]:
    """What all attempts have used; the cost is unknown as soon as that of one is."""
    used = [step.used for step in steps if step.used]
    costs = [u["cost"] for u in used]
    return {name: sum(u[name] for u in used) for name in TOKENS} | {"cost": None if None in costs else sum(costs)}


def _not_reached(target: str) -> dict[str, Any]:
    provider, _, model = target.partition("/")
    return {"provider": provider, "model": model, "outcome": "not reached"}
