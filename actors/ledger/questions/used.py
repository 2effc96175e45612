"""What has been used of each limit: the limits that have names, and those of everybody who was seen this month. Pure.

The figures are the counters of the ledger's writer, which the limits themselves go by. Another thread may move them
meanwhile: each figure is read at once.
"""

import math
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from heapq import nlargest
from typing import Any

from actors.ledger.budget import MINUTE, Counters, Limit, Limits
from actors.ledger.messages import QuestionTooLong
from actors.ledger.rows import NANOS, month_of

MOST_OF_EACH = 1000  # subjects without a limit of their own

Used = dict[str, Any]


def limits_used(
    limits: Limits,
    counters: Counters,
    seen: Collection[str],
    now: int,
    only: Collection[str] | None = None,
    until: float = math.inf,
) -> list[Used]:
    """Return each limit with what was used of it, the highest share first. `seen` are the subjects of this month.

    `only` these subjects are asked for, seen or not; None is all. Money is US dollars. `now` is milliseconds. Raises
    QuestionTooLong at `until` (monotonic).
    """
    seen = seen if only is None else only
    own = {subject for subject in _named(limits, seen) if only is None or subject in only}
    named = [used for subject in own for used in _of(limits, counters, subject, now)]
    others = (
        used for subject in _until(seen, until) if subject not in own for used in _of(limits, counters, subject, now)
    )
    return sorted([*named, *nlargest(MOST_OF_EACH, others, key=_rank)], key=_rank, reverse=True)


def _until(subjects: Collection[str], until: float) -> Iterator[str]:
    for number, subject in enumerate(subjects):
        if number % 1000 == 999 and time.monotonic() >= until:
            raise QuestionTooLong("the ledger has too many subjects for one look at their limits")
        yield subject


def _rank(used: Used) -> tuple[float, str]:
    return used["used"] / used["most"] if used["most"] else 1.0, used["subject"]


def _named(limits: Limits, seen: Collection[str]) -> Iterator[str]:
    """Yield the subjects that have a limit of their own. A key that is named without its tenant may be several."""
    short = {subject for subject in limits.subjects if subject.startswith("key:") and ":" not in subject[4:]}
    several: dict[str, list[str]] = {subject: [] for subject in short}
    for subject in seen if short else ():
        if subject not in limits.subjects and (name := _short(subject)) in several:
            several[name].append(subject)
    for subject in limits.subjects:
        yield from sorted(several.get(subject, [])) or [subject]


def _short(subject: str) -> str | None:
    sort, _, name = subject.partition(":")
    return f"key:{name.rpartition(':')[2]}" if sort == "key" else None


def _of(limits: Limits, counters: Counters, subject: str, now: int) -> Iterator[Used]:
    limit = limits.of(subject)
    for name, most in _amounts(limit) if limit is not None else ():
        of_month = name == "monthly_cost"
        used = counters.used(subject, name, month_of(now) if of_month else now // MINUTE)
        period = month_of(now) if of_month else _minute(now)
        unit = NANOS if of_month else 1
        yield {
            **{"subject": subject, "limit": name, "period": period},
            **{"most": most / unit if of_month else most, "used": used / unit if of_month else used},
            "share": min(1.0, max(0.0, used / most)) if most else 1.0,
        }


def _amounts(limit: Limit) -> Iterator[tuple[str, int]]:
    for name in ("monthly_cost", "requests_per_minute", "tokens_per_minute"):
        if (most := getattr(limit, name)) is not None:
            yield name, most


def _minute(now: int) -> str:
    return datetime.fromtimestamp(now // MINUTE * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def as_words(limits: Limits) -> Mapping[str, Mapping[str, list[int | None]]]:
    """Return limits as they travel to the ledger."""
    return {part: {name: _amounts_of(limit) for name, limit in getattr(limits, part).items()} for part in _PARTS}


def from_words(words: Mapping[str, Mapping[str, list[int | None]]]) -> Limits:
    """Return limits as they have travelled."""
    subjects, each = ({name: Limit(*amounts) for name, amounts in words[part].items()} for part in _PARTS)
    return Limits(subjects, each)


_PARTS = ("subjects", "each")


def _amounts_of(limit: Limit) -> list[int | None]:
    return [limit.requests_per_minute, limit.tokens_per_minute, limit.monthly_cost]
