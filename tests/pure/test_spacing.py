"""How far apart messages leave, and what a lane does with it. A clock that jumps."""

import asyncio

import pytest

from deployments.lanes import Lane, Passage
from deployments.spacing import LEAST, MOST, USUAL, Spacing
from tests.clock import run_virtually

FRAME = b"data: {}\n\n"


def late(seconds: float, times: int = 100) -> Spacing:
    spacing = Spacing()
    for _ in range(times):
        spacing.was_late(seconds)
    return spacing


def test_on_a_core_with_room_it_is_the_least() -> None:
    for spacing in (Spacing(), late(0.0), late(USUAL)):
        assert spacing.seconds == LEAST
        assert not spacing.wide


def test_it_follows_lateness_up_to_a_bound_and_back() -> None:
    assert late(0.004).seconds == pytest.approx(0.006, rel=0.01)
    spacing = late(5.0)
    assert spacing.seconds == MOST
    assert spacing.wide
    for _ in range(100):
        spacing.was_late(0.0)
    assert spacing.seconds == LEAST


def test_once_late_is_not_late() -> None:
    assert late(0.005, times=1).seconds == LEAST


def lane_of(spacing: Spacing) -> Lane:
    lane = Lane(1, spacing)
    lane.passages = {1: Passage(), 2: Passage()}
    return lane


def test_what_comes_while_a_wide_space_lasts_leaves_together() -> None:
    async def main() -> None:
        lane, clock = lane_of(late(5.0)), asyncio.get_running_loop().time
        await lane.put(1, FRAME, first=True)
        assert await lane.next() == [(1, FRAME)]
        left = clock()

        async def writes(number: int, after: float) -> float:
            await asyncio.sleep(after)
            await lane.put(number, FRAME, first=False)
            return clock()

        writers = [asyncio.create_task(writes(1, 0.001)), asyncio.create_task(writes(2, 0.006))]
        assert await lane.next() == [(1, FRAME), (2, FRAME)]
        assert clock() - left == pytest.approx(MOST)
        # Whoever has written is told to go on when it has left, not before.
        assert [at - left for at in await asyncio.gather(*writers)] == pytest.approx([MOST, MOST])

    run_virtually(main())


def test_a_first_frame_ends_the_wait_of_all() -> None:
    async def main() -> None:
        lane, clock = lane_of(late(5.0)), asyncio.get_running_loop().time
        await lane.put(1, FRAME, first=True)
        await lane.next()
        left = clock()
        writer = asyncio.create_task(lane.put(1, FRAME, first=False))
        asyncio.get_running_loop().call_later(0.004, lambda: asyncio.ensure_future(lane.put(2, FRAME, first=True)))
        assert await lane.next() == [(1, FRAME), (2, FRAME)]
        assert clock() - left == pytest.approx(0.004)
        await writer

    run_virtually(main())


def test_on_a_core_with_room_nobody_waits_for_what_they_wrote() -> None:
    async def main() -> None:
        lane, clock = lane_of(Spacing()), asyncio.get_running_loop().time
        began = clock()
        for number in (1, 2, 1):
            await lane.put(number, FRAME, first=False)
        assert clock() == began
        assert len(await lane.next()) == 3

    run_virtually(main())
