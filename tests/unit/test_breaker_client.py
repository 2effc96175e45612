"""The ingress's end of the actor: what happens while the actor is slow, away, or another."""

import asyncio
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from actors.breaker.circuit import Policy, State
from actors.breaker.messages import Permit
from actors.breaker.outcomes import Outcome
from actors.breaker.plan import UNKNOWN_CIRCUIT
from actors.metrics import NoMeter
from deployments.breaker_client.actor_connection import ActorCall, ActorConnection
from deployments.breaker_client.waiting import may_ask
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR, complete, in_world
from tests.unit.world import World, world


@in_world
async def test_requests_go_on_while_the_actor_is_away(w: World) -> None:
    w.actor.kill()
    for _ in range(50):
        assert (await complete(w)).target == "aws/haiku"
        await asyncio.sleep(0.1)


@in_world
async def test_an_outage_that_begins_while_the_actor_is_away_costs_three_calls_each_ten_seconds(w: World) -> None:
    w.actor.kill()
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(90):
        assert (await complete(w)).target == "openai/gpt"
        await asyncio.sleep(0.1)
    assert w.provider("aws").calls == 3


@in_world
async def test_the_local_word_never_adds_a_target_that_the_actor_holds_open(w: World) -> None:
    await w.service.operations.command("isolate", "aws")
    await w.settle()
    w.actor.kill()
    for _ in range(30):
        assert (await complete(w)).target == "openai/gpt"
        await asyncio.sleep(1)
    assert w.provider("aws").calls == 0


@in_world
async def test_reports_wait_for_the_actor_and_count_once(w: World) -> None:
    w.actor.away = True
    for _ in range(5):
        await complete(w)
    await asyncio.sleep(1)
    w.actor.away = False
    await asyncio.sleep(2)
    assert w.targets()["aws/haiku"]["ok"] == 5


@in_world
async def test_a_full_buffer_forgets_old_successes_before_any_failure(w: World) -> None:
    w.actor.kill()
    await asyncio.sleep(1)
    permit = {"epoch": 0, "incarnation": 1}
    w.breaker.reports._most = 100
    for n in range(50):  # a failure between successes keeps them from being merged
        w.breaker.report("local/smol", permit, Outcome("ok", content=True), 1.0, whole=True)
        w.breaker.report("local/smol", permit, Outcome("connect", message=str(n)), 1.0)
    for n in range(10):
        w.breaker.report("local/smol", permit, Outcome("connect", message=f"late {n}"), 1.0)
    held = list(w.breaker.reports._buffer)
    assert len(held) == 100
    assert sum(item["verdict"] == "failed_start" for item in held) == 60


@in_world
async def test_an_actor_that_starts_anew_is_followed_and_old_reports_are_late(w: World) -> None:
    w.provider("aws").seconds = 3.0
    task = asyncio.create_task(complete(w))
    await asyncio.sleep(0.5)
    w.actor.kill()
    await asyncio.sleep(1)
    w.actor.incarnation += 1
    w.actor.start(w.service.breaker_config())
    w.actor.away = False
    await task
    await w.settle()
    assert w.breaker.incarnation == 2
    health = w.targets()["aws/haiku"]
    assert health["late_reports"] == 1


@in_world
async def test_a_sight_of_an_older_incarnation_is_not_taken(w: World) -> None:
    policy = asdict(Policy())
    w.breaker._take({"version": (7, 1), "policy": policy, "targets": w.actor.board.snapshot(w.actor.now)})
    isolated = {t: {**s, "mode": "isolated"} for t, s in w.actor.board.snapshot(w.actor.now).items()}
    w.breaker._take({"version": (6, 99), "policy": policy, "targets": isolated})
    assert w.breaker.incarnation == 7
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_an_operators_word_holds_at_once_though_the_parked_answer_hangs(w: World) -> None:
    assert (await complete(w)).target == "aws/haiku"
    w.actor.incarnation += 1
    w.actor.start(w.service.breaker_config())  # nobody tells who is parked at the one before
    await w.service.operations.command("isolate", "aws")
    assert (await complete(w)).target == "openai/gpt"


@in_world
async def test_a_permit_that_comes_too_late_is_given_back(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.actor.slow = 0.2
    began = w.actor.now
    assert (await complete(w)).target == "openai/gpt"
    assert w.actor.now - began <= 0.06, "nobody waits for the actor for more than 50 ms"
    w.actor.slow = 0.0
    await asyncio.sleep(1)
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_one_ask_is_under_way_at_a_time(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(75)
    w.actor.slow = 0.03
    await asyncio.gather(*(complete(w) for _ in range(20)))
    assert w.actor.asks == 1


@in_world
async def test_successes_are_merged_but_never_across_a_failure(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR, SERVER_ERROR, None, SERVER_ERROR, SERVER_ERROR, None]
    for _ in range(10):
        await complete(w)
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["ok"], health["failed"]) == ("closed", 6, 4)


def test_before_the_actors_first_word_the_configured_order_holds() -> None:
    async def main() -> None:
        async with world() as w:
            w.breaker._seen = {}
            assert [c.target for c in w.breaker.plan(["a/x", "b/y"]).candidates] == ["a/x", "b/y"]

    run_virtually(main())


@in_world
async def test_thresholds_change_while_running(w: World) -> None:
    await w.service.reconfigure(
        {"breaker": {"failure_threshold": 1, "recovery_timeout": 5}, "timeouts": {"deadline": 9}}
    )
    w.provider("aws").ends = [Outcome("connect")]
    await complete(w)
    await complete(w)
    assert w.provider("aws").calls == 1
    await w.settle()
    assert w.targets()["aws/haiku"]["retry_in_seconds"] < 5
    assert w.service.deadline().total == 9
    await w.service.reconfigure({"breaker": {"failure_treshold": 1}})
    assert w.service.resolved.config.breaker.failure_threshold == 1, "what can't be used changes nothing"
    await w.service.reconfigure({})
    assert w.service.resolved.config.breaker.failure_threshold == 3, "back to what the args say"


@in_world
async def test_after_our_own_hold_one_caller_tries_and_the_others_go_round(w: World) -> None:
    w.actor.kill()
    w.provider("aws").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    await asyncio.sleep(11)
    assert w.service.operations.ready()
    w.provider("aws").ends, w.provider("aws").seconds = [None], 9.0
    answers = await asyncio.gather(*(complete(w) for _ in range(50)))
    assert sorted(a.target for a in answers) == ["aws/haiku"] + ["openai/gpt"] * 49
    w.provider("aws").seconds = 0.0
    assert (await complete(w)).target == "aws/haiku"


@in_world
async def test_equal_reports_become_one_with_the_newest_start_and_flowing_ones_with_the_oldest(w: World) -> None:
    permit: Permit = {"epoch": 0, "incarnation": w.breaker.incarnation}
    for began in (1.0, 3.0, 2.0):
        w.breaker.report_started("local/smol", permit, began)
        w.breaker.report_flowing("local/smol", permit, began, 5.0)
    started, flowing = w.breaker.reports._buffer
    assert (started["verdict"], started["count"], started["began"]) == ("started", 3, 3.0)
    assert (flowing["verdict"], flowing["count"], flowing["began"], flowing["seconds"]) == ("flowing", 3, 1.0, 15.0)


@in_world
async def test_without_a_report_the_actor_hears_of_us_every_two_seconds_and_no_more(w: World) -> None:
    batches: list[int] = []
    report = w.actor.report

    async def counted(replica: str, number: int, items: list[Any]) -> int:
        batches.append(len(items))
        return await report(replica, number, items)

    w.actor.report = counted  # type: ignore[method-assign]
    await asyncio.sleep(10.0)
    assert batches == [0] * len(batches)
    assert 3 <= len(batches) <= 5


def test_an_actor_that_was_never_there_can_not_be_asked() -> None:
    async def nobody() -> ActorCall:
        raise ConnectionError("nobody there")

    connection = ActorConnection(nobody, lambda: 0.0, NoMeter())
    assert connection.cut_off
    assert not connection.connected


def test_a_target_that_rests_is_no_reason_to_look_again() -> None:
    now, rests = 100.0, replace(UNKNOWN_CIRCUIT, state=State.OPEN, open_until=160.0)
    look = partial(may_ask, now=now, targets=["t"], awaited=lambda _: False, first=lambda _: True)
    assert not look({"t": rests})
    assert look({"t": replace(rests, open_until=now)})
    assert look({"t": replace(rests, panicky=True)})
    assert look({"t": UNKNOWN_CIRCUIT})


@in_world
async def test_how_long_a_whole_answer_took_is_known_to_the_millisecond(w: World) -> None:
    w.provider("aws").seconds = 20.0
    await complete(w)
    assert abs((w.breaker.times.usual("aws/haiku", "whole") or 0.0) - 20.0) < 0.001
