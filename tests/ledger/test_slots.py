"""The minutes of the last two days against a brute-force oracle, and the bounds of a percentile."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from actors.ledger.questions.traffic import traffic
from actors.ledger.questions.usage import usage
from actors.ledger.rows import LOST, NANOS, SETTLED, Record
from actors.ledger.slots import FIGURES_OF_A_SLOT, KEPT_MS, SLOT_MS, bucket_of, ms_of, percentile
from actors.ledger.store import DAY_MS, LedgerStore
from actors.ledger.tables import SLOTS, TIMES
from tests.ledger.rows import NOON, attempt, opened, request, settled

NAMES = itertools.count()
DAY_BEGAN = NOON // DAY_MS * DAY_MS // 1000  # seconds
ROUND = NOON // 1_800_000 * 1_800_000  # the beginning of a slot of a day


@dataclass(frozen=True)
class Asked:
    """One request as the world knows it. `ends` has each attempt's: ok, cancelled, timeout, open or lost."""

    at: int
    stream: bool
    ends: tuple[str, ...]
    end: str  # its own
    ms: int
    first_ms: float | None
    added_ms: float | None
    failed_over: int
    cost: int | None
    found: bool  # whether what was given up as lost ended otherwise after all


ENDS = st.sampled_from(["ok", "cancelled", "timeout", "open", "lost"])
ASKED = st.builds(
    Asked,
    st.sampled_from([0, 1, 59_999, 60_000, 60_001]).map(lambda off: ROUND + off),
    st.booleans(),
    st.lists(ENDS, max_size=3).map(tuple),
    ENDS,
    st.integers(-1000, 10**7),
    st.none() | st.floats(0, 10**6),
    st.none() | st.floats(0, 100),
    st.integers(0, 1),
    st.none() | st.integers(0, 10**9),
    st.booleans(),
)


def lines(name: str, asked: Asked) -> Iterator[Record]:
    """Yield what is written of a request, each line once."""
    whose: dict[str, Any] = {"began_at": asked.at, "stream": asked.stream}
    for number, end in enumerate(asked.ends, 1):
        target: dict[str, Any] = {"began_at": asked.at + number, "asked_at": asked.at}
        yield Record(request(name, **whose), attempt(name, number, **target))
        used = {"tokens_in": 3, "tokens_out": 2, "cost": asked.cost, "ended_at": asked.at + 9}
        if end == "lost" or asked.found:
            lost = {"version": LOST, "state": "lost", "kind": "lost", "ended_at": asked.at + 8}
            yield Record(request(name, **whose), attempt(name, number, **target, **lost))
        if end not in ("lost", "open"):
            over = {"version": SETTLED, "state": "settled", "kind": end}
            yield Record(request(name, **whose), attempt(name, number, **target, **used, **over))
    yield Record(request(name, **whose))
    if asked.end == "lost" or asked.found:
        lost = {"version": LOST, "state": "lost", "outcome": "lost", "ended_at": asked.at + 8}
        yield Record(request(name, **whose, **lost))
    if asked.end not in ("lost", "open"):
        ended: dict[str, Any] = {"version": SETTLED, "state": "settled", "outcome": asked.end}
        ended |= {"ended_at": asked.at + asked.ms, "first_ms": asked.first_ms, "added_ms": asked.added_ms}
        yield Record(request(name, **whose, **ended, failed_over=asked.failed_over))


def truth(made: Sequence[Asked]) -> tuple[dict[int, list[int]], Counter[tuple[int, str, int]]]:
    """Return the figures of each minute and how often each bucket was met, from the world alone."""
    figures: dict[int, list[int]] = {}
    times: Counter[tuple[int, str, int]] = Counter()
    for asked in made:
        minute = asked.at // 60_000
        over = asked.end not in ("lost", "open")
        of = [
            1,
            asked.end == "ok",
            over and asked.failed_over,
            len(asked.ends),
            asked.ends.count("timeout"),
            0,
            0,
            0,
            0,
        ]
        for end in asked.ends:
            if end not in ("lost", "open"):
                used = (3, 2, asked.cost or 0, 0 if end == "ok" else asked.cost or 0)
                of[5:] = [old + more for old, more in zip(of[5:], used, strict=True)]
        known = figures.setdefault(minute, [0] * 9)
        figures[minute] = [old + int(more) for old, more in zip(known, of, strict=True)]
        if over and asked.stream and asked.first_ms is not None:
            times[minute, "first", bucket_of(asked.first_ms)] += 1
        if over and asked.added_ms is not None:
            times[minute, "added", bucket_of(asked.added_ms)] += 1
        if asked.end == "ok":
            times[minute, "whole", bucket_of(asked.ms)] += 1
    return figures, times


@pytest.fixture(scope="module")
def shared(shared_url: str) -> Iterator[list[LedgerStore]]:
    """Two stores on one database, for all examples."""
    stores = [LedgerStore(shared_url), LedgerStore(shared_url)]
    for store in stores:
        store.start()
    yield stores
    for store in stores:
        store.close()


def kept(store: LedgerStore) -> tuple[dict[int, list[int]], Counter[tuple[int, str, int]]]:
    with store.reading() as connection:
        slots = {slot: [int(f) for f in figures] for slot, *figures in connection.execute(select(SLOTS))}
        times = Counter({(s, measure, b): int(n) for s, measure, b, n in connection.execute(select(TIMES)) if n})
    return {slot: figures for slot, figures in slots.items() if any(figures)}, times


@settings(max_examples=60, deadline=None)
@given(made=st.lists(ASKED, min_size=1, max_size=6), data=st.data())
def test_each_minute_is_the_truth_whatever_comes_late_twice_or_by_two_stores(
    shared: list[LedgerStore], made: list[Asked], data: st.DataObject
) -> None:
    with shared[0]._writing() as connection:
        for table in (SLOTS, TIMES):
            connection.execute(table.delete())
    example = next(NAMES)
    written = [record for n, asked in enumerate(made) for record in lines(f"{example}-{n}", asked)]
    arriving = data.draw(st.permutations(written)) + data.draw(st.lists(st.sampled_from(written), max_size=5))
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        data.draw(st.sampled_from(shared)).write(arriving[:size])
        arriving = arriving[size:]
    assert kept(shared[0]) == truth(made)


def test_what_a_dead_replica_left_open_is_taken_out_when_it_ends_after_all(store: LedgerStore) -> None:
    store.write([opened("r1", began_at=ROUND)])
    store.settle_as_lost("replica", ROUND + 5)
    assert kept(store)[0] == {ROUND // SLOT_MS: [1, 0, 0, 1, 0, 0, 0, 0, 0]}
    store.write([settled("r1", began_at=ROUND, ended_at=ROUND + 500)])
    assert kept(store) == ({ROUND // SLOT_MS: [1, 1, 0, 1, 0, 10, 5, 70, 0]}, {(ROUND // SLOT_MS, "whole", 90): 1})


@given(st.lists(st.floats(0, 10**9), min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_right_to_five_percent(times: list[float], share: float) -> None:
    true = sorted(times)[math.ceil(share * len(times)) - 1]
    found = percentile(Counter(map(bucket_of, times)), share)
    assert found is not None
    assert abs(found - true) <= max(0.1, 0.05 * true)


def test_what_a_stream_has_cost_so_far_is_no_failures_cost(store: LedgerStore) -> None:
    store.write([opened(version=3, content=True, tokens_in=10, tokens_out=5, counted="estimated", cost=70)])

    def abandoned() -> set[float]:
        of_minutes = traffic(store, NOON + 1000)["hour"]["totals"]
        [by_days] = usage(store, {"since": DAY_BEGAN, "until": DAY_BEGAN + 86_400})
        [by_rows] = usage(store, {"since": DAY_BEGAN + 1, "until": DAY_BEGAN + 86_399})
        assert by_days["cost_usd"] == by_rows["cost_usd"] == of_minutes["cost_usd"] == 70 / NANOS
        told = [row[name] for row in (by_days, by_rows) for name in ("abandoned_cost_usd", "failed_cost_usd")]
        return {of_minutes["abandoned_cost_usd"], *told}

    assert abandoned() == {0}
    store.write([settled(kind="stall", content=True)])
    assert abandoned() == {70 / NANOS}


def test_a_percentile_of_nothing_is_none_and_one_of_everything_has_an_end() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({3: 0}, 0.5) is None
    assert bucket_of(2.0**53) == bucket_of(10.0**11)
    assert ms_of(bucket_of(-5.0)) == 0


def test_both_spans_have_each_of_their_slots_and_end_now(store: LedgerStore) -> None:
    draw, now = random.Random(3), ROUND + 1_234_567
    began = [now - draw.randrange(26 * 3_600_000) for _ in range(300)] + [now, now + 60_000, ROUND - 47 * 1_800_000]
    store.write([settled(f"r{n}", began_at=at, ended_at=at + 700) for n, at in enumerate(began)])
    told = traffic(store, now)
    assert told["at"] == now / 1000
    for name, seconds, number in (("hour", 60, 60), ("day", 1800, 48)):
        span = told[name]
        first = (now // 1000 // seconds - number + 1) * seconds
        assert span["slot_seconds"] == seconds
        assert [slot["at"] for slot in span["slots"]] == [first + n * seconds for n in range(number)]
        of = Counter(at // 1000 // seconds * seconds for at in began if first * 1000 <= at <= now)
        assert {slot["at"]: slot["requests"] for slot in span["slots"] if slot["requests"]} == dict(of)
        total = sum(of.values())
        assert span["totals"] == {
            **{"requests": total, "answered": total, "failed_over": 0, "attempts": total, "failures": 0},
            **{"tokens_in": 10 * total, "tokens_out": 5 * total, "cost_usd": pytest.approx(70e-9 * total)},
            "abandoned_cost_usd": 0,
        }
        assert span["first_token_ms"] == {"p50": None, "p95": None, "count": 0}
        assert span["whole_ms"] == {"p50": pytest.approx(700, rel=0.05), "p95": span["whole_ms"]["p50"], "count": total}


def test_a_store_without_a_row_has_slots_of_nothing(store: LedgerStore) -> None:
    told = traffic(store, NOON)
    assert not any(told["day"]["totals"].values())
    assert (len(told["hour"]["slots"]), len(told["day"]["slots"])) == (60, 48)


def test_old_minutes_are_deleted_piece_by_piece_and_what_comes_late_harms_nothing(store: LedgerStore) -> None:
    old = [settled(f"r{n}", began_at=ROUND - n * SLOT_MS, ended_at=ROUND) for n in range(1, 6)]
    store.write([*old, settled("r0", began_at=ROUND, ended_at=ROUND + 500), opened("late", began_at=ROUND - SLOT_MS)])
    slot = ROUND // SLOT_MS
    assert [store.purge_slots(slot, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert kept(store) == ({slot: [1, 1, 0, 1, 0, 10, 5, 70, 0]}, {(slot, "whole", 90): 1})
    store.write([settled("late", began_at=ROUND - SLOT_MS, ended_at=ROUND)])
    assert traffic(store, ROUND)["day"]["totals"]["answered"] == 2
    assert store.purge_slots(slot, 2) == 1
    assert [*kept(store)[0]] == [slot]


def test_the_names_of_the_figures_are_those_of_the_table() -> None:
    assert [column.name for column in SLOTS.columns] == ["slot", *FIGURES_OF_A_SLOT]
    assert KEPT_MS > 25 * 3_600_000
