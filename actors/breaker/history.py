"""What a target has done in the last five minutes, in slots of time: for people. Pure; it decides nothing."""

from collections import deque
from dataclasses import dataclass, field

from actors.breaker.messages import Series

SLOTS, SLOT_SECONDS = 60, 5.0


@dataclass(slots=True)
class HistorySlot:
    """`number` is its time in slots; `ms` the sum of its whole answers."""

    number: int
    ok: int = 0
    failed: int = 0
    ms: float = 0.0


@dataclass(slots=True)
class History:
    """A ring of slots. A slot in which nothing ended takes no place."""

    slots: deque[HistorySlot] = field(default_factory=lambda: deque(maxlen=SLOTS))

    def note(self, now: float, *, ok: int = 0, failed: int = 0, ms: float = 0.0) -> None:
        """Count calls that ended now, in monotonic seconds."""
        number = int(now // SLOT_SECONDS)
        if not self.slots or self.slots[-1].number < number:
            self.slots.append(HistorySlot(number))
        slot = self.slots[-1]
        slot.ok += ok
        slot.failed += failed
        slot.ms += ms

    def series(self, now: float) -> Series:
        """Return `ok`, `failed` and `ms` of each slot, up to this one, which has only begun.

        Empty slots before the first are left out.
        """
        newest = int(now // SLOT_SECONDS)
        seen = {slot.number: slot for slot in self.slots if newest - SLOTS < slot.number <= newest}
        span = [seen.get(number, _NOTHING) for number in range(min(seen, default=newest + 1), newest + 1)]
        return {
            "ok": [slot.ok for slot in span],
            "failed": [slot.failed for slot in span],
            "ms": [int(slot.ms) for slot in span],
        }


_NOTHING = HistorySlot(0)
