"""What was asked in the last hour and in the last day, slot by slot, and how long it took. Reads only.

A slot of an hour is one minute of the store; one of a day is thirty of them.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from actors.ledger.rows import NANOS
from actors.ledger.slots import FIGURES_OF_A_SLOT, MEASURES, SLOT_MS, percentile
from actors.ledger.store import QUESTION_SECONDS, LedgerStore
from actors.ledger.tables import SLOTS, TIMES

SPANS = {"hour": (1, 60), "day": (30, 48)}  # minutes of a slot, and slots
_DOLLARS = {"cost": "cost_usd", "abandoned_cost": "abandoned_cost_usd"}
_NAMES = {"first": "first_token_ms", "added": "added_ms", "whole": "whole_ms"}

Figures = Sequence[int]


def traffic(store: LedgerStore, now: int, until: float | None = None) -> dict[str, Any]:
    """Return both spans up to `now`, which is milliseconds. Raises QuestionTooLong at `until` (monotonic)."""
    with store.answering(time.monotonic() + QUESTION_SECONDS if until is None else until) as connection:
        spans = {name: _span(connection, now // SLOT_MS, *span) for name, span in SPANS.items()}
    return {"at": now / 1000, **spans}


def _span(connection: Connection, now: int, minutes: int, number: int) -> dict[str, Any]:
    last = now // minutes
    first = (last - number + 1) * minutes
    within = SLOTS.c.slot.between(first, now)
    found = connection.execute(select(SLOTS.c.slot, *(SLOTS.c[name] for name in FIGURES_OF_A_SLOT)).where(within))
    sums = [[0] * len(FIGURES_OF_A_SLOT) for _ in range(number)]
    for slot, *figures in found:
        total = sums[(slot - first) // minutes]
        total[:] = [old + int(more) for old, more in zip(total, figures, strict=True)]
    begins = range(first, (last + 1) * minutes, minutes)
    slots = [{"at": at * SLOT_MS // 1000, **_shown(figures)} for at, figures in zip(begins, sums, strict=True)]
    totals = _shown([sum(column) for column in zip(*sums, strict=True)])
    times = _times(connection, first, now)
    return {"slot_seconds": minutes * SLOT_MS // 1000, "slots": slots, "totals": totals} | {
        name: _percentiles(times.get(measure, {})) for measure, name in _NAMES.items()
    }


def _shown(figures: Figures) -> dict[str, float]:
    # An actor of an earlier version that writes to the same store counts in no slot. This one may take out what it was.
    of = {name: max(0, value) for name, value in zip(FIGURES_OF_A_SLOT, figures, strict=True)}
    return {_DOLLARS.get(name, name): value / NANOS if name in _DOLLARS else value for name, value in of.items()}


def _times(connection: Connection, first: int, last: int) -> Mapping[str, dict[int, int]]:
    """Return how many requests took so long: by measure and bucket."""
    whose = (TIMES.c.measure, TIMES.c.bucket)
    asked = select(*whose, func.sum(TIMES.c["count"])).where(TIMES.c.slot.between(first, last)).group_by(*whose)
    counts: dict[str, dict[int, int]] = {measure: {} for measure in MEASURES}
    for measure, bucket, number in connection.execute(asked):
        if number > 0:
            counts.setdefault(measure, {})[bucket] = int(number)
    return counts


def _percentiles(counts: Mapping[int, int]) -> dict[str, float | int | None]:
    return {"p50": percentile(counts, 0.5), "p95": percentile(counts, 0.95), "count": sum(counts.values())}
