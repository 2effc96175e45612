"""The distribution of one kind of times, in buckets and two windows: percentiles of the last minutes. Pure.

A bucket is 6 % wide, which is as exact as any decision here needs. Of two windows the older one is forgotten when the
newer one is full, so a figure is five to ten minutes deep.
"""

import math

_WIDTH = math.log(1.06)
_LEAST = 0.005  # seconds
_BUCKETS = 192  # up to 350 s
WINDOW_SECONDS = 300.0
_FRESH_SECONDS = 3.0  # for which a percentile is used again


class Tail:
    """Times in seconds. `now` is monotonic."""

    __slots__ = ("_asked", "_began", "_new", "_old", "number")

    def __init__(self, now: float) -> None:
        self._new, self._old = [0] * _BUCKETS, [0] * _BUCKETS
        self._began = now
        self.number = 0  # of times in both windows
        # Share: its percentile, and until when it is used, or until there are so many times.
        self._asked: dict[float, tuple[float, float, int]] = {}

    def add(self, seconds: float, now: float) -> None:
        self._turn(now)
        self._new[_bucket(seconds)] += 1
        self.number += 1

    def percentile(self, share: float, now: float) -> float:
        """Return the seconds that this share of the times does not exceed; 0 if there are none."""
        known = self._asked.get(share)
        if known is not None and now < known[1] and self.number < known[2]:
            return known[0]
        self._turn(now)
        found = self._percentile(share)
        self._asked[share] = found, now + _FRESH_SECONDS, 2 * self.number
        return found

    def _percentile(self, share: float) -> float:
        left = share * self.number
        for at in range(_BUCKETS):
            count = self._new[at] + self._old[at]
            if count and count >= left:
                return _seconds(at - 1 + left / count)  # those of a bucket are taken to be spread over it
            left -= count
        return 0.0

    def _turn(self, now: float) -> None:
        age = now - self._began
        if age < WINDOW_SECONDS:
            return
        self._old = self._new if age < 2 * WINDOW_SECONDS else [0] * _BUCKETS
        self._new, self._began = [0] * _BUCKETS, now
        self.number = sum(self._old)
        self._asked.clear()


def _bucket(seconds: float) -> int:
    return 0 if seconds <= _LEAST else min(_BUCKETS - 1, int(math.log(seconds / _LEAST) / _WIDTH) + 1)


def _seconds(bucket: float) -> float:
    """Return the upper end of a bucket, or a place within it."""
    return _LEAST * math.exp(bucket * _WIDTH)
