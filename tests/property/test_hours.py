"""Whole worlds for hours on end: what nobody tried for long comes back, and who reads slowly keeps what is its own."""

import asyncio

from deployments.failover.streams.reader_watch import READER_SECONDS
from deployments.openai_api.chat import DONE
from tests.unit.test_failover import SERVER_ERROR, complete, in_world, stream
from tests.unit.test_local_breaker import heal
from tests.unit.test_readers import reading
from tests.unit.tiers import CONNECT, E500, REST_SECONDS, ask, in_tiers, nothing_is_left, opened, state
from tests.unit.world import World


@in_tiers()
async def test_a_second_tier_that_is_well_since_answers_as_soon_as_the_first_fails(w: World) -> None:
    """Nobody has probed it for two hours, for the first was well."""
    aws, openai = w.provider("aws"), w.provider("openai")
    await opened(w, "openai", "solo")
    calls = openai.calls
    for _ in range(8):
        await asyncio.sleep(900)
        assert (await ask(w)).by == "aws/haiku"
    assert (state(w, "openai/gpt"), openai.calls, w.actor.asks) == ("open", calls, 0)
    aws.ends = [E500, None]
    ended = await ask(w)
    assert (ended.by, ended.steps, ended.seconds) == ("openai/gpt", ["aws: server_error", "openai: ok"], 0.0)
    aws.ends = [CONNECT]
    assert [(await ask(w)).by for _ in range(5)] == ["openai/gpt"] * 5
    assert w.actor.asks == 1


@in_tiers()
async def test_a_reader_that_never_comes_back_holds_nothing_for_ever(w: World) -> None:
    stopped = [await reading(w) for _ in range(16)]
    await asyncio.sleep(2 * READER_SECONDS)
    assert w.provider("aws").cancelled == 16
    assert nothing_is_left(w)
    for answer, frames in stopped:
        await frames.aclose()
        await answer.close()


@in_tiers()
async def test_a_reader_that_takes_a_frame_now_and_then_keeps_its_stream(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 6, 1.0
    answer, data = await stream(w), b""
    async for frame in answer.frames():
        data += frame
        await asyncio.sleep(READER_SECONDS - 10)
    assert data.count(b'"content"') == 6
    assert data.endswith(DONE)
    await answer.close()


@in_tiers()
async def test_what_was_open_when_the_actor_went_away_comes_back_when_its_time_is_over(w: World) -> None:
    aws, openai = w.provider("aws"), w.provider("openai")
    aws.ends = openai.ends = [CONNECT]
    for model in ("default", "solo") * 3:
        await ask(w, model)
    await w.settle()
    assert (state(w, "aws/haiku"), state(w, "openai/gpt")) == ("open", "open")
    w.actor.kill()
    heal(w)
    await asyncio.sleep(3600)
    for _ in range(20):
        ended = await ask(w)
        assert (ended.by, ended.steps) == ("aws/haiku", ["aws: ok"])


@in_tiers()
async def test_a_probe_that_was_answered_after_the_actor_went_away_keeps_nobody_out(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    w.provider("openai").seconds = 5.0
    probe = asyncio.create_task(ask(w, "solo"))
    await asyncio.sleep(1)
    w.actor.kill()
    assert (await probe).by == "openai/gpt"
    w.provider("openai").seconds = 0.0
    await asyncio.sleep(3600)
    ended = await ask(w, "solo")
    assert (ended.by, ended.steps, ended.seconds) == ("openai/gpt", ["openai: ok"], 0.0)


@in_world
async def test_a_long_outage_without_the_actor_costs_ever_fewer_calls(w: World) -> None:
    w.actor.kill()
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(1500):
        assert (await complete(w)).target == "openai/gpt"
        await asyncio.sleep(0.1)
    assert 5 <= w.provider("aws").calls <= 8  # 3, then after 10, 20, 40, 60 s
    w.provider("aws").ends = [None]
    await asyncio.sleep(80)
    for _ in range(3):
        assert (await complete(w)).target == "aws/haiku"
