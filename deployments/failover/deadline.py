"""The time that a request has, all its attempts together. Pure."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is on the event loop's clock. `explicit`: the caller named it, so it ends streams too."""

    at: float
    total: float
    explicit: bool

    @classmethod
    def after(cls, seconds: float, *, explicit: bool) -> "Deadline":
        return cls(asyncio.get_running_loop().time() + seconds, seconds, explicit)
