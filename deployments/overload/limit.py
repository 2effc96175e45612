"""How many calls of one target may be under way at once, as one ingress replica has found out. Pure.

AIMD, as TCP has it: a refusal for load makes the limit smaller by a share, each answer makes it larger by a little. The
time that answers take says nothing here: a model that writes a page takes longer than one that writes a line, whatever
its load. So only refusals count. A target that was never refused has no limit.
"""

import math

SHRINK = 0.7
MOST_ROOM = 1_000_000
LEAST_PAUSE, MOST_PAUSE = 0.2, 5.0  # seconds between two shrinkings: the calls of one wave are refused together
FORGET_SECONDS = 120.0  # without a refusal, and there is no limit any more
ANSWERS_SECONDS = 2.0  # since an answer has begun: a refusal now is one for load, and no refusal of all calls
FIRST_SECONDS = 5.0  # from a target's first call: while others are under way, nobody knows yet whether it answers any


class Limit:
    """`fixed`: a limit that stays as it is; None: it is found out."""

    def __init__(self, fixed: int | None = None):
        self._fixed = fixed
        self.value = math.inf if fixed is None else float(fixed)
        self.under_way = 0
        self.seconds = 1.0  # that a call takes, about
        self._flowing = 0  # calls whose answers have begun
        self._shrunk_at = self._answered_at = -math.inf
        self._first_at: float | None = None  # when a call began, until one is answered
        self._usual = 1.0  # seconds until an answer begins, about

    @property
    def room(self) -> int:
        """How many calls more it may have now; it may be less than none."""
        return MOST_ROOM if self.value == math.inf else max(1, math.floor(self.value)) - self.under_way

    @property
    def has_room(self) -> bool:
        return self.room > 0

    @property
    def pause(self) -> float:
        """Return for how many seconds who was refused leaves it alone."""
        return min(max(self._usual, LEAST_PAUSE), MOST_PAUSE)

    def is_for_load(self, now: float) -> bool:
        """Return whether a refusal now is one for load: the target answers others meanwhile, or may be about to."""
        if self._fixed is not None:
            return False
        if self._first_at is not None:
            return self.under_way > 1 and now - self._first_at <= FIRST_SECONDS
        return self._flowing > 0 or now - self._answered_at <= max(ANSWERS_SECONDS, 2 * self._usual)

    def take(self, now: float) -> None:
        """Count a call that begins. After a long time without a refusal nothing is known of a limit any more."""
        if self._fixed is None and now - self._shrunk_at > FORGET_SECONDS:
            self.value = math.inf
        self.under_way += 1
        if self._first_at is None and self._answered_at == -math.inf:
            self._first_at = now

    def answered(self, seconds: float, now: float) -> None:
        """Note that an answer has begun, so many seconds after its call."""
        self._flowing += 1
        self._answered_at, self._first_at = now, None
        self._usual += 0.2 * (seconds - self._usual)

    def release(self, now: float, seconds: float, *, ok: bool, refused: bool, had_begun: bool) -> None:
        """Count a call that has ended. `refused`: the target had too many of them."""
        if self._fixed is None:
            if refused:
                self._shrink(now)
            elif ok and self.value != math.inf:
                self._grow(now)
        if ok:
            self.seconds += 0.1 * (seconds - self.seconds)
        self.under_way -= 1
        self._flowing -= had_begun

    def _shrink(self, now: float) -> None:
        if now - self._shrunk_at < self.pause:
            return
        self._shrunk_at = now
        self.value = max(1.0, SHRINK * min(self.value, self.under_way))

    def _grow(self, now: float) -> None:
        if self.under_way >= self.value / 2:  # a limit that nobody comes near says nothing when it is not reached
            self.value += 1 / self.value
