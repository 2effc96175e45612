"""When one call had its connection and its first content, as the replica beside the provider sees it.

The transports note the connection themselves, wherever a call's work goes on: a call is what its context says.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Timing:
    """Seconds since the call began. `connected` stays None where a connection was used again.

    Where traces are on, `trace` are the headers for a server of one's own that takes part in the call's trace,
    `peer` is whom the transport turned to, and `model` who answered, as the provider itself says.
    """

    began: float = field(default_factory=time.perf_counter)
    connected: float | None = None
    first: float | None = None
    peer: tuple[str, int] | None = None
    model: str | None = None
    trace: Mapping[str, str] | None = None

    def connects(self) -> None:
        """A new connection is there, TLS and all; of several the last counts."""
        self.connected = time.perf_counter() - self.began

    def begins(self) -> None:
        """Its first content is there."""
        if self.first is None:
            self.first = time.perf_counter() - self.began

    def told(self) -> dict[str, float]:
        """Milliseconds: `connect_ms` and `first_ms` where there is one, and `ms` until now."""
        told = {"ms": time.perf_counter() - self.began}
        if self.connected is not None:
            told["connect_ms"] = self.connected
        if self.first is not None:
            told["first_ms"] = self.first
        return {name: round(seconds * 1000, 2) for name, seconds in told.items()}


_CURRENT: ContextVar[Timing | None] = ContextVar("timing", default=None)


def timed() -> Timing:
    """Begin to time a call, for all that happens in this context."""
    timing = Timing()
    _CURRENT.set(timing)
    return timing


def current() -> Timing | None:
    return _CURRENT.get()


def answered_by(model: Any) -> None:
    if (timing := _CURRENT.get()) is not None and timing.trace is not None and isinstance(model, str):
        timing.model = model


def turned_to(host: str | None, port: int | None) -> None:
    if (timing := _CURRENT.get()) is not None and timing.trace is not None and host and port:
        timing.peer = host, port


def trace_headers() -> Mapping[str, str] | None:
    """What a server of one's own needs to go on with the call's trace."""
    return None if (timing := _CURRENT.get()) is None else timing.trace
