"""What comes while our own loop stands still is there when it goes on: no provider is to blame for it."""

import asyncio

import pytest

from deployments.breaker_client.stalls import LAG
from deployments.providers.time_limits import COVER_SECONDS
from tests.clock import run_virtually
from tests.unit.tiers import TWO, ask, in_tiers, stand_still, state
from tests.unit.world import World, world


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("limit", "stall"), [(10.0, 14.0), (2.0, 5.0), (1.0, 3.5), (1.0, 600.0)], ids=lambda x: f"{x:g} s"
)
def test_answers_that_came_in_time_are_read_after_a_stall_that_outlasts_every_limit(
    limit: float, stall: float, stream: bool
) -> None:
    async def main() -> None:
        async with world({**TWO, "timeouts": {"first_token": limit, "timeout_seconds": limit, "connect": 1}}) as w:
            w.provider("aws").seconds = 0.6
            requests = [asyncio.create_task(ask(w, stream=stream)) for _ in range(3)]
            await asyncio.sleep(0.5)
            stand_still(stall)
            for request in requests:
                ended = await request
                assert (ended.by, ended.steps) == ("aws/haiku", ["aws: ok"])
                assert ended.seconds == pytest.approx(0.5 + stall, abs=0.05)
            await w.settle()
            health = w.targets()["aws/haiku"]
            assert (health["state"], health["failed"], health["ok"]) == ("closed", 0, 3)

    run_virtually(main())


@in_tiers()
async def test_a_provider_that_is_silent_while_we_stand_still_is_left_for_the_next_and_not_held_to_blame(
    w: World,
) -> None:
    w.provider("aws").seconds = 1000.0
    requests = [asyncio.create_task(ask(w, stream=True)) for _ in range(3)]
    await asyncio.sleep(0.5)
    stand_still(25.0)
    assert [(await r).steps for r in requests] == [["aws: stalled", "openai: ok"]] * 3
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["neutral"]) == ("closed", 0, 3)


@in_tiers()
async def test_frames_that_came_while_we_stood_still_end_no_stream(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 10, 2.0
    requests = [asyncio.create_task(ask(w, stream=True)) for _ in range(3)]
    await asyncio.sleep(5.0)
    stand_still(15.0 + COVER_SECONDS + 10.0)
    for request in requests:
        ended = await request
        assert ended.data.count(b'"content"') == 10
        assert b"[DONE]" in ended.data
    await w.settle()
    assert state(w, "aws/haiku") == "closed"


@in_tiers()
async def test_a_stream_that_is_silent_while_we_stand_still_is_told_as_our_own_stall(w: World) -> None:
    w.provider("aws").pace = 1000.0
    request = asyncio.create_task(ask(w, stream=True))
    await asyncio.sleep(5.0)
    stand_still(60.0)
    assert b"our own event loop stood still" in (await request).data
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["failed"], health["neutral"]) == (0, 1)


@pytest.mark.parametrize("stall", [0.12, 0.16, 0.2, 0.24, LAG, 0.3, 2.0])
@in_tiers()
async def test_a_stall_makes_no_healthy_tier_quiet(w: World, stall: float) -> None:
    """Frames come every hundredth of a second; the loop stands still where a request is planned."""
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 400, 0.01
    flowing = [asyncio.create_task(ask(w, stream=True)) for _ in range(3)]
    for number in range(10):
        await asyncio.sleep(0.2003 + 0.0071 * number)
        stand_still(stall)
        planned = w.breaker.plan(["aws/haiku", "openai/gpt"]).candidates
        assert [c.target for c in planned] == ["aws/haiku", "openai/gpt"]
    for request in flowing:
        assert (await request).data.count(b'"content"') == 400


@in_tiers()
async def test_streams_that_fall_silent_are_noticed_whether_we_stood_still_before_or_not(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 100, 0.01
    for _ in range(2):
        await ask(w, stream=True)
    stand_still(5.0)
    w.provider("aws").pace = 14.0
    silent = [asyncio.create_task(ask(w, stream=True)) for _ in range(2)]
    await asyncio.sleep(1.0)
    assert [c.target for c in w.breaker.plan(["aws/haiku", "openai/gpt"]).candidates] == ["openai/gpt", "aws/haiku"]
    for request in silent:
        request.cancel()
    await asyncio.gather(*silent, return_exceptions=True)


@pytest.mark.parametrize("stall", [6.0, 600.0])
@in_tiers()
async def test_after_a_stall_of_ours_the_actor_does_not_count_as_away(w: World, stall: float) -> None:
    await asyncio.sleep(1.0)
    stand_still(stall)
    assert not w.breaker._actor.cut_off
    for _ in range(10):
        await asyncio.sleep(0.5)
        assert not w.breaker._actor.cut_off
