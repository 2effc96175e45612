"""What a request is told when nobody may be asked, and what the circuits make of what is nobody's failure."""

import asyncio
from typing import Any

import pytest

from actors.breaker.circuit import State
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.registry import GUESTS
from deployments.breaker_client.client import FIRST_PAUSE
from deployments.errors import NoAnswer
from deployments.openai_api.chat import check_request
from deployments.python_api.guarded_functions import Functions
from deployments.routing.image_fetch import ImageFetcher
from tests.clock import run_virtually
from tests.unit.test_circuit import Circuit
from tests.unit.tiers import E500, REST_SECONDS, TWO, ask, in_tiers, nothing_is_left, opened, state
from tests.unit.world import ARGS, World, world

THROTTLED = Outcome("throttled", status=429, retry_after=8.0)

# Everybody throttles, or is isolated.


@in_tiers()
async def test_while_all_throttle_every_request_is_told_429_and_for_how_long(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [THROTTLED]
    first = await ask(w)
    assert (first.by, first.steps, first.retry_after) == (429, ["aws: throttled", "openai: throttled"], 8.0)
    await w.settle()
    for _ in range(5):
        await asyncio.sleep(1)
        ended = await ask(w)
        assert (ended.by, ended.steps) == (429, ["aws: skipped: throttled", "openai: skipped: throttled"])
    assert ended.retry_after == pytest.approx(8 - 5 - 0.6, abs=0.05)
    assert (w.provider("aws").calls, w.provider("openai").calls) == (1, 1)


@in_tiers(ARGS)
async def test_where_one_is_isolated_and_the_others_throttle_it_is_a_503_that_tells_each_reason(w: World) -> None:
    await w.breaker.call("command", "isolate", "aws")
    await w.settle()
    w.provider("openai").ends = w.provider("local").ends = [THROTTLED]
    assert [(await ask(w)).steps for _ in range(2)] == [
        ["aws: skipped: isolated", "openai: throttled", "local: throttled"],
        ["aws: skipped: isolated", "openai: skipped: throttled", "local: skipped: throttled"],
    ]
    ended = await ask(w)
    assert ended.by == 503
    assert ended.retry_after == pytest.approx(8, abs=0.1)


@in_tiers()
async def test_one_that_throttles_beside_one_that_is_open_is_no_429(w: World) -> None:
    await opened(w, "openai", "solo")
    w.provider("openai").ends = [E500]
    w.provider("aws").ends = [THROTTLED]
    assert (await ask(w)).by == 503


@in_tiers(ARGS)
async def test_where_all_are_isolated_the_client_is_told_when_the_first_comes_back(w: World) -> None:
    for name, seconds in (("aws", 3600.0), ("openai", 1800.0), ("local", 7200.0)):
        await w.breaker.call("command", "isolate", name, seconds)
    await w.settle()
    ended = await ask(w)
    assert (ended.by, ended.seconds) == (503, 0.0)
    assert ended.retry_after == pytest.approx(1800 - 0.6, abs=0.01)


@pytest.mark.parametrize(
    ("said", "held"), [(0.0, 1.0), (1e12, 300.0), (float("inf"), 300.0), (float("nan"), 5.0), (-5.0, 5.0)]
)
@in_tiers()
async def test_whatever_a_provider_says_of_when_to_come_back_it_is_between_a_second_and_five_minutes(
    w: World, said: float, held: float
) -> None:
    w.provider("aws").ends = [Outcome("throttled", status=429, retry_after=said)]
    assert (await ask(w)).by == "openai/gpt"
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["reason"]) == ("open", "throttled")
    assert health["retry_in_seconds"] == pytest.approx(held - 0.6, abs=0.001)


# Whoever refuses a request has answered.


@pytest.mark.parametrize("kind", ["bad_request", "too_long", "content_filter"])
@in_tiers()
async def test_a_probe_that_is_refused_for_what_was_asked_opens_nothing_however_often(w: World, kind: str) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    w.provider("openai").ends = [Outcome(kind, status=400)]
    for _ in range(12):
        assert (await ask(w, "solo")).by == 400
        await w.settle()
        assert state(w, "openai/gpt") == "half_open"
    assert nothing_is_left(w)
    w.provider("openai").ends = [None]
    assert (await ask(w, "solo")).by == "openai/gpt"
    await w.settle()
    assert state(w, "openai/gpt") == "closed"


def test_a_circuit_takes_any_number_of_refusals_of_its_probe_and_a_fifth_that_says_nothing_opens_it() -> None:
    circuit = Circuit()
    lease: str | None = circuit.probing()
    for verdict in [Verdict.REFUSED, Verdict.NEUTRAL] * 5:
        circuit.report(verdict, lease=lease)
        lease = circuit.ask()
    assert (circuit.b.state, circuit.b.reason) == (State.OPEN, "inconclusive")


@in_tiers()
async def test_no_refusal_moves_a_closed_circuit(w: World) -> None:
    w.provider("aws").ends = [Outcome("bad_request", status=400)]
    for _ in range(30):
        assert (await ask(w)).by == 400
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["neutral"]) == ("closed", 0, 30)


# ImageFetcher are the request's own.

CLOUDS: dict[str, Any] = {
    "providers": {
        "aws": {"kind": "bedrock", "region": "us-east-1"},
        "g": {"kind": "google"},
        "aws2": {"kind": "bedrock", "region": "eu-west-1"},
    },
    "models": {"default": {"aws": "haiku", "g": "gemini", "aws2": "haiku"}},
}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
LOOK = check_request({"model": "default", "messages": [{"role": "user", "content": [PICTURE]}]})


class SlowImages(ImageFetcher):
    """Each takes so many seconds."""

    def __init__(self, w: World, seconds: float):
        super().__init__(w.service.failover._images._limits)
        w.service.failover._images = self
        self.seconds = seconds
        self.began = 0

    async def _download(self, url: str, budget: Any, caller: str | None) -> bytes:
        self.began += 1
        await asyncio.sleep(self.seconds)
        return b"\x89PNG\r\n\x1a\n"


async def look(w: World, seconds: float | None = None) -> Any:
    return await w.service.failover.complete(LOOK, w.service.deadline(seconds))


@in_tiers(CLOUDS)
async def test_an_image_is_fetched_once_however_many_tiers_are_asked(w: World) -> None:
    images, began = SlowImages(w, 3.0), w.actor.now
    w.provider("aws").ends = w.provider("g").ends = [E500]
    assert (await look(w)).target == "aws2/haiku"
    assert (images.began, w.actor.now - began) == (1, 3.0)


@in_tiers(CLOUDS)
async def test_an_image_that_cannot_be_had_is_asked_for_once_and_no_tier_is_to_blame(w: World) -> None:
    images = SlowImages(w, 1000.0)
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    with pytest.raises(NoAnswer) as caught:
        await look(w)
    assert (caught.value.status, caught.value.code) == (400, "invalid_image_url")
    assert [a["outcome"] for a in caught.value.attempts] == ["unsupported"] * 3
    assert images.began == 1
    await w.settle()
    assert [(h["state"], h["failed"]) for h in w.targets().values()] == [("open", 3), ("closed", 0), ("closed", 0)]
    assert (w.actor.asks, nothing_is_left(w)) == (0, True)


def test_an_image_that_takes_long_is_no_part_of_the_time_of_a_probe() -> None:
    async def main() -> None:
        async with world({**TWO, "images": {"seconds": 15}}) as w:
            await opened(w, "aws")
            await asyncio.sleep(REST_SECONDS)
            SlowImages(w, 12.0)
            w.provider("aws").seconds = 25.0
            assert w.actor.board.policy.lease < 12 + 25
            assert (await look(w)).target == "aws/haiku"
            await w.settle()
            health = w.targets()["aws/haiku"]
            assert (health["state"], health["probes"], health["late_reports"]) == ("closed", 1, 0)

    run_virtually(main())


@in_tiers(CLOUDS)
async def test_while_an_image_is_fetched_no_permit_is_held(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    SlowImages(w, 4.0)
    slow = asyncio.create_task(look(w))
    await asyncio.sleep(1)
    assert (await ask(w)).by == "aws/haiku"
    assert w.actor.asks == 1
    await slow
    assert nothing_is_left(w)


@in_tiers(CLOUDS)
async def test_a_deadline_that_ends_while_an_image_is_fetched_moves_nothing(w: World) -> None:
    SlowImages(w, 4.0)
    for _ in range(5):
        with pytest.raises(NoAnswer) as caught:
            await look(w, seconds=1.0)
        assert caught.value.status == 504
    await w.settle()
    assert {(h["state"], h["failed"]) for h in w.targets().values()} == {("closed", 0)}
    assert [script.calls for script in w.hop.providers.values()] == [0, 0, 0]


# The link and an actor of an older incarnation.


@in_tiers()
async def test_an_older_incarnation_is_asked_ever_less_often_and_its_sight_is_not_taken(w: World) -> None:
    polls, real = 0, w.actor.watch

    async def watch(seen: tuple[int, int] | None) -> dict[str, Any]:
        nonlocal polls
        polls += 1
        return await real(seen)

    w.actor.watch = watch  # type: ignore[method-assign]
    w.breaker._version = (2, 0)
    await w.breaker.call("command", "isolate", "aws", 600.0)
    await asyncio.sleep(60)
    assert 60 <= polls <= 70, f"after {FIRST_PAUSE} s, twice as long each time, and then once a second"
    assert (await ask(w)).by == "aws/haiku"
    w.actor.incarnation = 3
    w.actor.start(w.service.breaker_config())
    await asyncio.sleep(2)
    assert w.breaker.incarnation == 3


# Functions of other apps, more of them than there are circuits.


@in_tiers()
async def test_a_function_that_fails_has_a_circuit_though_another_app_had_names_without_end(w: World) -> None:
    functions = Functions(w.service)
    for batch in range(5):
        await functions.begin([f"openai/user-{batch}-{number}" for number in range(64)])
        await w.settle()
    freely, probes = 0, 0
    for _ in range(20):
        [candidate] = (await functions.begin(["openai/billing-agent"]))["candidates"]
        probes += "lease" in candidate["permit"]
        freely += "lease" not in candidate["permit"]
        await functions.report([{"target": candidate["target"], "kind": "connect", **candidate["permit"]}])
        await w.settle()
    assert (freely, probes) == (3, 17), "then there is nobody else to call, and it is woken once a second"
    assert state(w, "openai/functions/billing-agent") == "open"
    assert len(w.actor.board.breakers) <= GUESTS + 3


# Commands and odd deadlines.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("verb", "after"), [("isolate", "isolated"), ("recover", "half_open"), ("reset", "closed"), ("restore", "closed")]
)
@in_tiers()
async def test_a_command_while_a_call_is_under_way_loses_neither_its_answer_nor_its_place(
    w: World, verb: str, after: str, stream: bool
) -> None:
    openai = w.provider("openai")
    openai.seconds, openai.words, openai.pace = 1.0, ["w"] * 10, 0.5
    call = asyncio.create_task(ask(w, "solo", stream=stream))
    await asyncio.sleep(0.5)
    await w.breaker.call("command", verb, "openai")
    ended = await call
    assert (ended.by, ended.steps) == ("openai/gpt", ["openai: ok"])
    await w.settle()
    assert nothing_is_left(w)
    health = w.targets()["openai/gpt"]
    assert ("isolated" if health["isolated"] else health["state"]) == after


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("seconds", "by", "took"),
    [(1e-9, 504, 0.0), (1e-3, 504, 0.001), (1e9, "aws/haiku", 0.5), (1.7e308, "aws/haiku", 0.5)],
)
@in_tiers()
async def test_a_deadline_may_be_as_short_or_as_long_as_numbers_are(
    w: World, seconds: float, by: str | int, took: float, stream: bool
) -> None:
    for script in w.hop.providers.values():
        script.seconds = 0.5
    ended = await ask(w, seconds=seconds, stream=stream)
    assert ended.by == by
    assert ended.seconds == pytest.approx(took, abs=0.002)
    await w.settle()
    assert nothing_is_left(w)
    assert {h["failed"] for h in w.targets().values()} == {0}
