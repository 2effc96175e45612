"""The time that a request has, all its attempts together. Pure."""

import asyncio

from msgspec import Struct, structs

PATIENCE = 0.95  # of what a client waits: the rest is for the way back
ANEW_SECONDS = 30.0  # a client that has a part of an answer waits so long at most for its next one


class Deadline(Struct, frozen=True):
    """By when a request must be answered, on the event loop's clock.

    Attributes:
        at: by when the answer, or the first content of a stream, must be there.
        total: seconds that the request was given.
        explicit: the caller named it, so it ends streams too.
        stream_end: when it ends a stream that flows; None: at `at`.
        patience_end: when its client stops to wait for a whole answer, if it says so. That ends nothing: the time is
            shared so that the next targets still have some of it.
    """

    at: float
    total: float
    explicit: bool
    stream_end: float | None = None
    patience_end: float | None = None

    @property
    def end(self) -> float:
        """When the caller's own deadline ends a stream that flows."""
        return self.at if self.stream_end is None else self.stream_end

    def hurries(self, tiers: int) -> bool:
        """Whether the caller's own word limits a target: then one that is too slow for it may be well."""
        return self.explicit or (tiers > 1 and self.patience_end is not None)

    def left_for(self, tiers: int, now: float) -> float:
        """Return the seconds that so many targets share: those in which the client waits, but for the last target."""
        end = self.patience_end
        return max(0.0, (self.at if tiers <= 1 or end is None or end <= now else min(self.at, end)) - now)

    def with_patience(self, began: float, seconds: float) -> "Deadline":
        """Return the deadline of a whole answer for which its client waits so long, from when it began to."""
        end = began + PATIENCE * seconds
        return structs.replace(self, patience_end=end) if began < end < self.at else self

    def answer_within(self, seconds: float, now: float) -> "Deadline":
        """Return the deadline with the first content of the answer due within `seconds` from now at the latest."""
        latest = now + seconds
        return self if self.at <= latest else structs.replace(self, at=latest, stream_end=self.end)

    def anew(self) -> "Deadline":
        """Return the deadline of another provider that begins anew in mid-stream. Only a caller's own one ends it."""
        now = asyncio.get_running_loop().time()
        at = now + min(self.total, ANEW_SECONDS)
        return structs.replace(self, at=min(at, self.end) if self.explicit else at)

    @classmethod
    def after(cls, seconds: float, *, explicit: bool, now: float | None = None) -> "Deadline":
        return cls((asyncio.get_running_loop().time() if now is None else now) + seconds, seconds, explicit)
