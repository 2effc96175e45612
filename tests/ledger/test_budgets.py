"""Budgets from replicas to the store and back: what is asked at once, what is under way, whose clock is wrong."""

import asyncio
import pathlib
from typing import Any

import pytest

from actors.ledger.budget import FORGET_SECONDS, FORGOTTEN_AT_ONCE, MINUTE, Counters, Limit, Limits, Refusal, Spend
from actors.ledger.messages import StoreConfig
from actors.ledger.rows import month_of
from actors.ledger.single_writer.leases import Leases
from actors.ledger.single_writer.writer import REREAD_SECONDS, LedgerWriter
from deployments.usage.budget import Reservation
from deployments.usage.ledger_client import LEASE_SECONDS, WAIT_SECONDS, LedgerClient
from tests.ledger.world import OK, START, World, admitted, answered, asked, at_once, in_world

DOLLAR = 10**9
DEAR = {"prompt_tokens": 100_000, "completion_tokens": 20_000}  # costs $0.36
COST = 360_000_000
BUDGET = Limits({"tenant:acme": Limit(monthly_cost=DOLLAR)}, refuse_unseen=True)


async def at_the_same_time(links: list[LedgerClient], each: int) -> list[Reservation]:
    """Return what is held for those that were admitted of so many requests on each replica, at $0.36 each."""
    answers = await asyncio.gather(*(admitted(link, cost=COST) for link in links for _ in range(each)))
    return [held for held in answers if held is not None]


@in_world
async def test_four_new_replicas_admit_nothing_of_a_budget_that_is_used_up(w: World) -> None:
    old = w.replica(limits=BUDGET)
    for _ in range(3):
        asked(old).open("openai/gpt").settle(OK, DEAR)
    await w.settle()
    links = [w.replica(limits=BUDGET) for _ in range(4)]
    assert await at_the_same_time(links, 100) == []


@in_world
async def test_a_hundred_at_once_hold_what_they_may_cost_on_one_replica_and_on_four(w: World) -> None:
    one = await at_the_same_time([w.replica(limits=BUDGET)], 100)
    assert sum(COST for _ in one) <= DOLLAR + COST
    for held in one:
        held.release()
    await asyncio.sleep(1)
    links = [w.replica(limits=BUDGET) for _ in range(4)]
    four = await at_the_same_time(links, 100)
    assert len(four) >= 1
    assert sum(COST for _ in four) <= DOLLAR + 4 * COST


@in_world
async def test_streams_of_five_minutes_are_not_forgotten_by_the_replica_that_has_them(w: World) -> None:
    link = w.replica(limits=BUDGET)
    streams = [asked(link, reservation=await admitted(link, cost=COST)).open("openai/gpt") for _ in range(3)]
    for _ in range(30):
        await asyncio.sleep(10)
        assert await admitted(link, cost=COST) is None
    for stream in streams:
        stream.settle(OK, DEAR)
    assert await admitted(link, cost=COST) is None
    await w.settle()
    refusal = await link.admit("acme", None, 0, COST)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.used) == (402, 3 * COST)


@in_world
async def test_many_requests_of_a_new_subject_wait_for_the_same_few_answers(w: World) -> None:
    link = w.replica(limits=BUDGET)
    await asyncio.sleep(3)
    writes, began = w.actor.writes, asyncio.get_running_loop().time()
    held = await at_the_same_time([link], 50)
    assert held
    assert asyncio.get_running_loop().time() - began <= 0.5
    assert w.actor.writes - writes <= 5


@in_world
async def test_a_request_never_waits_longer_than_its_bound_for_an_actor_that_hangs(w: World) -> None:
    w.actor.seconds = 1000.0
    link = w.replica(limits=BUDGET)
    began = asyncio.get_running_loop().time()
    refusal = await link.admit("acme")
    assert isinstance(refusal, Refusal)
    assert refusal.limit == "ledger_away"
    assert asyncio.get_running_loop().time() - began == pytest.approx(WAIT_SECONDS, abs=0.01)


@in_world
async def test_while_the_ledger_is_away_nobody_waits(w: World) -> None:
    allow = Limits(BUDGET.subjects)
    w.actor.away = True
    link = w.replica(limits=allow)
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    assert await admitted(link) is not None
    assert asyncio.get_running_loop().time() == began


@in_world
async def test_a_lease_that_nobody_uses_is_given_back_to_who_needs_it(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=64)})
    idle, busy = w.replica(limits=limits), w.replica(limits=limits)
    await asyncio.sleep(61 - w.now % 60)
    held = await admitted(idle)
    assert held is not None
    held.release()
    count = 0
    for _ in range(100):
        if (reserved := await admitted(busy)) is not None:
            answered(busy, reservation=reserved)
            count += 1
    assert count == 64
    assert LEASE_SECONDS < 1.0


@in_world
async def test_a_replica_that_leaves_gives_its_lease_back(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=1)})
    link, other = w.replica(limits=limits), w.replica(limits=limits)
    held = await admitted(link)
    assert held is not None
    held.release()
    await link.close()
    w.links.remove(link)
    await asyncio.sleep(0.2)
    assert await admitted(other) is not None


@in_world
async def test_a_limit_a_minute_holds_where_the_ledgers_clock_is_minutes_ahead(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=60)})
    clock = asyncio.get_running_loop().time
    await w.actor.stop()
    w.actor.desk = LedgerWriter(w.actor.config, wall=lambda: w.now + 130, clock=clock, writing=at_once, reading=at_once)
    link = w.replica(limits=limits)
    await asyncio.sleep(61 - w.now % 60)
    count = 0
    for _ in range(200):
        if (held := await admitted(link)) is not None:
            answered(link, reservation=held)
            count += 1
        await asyncio.sleep(0.1)
    assert count == 60


@in_world
async def test_a_new_actor_whose_clock_is_ahead_still_knows_this_minute_and_this_month(w: World) -> None:
    limits = Limits({"tenant:acme": Limit(requests_per_minute=3, monthly_cost=DOLLAR)})
    link = w.replica(limits=limits)
    await asyncio.sleep(61 - w.now % 60)
    for _ in range(3):
        answered(link, reservation=await admitted(link))
    await asyncio.sleep(1)
    await w.actor.stop()
    clock = asyncio.get_running_loop().time
    for ahead in (130, 40 * 86_400):
        desk = LedgerWriter(w.actor.config, wall=lambda ahead=ahead: w.now + ahead, clock=clock, writing=at_once)
        assert (await desk.write("x", 1, b"", ["tenant:acme"]))["totals"]["tenant:acme"] == {
            "minutes": {int(w.now) // 60: (3, 360)},
            "months": {"2026-09": 3 * 360_000},
        }
        await desk.configure({"url": None, "missing": "", "journals": None})


@in_world
async def test_one_name_by_handle_is_one_account_for_its_limit_and_its_rows(w: World) -> None:
    link = w.replica(limits=Limits({"tenant:acme": Limit(requests_per_minute=2)}))
    await asyncio.sleep(61 - w.now % 60)
    for name in ("acme\0", "\0acme"):
        answered(link, tenant=name, reservation=await admitted(link, name))
    assert await admitted(link) is None
    await asyncio.sleep(0.3)
    assert await admitted(link, "acme\0") is None


class NeverWalked(dict[Any, Any]):
    """A dict of which single values are asked, and never all."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("somebody looks at all subjects")

    __iter__ = keys = values = items = copy = _refuse


async def _acknowledged(folder: pathlib.Path) -> None:
    config: StoreConfig = {"url": f"sqlite:///{folder / 'usage.sqlite3'}", "missing": "", "journals": None}
    desk = LedgerWriter(config, writing=at_once, reading=at_once)
    at = int(START * 1000)
    await desk.write("r", 1, b"")
    for number in range(1000):
        desk._counters.add(f"tenant:{number}", Spend(at, 1, 100, 1000))
    counted = desk._counters
    counted._minutes, counted._months = (
        NeverWalked(counted._minutes),
        {month: NeverWalked(costs) for month, costs in counted._months.items()},
    )
    for batch in range(2, 12):
        claims = {
            f"tenant:{number}": [("requests_per_minute", at // MINUTE, 1000, 1, 5, 64)]
            for number in range(batch * 25, batch * 25 + 25)
        }
        answer = await desk.write("r", batch, b"", {"": batch, **claims})
        assert len(answer["totals"]) == len(answer["leases"]) == 25
    with pytest.raises(AssertionError, match="all subjects"):
        counted.seen(month_of(at))
    await desk.configure({"url": None, "missing": "", "journals": None})


def test_an_acknowledgement_looks_at_what_is_claimed_and_not_at_what_there_is(tmp_path: pathlib.Path) -> None:
    asyncio.run(_acknowledged(tmp_path))


def test_forgetting_takes_a_bit_of_each_batch_and_never_a_long_moment() -> None:
    counters = Counters(most=10**6)
    for number in range(100_000):
        counters.add(f"tenant:{number}", Spend(int(START * 1000), 1, 1, 0))

    def known() -> int:
        return len(counters._minutes) + len(counters._older) + sum(map(len, counters._forgotten))

    taken = []
    for turn in range(400):
        before = known()
        counters.forget(FORGET_SECONDS * min(turn, 3))
        taken.append(before - known())
    assert sum(taken) == 100_000
    assert max(taken) <= FORGOTTEN_AT_ONCE
    assert counters.minutes("tenant:5") == {}
    assert not counters._forgotten


def test_nothing_is_left_of_subjects_whose_leases_are_given_back() -> None:
    leases = Leases()
    for number in range(1000):
        name = f"tenant:{number}"
        leases.answer("r", {"": 2 * number + 1, name: [("monthly_cost", "2026-09", 10, 0, 0, 5)]}, Counters(), 0.0)
        leases.answer("r", {"": 2 * number + 2, name: [("monthly_cost", "2026-09", 10, 0, 0, 0)]}, Counters(), 0.0)
    assert leases._subjects == {}


@in_world
async def test_what_another_ledger_actor_writes_into_the_store_counts_here_too(w: World) -> None:
    link = w.replica(limits=BUDGET)
    other = LedgerWriter(w.actor.config, wall=lambda: w.now, clock=asyncio.get_running_loop().time,
                         writing=at_once, reading=at_once)  # fmt: skip
    assert await admitted(link, cost=COST) is not None
    elsewhere = w.replica(limits=BUDGET, start=False)
    for _ in range(4):
        asked(elsewhere).open("openai/gpt").settle(OK, DEAR)
    data, _ = elsewhere._journal.read(10**6)
    assert (await other.write("elsewhere", 1, data))["store"] == "up"
    await other.configure({})  # type: ignore[typeddict-item]
    await asyncio.sleep(REREAD_SECONDS + 5)
    await w.actor.desk.patrol()
    await asyncio.sleep(2)
    refusal = await link.admit("acme", None, 0, COST)
    assert isinstance(refusal, Refusal)
    assert refusal.limit == "monthly_cost"
