"""One request as lines of text, one below the other, on one scale of time. Pure.

`~` a connection is made, `-` nothing has come yet, `=` the answer comes. It ends with `>` if it was whole, and with `x`
if not. `|` is a moment without length: a target that was skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 48
LEGEND = "~ connecting, - waiting for the first content, = content, > whole, x failed, | skipped"


@dataclass(frozen=True, slots=True)
class Span:
    """Milliseconds since the request began. `connected` and `first` are None where they are not known."""

    begin: float
    end: float
    connected: float | None
    first: float | None
    whole: bool


def span_of(candidate: Mapping[str, Any]) -> Span | None:
    """Return when a candidate was asked; None if it was not."""
    took, begin = candidate.get("ms"), candidate.get("at_ms")
    if took is None or begin is None:
        return None
    connect, first = candidate.get("upstream_connect_ms"), candidate.get("first_token_ms")
    return Span(
        begin,
        begin + took,
        None if connect is None else begin + connect,
        None if first is None else begin + first,
        candidate.get("outcome") == "ok",
    )


def scale_of(candidates: list[Mapping[str, Any]], took: float | None) -> float:
    """Return the milliseconds that the whole width stands for."""
    ends = [span.end for candidate in candidates if (span := span_of(candidate)) is not None]
    return max([took or 0.0, *ends, 1.0])


def bar(candidate: Mapping[str, Any], scale: float, width: int = WIDTH) -> str:
    """Return the line of one candidate, without spaces at its end."""
    span = span_of(candidate)
    if span is None:
        at = candidate.get("at_ms")
        return "" if at is None else " " * _place(at, scale, width) + "|"
    begin, end = _place(span.begin, scale, width), _place(span.end, scale, width)
    signs = [_sign(cell, span, scale, width) for cell in range(begin, end)]
    return " " * begin + "".join(signs) + (">" if span.whole else "x")


def _place(at: float, scale: float, width: int) -> int:
    return min(width - 1, max(0, int(at / scale * width)))


def _sign(cell: int, span: Span, scale: float, width: int) -> str:
    if span.first is not None and cell >= _place(span.first, scale, width):
        return "="
    return "~" if span.connected is not None and cell < _place(span.connected, scale, width) else "-"
