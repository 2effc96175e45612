"""Spans and instants as an operator writes them: `30s`, `12h`, `7d`, `2026-11-01`. Pure."""

import re
from datetime import UTC, datetime, timedelta

from deployments.ops.spans import span_of

SPANS = "45s, 30m, 12h or 7d"
_MILLISECONDS = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|)")


def span(text: str) -> timedelta:
    """Return a span of time. Raises ValueError with a sentence."""
    if (found := span_of(text.strip().lower())) is None:
        raise ValueError(f"{text!r} is no span of time: write {SPANS}.")
    return found


def milliseconds(text: str) -> float:
    """Return the milliseconds of `800`, `800ms`, `1.5s` or of a span. Raises ValueError with a sentence."""
    if (found := _MILLISECONDS.fullmatch(text.strip().lower())) is not None:
        return float(found[1]) * (1000 if found[2] == "s" else 1)
    try:
        return span(text).total_seconds() * 1000
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 800ms, 1.5s or 2m.") from None


def instant(text: str, now: datetime) -> str:
    """Return an instant as the server reads it: an ISO date as it is, and a span as that much before now.

    Whole days go back to midnight (UTC), so that the ledger can answer from the figures of days. Raises ValueError.
    """
    told = text.strip()
    if (back := span_of(told.lower())) is not None:
        at = (now - back).astimezone(UTC)
        return f"{at:%Y-%m-%d}" if told.lower().endswith("d") else f"{at:%Y-%m-%dT%H:%M:%SZ}"
    try:
        datetime.fromisoformat(told)
    except ValueError:
        raise ValueError(f"{text!r} is no instant: write 7d, 12h, 2026-11-01 or 2026-11-01T09:30.") from None
    return told
