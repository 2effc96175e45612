"""The time limits of one call, and what it means that one of them is over."""

import asyncio
import contextlib
from collections.abc import Iterator

from msgspec import Struct

from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, failed, stalled

COVER_SECONDS = 1.0  # how long after its own limit a replica that has said nothing counts as gone


class TimeLimits(Struct, frozen=True):
    """Limits in seconds. `total` ends a call without a stream, and never a stream."""

    connect: float = 3.0
    first_token: float = 10.0
    idle: float = 15.0
    total: float = 30.0


_FLOWS = 0.2  # of the whole time: who has sent a piece in that is at work
_LEAD, _LONGEST_LEAD = 0.05, 0.05  # of the time, and seconds: what is told of it arrives before the ingress goes away


class Pieces:
    """The time of a whole answer that an adapter puts together from pieces: tokens, or calls for some texts each.

    While pieces come the provider is at work. If the time is over then, the request asks for more than the time allows,
    and the provider has not failed. `within` are the seconds of its request, and `field` of the request says how many
    pieces there are; None if it asks for no more than usual.
    """

    def __init__(self, limits: TimeLimits, within: float, field: str | None):
        self._now, self._field = asyncio.get_running_loop().time, field
        self._seconds, self._own = min(limits.total, within), within < limits.total
        began = self._now()
        self._until = began + self._seconds - min(_LEAD * self._seconds, _LONGEST_LEAD)
        self._noted_at: float | None = None
        self._needed = 0.0  # seconds for the last piece

    def note(self) -> None:
        """Note that a piece has come."""
        now = self._now()
        self._needed, self._noted_at = now - (now if self._noted_at is None else self._noted_at), now

    def check_time(self) -> None:
        """Raise AttemptFailed if the next piece, which can't be stopped, would come too late."""
        if self._now() + self._needed > self._until:
            raise self._late()

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """End what is inside when its time is over. Raises AttemptFailed: `deadline`, `rejected`, `timeout`."""
        timer = DeadlineTimer()
        try:
            with timer.until(self._until):
                yield
        except TimeoutError:
            if timer.stalled:
                raise stalled() from None
            raise self._late() from None
        finally:
            timer.close()

    @property
    def _flows(self) -> bool:
        return self._noted_at is not None and self._now() - self._noted_at <= _FLOWS * self._seconds

    def _late(self) -> AttemptFailed:
        why = f"the answer was still coming after {self._seconds:g} s"
        if self._own:
            return failed("deadline", why if self._flows else "", content=self._flows)
        if self._flows and self._field is not None:
            return failed("rejected", f"{why}: ask for less in '{self._field}'", status=400, param=self._field)
        return failed("timeout", f"no whole answer within {self._seconds:g} s")
