"""Find whose fault a failure was, by comparing what the tiers of one request did. Pure.

A failure that may be the request's own is not held against its target before the request is over:

- another target answered the request: those that failed before it did fail;
- no target answered, and two or more failed in the same way: it is the request, and nothing is held against them. An
  outage of everything looks alike, but then an open circuit would help nobody: there is no target to turn to;
- a call that a deadline has cut, the client's or our own share of it, failed if it had been given half as long again
  as the target's slowest recent answers take, or, where none is known, if another tier answered in less. A client's
  short deadline says nothing of a tier.

What can't be the request's fault (no connection, a throttle, our key) never comes here: it is reported at once.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from actors.breaker.outcomes import Outcome, Verdict

# Seconds: a cut before that says nothing of a tier, whose usual time is known or not. A client may be in any hurry.
LEAST, LEAST_UNKNOWN = 0.5, 2.0
_CUT = "deadline"

Charge = Callable[[Verdict | None], None]  # None: what the table says of the outcome


@dataclass(frozen=True, slots=True)
class _Held:
    group: str
    seconds: float
    usual: float | None
    cut: bool
    charge: Charge

    @property
    def telling(self) -> bool:
        """Whether it had all the time that its target takes. One that was cut sooner is no second witness."""
        return not self.cut or self.seconds >= self.enough

    @property
    def enough(self) -> float:
        """How many seconds without an answer say something of its target."""
        return LEAST_UNKNOWN if self.usual is None else max(LEAST, 1.5 * self.usual)


class Comparison:
    """The failures of one request that wait for their judgement."""

    def __init__(self) -> None:
        self._held: list[_Held] = []

    @staticmethod
    def takes(outcome: Outcome) -> bool:
        """Return whether this failure must wait for the end of the request."""
        return not outcome.content and (outcome.kind == _CUT or bool(outcome.ending.alike))

    def hold(self, outcome: Outcome, seconds: float, usual: float | None, charge: Charge) -> None:
        """Keep a failure after `seconds`; `usual` is how long the target's slowest recent answers take."""
        cut = outcome.kind == _CUT
        self._held.append(_Held("silent" if cut else outcome.ending.alike, seconds, usual, cut, charge))

    def settle(self, answered_after: float | None = None, *, refused: bool = False) -> None:
        """Judge what is kept. `answered_after` is how many seconds the tier that answered took; None if none did.

        `refused`: the last that was asked called the request itself wrong.
        """
        if not self._held:
            return
        held, self._held = self._held, []
        groups = Counter(h.group for h in held if h.telling)
        for h in held:
            alike = (h.telling and groups[h.group] > 1) or (refused and h.group == "bad")
            h.charge(_own_fault(h) if answered_after is None and alike else _verdict(h, answered_after))


def _own_fault(held: _Held) -> Verdict:
    """Return the verdict of a failure by the request: a target that said anything at all is there."""
    return Verdict.REFUSED if held.group == "bad" else Verdict.NEUTRAL


def _verdict(held: _Held, answered_after: float | None) -> Verdict | None:
    if not held.cut:
        return None
    slower = held.usual is not None or (answered_after is not None and held.seconds >= answered_after)
    return Verdict.FAILED_START if slower and held.seconds >= held.enough else Verdict.NEUTRAL
