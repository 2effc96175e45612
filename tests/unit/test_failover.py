"""One request through plan, attempts and reports, on a virtual clock."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.breaker.outcomes import ENDINGS, Outcome
from deployments.errors import BadRequest, DeadlineExceeded, NoAnswer, UnknownModel
from deployments.failover.streams.answer import StreamAnswer
from deployments.openai_api.chat import DONE, check_request
from tests.clock import run_virtually
from tests.unit.tiers import E500
from tests.unit.world import REQUEST, Script, World, world

SERVER_ERROR = Outcome("server_error", status=500, message="no")
CONNECT = Outcome("connect", message="refused")


def in_world(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    """The test runs in a world of its own, on a virtual clock."""

    def run() -> None:
        async def main() -> None:
            async with world() as w:
                await test(w)

        run_virtually(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def complete(w: World, model: str = "default", seconds: float | None = None) -> Any:
    return await w.service.failover.complete(check_request({**REQUEST, "model": model}), w.service.deadline(seconds))


async def stream(w: World, seconds: float | None = None) -> StreamAnswer:
    return await w.service.failover.stream(check_request({**REQUEST, "stream": True}), w.service.deadline(seconds))


async def read(answer: StreamAnswer) -> bytes:
    try:
        return b"".join([data async for data in answer.frames()])
    finally:
        await answer.close()


def outcomes(error: NoAnswer) -> list[str]:
    return [f"{a['provider']}: {a['outcome']}" for a in error.attempts]


@in_world
async def test_the_first_of_the_row_answers(w: World) -> None:
    answer = await complete(w)
    assert answer.target == "aws/haiku"
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "aws says hello"
    assert answer.record.made == 1
    assert w.provider("openai").calls == 0


@in_world
async def test_a_failed_primary_is_answered_by_the_next(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    answer = await complete(w)
    assert answer.target == "openai/gpt"
    assert [e["outcome"] for e in answer.record.entries] == ["server_error", "ok"]


@pytest.mark.parametrize("kind", [k for k, e in ENDINGS.items() if k != "ok"])
def test_the_table_says_who_may_help(kind: str) -> None:
    async def main() -> None:
        async with world(aws=Script([Outcome(kind)])) as w:
            if ENDINGS[kind].failover:
                assert (await complete(w)).target == "openai/gpt"
                return
            with pytest.raises(NoAnswer) as caught:
                await complete(w)
            assert outcomes(caught.value) == [f"aws: {kind}"]
            assert 400 <= caught.value.status < 500
            assert w.provider("openai").calls == 0

    run_virtually(main())


@in_world
async def test_three_failures_open_and_the_fourth_request_does_not_touch_the_dead(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(10):
        assert (await complete(w)).target == "openai/gpt"
    assert w.provider("aws").calls == 3, "no request may race the breaker's own news"
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "open"


@in_world
async def test_after_sixty_seconds_one_request_probes_and_the_primary_is_back(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(59)
    assert (await complete(w)).target == "openai/gpt"
    await asyncio.sleep(15)
    w.provider("aws").seconds = 1.0
    answers = await asyncio.gather(*(complete(w) for _ in range(20)))
    assert sorted(a.target for a in answers) == ["aws/haiku"] + ["openai/gpt"] * 19
    assert w.provider("aws").calls == 4, "one probe of twenty callers"
    await w.settle()
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_a_failed_probe_is_answered_by_the_next_and_nobody_probes_again_soon(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    assert (await complete(w)).target == "openai/gpt"
    assert w.provider("aws").calls == 4
    await w.settle()
    await asyncio.sleep(100)
    await complete(w)
    assert w.provider("aws").calls == 4


@in_world
async def test_a_probe_that_is_cancelled_gives_its_permit_back(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").seconds = 5.0
    task = asyncio.create_task(complete(w))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert w.provider("aws").cancelled == 1
    await w.settle()
    w.provider("aws").seconds = 0.0
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_a_throttled_primary_rests_as_long_as_it_said(w: World) -> None:
    w.provider("aws").ends = [Outcome("throttled", status=429, retry_after=2.0), None]
    assert (await complete(w)).target == "openai/gpt"
    await asyncio.sleep(1.8)
    assert (await complete(w)).target == "openai/gpt"
    await asyncio.sleep(0.3)
    assert (await complete(w)).target == "aws/haiku"
    assert w.provider("aws").calls == 2


@in_world
async def test_a_silent_provider_costs_its_limit_and_the_next_answers(w: World) -> None:
    w.provider("aws").seconds = 1000.0
    began = w.actor.now
    answer = await stream(w)
    assert answer.target == "openai/gpt"
    # first token 10, connect 3, and a second for the replica to say so itself
    assert w.actor.now - began == pytest.approx(14, abs=0.1)
    await read(answer)


@in_world
async def test_the_deadline_keeps_a_share_for_the_last_tier(w: World) -> None:
    for name in ("aws", "openai"):
        w.provider(name).seconds = 1000.0
    began = w.actor.now
    answer = await complete(w, seconds=20)
    assert answer.target == "local/smol"
    assert w.actor.now - began == pytest.approx(10 + 20 / 3), "a half, then two thirds of the rest"


@in_world
async def test_a_callers_short_deadline_is_a_typed_504_and_moves_no_breaker(w: World) -> None:
    for script in w.hop.providers.values():
        script.seconds = 1.0
    for _ in range(5):
        began = w.actor.now
        with pytest.raises(DeadlineExceeded) as caught:
            await complete(w, seconds=0.05)
        assert caught.value.status == 504
        assert w.actor.now - began <= 0.1
    await w.settle()
    assert {t["state"] for t in w.targets().values()} == {"closed"}
    assert all(t["consecutive_failures"] == 0 for t in w.targets().values())


@in_world
async def test_when_all_are_down_every_attempt_is_listed(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [CONNECT]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    error = caught.value
    assert (error.status, error.code) == (503, "no_provider_available")
    assert outcomes(error) == ["aws: connect", "openai: connect", "local: connect"]
    assert error.retry_after is not None


async def all_down(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [CONNECT]
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await complete(w)
    await w.settle()
    assert {t["state"] for t in w.targets().values()} == {"open"}


@in_world
async def test_with_every_circuit_open_each_target_is_tried_once_a_second_at_most(w: World) -> None:
    await all_down(w)
    began = w.actor.now

    async def refused() -> NoAnswer:
        with pytest.raises(NoAnswer) as caught:
            await complete(w)
        return caught.value

    for _ in range(10):
        errors = await asyncio.gather(*(refused() for _ in range(5)))
        await asyncio.sleep(0.25)
    assert all(1 <= (error.retry_after or 0) <= 144 for error in errors)
    assert [script.calls for script in w.hop.providers.values()] <= [3 + 1 + int(w.actor.now - began)] * 3


@in_world
async def test_a_request_that_finds_every_circuit_open_asks_each_that_merely_failed(w: World) -> None:
    await all_down(w)
    w.provider("local").ends = [None]
    await asyncio.sleep(1)
    assert (await complete(w)).target == "local/smol"


@in_world
async def test_requests_that_find_a_lone_target_being_probed_are_answered_after_the_probe(w: World) -> None:
    w.provider("openai").ends = [CONNECT]
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await complete(w, model="solo")
    await asyncio.sleep(75)
    w.provider("openai").ends, w.provider("openai").seconds = [None], 1.0
    answers = await asyncio.gather(*(complete(w, model="solo") for _ in range(10)))
    assert {answer.target for answer in answers} == {"openai/gpt"}
    assert w.actor.asks == 1


@in_world
async def test_nobody_waits_where_there_is_nothing_to_hope_for(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [Outcome("throttled", retry_after=100.0)]
    began = w.actor.now
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await complete(w)
    assert w.actor.now == began


@in_world
async def test_a_target_that_heals_while_all_are_open_is_found_before_its_time(w: World) -> None:
    await all_down(w)
    w.provider("aws").ends = [None]
    await asyncio.sleep(1)
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_a_throttled_or_misconfigured_target_is_never_woken_by_panic(w: World) -> None:
    w.provider("aws").ends = [Outcome("throttled", retry_after=100.0)]
    w.provider("openai").ends = [Outcome("credential")]
    w.provider("local").ends = [Outcome("throttled", retry_after=100.0)]
    for _ in range(10):
        with pytest.raises(NoAnswer):
            await complete(w)
        await asyncio.sleep(2)
    assert [script.calls for script in w.hop.providers.values()] == [1, 1, 1]


@in_world
async def test_a_request_that_makes_every_model_fail_opens_no_circuit(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [SERVER_ERROR]
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await complete(w)
    await w.settle()
    assert [t["state"] for t in w.targets().values()] == ["closed", "closed", "closed"]


@in_world
async def test_a_circuit_that_has_closed_gets_its_traffic_back_bit_by_bit(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    assert (await complete(w)).target == "aws/haiku"
    await w.settle()
    w.breaker._draw = lambda: 0.5
    assert (await complete(w)).target == "openai/gpt"
    await asyncio.sleep(10)
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_a_probe_that_streams_for_minutes_keeps_its_lease_and_closes(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").words, w.provider("aws").pace = ["word"] * 30, 10.0
    answer = await stream(w)
    assert answer.target == "aws/haiku"
    assert (await read(answer)).endswith(DONE)
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["probes"]) == ("closed", 1)


@in_world
async def test_what_a_tier_that_is_out_could_do_is_no_fault_of_the_client(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    w.provider("openai").ends = [SERVER_ERROR]
    w.provider("local").ends = [Outcome("too_long", status=400, code="context_length_exceeded")]
    for _ in range(5):
        with pytest.raises(NoAnswer) as caught:
            await complete(w)
        assert caught.value.status == 503, "the same request may well be answered in a minute"


@in_world
async def test_every_tier_has_a_share_of_the_time_that_is_left(w: World) -> None:
    for name in ("aws", "openai"):
        w.provider(name).seconds = 1000.0
    answer = await complete(w, seconds=10)
    assert answer.target == "local/smol"
    assert [e["outcome"] for e in answer.record.entries] == ["deadline", "deadline", "ok"]
    assert [e["ms"] for e in answer.record.entries] == pytest.approx([5000, 10000 / 3, 0], abs=0.1)


@in_world
async def test_a_pin_of_what_cannot_be_is_the_clients_fault(w: World) -> None:
    with pytest.raises(UnknownModel):
        await complete(w, model="local/gpt-4")
    for bad in ("openai/\u65e5\u672c", "openai/a b", "openai/a\r\nb"):
        with pytest.raises(BadRequest):
            await complete(w, model=bad)
    w.provider("openai").ends = [Outcome("model_missing", status=404)]
    for _ in range(4):
        with pytest.raises(NoAnswer) as caught:
            await complete(w, model="openai/typo")
        assert caught.value.status == 404
    assert not w.breaker._own, "names that clients make up are not remembered"


@in_world
async def test_when_all_throttle_the_client_is_told_429(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [Outcome("throttled", status=429, retry_after=7.0)]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)


@in_world
async def test_what_no_tier_can_do_is_a_400_that_names_it(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [Outcome("unsupported", param="tools", message="not here")]
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    assert (caught.value.status, caught.value.param) == (400, "tools")


@in_world
async def test_an_unknown_model_names_the_known_ones_and_asks_nobody(w: World) -> None:
    with pytest.raises(UnknownModel, match="default, solo"):
        await complete(w, model="gpt-17")
    assert all(script.calls == 0 for script in w.hop.providers.values())


@in_world
async def test_a_pinned_target_has_no_failover(w: World) -> None:
    assert (await complete(w, model="openai/some-new-model")).target == "openai/some-new-model"
    w.provider("openai").ends = [SERVER_ERROR]
    with pytest.raises(NoAnswer) as caught:
        await complete(w, model="openai/gpt")
    assert outcomes(caught.value) == ["openai: server_error"]


@in_world
async def test_a_stream_ends_with_done(w: World) -> None:
    data = await read(await stream(w))
    assert data.endswith(DONE)
    assert data.count(b"[DONE]") == 1
    await w.settle()
    assert w.targets()["aws/haiku"]["ok"] == 1


@in_world
async def test_before_the_first_content_a_stream_fails_over(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    answer = await stream(w)
    assert (answer.target, answer.record.made) == ("openai/gpt", 2)
    assert (await read(answer)).endswith(DONE)


@in_world
async def test_a_cut_stream_ends_with_an_error_frame_and_no_done(w: World) -> None:
    w.provider("aws").ends, w.provider("aws").after = [Outcome("broken", content=True, message="cut")], 1
    data = await read(await stream(w))
    assert b"[DONE]" not in data
    last = json.loads(data.strip().rsplit(b"\n\n", 1)[1].removeprefix(b"data: "))
    assert last["error"]["code"] == "stream_interrupted"
    assert [a["outcome"] for a in last["error"]["attempts"]] == ["broken"]
    assert w.provider("openai").calls == 0


@in_world
async def test_three_cut_streams_open_the_circuit(w: World) -> None:
    w.provider("aws").ends, w.provider("aws").after = [Outcome("broken", content=True)], 1
    for _ in range(3):
        await read(await stream(w))
    assert (await stream(w)).target == "openai/gpt"


@in_world
async def test_a_flowing_stream_is_cut_by_no_limit_but_the_callers_own(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["word"] * 20, 10.0
    assert (await read(await stream(w))).endswith(DONE)

    data = await read(await stream(w, seconds=30))
    assert b"[DONE]" not in data
    assert b'"code":"deadline_exceeded"' in data
    assert w.provider("aws").cancelled == 1


@in_world
async def test_a_replica_that_falls_silent_in_mid_stream_ends_in_a_typed_error(w: World) -> None:
    w.provider("aws").pace = 1000.0
    data = await read(await stream(w))
    assert b"[DONE]" not in data
    assert b"stream_interrupted" in data


@in_world
async def test_a_reader_that_goes_away_frees_the_provider_and_moves_nothing(w: World) -> None:
    w.provider("aws").pace = 1.0
    answer = await stream(w)
    frames = answer.frames()
    await anext(frames)
    await frames.aclose()
    await answer.close()
    assert w.provider("aws").cancelled == 1
    unread = await stream(w)
    await unread.close()
    assert w.provider("aws").cancelled == 2
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["neutral"]) == ("closed", 0, 2)


@in_world
async def test_a_healthy_request_asks_the_actor_nothing(w: World) -> None:
    for _ in range(100):
        await complete(w)
    assert w.actor.asks == 0


@in_world
async def test_a_permit_is_asked_for_when_its_turn_comes(w: World) -> None:
    w.provider("openai").ends = [CONNECT] * 3 + [None]
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await complete(w, model="solo")
    await asyncio.sleep(75)
    assert (await complete(w)).target == "aws/haiku"
    assert w.actor.asks == 0, "openai is due, but nobody needs it"
    w.provider("aws").ends = [SERVER_ERROR]
    assert (await complete(w)).target == "openai/gpt"
    assert w.actor.asks == 1


@in_world
async def test_a_probe_that_flows_lets_the_others_in_however_slow_its_reader_is(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").words, w.provider("aws").pace = ["word"] * 20, 1.0  # longer than it is held back
    answer = await stream(w)
    frames = answer.frames()
    await anext(frames)
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed"
    assert (await complete(w)).target == "aws/haiku"
    await frames.aclose()
    await answer.close()


@in_world
async def test_a_probe_that_let_others_in_and_breaks_afterwards_opens_its_circuit_again(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [Outcome("broken", content=True)]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").words, w.provider("aws").pace, w.provider("aws").after = ["word"] * 20, 1.0, 15
    answer = await stream(w)
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed"
    await read(answer)
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "open"


@in_world
async def test_an_isolated_provider_can_not_be_pinned_either(w: World) -> None:
    await w.service.operations.command("isolate", "openai")
    await w.settle()
    with pytest.raises(NoAnswer) as caught:
        await complete(w, model="openai/some-other-model")
    assert outcomes(caught.value) == ["openai: skipped: isolated"]
    assert w.provider("openai").calls == 0


@in_world
async def test_a_stream_that_fails_before_its_content_is_let_go_of_at_once(w: World) -> None:
    """Not only when the garbage collector finds it: its source may be no generator."""
    closed: list[str] = []
    streams = w.hop.stream

    class Source:
        def __init__(self, provider: str, call: Any):
            self._provider, self._items = provider, streams(provider, call)

        async def __anext__(self) -> bytes | dict[str, Any]:
            return await anext(self._items)

        async def aclose(self) -> None:
            closed.append(self._provider)
            await self._items.aclose()

    w.hop.stream = Source  # type: ignore[method-assign, assignment]
    w.provider("aws").ends = [E500]
    answer = await stream(w)
    assert closed == ["aws"]
    await answer.close()
    assert closed == ["aws", "openai"]
