"""The batching interval between messages of two replicas: 1 ms, and up to 25 ms under load. Pure.

A message between two replicas costs the same with one frame as with ten, and so does a write to a client, which costs
more. At a low rate a frame is held for 1 ms at most, however late the event loop is: a longer interval would gather
nothing. At thousands of frames a second the interval grows with the rate. It also grows with the lateness of the event
loop when the core has no time left: a message that leaves early then only delays the others. The upper bound is too
short for a reader to notice.
"""

import math

MIN_INTERVAL, MAX_INTERVAL = 0.001, 0.025  # seconds
LONG_INTERVAL = 0.002  # seconds: beyond it the writers of frames should wait too, and read upstream less often
BUSY_RATE = 1500.0  # frames a second: above it the interval grows, by 1 ms for each further 1,500
RATE_SECONDS = 0.1  # time constant of the measured rate
TIMER_JITTER = 0.001  # seconds: a timer's own inaccuracy is no sign of load
LATENESS_FACTOR = 2.0  # interval per mean lateness
LATENESS_WEIGHT = 0.125  # of the newest lateness in the mean


class BatchInterval:
    """The interval until the next message, from the rate and the lateness of the last ones.

    All instants are seconds on one clock.
    """

    def __init__(self) -> None:
        self._mean_lateness = 0.0
        self._rate = self._sent_at = 0.0  # frames a second, as measured at the last message

    def note_sent(self, now: float, count: int, due: float | None = None) -> None:
        """Record a message of `count` frames that was due at `due`."""
        if due is not None:
            self._mean_lateness += LATENESS_WEIGHT * (max(0.0, now - due - TIMER_JITTER) - self._mean_lateness)
        self._rate, self._sent_at = self._rate_at(now) + count / RATE_SECONDS, now

    def seconds(self, now: float) -> float:
        """Return the seconds from the last message to the next."""
        rate = self._rate_at(now)
        if rate * MAX_INTERVAL < 1:
            return MIN_INTERVAL
        return min(
            MAX_INTERVAL, max(MIN_INTERVAL, LATENESS_FACTOR * self._mean_lateness, rate / BUSY_RATE * MIN_INTERVAL)
        )

    def _rate_at(self, now: float) -> float:
        return self._rate * math.exp((self._sent_at - now) / RATE_SECONDS)
