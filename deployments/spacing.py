"""How far apart messages leave that gather what has come: a millisecond, and more while we are late anyway. Pure.

A message between two replicas costs the same with one frame as with thirty. On a core that has room a frame is held
for a millisecond at most. When there is none left, everything waits for its turn, and what leaves early only makes
the others wait for longer: so the distance follows how late we are, up to a bound.
"""

LEAST, MOST = 0.001, 0.01  # seconds
USUAL = 0.001  # a timer's own inaccuracy is no sign of load
FACTOR = 2.0
WEIGHT = 0.125  # of the newest lateness in the mean


class Spacing:
    def __init__(self) -> None:
        self._late = 0.0

    def was_late(self, seconds: float) -> None:
        """So long after it could have left, something left."""
        self._late += WEIGHT * (max(0.0, seconds - USUAL) - self._late)

    @property
    def seconds(self) -> float:
        return min(MOST, max(LEAST, FACTOR * self._late))

    @property
    def wide(self) -> bool:
        """Is the core so short of time that whoever reads should read less often?"""
        return FACTOR * self._late > 2 * LEAST
