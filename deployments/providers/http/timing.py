"""When one call had its connection and its first content, measured in the provider's replica.

Transports record timings through a context variable, so helpers and tasks of a call need no extra argument.
"""

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from deployments.openai_api.json_types import JsonValue

LONGEST_MODEL = 200  # characters of a name that a provider gave; rows of the ledger have it


class UpstreamTiming(TypedDict):
    """Milliseconds since the call began, and more, as they cross the process. What is not known has no key."""

    ms: float  # until the answer's end
    connect_ms: NotRequired[float]
    first_ms: NotRequired[float]
    again: NotRequired[int]  # how often the server was asked again in other words
    model: NotRequired[str]  # as the provider called it, which may not be what it was asked for
    streamed: NotRequired[bool]  # a whole answer that was asked for as a stream


@dataclass(slots=True)
class Timing:
    """Seconds since the call began. `connected` stays None if the connection was reused.

    `model` is the name that the provider gave its model. Where traces are on, `trace` holds the headers for a server of
    one's own that takes part in the call's trace, and `peer` is the host and the port that the transport connected to.
    """

    began: float = field(default_factory=time.perf_counter)
    connected: float | None = None
    first: float | None = None
    peer: tuple[str, int] | None = None
    model: str | None = None
    trace: Mapping[str, str] | None = None
    again: int = 0
    sent: bool = False  # whether the provider was asked anything
    streamed: bool = False  # whether a whole answer comes, or came, as a stream
    joins: bool = False  # whether the answer under way is a stream that is made a whole answer
    on_piece: Callable[[], None] | None = None

    def note_connected(self) -> None:
        """Record a new connection, after its TLS handshake. Of several the last counts."""
        self.connected = time.perf_counter() - self.began

    def note_content(self) -> None:
        """Record content; the first counts."""
        if self.first is None:
            self.first = time.perf_counter() - self.began

    def as_dict(self) -> UpstreamTiming:
        """Return milliseconds, rounded: `ms` until now, and `connect_ms` and `first_ms` where they were measured."""
        timing: UpstreamTiming = {"ms": _milliseconds(time.perf_counter() - self.began)}
        if self.connected is not None:
            timing["connect_ms"] = _milliseconds(self.connected)
        if self.first is not None:
            timing["first_ms"] = _milliseconds(self.first)
        if self.again:
            timing["again"] = self.again
        if self.model is not None:
            timing["model"] = self.model
        if self.streamed:
            timing["streamed"] = True
        return timing


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


_CURRENT: ContextVar[Timing | None] = ContextVar("timing", default=None)


def begin_timing() -> Timing:
    """Begin to time a call. The timing is current in this context and in the tasks that it starts."""
    timing = Timing()
    _CURRENT.set(timing)
    return timing


def current_timing() -> Timing | None:
    return _CURRENT.get()


def note_sent() -> None:
    """Record that the provider is asked: an error before that is never its fault."""
    if (timing := _CURRENT.get()) is not None:
        timing.sent = True


def note_again() -> None:
    """Record that the server is asked once more."""
    if (timing := _CURRENT.get()) is not None:
        timing.again += 1


def note_joining(*, joins: bool) -> None:
    """Record whether the answer that is asked for next is a stream that is made a whole answer."""
    if (timing := _CURRENT.get()) is not None:
        timing.joins = joins


def note_piece() -> None:
    """Record that a piece of a whole answer has come as a part of a stream."""
    if (timing := _CURRENT.get()) is not None:
        timing.streamed = True
        timing.note_content()
        if timing.on_piece is not None:
            timing.on_piece()


def note_model(model: JsonValue) -> None:
    """Record the model's name as the provider gave it. What can't be a name is ignored."""
    if (timing := _CURRENT.get()) is not None and isinstance(model, str):
        timing.model = model[:LONGEST_MODEL] if model.isprintable() else None


def note_peer(host: str | None, port: int | None) -> None:
    """Record the host and the port that a transport connects to."""
    if (timing := _CURRENT.get()) is not None and timing.trace is not None and host and port:
        timing.peer = host, port


def trace_headers() -> Mapping[str, str] | None:
    """Return the headers by which a server of one's own takes part in the call's trace; None without traces."""
    return None if (timing := _CURRENT.get()) is None else timing.trace
