"""A limit on each wait of a task, on a virtual clock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.aio.deadline_timer import MAX_GRACE, MAX_GRACES, MIN_GRACE, DeadlineTimer
from tests.clock import VirtualLoop, run_virtually


def with_patience(work: Callable[[DeadlineTimer], Awaitable[None]]) -> None:
    async def main() -> None:
        patience = DeadlineTimer()
        try:
            await work(patience)
        finally:
            patience.close()

    run_virtually(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def nobody_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


async def waited(patience: DeadlineTimer, seconds: float, limit: float) -> None:
    with patience.until(now() + limit):
        await asyncio.sleep(seconds)


def test_a_wait_that_takes_too_long_ends_when_its_time_is_over() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(3)
        assert nobody_is_cancelled()

    with_patience(work)


def test_each_wait_has_its_own_limit() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        for _ in range(20):
            await waited(patience, 2.5, 3)
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(53)

    with_patience(work)


def test_a_later_wait_may_be_shorter() -> None:
    async def work(patience: DeadlineTimer) -> None:
        await waited(patience, 1, 100)
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(3)

    with_patience(work)


def test_time_between_waits_is_not_counted() -> None:
    async def work(patience: DeadlineTimer) -> None:
        await waited(patience, 1, 3)
        await asyncio.sleep(50)
        await waited(patience, 2, 3)

    with_patience(work)


def test_it_goes_on_after_it_was_over() -> None:
    async def work(patience: DeadlineTimer) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await waited(patience, 10, 3)
        await waited(patience, 1, 3)

    with_patience(work)


def test_a_limit_that_has_passed_ends_the_wait_at_once() -> None:
    async def work(patience: DeadlineTimer) -> None:
        with pytest.raises(TimeoutError):
            await waited(patience, 1, -5)

    with_patience(work)


@pytest.mark.parametrize("at", [1.0, 3.0])
def test_whoever_is_cancelled_from_outside_is_cancelled_even_at_the_limit(at: float) -> None:
    async def work(patience: DeadlineTimer) -> None:
        async def waiting() -> None:
            await waited(patience, 10, 3)

        task = asyncio.create_task(waiting())
        loop = asyncio.get_running_loop()
        loop.call_later(at, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    with_patience(work)


def test_an_error_of_the_wait_is_that_error() -> None:
    async def work(patience: DeadlineTimer) -> None:
        with pytest.raises(ZeroDivisionError), patience.until(now() + 3):
            raise ZeroDivisionError

    with_patience(work)


def test_what_comes_in_the_instant_of_the_limit_is_never_half_a_cancel() -> None:
    """Either it came, or the time was over; in neither case does a cancel stay behind."""

    async def work(patience: DeadlineTimer) -> None:
        for delay in (2.999, 3.0, 3.001):
            ready = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(delay, lambda f=ready: f.done() or f.set_result(None))
            try:
                with patience.until(now() + 3.0):
                    await ready
            except TimeoutError:
                assert delay >= 3.0
            await asyncio.sleep(0.01)
            assert nobody_is_cancelled()

    with_patience(work)


# Our own loop stands still: a timer that rings late.

JUST = 1e-6  # seconds before a timer


def stand_still(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += seconds


def later(seconds: float, do: Callable[..., object], *arguments: object) -> None:
    asyncio.get_running_loop().call_later(seconds, do, *arguments)


@pytest.mark.parametrize("stall", [0.01, 0.5, 5.0, 3600.0])
def test_an_item_that_came_while_we_stood_still_is_no_silence(stall: float) -> None:
    async def work(patience: DeadlineTimer) -> None:
        later(2.998, stand_still, stall)
        await waited(patience, 2.999, 3)
        assert not patience.expired
        assert not patience.stalled

    with_patience(work)


def test_an_item_may_need_many_turns_of_the_loop_to_arrive() -> None:
    async def work(patience: DeadlineTimer) -> None:
        async def read() -> None:
            await asyncio.sleep(2.9)
            for _ in range(50):
                await asyncio.sleep(0)

        later(2, stand_still, 5)
        with patience.until(now() + 3):
            await asyncio.create_task(read())

    with_patience(work)


@pytest.mark.parametrize(
    ("stall", "grace"),
    [(0.004, 0.0), (0.006, MIN_GRACE), (0.1, 0.1), (5.0, MAX_GRACE)],
    ids=["not late", "barely late", "late", "very late"],
)
def test_a_silent_wait_gets_as_much_more_as_its_timer_was_late_within_bounds(stall: float, grace: float) -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        later(3 - JUST, stand_still, stall)
        with pytest.raises(TimeoutError):
            await waited(patience, 10_000, 3)
        assert now() - began == pytest.approx(3 + stall + grace, abs=1e-5)
        assert patience.expired
        assert nobody_is_cancelled()

    with_patience(work)


@pytest.mark.parametrize(("stalls", "stalled"), [(0, False), (1, False), (2, False), (3, True)])
def test_a_wait_has_stalled_when_its_timer_was_late_by_more_than_a_second_in_all(stalls: int, stalled: bool) -> None:
    async def work(patience: DeadlineTimer) -> None:
        for number in range(stalls):
            later(2.99 + number * (0.4 + MAX_GRACE), stand_still, 0.41)  # just before it would ring again
        with pytest.raises(TimeoutError):
            await waited(patience, 10_000, 3)
        assert patience.stalled is stalled

    with_patience(work)


def test_the_wait_after_a_stalled_one_has_not_stalled() -> None:
    async def work(patience: DeadlineTimer) -> None:
        later(1, stand_still, 60)
        with pytest.raises(TimeoutError):
            await waited(patience, 10_000, 3)
        assert patience.stalled
        await waited(patience, 1, 3)
        assert not patience.stalled
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert not patience.stalled

    with_patience(work)


def test_a_second_stall_gives_more_once_more() -> None:
    async def work(patience: DeadlineTimer) -> None:
        later(2.9, stand_still, 5)
        later(8.0, stand_still, 7)  # in the first grace, which ends at 8.15
        await waited(patience, 8.1, 3)

    with_patience(work)


def test_a_loop_that_lags_without_an_end_is_given_more_three_times() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        for number in range(10):
            later(2.99 + number * 0.18, stand_still, 0.1)  # just before it would ring again
        with pytest.raises(TimeoutError):
            await waited(patience, 10_000, 3)
        assert now() - began == pytest.approx(2.99 + MAX_GRACES * 0.18 + 0.1)

    with_patience(work)


def test_a_limit_that_has_passed_before_the_wait_is_no_lateness() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 1, -5)
        assert now() == began
        assert not patience.stalled

    with_patience(work)


def test_a_stall_between_two_waits_is_no_lateness_of_the_second() -> None:
    async def work(patience: DeadlineTimer) -> None:
        await waited(patience, 1, 3)
        stand_still(50)
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 100, 2)
        assert now() - began == pytest.approx(2)
        assert not patience.stalled

    with_patience(work)


@pytest.mark.parametrize("at", [8.0, 8.15, 8.15 - JUST])
def test_whoever_is_cancelled_from_outside_in_the_grace_is_cancelled(at: float) -> None:
    """The last two at the instant in which it ends."""

    async def work(patience: DeadlineTimer) -> None:
        task = asyncio.create_task(waited(patience, 10_000, 3))
        later(2.9, stand_still, 5)
        later(at, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()
        assert not patience.stalled or at > 8.1

    with_patience(work)


# A limit that moves.


@pytest.mark.parametrize("limit", [2.0, 3.0, 3.5, 5.0])
def test_a_moved_limit_is_the_waits_limit(limit: float) -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        later(1, lambda: patience.move(began + limit))
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(limit)
        assert patience.expired

    with_patience(work)


def test_a_limit_can_be_taken_away_and_set_again() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        later(1, patience.move, None)
        later(100, lambda: patience.move(now() + 2))
        with pytest.raises(TimeoutError):
            await waited(patience, 200, 3)
        assert now() - began == pytest.approx(102)
        with patience.until(now() + 3):
            patience.move(None)
            await asyncio.sleep(100)
        await waited(patience, 1, 3)

    with_patience(work)


def test_a_limit_that_is_moved_into_the_past_ends_the_wait_at_its_next_step() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        later(1, lambda: patience.move(began - 5))
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(1)
        assert not patience.stalled

    with_patience(work)


def test_a_limit_that_is_moved_in_the_grace_may_be_given_more_anew() -> None:
    async def work(patience: DeadlineTimer) -> None:
        began = now()
        later(2.9, stand_still, 5)
        later(8.0, lambda: patience.move(began + 10))
        later(10 - JUST, stand_still, 0.5)
        with pytest.raises(TimeoutError):
            await waited(patience, 10_000, 3)
        assert now() - began == pytest.approx(10.75, abs=1e-3)
        assert not patience.stalled, "the new limit's timer was late by half a second"

    with_patience(work)


def test_a_wait_that_is_over_stays_so() -> None:
    async def work(patience: DeadlineTimer) -> None:
        async def moved_too_late() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                patience.move(now() + 100)

        with pytest.raises(TimeoutError), patience.until(now() + 3):
            await moved_too_late()
        assert nobody_is_cancelled()

    with_patience(work)


def test_without_a_wait_there_is_no_limit_to_move() -> None:
    async def work(patience: DeadlineTimer) -> None:
        with pytest.raises(RuntimeError):
            patience.move(now())
        await waited(patience, 1, 3)
        with pytest.raises(RuntimeError):
            patience.move(now())

    with_patience(work)


# Limits around and within it.


@contextlib.asynccontextmanager
async def limited(kind: str, seconds: float) -> AsyncIterator[None]:
    if kind == "asyncio":
        async with asyncio.timeout(seconds):
            yield
        return
    patience = DeadlineTimer()
    try:
        with patience.until(now() + seconds):
            yield
    finally:
        patience.close()


@pytest.mark.parametrize("kinds", [("ours", "asyncio"), ("asyncio", "ours"), ("ours", "ours")], ids="-".join)
@pytest.mark.parametrize(
    ("seconds", "ended"),
    [((3, 1), ["inner", "outer"]), ((1, 3), ["outer"]), ((3, 3), ["outer"])],
    ids=["the inner first", "the outer first", "both at once"],
)
def test_each_of_two_limits_ends_what_is_its_own(
    kinds: tuple[str, str], seconds: tuple[float, float], ended: list[str]
) -> None:
    async def main() -> None:
        began, over = now(), []
        try:
            async with limited(kinds[0], seconds[0]):
                try:
                    async with limited(kinds[1], seconds[1]):
                        await asyncio.sleep(10)
                except TimeoutError:
                    over.append("inner")
                await asyncio.sleep(10)
        except TimeoutError:
            over.append("outer")
        assert over == ended
        assert now() - began == pytest.approx(seconds[0])
        assert nobody_is_cancelled()

    run_virtually(main())


def test_a_timeout_from_inside_is_not_ours() -> None:
    async def work(patience: DeadlineTimer) -> None:
        with pytest.raises(TimeoutError), patience.until(now() + 3):
            await asyncio.wait_for(asyncio.sleep(10), 1)
        assert not patience.expired

    with_patience(work)


def test_a_wait_that_ends_while_another_is_cleaned_up_ends_too() -> None:
    async def work(patience: DeadlineTimer) -> None:
        inner, over = DeadlineTimer(), []
        try:
            with patience.until(now() + 1):
                try:
                    with inner.until(now() + 2):
                        try:
                            await asyncio.sleep(10)
                        finally:
                            await asyncio.sleep(5)  # until the inner one is over as well
                except TimeoutError:
                    over.append("inner")
        except TimeoutError:
            over.append("outer")
        inner.close()
        assert over == ["outer"]
        assert nobody_is_cancelled()

    with_patience(work)


def test_what_came_passes_two_late_limits() -> None:
    async def work(patience: DeadlineTimer) -> None:
        inner = DeadlineTimer()
        later(0.5, stand_still, 30)
        with patience.until(now() + 3), inner.until(now() + 1):
            await asyncio.sleep(0.9)
        inner.close()
        assert nobody_is_cancelled()

    with_patience(work)


@given(
    st.lists(st.tuples(st.integers(0, 600), st.integers(1, 400)), max_size=4),
    st.integers(0, 900),
    st.lists(st.integers(1, 500), min_size=1, max_size=3),
)
def test_nothing_that_is_due_before_its_limit_is_lost_whatever_stalls(
    stalls: list[tuple[int, int]], due: int, limits: list[int]
) -> None:
    """In hundredths of a second; the limits stand off them, so that no timer is late by less than LATE."""

    async def work(patience: DeadlineTimer) -> None:
        for at, seconds in stalls:
            later(at / 100, stand_still, seconds / 100)
        for limit in limits:
            began = now()
            try:
                await waited(patience, due / 100, limit / 100 + 0.003)
            except TimeoutError:
                assert due > limit
                assert now() - began > limit / 100
            else:
                assert not patience.expired
            assert nobody_is_cancelled()

    with_patience(work)
