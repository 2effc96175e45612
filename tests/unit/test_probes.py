"""Probes, and what is reported when several attempts end badly: the corners. On a virtual clock."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from actors.breaker.circuit import Mode, State
from actors.breaker.outcomes import Outcome
from actors.breaker.plan import CircuitSnapshot, plan
from deployments.errors import NoAnswer
from deployments.openai_api.chat import DONE, check_request
from tests.clock import run_virtually
from tests.unit.test_endings import BAD, BROKEN, TOO_LONG, opened_by_cut_streams
from tests.unit.test_failover import CONNECT, SERVER_ERROR, complete, in_world, outcomes, read, stream
from tests.unit.world import ARGS, REQUEST, Script, World, world

UNSUPPORTED = Outcome("unsupported", message="Bedrock can't take 'tools' here.", param="tools")


def flows(script: Script, seconds: float) -> None:
    script.ends, script.after, script.words, script.pace = [None], None, ["w"] * round(seconds * 10), 0.1


@in_world
async def test_a_probe_that_flows_is_not_thrown_away_for_the_reserve(w: World) -> None:
    await opened_by_cut_streams(w)
    flows(w.provider("aws"), 9.0)
    answer = await stream(w, seconds=10)  # the answer takes 9 s of the caller's 10
    assert answer.target == "aws/haiku", [e["outcome"] for e in answer.record.entries]
    assert (await read(answer)).endswith(DONE)
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed"


def test_a_configured_deadline_does_not_end_a_stream_that_flows() -> None:
    """docs/configuration.md: only the caller's own deadline ends a stream that flows."""

    async def main() -> None:
        async with world({**ARGS, "timeouts": {"deadline": 8}}) as w:
            request = check_request({**REQUEST, "model": "solo", "stream": True})
            w.provider("openai").ends, w.provider("openai").after = [BROKEN], 1
            for _ in range(3):
                await read(await w.service.failover.stream(request, w.service.deadline()))
            await asyncio.sleep(75)
            flows(w.provider("openai"), 9.0)
            answer = await w.service.failover.stream(request, w.service.deadline())
            assert (await read(answer)).endswith(DONE)

    run_virtually(main())


@in_world
async def test_a_probe_whose_stream_pauses_is_held_back_for_a_first_token_at_most(w: World) -> None:
    """docs/failures.md: held back for `first_token` at most."""
    await opened_by_cut_streams(w)
    s = w.provider("aws")
    s.ends, s.after, s.words, s.pace = [None], None, ["w"] * 4, 9.0  # frames at 0, 9, 18, 27 s; idle is 15
    began = w.actor.now
    answer = await stream(w)
    took = w.actor.now - began
    await read(answer)
    assert took <= 11, took


@in_world
async def test_a_replica_that_hangs_costs_a_probe_no_more_than_any_other_call(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").seconds = 1000.0
    began = w.actor.now
    answer = await stream(w)
    await read(answer)
    assert w.actor.now - began == pytest.approx(14, abs=0.1)


def test_no_second_probe_while_the_first_is_in_flight() -> None:
    async def main() -> None:
        async with world({**ARGS, "timeouts": {"idle": 40}}) as w:
            request = check_request({**REQUEST, "model": "solo", "stream": True})
            w.provider("openai").ends = [CONNECT]
            for _ in range(3):
                with pytest.raises(NoAnswer):
                    await w.service.failover.stream(request, w.service.deadline())
            await asyncio.sleep(75)
            script = w.provider("openai")
            script.ends, script.seconds = [None], 1000.0
            before = script.calls
            one = asyncio.create_task(w.service.failover.stream(request, w.service.deadline()))
            for _ in range(50):
                await asyncio.sleep(1.0)
                if one.done():
                    break
                w.actor.board.tick(w.actor.now)
                w.actor.changed.set()
                w.actor.changed = asyncio.Event()
                await asyncio.sleep(0)
                other = asyncio.create_task(w.service.failover.stream(request, w.service.deadline()))
                await asyncio.sleep(0.1)
                if script.calls - before > 1:
                    break
                other.cancel()
                await asyncio.gather(other, return_exceptions=True)
            for t in (one, other):
                t.cancel()
            both = script.calls - before
            await asyncio.gather(one, other, return_exceptions=True)
            assert both == 1, f"{both} probes in flight, the lease is {w.actor.board.policy.lease} s"

    run_virtually(main())


@in_world
async def test_a_prompt_too_long_is_a_400_though_a_smaller_tier_is_out(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    w.service.failover.rows.windows = {"aws/haiku": 200_000, "openai/gpt": 128_000, "local/smol": 2048}
    await w.service.operations.command("isolate", "local")
    await w.settle()
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded"), (
        caught.value.status,
        caught.value.retry_after,
        outcomes(caught.value),
    )


@in_world
async def test_a_prompt_too_long_is_a_400_without_any_window_too(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    await w.service.operations.command("isolate", "openai")
    await w.settle()
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded"), str(caught.value)


@in_world
async def test_a_400_after_another_one_broke_is_a_503_though_the_first_could_not_do_it(w: World) -> None:
    w.provider("aws").ends = [UNSUPPORTED]
    w.provider("openai").ends = [SERVER_ERROR]
    w.provider("local").ends = [BAD]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert caught.value.status == 503, (caught.value.status, str(caught.value))


@in_world
async def test_the_503_names_what_broke(w: World) -> None:
    w.provider("aws").ends = [UNSUPPORTED]
    w.provider("openai").ends = [Outcome("server_error", status=500, message="engine on fire")]
    w.provider("local").ends = [UNSUPPORTED]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert caught.value.status == 503
    assert "engine on fire" in str(caught.value), str(caught.value)


@in_world
async def test_a_probe_held_to_its_end_leaves_no_generator(w: World) -> None:
    await opened_by_cut_streams(w)
    flows(w.provider("aws"), 1.0)
    made: list[Any] = []
    plain = w.hop.stream

    def watched(provider: str, call: Mapping[str, Any]) -> Any:
        made.append(plain(provider, call))
        return made[-1]

    w.hop.stream = watched  # type: ignore[method-assign]
    answer = await stream(w)
    await read(answer)
    assert answer.target == "aws/haiku"
    assert made[0].ag_frame is None, "the hop's generator was never closed"


@in_world
async def test_a_solo_probe_is_not_held_back_for_nobody(w: World) -> None:
    request = check_request({**REQUEST, "model": "solo", "stream": True})
    w.provider("openai").ends, w.provider("openai").after = [BROKEN], 1
    for _ in range(3):
        await read(await w.service.failover.stream(request, w.service.deadline()))
    await asyncio.sleep(75)
    flows(w.provider("openai"), 20.0)
    began = w.actor.now
    answer = await w.service.failover.stream(request, w.service.deadline())
    took = w.actor.now - began
    await read(answer)
    assert took < 1, f"the first byte came after {took} s, and there is no next to ask"


@in_world
async def test_the_last_that_can_be_asked_gets_the_reserve(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    w.provider("openai").seconds = 17.0
    w.service.failover.rows.windows = {"aws/haiku": 8_000, "openai/gpt": 200_000, "local/smol": 2048}
    answer = await complete(w, seconds=20)
    assert answer.target == "openai/gpt"


@in_world
async def test_where_the_larger_is_out_of_time_after_the_larger_is_out_of_time(w: World) -> None:
    w.provider("aws").ends = [Outcome("throttled", status=429, retry_after=30.0)]
    w.provider("openai").ends = [BAD]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert caught.value.status == 503
    assert caught.value.retry_after == pytest.approx(30, abs=1), caught.value.retry_after


@in_world
async def test_a_probe_that_came_whole_closes_though_its_reader_left(w: World) -> None:
    await opened_by_cut_streams(w)
    flows(w.provider("aws"), 1.0)
    answer = await stream(w)
    summary = answer.record.summary
    assert summary is not None
    assert (summary.outcome, summary.target) == ("ok", "aws/haiku")
    await answer.close()
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed", w.targets()["aws/haiku"]["state"]


@in_world
async def test_a_request_whose_own_parsing_took_long_does_not_call_the_streams_silent(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 500, 0.01
    flowing = [asyncio.create_task(read(await stream(w))) for _ in range(2)]
    await asyncio.sleep(1)
    asyncio.get_running_loop().now += 0.3  # type: ignore[attr-defined]  what json.loads of a large body takes
    answer = await stream(w)
    target = answer.target
    await answer.close()
    await asyncio.gather(*flowing)
    assert target == "aws/haiku", target


def test_a_due_probe_goes_before_a_quiet_target() -> None:
    seen = {
        "a/x": CircuitSnapshot(State.CLOSED, Mode.AUTO, 0, 0.0),
        "b/y": CircuitSnapshot(State.OPEN, Mode.AUTO, 1, 10.0),
    }
    p = plan(["a/x", "b/y"], seen, 20.0, quiet=["a/x"])
    assert [c.target for c in p.candidates] == ["b/y", "a/x"], p


@in_world
async def test_a_probe_that_falls_silent_while_it_is_held_back_costs_no_client_its_answer(w: World) -> None:
    await opened_by_cut_streams(w)
    w.provider("aws").ends, w.provider("aws").after = [BROKEN], 1
    w.provider("aws").pace = 12.0  # silent when its time is over, and broken when it comes to its own limit
    answer = await stream(w)
    assert answer.target == "openai/gpt"
    assert (await read(answer)).endswith(DONE)


@in_world
async def test_a_probe_that_is_silent_leaves_the_others_the_time_that_is_kept_for_them(w: World) -> None:
    await opened_by_cut_streams(w)
    w.provider("aws").ends, w.provider("aws").after, w.provider("aws").pace = [None], None, 1000.0
    began = asyncio.get_running_loop().time()
    answer = await stream(w, seconds=20)
    assert answer.target == "openai/gpt"
    assert asyncio.get_running_loop().time() - began < 16
