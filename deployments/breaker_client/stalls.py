"""Streams that have fallen silent together: the first sign of a target whose streams stall. Pure.

One stream may pause for as long as its idle limit allows. But when several of a target's streams have
each been silent for far longer than its streams ever are, the next would fall silent too, and what
has begun can't be moved. So a target is *quiet* while most of its running streams are: new requests
ask the others first. It is neither failed nor left out, and is itself again once they speak.
"""

from collections.abc import Hashable
from itertools import islice

from deployments.newest import Newest

FACTOR = 3.0  # times the longest usual pause
UNKNOWN = 1.0  # seconds of silence that say something before enough pauses were seen
FADING = 0.98  # a long pause is forgotten within a few hundred frames
NO_PAUSE = 0.001  # seconds: such a frame had come before we asked for it
CATCH_UP = 0.5  # seconds in which we read what came while we did not listen
TARGETS = 1000  # whose pauses are remembered
LAG = 0.25  # seconds without a beat, after which what we did not hear says nothing
# Seconds between two beats, as the client gives them. A longer gap counts as this much silence.
BEAT = 0.1
LEAST = 0.12  # seconds beyond a usual pause that say something: more than one gap of ours can count for
HOLD = 2.0  # seconds that a target stays quiet when its silent streams have ended, if nobody speaks
TOGETHER = 2  # one silent stream is its own affair


class StallDetector:
    """The streams that one ingress replica carries, and since when each is silent.

    Silence is measured in the seconds in which we listened: while our own loop stands still that clock does too.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Hashable, float]] = {}  # target: stream: since when, the longest first
        self._usual = Newest[str, float](TARGETS)  # a client may name any model of a provider
        self._quiet = Newest[str, float](TARGETS)  # target: when it was last found so
        self._beat: float | None = None
        self._missed = 0.0  # seconds in which we did not listen
        self._back = -CATCH_UP  # when we last listened again after a gap

    def beat(self, now: float) -> None:
        """Note every tenth of a second that we listen. After a gap every silence begins anew."""
        if self._beat is not None:
            self._missed += self._late(now)
            if now - self._beat > LAG:
                self._back = now
                for waiting in self._waiting.values():
                    waiting.update(dict.fromkeys(waiting, now - self._missed))
        self._beat = now

    def listened(self, now: float) -> float:
        """Return the instant on the clock that stands still while we do, in seconds."""
        return now - self._missed - self._late(now)

    def _late(self, now: float) -> float:
        """Return for how many seconds the next beat is late."""
        return 0.0 if self._beat is None else max(0.0, now - self._beat - BEAT)

    def _catches_up(self, now: float) -> bool:
        return now - self._back < CATCH_UP or (self._beat is not None and now - self._beat > LAG)

    def wait(self, target: str, stream: Hashable, now: float) -> None:
        """Note that the stream now waits for its provider (and not for its own reader)."""
        self._waiting.setdefault(target, {})[stream] = self.listened(now)

    def heard(self, target: str, stream: Hashable, now: float) -> None:
        """Note that frames came: the pause was one that its streams make. It is to wait again, or be `gone`."""
        self._quiet.pop(target, None)
        since = self._waiting[target].pop(stream)
        # A few pauses are no measure yet: the first two frames of a stream often come together.
        waited, usual = self.listened(now) - since, self._usual.get(target, UNKNOWN / FACTOR)
        # Frames that came while we did not listen are read without a pause, all at once: they say nothing of pauses.
        pause = max(waited, usual if waited <= NO_PAUSE and self._catches_up(now) else FADING * usual)
        self._usual[target] = pause

    def gone(self, target: str, stream: Hashable) -> None:
        """Forget the stream. A pause that ended in nothing is no measure of the usual ones."""
        waiting = self._waiting.get(target, {})
        waiting.pop(stream, None)
        if not waiting:
            self._waiting.pop(target, None)

    def __bool__(self) -> bool:
        """Return whether any target may be quiet."""
        return bool(self._waiting or self._quiet)

    def quiet(self, target: str, now: float) -> bool:
        """Return whether most of the target's streams, two at least, have been silent for far too long.

        It stays so for a while when they have ended: each that comes to its limit is one fewer to be silent.
        """
        if self._silent(target, now):
            self._quiet[target] = now
        elif now - self._quiet.get(target, -HOLD) >= HOLD:
            self._quiet.pop(target, None)
        return target in self._quiet

    def _silent(self, target: str, now: float) -> bool:
        waiting = self._waiting.get(target)
        if not waiting or len(waiting) < TOGETHER:
            return False
        usual = self._usual.get(target, UNKNOWN / FACTOR)
        since = self.listened(now) - max(usual + LEAST, FACTOR * usual)
        if self._beat is not None and now - self._beat > LAG:
            return False  # it is we who did not listen
        needed = max(TOGETHER, len(waiting) // 2 + 1)
        return all(began <= since for began in islice(waiting.values(), needed))
