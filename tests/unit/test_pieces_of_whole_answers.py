"""Whole answers that come to their replica in pieces, as the ingress hears of them. On a virtual clock."""

import asyncio

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import DeadlineExceeded
from deployments.rpc.port import PIECE_SECONDS
from tests.unit.test_failover import complete, in_world
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import Script, World

BROKEN = Outcome("broken", content=True, message="cut")


@in_world
async def test_one_that_flows_may_take_its_whole_deadline(w: World) -> None:
    began = asyncio.get_running_loop().time()
    w.provider("aws").pieces = [2.0] * 25
    answer = await complete(w, seconds=60)
    assert answer.target == "aws/haiku"
    assert asyncio.get_running_loop().time() - began == pytest.approx(50)
    [attempt] = [r for r in answer.record.records if r.skipped is None]
    assert attempt.first_ms == 0
    assert w.provider("openai").calls == 0


@in_world
async def test_one_that_says_nothing_has_its_share_of_the_time_alone(w: World) -> None:
    w.provider("aws").seconds = 50
    assert (await complete(w, seconds=60)).target == "openai/gpt"


@in_world
async def test_one_that_still_flows_at_the_deadline_is_late_and_no_failure(w: World) -> None:
    w.provider("aws").pieces = [2.0] * 100
    for _ in range(4):
        with pytest.raises(DeadlineExceeded) as late:
            await complete(w, seconds=60)
        assert [entry["outcome"] for entry in late.value.attempts] == ["deadline"]
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] == "closed"
    assert w.provider("aws").cancelled == 4


@in_world
async def test_one_whose_replica_falls_silent_in_mid_answer_moves_on(w: World) -> None:
    began = asyncio.get_running_loop().time()
    w.provider("aws").pieces = [2.0, 2.0, 1000.0]
    answer = await complete(w, seconds=60)
    assert answer.target == "openai/gpt"
    assert [entry["outcome"] for entry in answer.record.entries] == ["unreachable", "ok"]
    silence = 15 + PIECE_SECONDS + 1
    assert asyncio.get_running_loop().time() - began == pytest.approx(4 + silence)


@in_world
async def test_one_that_breaks_off_is_answered_by_the_next_and_counts_as_a_stream_that_failed(w: World) -> None:
    w.provider("aws").ends = [BROKEN]
    w.provider("aws").pieces = [1.0]
    answer = await complete(w)
    assert answer.target == "openai/gpt"
    assert [r.verdict for r in answer.record.records] == ["failed_stream", "ok"]


@in_world
async def test_a_probe_that_flows_leaves_the_others_their_time(w: World) -> None:
    w.provider("aws").ends = [Outcome("server_error")] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.provider("aws").pieces = [2.0] * 100
    answer = await complete(w, seconds=60)
    assert answer.target == "openai/gpt"
    assert [r.verdict for r in answer.record.records] == ["neutral", "ok"]
    await w.settle()
    assert w.targets()["aws/haiku"]["state"] != "open"


def test_what_came_of_one_that_broke_off_is_in_the_ledger() -> None:
    async def test(x: Ledgered) -> None:
        await x.complete()
        request, (first, second) = x.rows
        assert (first.kind, first.counted, first.content) == ("broken", "estimated", True)
        assert (first.tokens_in or 0) > 0
        assert (first.tokens_out or 0) > 0
        assert (second.kind, request.outcome, request.provider) == ("ok", "ok", "openai")

    with_ledger(test, aws=Script([BROKEN], pieces=[1.0]))
