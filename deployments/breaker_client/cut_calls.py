"""Whose own deadlines have cut calls of a target, and who was answered meanwhile, as one ingress has seen it. Pure.

A client may ask for a long answer in a short time, as often as it likes, and that says nothing of the target. A target
that hangs looks the same to this client, but not to the others: they are not answered either. So a cut counts if nobody
was answered whose call began after it, and no other caller lately, or if another caller was cut lately too. Callers are
told apart by key or tenant; without either all are one.
"""

from dataclasses import dataclass, field

from deployments.newest import Newest

LATELY_SECONDS = 30.0  # as long as a circuit looks back for the share of its failures
MOST_TARGETS = 256  # a client may name any model of a provider
MOST_CALLERS = 64  # of each: the latest tell enough of a target


_Times = Newest[str | None, float]  # by caller


def _times() -> _Times:
    return Newest(MOST_CALLERS)


@dataclass(slots=True)
class _Seen:
    answered: _Times = field(default_factory=_times)  # when the last call began that was answered
    cut: _Times = field(default_factory=_times)  # when the last call was cut


class CutCalls:
    """Seconds are those of the breaker client's clock."""

    def __init__(self) -> None:
        self._targets = Newest[str, _Seen](MOST_TARGETS)

    def note_answer(self, target: str, caller: str | None, began: float) -> None:
        """Note that a call which began then has an answer, or the beginning of one."""
        answered = self._seen(target).answered
        answered[caller] = max(began, answered.get(caller, began))

    def counts(self, target: str, caller: str | None, began: float, now: float) -> bool:
        """Note that the caller's own deadline has cut a call; return whether that says something of the target."""
        seen = self._seen(target)
        others_cut = any(other != caller and at > now - LATELY_SECONDS for other, at in seen.cut.items())
        seen.cut[caller] = now
        answers = any(
            at >= began or (other != caller and at > now - LATELY_SECONDS) for other, at in seen.answered.items()
        )
        return others_cut or not answers

    def _seen(self, target: str) -> _Seen:
        """Return what is known of a target, which stays then: those that nobody asks are forgotten."""
        seen = self._targets[target] = self._targets.get(target) or _Seen()
        return seen
