"""Whose answers one stream is made of: those that broke off, and the one that speaks now. No Ray."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors.breaker.outcomes import Outcome
from deployments.errors import BreakwaterError, DeadlineExceeded, NoAnswer
from deployments.failover.streams.seam import with_sum
from deployments.openai_api.chat import frame, usage_of
from deployments.openai_api.json_types import JsonDict

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt


class Parts:
    """`before` are the attempts whose answers broke off, and how."""

    def __init__(self) -> None:
        self.before: list[tuple[Attempt, Outcome]] = []

    def add(self, attempt: "Attempt", outcome: Outcome) -> None:
        self.before.append((attempt, outcome))

    def first_end(self, outcome: Outcome) -> Outcome:
        """Return how the first of the answers broke off: what came of going on is no news to its client.

        One that was overtaken had not broken off.
        """
        return next((ended for _, ended in self.before if ended.kind != "overtaken"), outcome)

    def first(self, attempt: "Attempt") -> "Attempt":
        """Return whose answer broke off first, where `attempt` is the last one."""
        return next((one for one, ended in self.before if ended.kind != "overtaken"), attempt)

    def used_for(self, text: str, last: "Attempt") -> int:
        """Return how many tokens of a text were made, or about how many: rather too many than too few."""
        ended = [*(attempt for attempt, _ in self.before), last]
        counted = sum(used["completion_tokens"] for attempt in ended if (used := attempt.used_tokens()) is not None)
        return counted or len(text) // 3 + 1

    def seam(self, last: "Attempt", at: int | None) -> JsonDict:
        """Return what a marker tells of the seam before the last attempt; `at` is how long the text was by then."""
        before, outcome = next(it for it in reversed(self.before) if it[1].kind != "unverified")
        told: JsonDict = {"from": before.target, "to": last.target, "method": last.seam, "why": outcome.kind}
        return told if at is None else {**told, "at": at}

    def summed(self, tail: bytes, last: "Attempt") -> bytes:
        """Return the last frames with the usage of all providers, those included whose answers broke off."""
        if not self.before:
            return tail
        attempts = [*(attempt for attempt, _ in self.before), last]
        used = [attempt.used_tokens() for attempt in attempts]
        told = [{"target": a.target, **u} for a, u in zip(attempts, used, strict=True) if u is not None]
        usages = [usage_of(u["prompt_tokens"], u["completion_tokens"]) for u in used[:-1] if u is not None]
        return with_sum(tail, usages, told)

    def error_frame(self, outcome: Outcome, last: "Attempt", explained: Mapping[str, Any] | None) -> bytes:
        """Return the frame that ends a stream which nobody goes on with; `explained` is told in it."""
        outcome, entries = self.first_end(outcome), last.record.entries
        error: BreakwaterError
        if outcome.kind == "deadline":
            error = DeadlineExceeded("The request's deadline passed in mid-stream.", entries)
        else:
            text, target = outcome.message or outcome.ending.why, self.first(last).target
            error = NoAnswer(f"The stream from {target} broke off: {text}.", entries)
            error.code = "stream_interrupted"
        return frame({"error": error.body(), **({} if explained is None else {"breakwater": {"explained": explained}})})
