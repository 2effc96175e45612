"""Which requests a list is asked for, and from where on. Pure: an ingress replica and the ledger read it alike.

The newest comes first. A cursor names the last request that was looked at: `BEGAN_AT-REQUEST_ID`, and without an id
all that began at that instant. A page looks at so many requests at most, so it may be short, or empty, and have a next.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.ledger.messages import UnknownQuestion, Viewer
from actors.ledger.rows import LARGEST, clean

# Each name that is compared as it is, with the column of `ledger_requests`.
NAMED = {"provider": "provider", "model": "model", "tenant": "tenant", "agent": "agent", "key": "key_name"}
NAMED |= {"row": "model_row"}
FILTERS = ("outcome", *NAMED, "failed_over", "slower_than_ms", "since", "until")
USUAL_LIMIT, MOST_LIMIT = 50, 200
MOST_EXAMINED = 50_000  # requests, for one page

Position = tuple[int, str]  # when a request began, and its id
_CURSOR = re.compile(r"(-?\d{1,16})-(.{0,256})", re.DOTALL)


class WrongFilter(UnknownQuestion):
    """A filter, a cursor or a limit is none. `name` says which."""

    def __init__(self, message: str, name: str):
        super().__init__(message, name)
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page of requests is asked by. Instants are milliseconds; `since` is included, `until` and `before` not."""

    named: Mapping[str, str]
    outcome: str | None = None
    failed_over: bool = False
    slower_than_ms: float | None = None
    since: int | None = None
    until: int | None = None
    before: Position | None = None
    limit: int = USUAL_LIMIT
    viewer: Viewer | None = None

    def takes(self, head: Mapping[str, Any]) -> bool:
        """Return whether a request is asked for. `head` is one of deployments/telemetry/explain.py."""
        at, ms = head["began_at"], head["ms"]
        return (
            all(head[name] == value for name, value in self.named.items())
            and (self.outcome is None or _has_ended(head["outcome"], self.outcome))
            and (not self.failed_over or bool(head["failed_over"]))
            and (self.slower_than_ms is None or (ms is not None and ms > self.slower_than_ms))
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
        )


def _has_ended(outcome: str, wanted: str) -> bool:
    return outcome not in ("ok", "cancelled", "open") if wanted == "failed" else outcome == wanted


def asked(
    filters: Mapping[str, Any],
    before: str | None = None,
    limit: int | str | None = None,
    viewer: Viewer | None = None,
) -> Asked:
    """Return what is asked; values may be texts, as in a query. `since` and `until` are seconds since the epoch.

    Raises WrongFilter.
    """
    if (unknown := next((name for name in filters if name not in FILTERS), None)) is not None:
        raise WrongFilter(f"no such filter: {unknown} (known: {', '.join(FILTERS)})", unknown)
    given = {name: value for name, value in filters.items() if value is not None}
    for name in ("outcome", *NAMED):
        text = given.get(name, "")
        if not isinstance(text, str) or clean(text) != text:
            raise WrongFilter(f"{name} is a text, without NUL or half a surrogate pair", name)
    slower = given.get("slower_than_ms")
    return Asked(
        {name: given[name] for name in NAMED if name in given},
        given.get("outcome"),
        _flag(given.get("failed_over", False)),
        None if slower is None else _number(slower, "slower_than_ms"),
        _instant(given, "since"),
        _instant(given, "until"),
        position_of(before),
        _limit(limit),
        viewer,
    )


def position_of(cursor: str | None) -> Position | None:
    """Return where a page begins. Raises WrongFilter."""
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None or abs(int(found[1])) > LARGEST or clean(found[2]) != found[2]:
        raise WrongFilter("before is the `next` of another page", "before")
    return int(found[1]), found[2]


def cursor_of(position: Position) -> str:
    return f"{position[0]}-{position[1]}"


def _flag(value: Any) -> bool:
    known = {True: True, False: False, "true": True, "false": False}
    if not isinstance(value, bool | str) or value not in known:
        raise WrongFilter("failed_over is true or false", "failed_over")
    return known[value]


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not abs(number) <= LARGEST / 1000:  # NaN is not
        raise WrongFilter(f"{name} is a number", name)
    return number


def _instant(given: Mapping[str, Any], name: str) -> int | None:
    return math.ceil(_number(given[name], name) * 1000) if name in given else None


def _limit(value: int | str | None) -> int:
    if value is None:
        return USUAL_LIMIT
    number = _number(value, "limit")
    if number != int(number) or number < 1:
        raise WrongFilter("limit is a whole number from 1 on", "limit")
    return min(int(number), MOST_LIMIT)
