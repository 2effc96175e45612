"""From an ingress to the store: what is written when, and what survives whom."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limit, Limits, Refusal
from actors.ledger.messages import Viewer, WriteAnswer
from deployments.service.queries import Queries
from deployments.telemetry.recent import RecentRequests
from deployments.usage.ledger_client import PIECE, LedgerClient
from tests.ledger.world import OK, USAGE, World, admitted, answered, asked, in_world

FRAME = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'


@in_world
async def test_a_request_is_in_the_store_within_moments(w: World) -> None:
    answered(w.replica())
    await asyncio.sleep(0.6)
    total = await w.total()
    assert (total["requests"], total["answered"], total["answers"]) == (1, 1, 1)
    assert (total["tokens_in"], total["tokens_out"], total["cost_nanos"]) == (100, 20, 360_000)


@in_world
async def test_where_there_are_limits_a_request_is_in_the_totals_sooner(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=2)})
    one, other = w.replica(limits=limits), w.replica(limits=limits)
    for _ in range(2):
        answered(one, reservation=await admitted(one))
    await asyncio.sleep(0.25)
    assert await admitted(other) is None


@in_world
async def test_an_attempt_under_way_is_seen_as_open(w: World) -> None:
    link = w.replica()
    entry = asked(link).open("openai/gpt")
    await asyncio.sleep(1)
    assert (await w.total())["open"] == 1
    entry.settle(OK, USAGE)
    await asyncio.sleep(1)
    assert ((await w.total())["open"], (await w.total())["attempts"]) == (0, 1)


@in_world
async def test_failover_is_one_request_with_an_attempt_of_each_provider(w: World) -> None:
    account = asked(w.replica())
    account.open("aws/haiku").settle(Outcome("server_error"))
    account.open("openai/gpt").settle(OK, USAGE)
    account.finish("ok")
    await w.settle()
    total = await w.total()
    assert (total["requests"], total["attempts"], total["failures"], total["unknown_cost"]) == (1, 2, 1, 0)
    assert {r["provider"]: r["answers"] for r in await w.usage(group_by=("provider",))} == {"aws": 0, "openai": 1}


@in_world
async def test_a_request_that_nobody_answered_is_finished_once(w: World) -> None:
    account = asked(w.replica())
    account.open("aws/haiku").settle(Outcome("connect"))
    account.finish("no_answer")
    account.finish("cancelled")
    await w.settle()
    assert ((await w.total())["requests"], (await w.total())["answered"], (await w.total())["open"]) == (1, 0, 0)


@in_world
async def test_a_cancelled_stream_is_accounted_by_what_was_delivered(w: World) -> None:
    link = w.replica()
    for _ in range(10):
        whole = asked(link, stream=True, body={"messages": [{"content": "x" * 40}]}).open("openai/gpt")
        for _ in range(50):
            whole.delivered(FRAME)
        whole.settle(OK, {"prompt_tokens": 1500, "completion_tokens": 5000})  # another's, which must teach nothing
    cut = asked(link, tenant="cut", body={"messages": [{"content": "x" * 40}]}).open("openai/gpt")
    for _ in range(20):
        cut.delivered(FRAME)
    cut.settle(Outcome("cancelled", content=True))
    cut.settle(OK, USAGE)
    await w.settle()
    (figures,) = await w.usage({"tenant": "cut"})
    assert (figures["cancelled"], figures["estimated"], figures["tokens_in"], figures["tokens_out"]) == (1, 1, 14, 25)
    assert figures["cost_nanos"] == 14 * 2000 + 25 * 8000


@in_world
async def test_what_nobody_can_know_the_cost_of_is_unknown_and_not_zero(w: World) -> None:
    link = w.replica()
    asked(link).open("openai/unpriced").settle(Outcome("timeout"))
    asked(link).open("openai/unpriced").settle(OK, USAGE)
    asked(link).open("openai/gpt").settle(Outcome("throttled"))
    await w.settle()
    total = await w.total()
    assert (total["cost_nanos"], total["unknown_cost"]) == (None, 2)


@in_world
async def test_while_the_actor_is_away_rows_wait_and_none_is_lost_or_doubled(w: World) -> None:
    link = w.replica()
    await asyncio.sleep(1)
    w.actor.away = True
    for _ in range(200):
        answered(link)
        await asyncio.sleep(0.05)
    health = link.health()
    assert (health["store"], health["lag_rows"]) == ("down", 400)
    assert 9 < health["lag_seconds"] < 11
    w.actor.away = False
    await w.settle()
    assert ((await w.total())["attempts"], (await w.total())["cost_nanos"]) == (200, 200 * 360_000)
    assert link.health() == {
        "store": "up", "journal": "disk", "lag_rows": 0, "lag_seconds": 0.0, "dropped": 0, "adopted": 0, "refused": 0,
        "missing": 0,
    }  # fmt: skip


@in_world
async def test_answers_that_are_lost_change_nothing(w: World) -> None:
    link = w.replica()
    w.actor.loses_answers = True
    for _ in range(20):
        answered(link)
        await asyncio.sleep(0.3)
    w.actor.loses_answers = False
    await w.settle()
    assert ((await w.total())["attempts"], (await w.total())["cost_nanos"]) == (20, 20 * 360_000)


@in_world
async def test_a_store_that_is_locked_costs_no_request_and_no_row(w: World) -> None:
    link = w.replica()
    answered(link)
    await w.settle()
    holder = sqlite3.connect(w.folder / "usage.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for _ in range(10):
        answered(link)
        await asyncio.sleep(0.5)
    assert link.health()["store"] == "down"
    assert "locked" in (await w.actor.desk.health())["trouble"]
    holder.execute("ROLLBACK")
    holder.close()
    await w.settle()
    assert link.health()["store"] == "up"
    assert ((await w.total())["attempts"], (await w.total())["cost_nanos"]) == (11, 11 * 360_000)


@in_world
async def test_a_store_that_is_not_there_yet_is_filled_when_it_comes(w: World) -> None:
    blocker = w.folder / "later"
    blocker.write_text("")
    await w.actor.desk.configure({"url": f"sqlite:///{blocker / 'usage.sqlite3'}", "journals": None})
    link = w.replica()
    answered(link)
    await w.settle()
    assert link.health()["store"] == "down"
    blocker.unlink()
    await w.settle()
    assert (await w.total())["attempts"] == 1


@in_world
async def test_a_killed_replicas_rows_are_adopted_once_and_what_it_had_open_is_lost(w: World) -> None:
    w.actor.away = True
    first, second = w.replica(), w.replica()
    for n in range(30):
        account = asked(first)
        entry = account.open("openai/gpt")
        if n % 3:
            entry.settle(OK, USAGE)
        elif n % 2:
            for _ in range(10):
                entry.delivered(FRAME)
    await asyncio.sleep(2)  # what was delivered is written down each second
    await w.kill(first)
    w.actor.away = False
    await w.settle()
    total = await w.total()
    assert (total["requests"], total["attempts"], total["answers"], total["lost"]) == (30, 30, 20, 10)
    assert (total["open"], total["estimated"]) == (0, 5)
    assert second.health()["adopted"] == 1
    assert list((w.folder / "journal").glob(f"{first.replica}*")) == []


@in_world
async def test_the_actor_adopts_where_no_replica_is_left(w: World) -> None:
    link = w.replica(start=False)
    asked(link).open("openai/gpt")
    await w.kill(link)
    w.actor.config["journals"] = str(w.folder / "journal")
    await w.actor.desk.configure(w.actor.config)
    await w.actor.desk.patrol()
    assert (await w.total())["lost"] == 1
    assert (await w.actor.desk.health())["adopted_journals"] == 1


@in_world
async def test_a_replica_whose_machine_is_gone_is_given_up_after_its_silence(w: World) -> None:
    link, other = w.replica(), w.replica()
    entry = asked(link).open("openai/gpt")
    asked(other).open("openai/gpt")
    await asyncio.sleep(1)
    for task in link._tasks:
        task.cancel()
    for _ in range(70):
        await asyncio.sleep(10)
        await w.actor.desk.patrol()
    assert ((await w.total())["lost"], (await w.total())["open"]) == (1, 1)
    link._tasks.clear()
    link.start()  # it was only cut off
    entry.settle(OK, USAGE)
    await w.settle()
    assert ((await w.total())["lost"], (await w.total())["answers"]) == (0, 1)


@in_world
async def test_a_replica_that_leaves_sends_its_last_rows(w: World) -> None:
    link = w.replica()
    answered(link)
    await link.close()
    w.links.remove(link)
    assert (await w.total())["attempts"] == 1
    assert list((w.folder / "journal").iterdir()) == []


@in_world
async def test_a_full_journal_drops_old_answers_counts_them_and_keeps_what_is_under_way(w: World) -> None:
    link = w.replica(most=2 * 1024 * 1024)
    w.actor.away = True
    under_way = asked(link, tenant="long").open("openai/gpt")
    for _ in range(4000):
        answered(link)
    health = link.health()
    assert health["dropped"] > 0
    await w.kill(link)
    w.actor.away = False
    w.replica()
    await w.settle()
    total = await w.total()
    assert (total["answers"], total["lost"]) == (4000 - health["dropped"], 1)
    assert not under_way.settled


@in_world
async def test_a_new_actor_goes_on_where_the_old_one_was_killed(w: World) -> None:
    link = w.replica(limits=Limits(each={"tenant": Limit(requests_per_minute=1000)}))
    for n in range(60):
        answered(link, reservation=await admitted(link))
        if n % 7 == 3:
            w.actor.loses_answers = True
            await asyncio.sleep(0.2)
            w.actor.loses_answers = False
            await w.actor.stop()
            w.actor.start()
        await asyncio.sleep(0.02)
    await asyncio.sleep(3)
    assert (await w.total())["attempts"] == 60
    counted = w.actor.desk._counters.minutes("tenant:acme")
    assert sum(requests for requests, _ in counted.values()) == 60, "what began in this minute, counted once"


@in_world
async def test_a_limit_holds_over_replicas_to_the_last_request(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=50)})
    links = [w.replica(limits=limits) for _ in range(4)]
    await asyncio.sleep(61 - w.now % 60)
    served = 0

    async def ask(link: LedgerClient) -> None:
        nonlocal served
        if (held := await admitted(link)) is not None:
            served += 1
            answered(link, reservation=held)

    async with asyncio.TaskGroup() as group:
        for n in range(400):
            group.create_task(ask(links[n % 4]))
            await asyncio.sleep(0.02)  # 50 requests a second
    assert served == 50
    assert await links[0].admit("other") is None
    refusal = await links[0].admit("acme")
    assert isinstance(refusal, Refusal)
    assert refusal.limit == "requests_per_minute"
    await asyncio.sleep(refusal.reset_seconds)
    assert await admitted(links[0]) is not None


@in_world
async def test_a_months_cost_is_known_to_a_replica_that_has_just_started(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(monthly_cost=1_000_000)})
    old = w.replica(limits=limits)
    for _ in range(3):
        answered(old)
    await w.settle()
    await old.close()
    new = w.replica(limits=limits)
    refusal = await new.admit("acme")
    assert isinstance(refusal, Refusal)
    assert (refusal.limit, refusal.status, refusal.used) == ("monthly_cost", 402, 1_080_000)


@in_world
async def test_text_from_clients_never_stops_the_ledger(w: World) -> None:
    link = w.replica()
    for tenant in ("\x00", "\ud800", "x" * 100_000, "'; DROP TABLE ledger_requests; --", '"state":"settled"', ""):
        answered(link, tenant=tenant, agent=tenant, caller_id=tenant, target=f"openai/{tenant}")
    await w.settle()
    assert (await w.total())["attempts"] == 6
    assert (await w.actor.desk.health())["rejected_lines"] == 0


@in_world
async def test_a_usage_of_a_provider_that_is_nonsense_is_no_usage_and_is_estimated(w: World) -> None:
    link = w.replica()
    for usage in ({"prompt_tokens": "many"}, {"prompt_tokens": -5, "completion_tokens": 10**30}, {}):
        asked(link, body={"messages": [{"content": "x" * 40}]}).open("openai/gpt").settle(OK, usage)
    await w.settle()
    total = await w.total()
    assert (total["tokens_in"], total["estimated"], total["answers"]) == (3 * 14, 3, 3)


@in_world
async def test_a_batch_that_waits_is_not_queued_twice(w: World) -> None:
    desk = w.actor.desk
    first, second = await asyncio.gather(desk.write("r", 1, b"", []), desk.write("r", 1, b"", []))
    answer = {"number": 1, "store": "up", "totals": {}, "rejected": 0, "missing": 0, "takes_more": True}
    assert first == second == answer


@in_world
async def test_a_long_batch_comes_in_pieces_that_ray_hands_on_with_the_call(w: World) -> None:
    """A longer argument would go by Ray's object store. An actor of an earlier version takes one argument alone."""
    for earlier in (False, True):
        link, longest, arguments = w.replica(node=str(earlier), start=False), 0, set[int]()

        async def actor(
            method: str, *given: Any, earlier: bool = earlier, arguments: set[int] = arguments
        ) -> WriteAnswer:
            nonlocal longest
            longest = max(longest, *(len(one) for one in given if isinstance(one, bytes)))
            arguments.add(len(given))
            answer: WriteAnswer = await w.actor(method, *given)
            if earlier:
                del answer["takes_more"]
            return answer

        link._actor = actor
        for _ in range(2):
            for _ in range(400):
                answered(link)
            while link._journal.lines:
                await link._send()
        assert 5 in arguments
        assert (len(arguments) > 1) is not earlier
        assert longest > 3 * PIECE, "the first one, before the actor has said what it takes"
    total = await w.total()
    assert (total["answers"], total["open"], w.actor.desk._rejected_lines) == (1600, 0, 0)


@in_world
async def test_an_actor_that_takes_one_argument_may_follow_one_that_takes_more(w: World) -> None:
    earlier = False

    async def actor(method: str, *given: Any) -> WriteAnswer:
        if earlier and len(given) > 5:
            raise TypeError("write() takes from 4 to 6 positional arguments")
        answer: WriteAnswer = await w.actor(method, *given)
        if earlier and isinstance(answer, dict):
            answer.pop("takes_more", None)
        return answer

    async def connect() -> Callable[..., Awaitable[Any]]:
        return actor

    link = w.replica(start=False)
    link._connect = connect
    link.start()
    answered(link)
    await asyncio.sleep(1)
    assert link._takes_more
    earlier = True
    for _ in range(400):
        answered(link)
    await asyncio.sleep(10)
    assert (link.health()["lag_rows"], link.health()["store"]) == (0, "up")
    assert (await w.total())["answers"] == 401


@in_world
async def test_a_caller_by_handle_sees_what_was_just_answered_or_is_told_that_it_does_not(w: World) -> None:
    link = w.replica()
    await asyncio.sleep(1)  # it has found the actor
    queries = Queries(RecentRequests(), link)
    answered(link)
    stats = await queries.usage_stats("acme")
    assert (stats["requests"], stats["complete"]) == (1, True)
    w.actor.seconds = 5.0
    answered(link)
    began = asyncio.get_running_loop().time()
    stats = await queries.usage_stats("acme")
    assert not stats["complete"]
    assert not link._waiting
    assert asyncio.get_running_loop().time() - began < 2 + 2 * 5 + 0.1


@in_world
async def test_no_name_of_anothers_hides_a_request_that_is_in_the_ledger(w: World) -> None:
    link, names = w.replica(), ("shared-7", "shared-7")
    ids = {}
    for who, tenant, name in zip(("alice", "bob"), ("acme", "beta"), names, strict=True):
        record = asked(link, tenant=tenant, key_name=who, caller_id=name)
        record.finish("ok")
        ids[who] = record.request_id
        await asyncio.sleep(1)
    again = asked(link, tenant="beta", key_name="bob", caller_id=ids["alice"])
    again.finish("ok")
    await w.settle()
    queries = Queries(RecentRequests(), link)
    alice: Viewer = {"tenant": "acme", "key": "alice"}
    bob: Viewer = {"tenant": "beta", "key": "bob"}
    assert (await queries.request("shared-7", alice))["request_id"] == ids["alice"]
    assert (await queries.request("shared-7", bob))["request_id"] == ids["bob"]
    assert (await queries.request(ids["alice"], alice))["request_id"] == ids["alice"]
    assert (await queries.request(ids["alice"], bob))["request_id"] == again.request_id
    assert (await queries.request(ids["alice"]))["request_id"] == ids["alice"]
