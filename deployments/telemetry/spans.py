"""One span, ready to be exported, and its attributes: short words and figures, no content. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deployments.openai_api.json_types import JsonValue
from deployments.telemetry.trace_context import SpanContext

LONGEST_ATTRIBUTE = 200  # characters of a text
_INT64 = 2**63  # OTLP's integers are signed and have 64 bits
Value = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span. `at` is nanoseconds since the epoch."""

    name: str
    at: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Attributes:
        began, ended: nanoseconds since the epoch.
        error: why it failed, in words of ours; None if it did not fail.
    """

    name: str
    kind: Literal["server", "client", "internal"]
    context: SpanContext
    began: int
    ended: int
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...] = ()
    error: str | None = None


def clean_attributes(attributes: Mapping[str, JsonValue]) -> dict[str, Value]:
    """Return the attributes without unknown values, and without those that OTLP can't hold.

    One bad value would make the exporter lose its whole batch.
    """
    return {name: clean for name, value in attributes.items() if (clean := _clean_value(value)) is not None}


def _clean_value(value: JsonValue) -> Value | None:
    match value:
        case bool() | float():
            return value
        case int():
            return value if -_INT64 <= value < _INT64 else None
        case str():
            return _clean_text(value)
        case list() | tuple():
            return tuple(_clean_text(item) for item in value if isinstance(item, str)) or None
    return None


def _clean_text(value: str) -> str:
    return value[:LONGEST_ATTRIBUTE].encode(errors="replace").decode()


def nanoseconds(ms: float) -> int:
    return int(ms * 1e6)
