"""The questions that travel by the method `usage`: the methods of the ledger actor are words between versions.

`{"question": NAME, ...}` takes the place of the filters. An actor that does not know it says UnknownQuestion, as it
does for any filter that it does not know.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from actors.ledger.budget import Counters
from actors.ledger.messages import UnknownQuestion
from actors.ledger.questions.asked import asked
from actors.ledger.questions.requests import requests_page
from actors.ledger.questions.traffic import traffic
from actors.ledger.questions.used import from_words, limits_used
from actors.ledger.store import LedgerStore


@dataclass(frozen=True, slots=True)
class Ground:
    """What a question is answered from: the store, and the writer's counters, with the subjects of this month.

    `now` is milliseconds since the epoch, `until` monotonic seconds.
    """

    store: LedgerStore
    counters: Counters
    seen: Collection[str]
    now: int
    until: float


def answer(ground: Ground, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of the answer. Raises UnknownQuestion, and QuestionTooLong at `until`."""
    known = _ANSWERS.get(question["question"])
    if known is None:
        raise UnknownQuestion(f"no such question: {question['question']} (known: {', '.join(_ANSWERS)})")
    return known(ground, question)


def _requests(ground: Ground, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = asked(question["filters"], question.get("before"), question.get("limit"), question.get("viewer"))
    return [requests_page(ground.store, wanted, ground.until)]


def _traffic(ground: Ground, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [traffic(ground.store, ground.now, ground.until)]


def _limits(ground: Ground, question: Mapping[str, Any]) -> list[dict[str, Any]]:
    limits, only = from_words(question["limits"]), question.get("only")
    return limits_used(limits, ground.counters, ground.seen, ground.now, only, ground.until)


_ANSWERS: Mapping[str, Callable[[Ground, Mapping[str, Any]], list[dict[str, Any]]]] = {
    "requests": _requests,
    "traffic": _traffic,
    "limits": _limits,
}
