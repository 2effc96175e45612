"""How the time that is left is shared between the tiers that are left."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.failover.attempts.time_share import share
from tests.unit.tiers import CONNECT, ask, in_tiers, row_of
from tests.unit.world import World

lefts = st.floats(0, 1e6)
usuals = st.floats(0, 1e6)
tiers = st.integers(1, 12)
FIVE = row_of("a", "b", "c", "d", "e")
HANGS = 1000.0


@pytest.mark.parametrize(
    ("tiers", "usual", "seconds"),
    [(1, 0, 60), (2, 0, 40), (3, 0, 30), (5, 0, 30), (3, 24, 36), (3, 29, 43.5), (3, 1000, 45), (1, 1000, 60)],
)
def test_of_a_minute_a_tier_may_take_so_much(tiers: int, usual: float, seconds: float) -> None:
    assert share(60.0, tiers, usual) == pytest.approx(seconds)


@given(lefts, usuals)
def test_the_last_gets_all_that_is_left(left: float, usual: float) -> None:
    assert share(left, 1, usual) == left


@given(lefts, st.integers(2, 12), usuals)
def test_one_of_several_gets_a_half_at_least_and_leaves_a_quarter_of_what_is_left(
    left: float, tiers: int, usual: float
) -> None:
    assert left / 2 <= share(left, tiers, usual) <= 0.75 * left


@given(lefts, lefts, tiers, usuals)
def test_whoever_has_more_time_left_gives_no_tier_less(one: float, other: float, tiers: int, usual: float) -> None:
    less, more = sorted((one, other))
    assert share(less, tiers, usual) <= share(more, tiers, usual)


@given(lefts, tiers, usuals, usuals)
def test_a_slower_tier_gets_no_less_and_one_of_fewer_neither(left: float, tiers: int, a: float, b: float) -> None:
    fast, slow = sorted((a, b))
    assert share(left, tiers, fast) <= share(left, tiers, slow)
    assert share(left, tiers + 1, fast) <= share(left, tiers, fast)


@given(st.floats(1e-3, 1e6), st.lists(usuals, min_size=1, max_size=12))
def test_where_each_takes_all_of_its_share_nobody_goes_without_and_nothing_is_left(
    total: float, usual: list[float]
) -> None:
    left, taken = total, []
    for number, seconds in enumerate(usual):
        taken.append(share(left, len(usual) - number, seconds))
        left -= taken[-1]
    assert min(taken) > 0
    assert math.isclose(sum(taken), total)
    assert abs(left) <= 1e-9 * total


@given(st.floats(1e-3, 1e6), st.integers(2, 12))
def test_a_tier_gets_the_time_it_usually_needs_and_half_as_much_again_where_that_leaves_a_quarter(
    left: float, tiers: int
) -> None:
    assert share(left, tiers, left / 2) == 0.75 * left


# Over a row whose tiers hang.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("healthy", "abcde")
@in_tiers(FIVE)
async def test_of_five_tiers_the_one_that_is_well_answers_within_a_minute(w: World, healthy: str, stream: bool) -> None:
    for name in "abcde":
        w.provider(name).seconds = 1.0 if name == healthy else HANGS
    ended = await ask(w, seconds=120, stream=stream)
    assert ended.by == f"{healthy}/m"
    assert [w.provider(name).calls for name in "abcde"] == [int(name <= healthy) for name in "abcde"]


@pytest.mark.parametrize(
    ("seconds", "healthy", "took"),
    [(20, "b", 10 + 1), (30, "c", 15 + 7.5 + 1), (None, "c", 30 + 15 + 1), (None, "d", 30 + 15 + 7.5 + 1)],
)
@in_tiers(FIVE)
async def test_tiers_that_hang_take_half_of_what_is_left_each(
    w: World, seconds: float | None, healthy: str, took: float
) -> None:
    for name in "abcde":
        w.provider(name).seconds = 1.0 if name == healthy else HANGS
    ended = await ask(w, seconds=seconds)
    before = [f"{name}: deadline" for name in "abcde" if name < healthy]
    assert (ended.by, ended.steps, ended.seconds) == (f"{healthy}/m", [*before, f"{healthy}: ok"], took)


@pytest.mark.parametrize(
    ("seconds", "healthy", "took", "steps"),
    [
        (15, "b", 7.5 + 1, ["a: deadline", "b: ok"]),
        (20, "c", 10 + 5 + 1, ["a: deadline", "b: deadline", "c: ok"]),
        # With time enough each may take what its own limits allow: 3 s for a connection, 10 for content, 1 to say so.
        (None, "d", 3 * 14 + 1, ["a: unreachable", "b: unreachable", "c: unreachable", "d: ok"]),
        (None, "e", 3 * 14 + 12 + 1, ["a: unreachable", "b: unreachable", "c: unreachable", "d: deadline", "e: ok"]),
    ],
)
@in_tiers(FIVE)
async def test_streams_that_do_not_begin_share_the_time_too(
    w: World, seconds: float | None, healthy: str, took: float, steps: list[str]
) -> None:
    for name in "abcde":
        w.provider(name).seconds = 1.0 if name == healthy else HANGS
    ended = await ask(w, seconds=seconds, stream=True)
    assert (ended.by, ended.steps, ended.seconds) == (f"{healthy}/m", steps, took)


@pytest.mark.parametrize(("seconds", "stream"), [(20, False), (40, False), (15, True)])
@in_tiers(row_of("a", "b", "c"))
async def test_a_tier_in_the_middle_is_asked_though_the_last_would_refuse_at_once(
    w: World, seconds: float, stream: bool
) -> None:
    w.provider("a").seconds, w.provider("b").seconds, w.provider("c").ends = HANGS, 0.5, [CONNECT]
    ended = await ask(w, seconds=seconds, stream=stream)
    assert (ended.by, ended.steps, ended.seconds) == ("b/m", ["a: deadline", "b: ok"], seconds / 2 + 0.5)
    assert w.provider("c").calls == 0


@in_tiers(row_of("a", "b", "c"))
async def test_time_that_a_tier_did_not_need_is_the_others(w: World) -> None:
    w.provider("a").ends, w.provider("b").seconds, w.provider("c").seconds = [CONNECT], HANGS, 6.0
    ended = await ask(w, seconds=20)
    assert (ended.by, ended.seconds) == ("c/m", pytest.approx(20 * 2 / 3 + 6, abs=0.001))


@in_tiers(row_of("a", "b", "c"))
async def test_a_tier_that_usually_needs_long_gets_longer(w: World) -> None:
    w.provider("a").seconds = 12.0
    assert (await ask(w)).by == "a/m"
    assert (await ask(w, seconds=20)).by == "a/m", "three quarters of 20 s, not a half"
    w.provider("a").seconds = HANGS
    assert (await ask(w, seconds=20)).seconds == 15.0
