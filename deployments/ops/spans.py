"""Spans of time as operators write them in commands: `90d`, `12h`, `30m`, `45s`. Pure."""

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def span_of(text: str) -> timedelta | None:
    """Return the span; None if the text is none."""
    span = re.fullmatch(r"(\d{1,5})([dhms])", text)
    return None if span is None else timedelta(**{_UNITS[span[2]]: int(span[1])})
