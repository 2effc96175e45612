"""What requests and their attempts add to the figures of the minute in which the request began. Pure.

They are kept for two days, for a picture of the last hour and the last day. Times are counted in buckets, each a tenth
wider than the one before: so a percentile over any span is a sum of counts, and right to 5 %.

Each row adds by itself. What has become another is taken out as it was and put in as it is, so that the figures are
exact whatever comes twice, late, or in another order.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.ledger.rollup import add_figures, bounded
from actors.ledger.rows import AttemptRow, RequestRow

SLOT_MS = 60_000
FIGURES_OF_A_SLOT = (
    *("requests", "answered", "failed_over"),
    *("attempts", "failures", "tokens_in", "tokens_out", "cost", "abandoned_cost"),
)
MEASURES = ("first", "added", "whole")  # words of stores
KEPT_MS = 2 * 86_400_000

_RATIO, _LEAST_MS = 1.1, 0.1
_SCALE = 1 / math.log(_RATIO)
_LAST_BUCKET = 250  # of 25 days

Figures = tuple[int, int, int, int, int, int, int, int, int]


def bucket_of(ms: float) -> int:
    """Return the bucket of a time. Frozen: stores hold it."""
    return 0 if ms < _LEAST_MS else min(1 + int(math.log(ms / _LEAST_MS) * _SCALE), _LAST_BUCKET)


def ms_of(bucket: int) -> float:
    """Return the middle of a bucket, in milliseconds: no time in it is farther away than 5 %, or 0.1 ms."""
    return 0.0 if bucket <= 0 else float(f"{_LEAST_MS * _RATIO ** (bucket - 0.5):.4g}")


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the time that so great a share of them took at most, in milliseconds; None without any."""
    rank = math.ceil(share * sum(counts.values()))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0 < counts[bucket]:
            return ms_of(bucket)
    return None


@dataclass(slots=True)
class Slots:
    """What rows add to the slots: figures by slot, and counts by slot, measure and bucket."""

    figures: dict[int, list[int]] = field(default_factory=dict)
    times: dict[tuple[int, str, int], int] = field(default_factory=dict)

    def move(self, before: RequestRow | AttemptRow | None, after: RequestRow | AttemptRow) -> None:
        """Take out what a row was, if it was there, and put in what it is."""
        if before is not None:
            self._add(before, -1)
        self._add(after, 1)

    def _add(self, row: RequestRow | AttemptRow, sign: int) -> None:
        if isinstance(row, RequestRow):
            slot = row.began_at // SLOT_MS
            figures = _of_request(row)
            for measure, ms in _times_of(row):
                name = slot, measure, bucket_of(ms)
                self.times[name] = self.times.get(name, 0) + sign
        else:
            slot, figures = row.asked_at // SLOT_MS, _of_attempt(row)
        add_figures(self.figures, slot, figures, sign)

    def lines(self) -> list[tuple[int, ...]]:
        """Return what is to be added to rows of the slots, in the order of their columns."""
        return [(slot, *bounded(total)) for slot, total in self.figures.items() if any(total)]

    def lines_of_times(self) -> list[tuple[int, str, int, int]]:
        """Return what is to be added to the counts of times."""
        return [(*name, number) for name, number in self.times.items() if number]


def _of_request(row: RequestRow) -> Figures:
    return 1, int(row.outcome == "ok"), int(row.failed_over > 0), 0, 0, 0, 0, 0, 0


def _of_attempt(row: AttemptRow) -> Figures:
    settled, cost = row.state == "settled", row.cost or 0
    answer = settled and row.kind == "ok"
    failed = settled and row.kind not in ("ok", "cancelled", None)
    abandoned = 0 if answer or row.state == "open" else cost
    return 0, 0, 0, 1, int(failed), row.tokens_in, row.tokens_out, cost, abandoned


def _times_of(row: RequestRow) -> list[tuple[str, float]]:
    """Return what is known of a request's times: the first content of a stream, our part of it, a whole answer."""
    times: list[tuple[str, float]] = []
    if row.stream and row.first_ms is not None:
        times.append(("first", row.first_ms))
    if row.added_ms is not None:
        times.append(("added", row.added_ms))
    if row.outcome == "ok" and row.ended_at is not None:
        times.append(("whole", row.ended_at - row.began_at))
    return times
