"""One attempt under way: its lease, and the one report of how it ended. No Ray."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.outcome import Outcome
from actors.plan import provider_of
from deployments.account import Entry
from deployments.board_link import BoardLink
from deployments.trail import Step, Trail

RENEW_SECONDS = 10.0  # shorter than any lease
LONGEST_PROBE = 600.0  # a reader that takes longer loses the lease: one client must not hold a target for ever


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
class Attempt:
    """One attempt under way: reports exactly once how it ended."""

    link: BoardLink
    trail: Trail
    target: str
    permit: Mapping[str, Any]
    began: float = 0.0
    renewal: asyncio.Task[None] | None = None
    ended: bool = False
    first: bool = True  # of its request
    dropped: tuple[str, ...] = ()  # fields that this target's provider has no use for
    more: bool = False  # is another left to ask?
    until: float = 0.0  # on the loop's clock: then the time that is kept for the others begins
    heard: float | None = None  # after so many milliseconds its content began
    upstream: Mapping[str, Any] | None = None  # what its replica has measured
    entry: Entry | None = None  # its row in the ledger

    def __post_init__(self) -> None:
        self.began = self.trail.clock()
        self.link.under_way[provider_of(self.target)] += 1

    @property
    def probe(self) -> bool:
        return bool(self.permit.get("lease"))

    def hear(self) -> None:
        """Its content has begun."""
        self.heard = self._ms()

    def _ms(self) -> float:
        return self.trail.since(self.began)

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
        self.link.under_way[provider_of(self.target)] -= 1
        if self.renewal is not None:
            self.renewal.cancel()
        if outcome.kind == "ok":
            self.trail.sent()
        ms = self._ms()
        used: dict[str, Any] = {}
        self.trail.attempted(self._step(outcome, ms, used), outcome)
        if self.entry is not None:
            # If it ends the request too, the line that says so tells of this step already.
            used |= self.entry.settle(outcome, usage, body, first=first, over=over)
        # A request that makes every model fail must not open every circuit.
        neutral = outcome.ending.poison and not self.first and not self.probe
        self.link.report(self.target, self.permit, outcome, ms, whole=whole, neutral=neutral)
        if over and outcome.last:
            self.trail.finish(outcome.kind, self.target if outcome.content else None)

    def _step(self, outcome: Outcome, ms: float, used: Mapping[str, Any]) -> Step:
        return Step(
            self.target,
            outcome.kind,
            round((self.began - self.trail.began) * 1000, 2),
            ms,
            self.heard,
            self.upstream,
            outcome.status,
            None if outcome.kind == "ok" else outcome.message or outcome.ending.why,
            outcome.verdict.value,
            self.probe,
            epoch=self.permit["epoch"],
            used=used,
        )


def outcome_in(reply: Mapping[str, Any]) -> Outcome | None:
    data = reply.get("outcome")
    return None if data is None else Outcome(**data)


def failure_in(attempt: Attempt, reply: Mapping[str, Any]) -> Outcome | None:
    """How a replica's last word ends the attempt, if badly; what it measured is noted."""
    attempt.upstream = reply.get("upstream")
    return outcome_in(reply)
