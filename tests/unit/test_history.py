"""What a target did lately, slot by slot."""

import json

from actors.breaker.circuit import Policy
from actors.breaker.history import SLOT_SECONDS, SLOTS, History
from actors.breaker.registry import Registry

NOTHING = {"ok": [], "failed": [], "ms": []}


def test_calls_of_one_slot_are_summed_and_the_newest_slot_is_the_last() -> None:
    trend = History()
    trend.note(1000.0, ok=2, ms=30.0)
    trend.note(1004.9, failed=1)
    trend.note(1015.0, ok=1, ms=5.0)
    assert trend.series(1019.0) == {"ok": [2, 0, 0, 1], "failed": [1, 0, 0, 0], "ms": [30.0, 0, 0, 5.0]}


def test_time_without_calls_moves_the_series_along() -> None:
    trend = History()
    trend.note(1000.0, ok=1)
    assert trend.series(1010.0)["ok"] == [1, 0, 0]


def test_what_is_older_than_the_ring_is_forgotten() -> None:
    trend = History()
    for slot in range(3 * SLOTS):
        trend.note(slot * SLOT_SECONDS, ok=slot)
    newest = (3 * SLOTS - 1) * SLOT_SECONDS
    assert trend.series(newest)["ok"] == list(range(2 * SLOTS, 3 * SLOTS))
    assert len(trend.series(newest + 10 * SLOT_SECONDS)["ok"]) == SLOTS
    assert trend.series(newest + SLOTS * SLOT_SECONDS) == NOTHING
    assert len(trend.slots) == SLOTS


def test_a_target_that_did_nothing_costs_nothing() -> None:
    assert History().series(5000.0) == NOTHING


def board_with_traffic() -> Registry:
    board = Registry(Policy())
    board.expect(["aws/haiku", "openai/gpt"])
    good = {"target": "aws/haiku", "epoch": 0, "verdict": "ok", "kind": "ok", "count": 3, "ms": 90.0}
    for item in (
        good,
        {**good, "verdict": "neutral", "kind": "bad_request"},
        {**good, "verdict": "started", "kind": "started"},
        {**good, "verdict": "throttled", "kind": "throttled", "count": 1},
    ):
        board.report(10.0, item)
    return board


def test_the_board_notes_what_it_counts() -> None:
    assert board_with_traffic().histories(12.0) == {
        "aws/haiku": {"ok": [3], "failed": [1], "ms": [90.0]},
        "openai/gpt": NOTHING,
    }


def test_a_reset_forgets_it_and_no_checkpoint_has_it() -> None:
    board = board_with_traffic()
    assert "trend" not in json.dumps(board.checkpoint(12.0))
    board.command(12.0, "reset", "aws")
    assert board.histories(12.0)["aws/haiku"] == NOTHING
