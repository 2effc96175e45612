"""What goes wrong between two modules that are each right: found while their tests were written."""

import asyncio

from actors.breaker.outcomes import Outcome
from tests.unit.test_failover import stream
from tests.unit.test_reasons import CLOUDS, SlowImages, look
from tests.unit.tiers import CONNECT, REST_SECONDS, ask, in_tiers, opened, state
from tests.unit.world import World


@in_tiers()
async def test_a_tier_that_hangs_takes_no_time_that_the_next_is_known_to_need(w: World) -> None:
    """aws answers in 1 s, then hangs; openai takes 6 s; callers give 20 s."""
    w.provider("aws").seconds, w.provider("openai").seconds = 1.0, 6.0
    for _ in range(20):
        await ask(w)
        await ask(w, "solo")
    w.provider("aws").seconds = 1000.0
    ended = [await ask(w, seconds=20) for _ in range(20)]
    await w.settle()
    assert {e.by for e in ended} == {"openai/gpt"}
    assert state(w, "aws/haiku") == "open"


@in_tiers()
async def test_a_probe_that_fails_when_the_actor_has_just_gone_away_closes_nothing(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    w.provider("aws").ends, w.provider("aws").seconds = [CONNECT], 3.0
    probe = asyncio.create_task(ask(w))
    await asyncio.sleep(1)
    w.actor.kill()
    assert (await probe).steps == ["aws: connect", "openai: ok"]
    calls = w.provider("aws").calls
    for _ in range(5):
        assert (await ask(w)).by == "openai/gpt"
    assert w.provider("aws").calls == calls


@in_tiers()
async def test_a_trial_that_flowed_and_breaks_opens_at_once_though_the_actor_holds_its_circuit_closed(w: World) -> None:
    openai = w.provider("openai")
    openai.ends = [CONNECT]
    for number in range(3):
        await ask(w, "solo")
        await asyncio.sleep(0.2)
        well = {"target": "openai/gpt", "epoch": 0, "verdict": "ok", "kind": "ok", "ms": 1.0, "count": 50}
        await w.actor.report("another ingress", number + 1, [{**well, "whole": True}])
    await asyncio.sleep(15)
    openai.ends, openai.words, openai.pace, openai.after = [Outcome("broken", content=True)], ["w"] * 100, 0.1, 80
    assert b"[DONE]" not in (await ask(w, "solo", stream=True)).data
    assert w.breaker._own.holds("openai/gpt")


@in_tiers()
async def test_a_probe_that_was_held_back_to_its_end_is_not_remembered_as_flowing(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    answer = await stream(w)
    _ = [frame async for frame in answer.frames()]
    await answer.close()
    assert not w.breaker.flows._streams


@in_tiers(CLOUDS)
async def test_a_circuit_that_closes_while_an_image_is_fetched_is_asked(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    SlowImages(w, 4.0)
    slow = asyncio.create_task(look(w))
    await asyncio.sleep(1)
    assert (await ask(w)).by == "aws/haiku"
    assert (await slow).target == "aws/haiku"


@in_tiers(CLOUDS)
async def test_a_circuit_that_opens_while_an_image_is_fetched_is_gone_round(w: World) -> None:
    SlowImages(w, 4.0)
    slow = asyncio.create_task(look(w))
    await asyncio.sleep(1)
    w.provider("aws").ends = [CONNECT]
    for _ in range(3):
        await ask(w)
    await w.settle()
    calls = w.provider("aws").calls
    assert (await slow).target == "g/gemini"
    assert w.provider("aws").calls == calls
