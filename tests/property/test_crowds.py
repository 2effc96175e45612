"""Whole worlds under hundreds of requests or names: nothing grows without a bound, nobody suffers for another."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.openai_api.chat import check_request
from tests.clock import run_virtually
from tests.unit.test_failover import in_world, read
from tests.unit.test_functions import Near, answers
from tests.unit.tiers import (
    CONNECT,
    E500,
    TWO,
    ask,
    in_tiers,
)
from tests.unit.world import ARGS, HEAD, REQUEST, World, chunk, world


@in_world
async def test_names_without_end_do_not_fill_the_board(w: World) -> None:
    c = Near(w)
    for number in range(300):
        await c.call_with_failover(f"p{number}", {f"p{number}": answers("x")})
    await c.aclose()
    await w.settle()
    assert len(w.targets()) < 280


@in_world
async def test_names_that_clients_make_up_leave_nothing_behind(w: World) -> None:
    for i in range(1500):
        request = check_request({**REQUEST, "model": f"openai/made-up-{i}", "stream": True})
        await read(await w.service.failover.stream(request, w.service.deadline()))
    await w.settle()
    kept = len(w.breaker.silence._waiting), len(w.breaker.silence._usual)
    assert kept[0] == 0
    assert kept[1] <= 1000


@in_tiers()
async def test_of_two_hundred_streams_a_tenth_that_is_refused_opens_nothing(w: World) -> None:
    aws = w.provider("aws")
    aws.words, aws.pace = ["w"] * 60, 1.0
    streams = []
    for number in range(200):
        aws.ends = [E500] if number % 10 == 9 else [None]
        streams.append(asyncio.create_task(ask(w, stream=True)))
        await asyncio.sleep(0.1)
    aws.ends = [None]
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["ok"]) == ("closed", 20, 0)
    by = [(await each).by for each in streams]
    assert (by.count("aws/haiku"), by.count("openai/gpt")) == (180, 20)


@in_tiers()
async def test_panics_of_a_hundred_requests_a_second_ask_for_each_target_once_a_second(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [CONNECT]
    for _ in range(3):
        await ask(w)
    await w.settle()
    asks, tasks = w.actor.asks, []
    for _ in range(500):
        tasks.append(asyncio.create_task(ask(w)))
        await asyncio.sleep(0.01)
    assert {(await task).by for task in tasks} == {503}
    assert w.actor.asks - asks <= 2 * 2 * (5 + 3), "of two targets, in five seconds and what the last wait for"


@pytest.mark.parametrize("args", [ARGS, TWO], ids=["three tiers", "two tiers"])
@pytest.mark.parametrize("kind", ["first_token", "idle", "empty", "malformed", "server_error", "broken"])
def test_one_clients_requests_that_fail_everywhere_move_nobody_else(args: dict[str, Any], kind: str) -> None:
    """Four of its streams come to nothing at any tier; everybody else, five a second, is answered in 0.2 s."""

    async def stream(provider: str, call: Mapping[str, Any]) -> Any:
        bad = call["body"]["messages"][0]["content"] == "bad"
        await asyncio.sleep(10.0 if bad and kind in ("first_token", "idle") else 0.2)
        if bad:
            yield {"outcome": asdict(Outcome(kind))}
            return
        yield chunk(HEAD, {"content": "x"})
        yield {"usage": None, "tail": b""}

    async def main() -> None:
        async with world(args) as w:
            w.hop.stream = stream  # type: ignore[method-assign]
            others, theirs, states = [], [], set()
            for number in range(200):
                if number == 25:
                    theirs = [asyncio.create_task(ask(w, stream=True, text="bad")) for _ in range(4)]
                others.append(asyncio.create_task(ask(w, stream=True)))
                await asyncio.sleep(0.2)
                states |= {health["state"] for health in w.targets().values()}
            assert states == {"closed"}
            assert Counter([(await each).by for each in others]) == {"aws/haiku": 200}
            tiers = len(w.hop.providers) if args is ARGS else 2
            for each in theirs:
                ended = await each
                assert (ended.by, len(ended.steps)) == (503, tiers)

    run_virtually(main())
