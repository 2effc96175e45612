"""When a credential that expires is fetched again. Pure: instants are arguments, in seconds of the wall clock.

A credential is *held* until it expires, and used until then. Its next fetch is *due* well before that, so the source
may hang or fail for minutes and no call waits. A failed fetch is tried again, later each time.

`share`, from 0 to 1, spreads the fetches of many replicas. It is random in a process and given in a test.
"""

import math
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

T = TypeVar("T")

# botocore calls the last 15 minutes advisory, and Azure and Google keep what they have told for longer.
LEAD = 900.0  # seconds before its end at which a credential is fetched again
LEAD_SHARE = 1 / 3  # of the time that is left, for those that live shortly
LEAST_PAUSE = 1.0  # seconds between two fetches: a source may tell the same credential again
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds after a failed fetch; the pause doubles


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """What a source has told. `expires_at` is in seconds of the wall clock; infinite if it never ends."""

    value: T
    expires_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Schedule(Generic[T]):
    """
    Attributes:
        held: the latest credential; it may have expired.
        fetched_at: when it was told.
        due_at: when the next fetch begins.
        failures: fetches in a row that have failed.
    """

    held: Fresh[T] | None = None
    fetched_at: float = -math.inf
    due_at: float = -math.inf
    failures: int = 0

    def value(self, now: float) -> T | None:
        """Return the credential, None if there is none or it has expired."""
        return self.held.value if self.held is not None and now < self.held.expires_at else None

    def is_due(self, now: float) -> bool:
        return now >= self.due_at

    def after_success(self, now: float, fresh: Fresh[T], share: float) -> "Schedule[T]":
        """Return the schedule with what a fetch has told. A credential that never ends is never due."""
        left = fresh.expires_at - now
        lead = min(LEAD, left * LEAD_SHARE) * (0.8 + 0.2 * share)
        due_at = math.inf if math.isinf(left) else max(fresh.expires_at - lead, now + LEAST_PAUSE)
        return Schedule(fresh, now, due_at)

    def after_failure(self, now: float, share: float) -> "Schedule[T]":
        """Return the schedule after a fetch that failed: what is held stays."""
        pause = min(FIRST_PAUSE * 2**self.failures, LONGEST_PAUSE) * (0.5 + 0.5 * share)
        return replace(self, due_at=now + pause, failures=min(self.failures + 1, 30))
