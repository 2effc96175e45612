"""Long works share the time that one of them may take, however many they are."""

import asyncio
from collections import Counter
from collections.abc import Generator

import pytest

from deployments.aio import turns
from deployments.aio.turns import in_turns
from tests.clock import run_virtually


async def slices_of_each_turn(works: int) -> Counter[int]:
    """How many slices so many works have in each turn of the loop."""
    now, found = 0, Counter[int]()

    def slices() -> Generator[None, None, str]:
        for _ in range(20):
            found[now] += 1
            yield
        return "done"

    working = asyncio.gather(*(in_turns(slices()) for _ in range(works)))
    while not working.done():
        now += 1
        await asyncio.sleep(0)
    assert working.result() == ["done"] * works
    assert found.total() == 20 * works
    return found


@pytest.mark.parametrize("works", [1, 8])
def test_no_two_slices_have_one_turn_of_the_loop(works: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "AT_FULL_SPEED", 10**9)
    assert max(run_virtually(slices_of_each_turn(works)).values()) == 1


def test_one_that_fails_or_is_given_up_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)

    def fails() -> Generator[None, None, None]:
        yield
        raise ValueError("in a slice")

    def endless() -> Generator[None, None, None]:
        while True:
            yield

    def short() -> Generator[None, None, str]:
        yield
        return "done"

    async def main() -> str:
        given_up = asyncio.create_task(in_turns(endless()))
        with pytest.raises(ValueError, match="in a slice"):
            await in_turns(fails())
        given_up.cancel()
        async with asyncio.timeout(5):
            return await in_turns(short())

    assert run_virtually(main()) == "done"
