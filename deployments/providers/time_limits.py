"""The time limits of one call. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits in seconds. `total` ends a call without a stream, and never a stream."""

    connect: float = 3.0
    first_token: float = 10.0
    idle: float = 15.0
    total: float = 30.0
