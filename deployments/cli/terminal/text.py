"""Words and figures as the terminal shows them. Pure.

What providers, users and proxies have written may hold codes that a terminal obeys: `clean` takes them out, and all
that is printed passes through it.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

NOTHING = "-"  # what is not known, or not there
_BLOCKS = "▁▂▃▄▅▆▇█"
_SUBSTITUTE = "\ufffd"
# Controls, formats such as those that turn the direction of a text, halves of surrogate pairs, ends of lines.
_ODD = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_BREAKS = re.compile(r" *[\t\n\v\f\r\x85\u2028\u2029]\s*")
_GOOD, _WARN, _BAD = "green", "yellow", "red"
_STYLES = {
    **dict.fromkeys(("healthy", "ok", "closed", "up", "reachable"), _GOOD),
    **dict.fromkeys(
        (
            "degraded",
            "resting",
            "half-open",
            "probing",
            "ramping",
            "slow",
            "silent",
            "isolated",
            "warning",
            "cancelled",
        ),
        _WARN,
    ),
    **dict.fromkeys(("unhealthy", "open", "away", "down", "critical"), _BAD),
}


def clean(value: object) -> str:
    """Return a text on one line, without any sign that a terminal would obey."""
    text = _BREAKS.sub(" ", str(value))
    return "".join(_SUBSTITUTE if unicodedata.category(sign) in _ODD else sign for sign in text)


def harmless_json(text: str) -> str:
    """Return JSON of the same meaning without any sign that a terminal would obey. Such signs are in strings only."""
    return "".join(_escaped(sign) if _is_odd(sign) else sign for sign in text)


def harmless_lines(text: str) -> str:
    """Return lines without any sign that a terminal would obey."""
    return "".join(_SUBSTITUTE if _is_odd(sign) else sign for sign in text.replace("\r\n", "\n"))


def _is_odd(sign: str) -> bool:
    return sign not in "\t\n\r" and unicodedata.category(sign) in _ODD


def _escaped(sign: str) -> str:
    halves = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at : at + 2].hex()}" for at in range(0, len(halves), 2))


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def style_of(word: str) -> str:
    """Return the colour of a state or an outcome; an empty one if it has none."""
    return _STYLES.get(word.removeprefix("partly "), "")


def number(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def money(value: float | None) -> str:
    """Return US dollars, with as many digits as a small sum needs."""
    if value is None:
        return "unknown"
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    return f"${value:.4f}" if abs(value) >= 0.01 else f"${value:.2g}" if abs(value) < 0.0001 else f"${value:.6f}"


def millis(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value >= 60_000:
        return seconds(value / 1000)
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def seconds(value: float | None) -> str:
    """Return a span in its two largest units."""
    if value is None:
        return NOTHING
    left = round(value)
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def percent(value: float | None) -> str:
    """Return a percentage as the server tells it, from 0 to 100."""
    return NOTHING if value is None else f"{value:.1f} %"


def share(value: float | None) -> str:
    """Return a share from 0 to 1 as a percentage."""
    return NOTHING if value is None else f"{value:.0%}".replace("%", " %")


def instant(value: float | None) -> str:
    """Return an instant, in seconds since the epoch, as UTC."""
    if value is None:
        return NOTHING
    try:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return number(value)


def since(value: object) -> str:
    """Return an instant that is told as seconds, or as a text that is told as it is."""
    return instant(value) if isinstance(value, int | float) else NOTHING if value is None else str(value)


def sparkline(values: Sequence[float]) -> str:
    """Return a bar for each value; the largest is a whole block, and none is a dot."""
    most = max(values, default=0)
    return "".join("." if value <= 0 else _BLOCKS[min(7, int(8 * value / most))] for value in values)
