"""One span, ready to be written, and what may stand in it: short words and figures, no content. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deployments.telemetry.trace_context import Place

LONGEST = 200  # characters of a text
_MOST = 2**63  # what an integer must stay below, on either side
Value = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened in a span."""

    name: str
    at: int  # nanoseconds since the epoch, as all times here
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    """`error` says in words of ours why it failed, if it did."""

    name: str
    kind: Literal["server", "client", "internal"]
    place: Place
    began: int
    ended: int
    attributes: Mapping[str, Value]
    moments: tuple[Moment, ...] = ()
    error: str | None = None


def tidy(attributes: Mapping[str, Any]) -> dict[str, Value]:
    """Without what is not known, and without what can't be written: one bad value would take its batch with it."""
    return {name: fit for name, value in attributes.items() if (fit := _fit(value)) is not None}


def _fit(value: Any) -> Value | None:
    match value:
        case bool() | float():
            return value
        case int():
            return value if -_MOST <= value < _MOST else None
        case str():
            return _text(value)
        case list() | tuple():
            return tuple(_text(item) for item in value if isinstance(item, str)) or None
    return None


def _text(value: str) -> str:
    return value[:LONGEST].encode(errors="replace").decode()


def nanoseconds(ms: float) -> int:
    return int(ms * 1e6)
