"""How a request ends when its providers end badly: what is reported, who is asked next. On a virtual clock."""

import asyncio
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer
from deployments.openai_api.chat import DONE
from tests.unit.test_failover import SERVER_ERROR, complete, in_world, outcomes, read, stream
from tests.unit.world import ARGS, World, layout_of

BROKEN = Outcome("broken", content=True, message="cut")
TOO_LONG = Outcome("too_long", status=400, code="context_length_exceeded", message="too many tokens")
BAD = Outcome("bad_request", status=400, message="no prefill here")


async def refused(w: World) -> NoAnswer:
    with pytest.raises(NoAnswer) as caught:
        await complete(w)
    return caught.value


@in_world
async def test_a_prompt_that_is_too_long_is_not_tried_blindly_elsewhere(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    error = await refused(w)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert outcomes(error) == ["aws: too_long"]


@in_world
async def test_the_next_is_asked_where_the_config_says_that_its_window_is_larger(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    w.service.failover.rows.windows = {"aws/haiku": 200_000, "openai/gpt": 128_000, "local/smol": 1_000_000}
    answer = await complete(w)
    assert answer.target == "local/smol"
    assert [e["outcome"] for e in answer.record.entries] == [
        "too_long",
        "skipped: no larger context window",
        "ok",
    ]


@in_world
async def test_when_no_larger_window_is_left_the_client_gets_the_400(w: World) -> None:
    w.provider("aws").ends = [TOO_LONG]
    w.provider("openai").ends = [TOO_LONG]
    w.service.failover.rows.windows = {"aws/haiku": 128_000, "openai/gpt": 200_000}
    error = await refused(w)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert w.provider("local").calls == 0


def test_windows_come_from_the_config_and_the_local_model_tells_its_own() -> None:
    args: dict[str, Any] = {**ARGS, "providers": {**ARGS["providers"]}}
    args["providers"]["openai"] = {"kind": "openai", "context_windows": {"gpt": 400_000}}
    assert layout_of(args).windows() == {"openai/gpt": 400_000, "local/smol": 2048}


@in_world
async def test_a_content_policy_is_returned_as_it_is(w: World) -> None:
    w.provider("aws").ends = [Outcome("content_filter", status=400, code="content_policy_violation", message="no")]
    error = await refused(w)
    assert (error.status, error.code, str(error)) == (400, "content_policy_violation", "no")
    assert w.provider("openai").calls == 0


@in_world
async def test_where_the_first_broke_and_the_next_refuses_the_first_error_is_reported(w: World) -> None:
    w.provider("aws").ends = [BROKEN]
    w.provider("openai").ends = [BAD]
    error = await refused(w)
    assert error.status == 503
    assert "cut" in str(error)
    assert outcomes(error) == ["aws: broken", "openai: bad_request"]


@in_world
async def test_where_the_first_is_known_to_be_dead_the_refusal_of_the_next_is_the_answer(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    w.provider("openai").ends = [BAD]
    error = await refused(w)
    assert (error.status, str(error)) == (400, "no prefill here")


async def opened_by_cut_streams(w: World) -> None:
    w.provider("aws").ends, w.provider("aws").after = [BROKEN], 1
    for _ in range(3):
        assert b"[DONE]" not in await read(await stream(w))
    await asyncio.sleep(75)


@in_world
async def test_a_probe_whose_stream_breaks_costs_no_client_its_answer(w: World) -> None:
    await opened_by_cut_streams(w)
    answer = await stream(w)
    assert answer.target == "openai/gpt"
    assert [e["outcome"] for e in answer.record.entries] == ["broken"]
    assert (await read(answer)).endswith(DONE)
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["probes"]) == ("open", 1)


@in_world
async def test_a_probe_whose_stream_comes_through_is_sent_whole_and_closes_the_circuit(w: World) -> None:
    await opened_by_cut_streams(w)
    w.provider("aws").ends, w.provider("aws").after = [None], None
    answer = await stream(w)
    assert answer.target == "aws/haiku"
    data = await read(answer)
    assert data.count(b'"content"') == 2
    assert data.endswith(DONE)
    assert answer.usage == {"total_tokens": 3}
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed"


@in_world
async def test_a_probe_is_held_back_no_longer_than_a_first_token_may_take(w: World) -> None:
    await opened_by_cut_streams(w)
    w.provider("aws").ends, w.provider("aws").after = [None], None
    w.provider("aws").words, w.provider("aws").pace = ["word"] * 100, 1.0
    began = asyncio.get_running_loop().time()
    answer = await stream(w)
    assert 9.99 <= asyncio.get_running_loop().time() - began <= 11
    assert (await read(answer)).count(b'"content"') == 100


@in_world
async def test_a_reader_that_leaves_while_a_probe_is_held_back_gives_its_permit_back(w: World) -> None:
    await opened_by_cut_streams(w)
    w.provider("aws").ends, w.provider("aws").after, w.provider("aws").pace = [None], None, 5.0
    reader = asyncio.create_task(stream(w))
    await asyncio.sleep(1)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await w.settle()
    assert w.provider("aws").cancelled == 1
    assert not w.actor.board.snapshot(w.actor.now)["aws/haiku"]["probing_for"]


@in_world
async def test_new_requests_go_round_a_target_whose_streams_have_all_fallen_silent(w: World) -> None:
    w.provider("aws").pace = 0.01
    for _ in range(200):
        await read(await stream(w))
    w.provider("aws").pace = 1000.0
    lost = [asyncio.create_task(read(await stream(w))) for _ in range(2)]
    await asyncio.sleep(0.5)
    assert (await stream(w)).target == "openai/gpt"
    assert b"stream_interrupted" in b"".join(await asyncio.gather(*lost))
    await w.settle()
    assert (await stream(w)).target == "aws/haiku", "two failures open nothing"
