"""The world's own truth: what each provider does with a call at each instant, and whether it was well. Pure.

The wires act by it, and the oracle judges by it afterwards: the code under test has no part in it.
"""

import bisect
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.breaker.outcomes import Outcome
from tests.model.script import TENTH, Fault, Script, Tier

LIMIT_SECONDS = 180.0  # for so long a limit may be smaller than what a target takes
TAIL_FACTOR, TAIL_OF_STREAM, TAIL_OF_WHOLE = 15.0, 8.0, 15.0  # what is slow for no reason is within all limits
SLOW_FIRST = 30.0  # seconds to the first token of a slow prompt, at every tier
SLOW_FACTOR = 10.0
FLAKY = 0.3
_STATUS = {"server_error": 500, "credential": 401, "throttled": 429, "bad_request": 400}


@dataclass(slots=True)
class Asked:
    """One request: as it was meant, and what has become of it. Seconds since the run began."""

    number: int
    replica: int
    row: str
    tiers: tuple[str, ...]  # providers, the best first
    stream: bool
    began: float
    luck: float  # in [0, 1): how much of an answer it asks for
    length: float  # seconds that its stream takes
    keyed: bool = False  # with an idempotency key, and more than once
    priority: str = "normal"
    deadline: float | None = None
    odd: str | None = None
    leaves: float | None = None  # after so many seconds
    pauses: float = 0.0  # seconds that its reader stops for
    first: float | None = None  # when its content began, or its whole answer came
    ended: float | None = None
    end: str = ""  # ok, failed, cancelled, broken
    provider: str | None = None  # that answered
    made: int = 0
    status: int | None = None
    why: str = ""
    story: Any = None  # the trail, or the error's attempts
    request_id: str = ""
    told_apart: bool = False  # its client was told that its tries may be two requests
    at_once: tuple[str, ...] = ()  # more calls at one time than it may have
    hedged: str = ""  # what became of a second leg before its answer
    seams: list[Any] = field(default_factory=list)  # what the markers in its stream told
    used: int | None = None  # completion tokens, as its client was told

    @property
    def decided(self) -> float | None:
        """When it was settled who answers, or that nobody does."""
        return self.ended if self.first is None else self.first

    def entries(self) -> Sequence[Mapping[str, Any]]:
        """What it went through, as the product tells it."""
        return getattr(self.story, "entries", self.story) or ()

    def steps(self) -> list[str]:
        return [f"{e['provider']}: {e['outcome']}" for e in self.entries()]


@dataclass(frozen=True, slots=True)
class Act:
    """A call's fate: after so many seconds an answer begins, or it ends so; a stream may break after some frames."""

    seconds: float
    outcome: Outcome | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """As they go over the hop with each call."""

    connect: float
    first_token: float
    idle: float
    total: float


@dataclass(slots=True)
class Isolation:
    """By an operator: `until` moves nearer when it is taken back."""

    provider: str
    since: float
    until: float


POISON = ("wrong", "server_error", "empty", "malformed")  # prompts of which a tier makes nothing, however it is


@dataclass(slots=True)
class Truth:
    script: Script
    isolations: list[Isolation] = field(default_factory=list)  # as the actor has obeyed
    commands: list[tuple[float, str, str]] = field(default_factory=list)  # when, verb, provider
    refused_answers: list[tuple[float, str]] = field(default_factory=list)  # an ask's answer that was lost: target
    met: dict[Fault, float] = field(default_factory=dict)  # when a call met it last
    met_first: dict[Fault, float] = field(default_factory=dict)
    stalls: list[tuple[float, float]] = field(default_factory=list)  # when they ended, how long they were
    full: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # when each refused a call for load
    tiers: dict[str, Tier] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    _begins: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tiers = {t.name: t for t in self.script.tiers}
        for name in self.tiers:
            self.faults[name] = sorted((f for f in self.script.faults if f.provider == name), key=lambda f: f.begin)
            self._begins[name] = [f.begin for f in self.faults[name]]

    def before(self, provider: str, at: float) -> Sequence[Fault]:
        """Its faults that had begun by then."""
        return self.faults[provider][: bisect.bisect_right(self._begins[provider], at)]

    def last_fault(self, provider: str, at: float) -> Fault | None:
        number = bisect.bisect_right(self._begins[provider], at)
        return self.faults[provider][number - 1] if number else None

    def fault(self, provider: str, at: float) -> Fault | None:
        """Its fault at that instant."""
        last = self.last_fault(provider, at)
        return last if last is not None and at < last.end else None

    def faulty(self, provider: str, since: float, until: float, asked: Asked | None = None) -> bool:
        """Was it at fault at any time between, for that request?"""
        if self.was_full(provider, since, until):
            return True
        last = self.last_fault(provider, until)
        if last is None or last.end < since:
            return False
        return last.kind != TENTH or asked is None or _tenth(asked)

    def was_full(self, provider: str, since: float, until: float) -> bool:
        """Did it refuse a call for its load between, or so shortly before that its limit may still be small?"""
        refused = self.full.get(provider)
        if not refused:
            return False
        return bisect.bisect_right(refused, until) > bisect.bisect_left(refused, since - LIMIT_SECONDS)

    def isolated(self, provider: str, since: float, until: float) -> bool:
        return any(i.provider == provider and i.since <= until and since <= i.until for i in self.isolations)

    def stalled(self, since: float, until: float) -> float:
        """Seconds between in which our own process stood still."""
        return sum(seconds for at, seconds in self.stalls if at >= since and at - seconds <= until)

    def need(self, asked: Asked, provider: str) -> float:
        """Seconds until it would begin to answer, in health; an odd prompt is another matter."""
        tier = self.tiers[provider]
        usual = (tier.first if asked.stream else tier.whole) * (0.5 + asked.luck)
        if not self._in_tail(asked, provider):
            return usual
        return max(usual, min(usual * TAIL_FACTOR, TAIL_OF_STREAM if asked.stream else TAIL_OF_WHOLE))

    def _in_tail(self, asked: Asked, provider: str) -> bool:
        terms = self.script.terms
        if terms is None or not terms.tail:
            return False
        return zlib.crc32(f"{self.script.seed} {asked.number} {provider}".encode()) / 2**32 < terms.tail

    def act(self, asked: Asked, provider: str, at: float, limits: Limits) -> Act:
        """What becomes of a call that begins at that instant."""
        fault = self.fault(provider, at)
        return self._odd(asked, provider, limits) if fault is None else self._at_fault(asked, fault, at, limits)

    def _odd(self, asked: Asked, provider: str, limits: Limits) -> Act:
        need = self.need(asked, provider)
        match asked.odd:
            case None:
                return _in_time(asked, need, limits)
            case "slow" | "silent":
                return _in_time(asked, need + SLOW_FIRST, limits)
            case "wrong":
                return _ends(0.05, "bad_request")
            case "unfit":
                refuses = provider == asked.tiers[0]
                return _ends(0.05, "rejected") if refuses else _in_time(asked, need, limits)
            case kind:
                return _ends(0.1, kind)

    def _at_fault(self, asked: Asked, fault: Fault, at: float, limits: Limits) -> Act:
        if asked.odd in POISON and fault.kind in ("slow", "mid-stream", "stall"):
            return self._odd(asked, fault.provider, limits)
        need = self.need(asked, fault.provider)
        match fault.kind:
            case "refuse":
                return _ends(0.001, "connect")
            case "500":
                return _ends(0.05, "server_error")
            case "flaky" if (asked.luck * 7919) % 1 < FLAKY:
                return _ends(0.05, "server_error")
            case "tenth" if _tenth(asked):
                return _ends(0.05, "server_error")
            case "429":
                left = fault.named - (at - fault.begin) % fault.named
                return Act(0.02, Outcome("throttled", status=429, retry_after=left))
            case "hang":
                return _in_time(asked, 1e9, limits)
            case "slow":
                return _in_time(asked, need * SLOW_FACTOR, limits)
            case "credential":
                return _ends(0.05, "credential")
            case "empty" | "malformed":
                return _ends(min(need, 1.0), fault.kind)
            case "lost":
                return _ends(min(need, 0.5), "lost")
            case "mid-stream":
                return Act(need, None, 2) if asked.stream else _ends(min(need, limits.total), "broken")
            case "stall":  # what has come before it is up to the wire
                return Act(need, None, 2) if asked.stream else _in_time(asked, 1e9, limits)
        return self._odd(asked, fault.provider, limits)


def _tenth(asked: Asked) -> bool:
    return asked.number % 10 == 9


def _ends(seconds: float, kind: str) -> Act:
    return Act(seconds, Outcome(kind, status=_STATUS.get(kind)))


def _in_time(asked: Asked, need: float, limits: Limits) -> Act:
    """The replica's own limits end what takes longer."""
    limit, kind = (limits.first_token, "first_token") if asked.stream else (limits.total, "timeout")
    return Act(need) if need <= limit else Act(limit, Outcome(kind))
