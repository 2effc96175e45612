"""Random histories, each from a seed: nothing is left when all is over."""

import asyncio
import random

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import BreakwaterError
from tests.clock import run_virtually
from tests.unit.tiers import CONNECT, E500, TWO, Ended, ask, nothing_is_left
from tests.unit.world import World, world

ENDS = [
    None,
    None,
    E500,
    CONNECT,
    Outcome("throttled", retry_after=1.0),
    Outcome("lost"),
    Outcome("bad_request", status=400),
]
COMMANDS = ["isolate", "restore", "recover", "reset"]


def disturb(w: World, rnd: random.Random) -> None:
    for name in ("aws", "openai"):
        script = w.provider(name)
        script.ends, script.after = [rnd.choice(ENDS)], rnd.choice([None, None, 1])
        script.seconds, script.pace = rnd.choice([0.0, 0.01, 3.0, 20.0]), rnd.choice([0.0, 0.5, 20.0])
    w.actor.slow = rnd.choice([0.0, 0.0, 0.03, 0.06])


def some_request(w: World, rnd: random.Random) -> "asyncio.Task[Ended]":
    model, seconds = rnd.choice(["default", "solo", "second"]), rnd.choice([None, 1.0, 5.0, 20.0])
    request = asyncio.create_task(ask(w, model, seconds, stream=rnd.random() < 0.6))
    if rnd.random() < 0.4:
        at = rnd.choice([0.0, 0.001, 0.03, 0.051, 1.0, 9.9, 14.0])
        asyncio.get_running_loop().call_later(at, request.cancel)
    return request


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_sixty_requests_nothing_of_them_is_left(seed: int) -> None:
    """Failures, breaks, hangs, commands, an actor that is slow, readers that leave."""

    async def main() -> None:
        rnd = random.Random(seed)
        async with world(TWO) as w:
            requests = []
            for _ in range(60):
                disturb(w, rnd)
                if rnd.random() < 0.1:
                    await w.breaker.call("command", rnd.choice(COMMANDS), rnd.choice(["aws", "openai"]))
                requests.append(some_request(w, rnd))
                await asyncio.sleep(rnd.choice([0.0, 0.01, 1.0, 10.0, 70.0]))
            w.actor.slow = 0.0
            ended = await asyncio.gather(*requests, return_exceptions=True)
            odd = [e for e in ended if isinstance(e, Exception) and not isinstance(e, BreakwaterError)]
            assert odd == []
            assert {e.by for e in ended if isinstance(e, Ended)} <= {
                *("aws/haiku", "aws/sonnet", "openai/gpt"),
                *(400, 429, 503, 504),
            }
            await asyncio.sleep(3)
            assert nothing_is_left(w)
            assert not w.breaker._permits.kept
            assert (w.breaker._line._waits, w.breaker._line._lines) == ({}, {})
            for script in w.hop.providers.values():
                script.ends, script.after, script.seconds, script.pace = [None], None, 0.0, 0.0
            for provider in ("aws", "openai"):
                await w.breaker.call("command", "reset", provider)
            await w.settle()
            assert (await ask(w)).by == "aws/haiku"

    run_virtually(main())
