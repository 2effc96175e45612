"""What clients saw of their requests, and how it is counted. Pure.

A request ends in one of five ways:

- `whole`: the client has a whole answer, and every word of it;
- `typed`: a stream ended in the middle, with an error frame that has a code;
- `budget`: it was refused because its tenant's month is used up;
- `error`: it got an error with a code in place of an answer;
- `lost`: anything else, such as a connection that broke, half an answer that looks whole, an error without a code.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

End = Literal["whole", "typed", "budget", "error", "lost"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its client saw it.

    Attributes:
        row: the model that it asked for.
        seconds: until the last byte of its answer.
        provider: who answered, or began to.
        attempts: how many calls of providers it took.
        went_on: another provider went on with its stream.
        request_id: as the answer's header has it.
        why: what was wrong with one that is not whole.
    """

    row: str
    end: End
    seconds: float = 0.0
    provider: str = ""
    attempts: int = 0
    went_on: bool = False
    request_id: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """What clients saw of many requests. `elsewhere`: of the whole answers, those not by their row's first provider."""

    requests: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    elsewhere: int = 0
    went_on: int = 0  # of the whole answers
    local: int = 0  # of the whole answers, by the local model
    slowest: float = 0.0  # seconds, of the whole answers
    why: Counter[str] = field(default_factory=Counter)  # of errors and what was lost

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.requests + other.requests,
            self.ends + other.ends,
            self.elsewhere + other.elsewhere,
            self.went_on + other.went_on,
            self.local + other.local,
            max(self.slowest, other.slowest),
            self.why + other.why,
        )

    @property
    def is_good(self) -> bool:
        """Whether no client got an error in place of an answer, and nothing was lost."""
        return not self.ends["error"] and not self.ends["lost"]


def counted(requests: Iterable[Seen], first: Mapping[str, str], local: str = "local") -> Tally:
    """Count requests. `first`: each row's first provider."""
    every = list(requests)
    whole = [seen for seen in every if seen.end == "whole"]
    return Tally(
        len(every),
        Counter(seen.end for seen in every),
        sum(seen.provider != first[seen.row] for seen in whole),
        sum(seen.went_on for seen in whole),
        sum(seen.provider == local for seen in whole),
        max((seen.seconds for seen in whole), default=0.0),
        Counter(seen.why for seen in every if seen.end in ("error", "lost")),
    )


def example_of(requests: Iterable[Seen], first: Mapping[str, str]) -> Seen | None:
    """Return the request that is most worth a look: one that was lost, then seams, then failovers; None without any."""

    def worth(seen: Seen) -> int:
        marks = (
            seen.end in ("lost", "error"),
            seen.went_on,
            seen.end == "typed",
            seen.attempts > 1,
            seen.provider != first[seen.row],
        )
        return marks.index(True) if True in marks else len(marks)

    named = [seen for seen in requests if seen.request_id and seen.end != "budget"]
    best = min(named, key=worth, default=None)
    return None if best is None or worth(best) > 4 else best


def end_of_refusal(status: int, code: str | None) -> tuple[End, str]:
    """Return how a request ended that got a status in place of an answer, and why."""
    if status == 402 and code == "insufficient_quota":
        return "budget", code
    return ("lost", f"a {status} without a code") if code is None else ("error", f"{status} {code}")


def end_of_stream(code: str | None) -> tuple[End, str]:
    """Return how a stream ended that had an error frame, and why."""
    return ("lost", "an error frame without a code") if code is None else ("typed", code)


def end_of_answer(text: str, finish: str | None, expected: str | None) -> tuple[End, str]:
    """Return how an answer ended that had no error. `expected`: its text; None if only its model knows."""
    if finish is None:
        return "lost", "half an answer without a word of it"
    if not text or (expected is not None and text != expected):
        return "lost", "an answer with other words"
    return "whole", ""


@dataclass(slots=True)
class Circuit:
    """What the status page has said of one provider: its words one after the other, and seconds until it is tried."""

    words: list[str] = field(default_factory=list)
    retry_in: float | None = None


def note(circuits: Mapping[str, Circuit], status: Mapping[str, Any]) -> None:
    """Add what `/v1/status` says now of these providers."""
    for tier in status["tiers"]:
        if (circuit := circuits.get(tier["name"])) is not None:
            circuit.words += [tier["word"]] if tier["word"] not in circuit.words[-1:] else []
            circuit.retry_in = tier["retry_in_seconds"] or None
