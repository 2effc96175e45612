"""How far apart messages leave that gather what has come: a millisecond, and more where much comes. Pure.

A message between two replicas costs the same with one frame as with ten, and so does a write to a client, which costs
more. Where little comes, a frame is held for a millisecond at most, however late we are: longer would gather nothing.
Where thousands come each second, the distance grows with their number; and while we are late anyway, because the core
has no time left, with how late we are: what leaves early then only makes the others wait for longer. Never beyond a
bound that no reader would notice.
"""

import math

LEAST, MOST = 0.001, 0.025  # seconds
WIDE = 0.002  # beyond it whoever reads what is to leave should read less often too
MANY = 500.0  # a second: above it the distance grows, by a millisecond for as many again
FADING = 0.1  # seconds: how far back their number is looked at
USUAL = 0.001  # a timer's own inaccuracy is no sign of load
FACTOR = 2.0  # of the lateness
WEIGHT = 0.125  # of the newest lateness in the mean


class Spacing:
    """All instants on one clock, in seconds."""

    def __init__(self) -> None:
        self._late = 0.0
        self._rate = self._left_at = 0.0  # how many left each second, lately, as it was at that instant

    def left(self, now: float, number: int, due: float | None = None) -> None:
        """So many left in one message, which could have left at `due`."""
        if due is not None:
            self._late += WEIGHT * (max(0.0, now - due - USUAL) - self._late)
        self._rate, self._left_at = self._rate_at(now) + number / FADING, now

    def seconds(self, now: float) -> float:
        """From the last message to the next."""
        rate = self._rate_at(now)
        if rate * MOST < 1:
            return LEAST
        return min(MOST, max(LEAST, FACTOR * self._late, rate / MANY * LEAST))

    def _rate_at(self, now: float) -> float:
        return self._rate * math.exp((self._left_at - now) / FADING)
