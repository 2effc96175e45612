"""Whose own deadlines have cut calls of a target, and who was answered meanwhile, as one ingress has seen it. Pure.

A client may ask for a long answer in a short time, as often as it likes, and that says nothing of the target. A target
that hangs looks the same to this client, but not to the others: they are not answered either. So a cut counts if nobody
was answered whose call began after it, and no other caller lately, or if another caller was cut lately too. Callers are
told apart by key or tenant; without either all are one.
"""

from dataclasses import dataclass, field
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
LATELY_SECONDS = 30.0  # as long as a circuit looks back for the share of its failures
MOST_TARGETS = 256  # a client may name any model of a provider
MOST_CALLERS = 64  # of each: the latest tell enough of a target


@dataclass(slots=True)
class _Seen:
    answered: dict[str | None, float] = field(default_factory=dict)  # when the last call began that was answered
    cut: dict[str | None, float] = field(default_factory=dict)  # when the last call was cut


class CutCalls:
    """Seconds are those of the breaker client's clock."""

    def __init__(self) -> None:
        self._targets: dict[str, _Seen] = {}

    def note_answer(self, target: str, caller: str | None, began: float) -> None:
        """Note that a call which began then has an answer, or the beginning of one."""
        answered = self._seen(target).answered
        _put(answered, caller, max(began, answered.get(caller, began)), MOST_CALLERS)

    def counts(self, target: str, caller: str | None, began: float, now: float) -> bool:
        """Note that the caller's own deadline has cut a call; return whether that says something of the target."""
        seen = self._seen(target)
        others_cut = any(other != caller and at > now - LATELY_SECONDS for other, at in seen.cut.items())
        _put(seen.cut, caller, now, MOST_CALLERS)
        answers = any(
            at >= began or (other != caller and at > now - LATELY_SECONDS) for other, at in seen.answered.items()
        )
        return others_cut or not answers

    def _seen(self, target: str) -> _Seen:
        """Return what is known of a target, which stays then: those that nobody asks are forgotten."""
        seen = self._targets.get(target) or _Seen()
        _put(self._targets, target, seen, MOST_TARGETS)
        return seen


def _put(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Put what is newest last, and forget the oldest of more than `most`."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
