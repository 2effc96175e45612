"""A limit on each wait of a task, on a virtual clock."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from deployments.patience import Patience
from tests.clock import run_virtually


def with_patience(work: Callable[[Patience], Awaitable[None]]) -> None:
    async def main() -> None:
        patience = Patience()
        try:
            await work(patience)
        finally:
            patience.close()

    run_virtually(main())


def now() -> float:
    return asyncio.get_running_loop().time()


async def waited(patience: Patience, seconds: float, limit: float) -> None:
    with patience.until(now() + limit):
        await asyncio.sleep(seconds)


def test_a_wait_that_takes_too_long_ends_when_its_time_is_over() -> None:
    async def work(patience: Patience) -> None:
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(3)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    with_patience(work)


def test_each_wait_has_its_own_limit() -> None:
    async def work(patience: Patience) -> None:
        began = now()
        for _ in range(20):
            await waited(patience, 2.5, 3)
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(53)

    with_patience(work)


def test_a_later_wait_may_be_shorter() -> None:
    async def work(patience: Patience) -> None:
        await waited(patience, 1, 100)
        began = now()
        with pytest.raises(TimeoutError):
            await waited(patience, 10, 3)
        assert now() - began == pytest.approx(3)

    with_patience(work)


def test_time_between_waits_is_not_counted() -> None:
    async def work(patience: Patience) -> None:
        await waited(patience, 1, 3)
        await asyncio.sleep(50)
        await waited(patience, 2, 3)

    with_patience(work)


def test_it_goes_on_after_it_was_over() -> None:
    async def work(patience: Patience) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await waited(patience, 10, 3)
        await waited(patience, 1, 3)

    with_patience(work)


def test_a_limit_that_has_passed_ends_the_wait_at_once() -> None:
    async def work(patience: Patience) -> None:
        with pytest.raises(TimeoutError):
            await waited(patience, 1, -5)

    with_patience(work)


@pytest.mark.parametrize("at", [1.0, 3.0])
def test_whoever_is_cancelled_from_outside_is_cancelled_even_at_the_limit(at: float) -> None:
    async def work(patience: Patience) -> None:
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
    async def work(patience: Patience) -> None:
        with pytest.raises(ZeroDivisionError), patience.until(now() + 3):
            raise ZeroDivisionError

    with_patience(work)


def test_what_comes_in_the_instant_of_the_limit_is_never_half_a_cancel() -> None:
    """Either it came, or the time was over; in neither case does a cancel stay behind."""

    async def work(patience: Patience) -> None:
        for delay in (2.999, 3.0, 3.001):
            ready = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(delay, lambda f=ready: f.done() or f.set_result(None))
            try:
                with patience.until(now() + 3.0):
                    await ready
            except TimeoutError:
                assert delay >= 3.0
            await asyncio.sleep(0.01)
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    with_patience(work)
