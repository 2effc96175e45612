"""How long a target's answers usually take, as one ingress has seen it. Pure.

The measure is the slowest of its recent answers: a maximum that fades, so that one slow answer is forgotten
within some hundred others. Two questions need it: how much of a deadline a tier needs
(`failover/attempts/time_share.py`), and whether a call that our own share of the time has cut had been given enough to
say something of the tier (`failover/attempts/comparison.py`).
"""

from dataclasses import dataclass

from deployments.newest import Newest

FADING = 0.98
TARGETS = 1000  # a client may name any model of a provider


@dataclass(slots=True)
class _Time:
    usual: float = 0.0
    needed: float = 0.0  # the same, with calls that were cut: they would have needed longer


class ResponseTimes:
    """Seconds by target and verb: until the first content of a stream, or until a whole answer."""

    def __init__(self) -> None:
        self._times = Newest[tuple[str, str], _Time](TARGETS)

    def note(self, target: str, verb: str, seconds: float) -> None:
        """Note that an answer came after so long."""
        time = self._take(target, verb)
        time.usual = max(seconds, FADING * time.usual)
        time.needed = max(seconds, FADING * time.needed)

    def cut(self, target: str, verb: str, seconds: float) -> None:
        """Note that no answer had come when its share of the time was over."""
        time = self._take(target, verb)
        if not time.usual:  # else we know what it needs, and this one hung
            time.needed = max(seconds, time.needed)

    def usual(self, target: str, verb: str) -> float | None:
        """Return the slowest of its recent answers; None before there was one."""
        time = self._times.get((target, verb))
        return time.usual or None if time else None

    def needed(self, target: str, verb: str) -> float:
        """Return what it may need: 0 if nothing is known."""
        time = self._times.get((target, verb))
        return time.needed if time else 0.0

    def _take(self, target: str, verb: str) -> _Time:
        time = self._times[target, verb] = self._times.get((target, verb)) or _Time()
        return time
