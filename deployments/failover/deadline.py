"""The time that a request has, all its attempts together. Pure."""

import asyncio
from dataclasses import dataclass, replace

ANEW_SECONDS = 30.0  # a client that has a part of an answer waits so long at most for its next one


@dataclass(frozen=True, slots=True)
class Deadline:
    """By when a request must be answered, on the event loop's clock.

    Attributes:
        at: by when the answer, or the first content of a stream, must be there.
        total: seconds that the request was given.
        explicit: the caller named it, so it ends streams too.
        stream_end: when it ends a stream that flows; None: at `at`.
    """

    at: float
    total: float
    explicit: bool
    stream_end: float | None = None

    @property
    def end(self) -> float:
        """When the caller's own deadline ends a stream that flows."""
        return self.at if self.stream_end is None else self.stream_end

    def answer_within(self, seconds: float) -> "Deadline":
        """Return the deadline with the first content of the answer due within `seconds` from now at the latest."""
        latest = asyncio.get_running_loop().time() + seconds
        return self if self.at <= latest else replace(self, at=latest, stream_end=self.end)

    def anew(self) -> "Deadline":
        """Return the deadline of another provider that begins anew in mid-stream. Only a caller's own one ends it."""
        now = asyncio.get_running_loop().time()
        at = now + min(self.total, ANEW_SECONDS)
        return replace(self, at=min(at, self.end) if self.explicit else at)

    @classmethod
    def after(cls, seconds: float, *, explicit: bool) -> "Deadline":
        return cls(asyncio.get_running_loop().time() + seconds, seconds, explicit)
