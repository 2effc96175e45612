"""What a console asks, from a replica to the store and back: by the method that every version of the actor has."""

import asyncio
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.budget import MINUTE, Counters, Limit, Limits, Spend
from actors.ledger.messages import UnknownQuestion
from actors.ledger.questions.used import MOST_OF_EACH, as_words, from_words, limits_used
from actors.ledger.rows import NANOS, month_of
from actors.ledger.single_writer.writer import PATROL_SECONDS
from actors.ledger.slots import KEPT_MS
from deployments.errors import BadRequest, Unavailable
from deployments.service.queries import SHARED_SECONDS, Queries
from deployments.telemetry.recent import RecentRequests
from tests.ledger.rows import NOON, settled
from tests.ledger.world import OK, USAGE, World, answered, asked, in_world

LIMITS = Limits({"tenant:acme": Limit(100, None, NANOS), "key:ci": Limit(monthly_cost=NANOS)}, {"tenant": Limit(10)})


@in_world
async def test_a_page_the_traffic_and_the_limits_come_from_the_ledger(w: World) -> None:
    link = w.replica(limits=LIMITS)
    queries = Queries(RecentRequests(), link)
    answered(link)
    asked(link, tenant="bolt").open("openai/gpt").settle(OK, USAGE)
    under_way = asked(link, tenant="bolt").open("aws/haiku")
    await asyncio.sleep(2)
    page = await queries.requests({"tenant": "acme"}, limit="10")
    assert (page["object"], page["source"], page["next"]) == ("list", "ledger", None)
    assert [(head["tenant"], head["outcome"]) for head in page["data"]] == [("acme", "ok")]
    assert page["data"][0]["cost_usd"] == pytest.approx((100 * 2 + 20 * 8) / 10**6)
    mine = await queries.requests({}, viewer={"tenant": "bolt", "key": "k"})
    assert sorted(head["outcome"] for head in mine["data"]) == ["ok", "open"]
    first = await queries.requests({}, limit=2)
    assert first["next"] is not None
    second = await queries.requests({}, first["next"])
    assert len({head["request_id"] for head in (*first["data"], *second["data"])}) == 3
    told = await queries.traffic()
    assert (told["hour"]["totals"]["requests"], told["day"]["totals"]["answered"]) == (3, 2)
    used = {(row["subject"], row["limit"]): row for row in await queries.limits()}
    assert used["tenant:acme", "requests_per_minute"]["used"] == 1
    assert used["tenant:acme", "monthly_cost"]["used"] == pytest.approx(0.00036)
    assert (used["tenant:bolt", "requests_per_minute"]["used"], used["key:ci", "monthly_cost"]["used"]) == (2, 0)
    under_way.settle(OK, USAGE)


@in_world
async def test_without_the_ledger_a_page_is_of_memory_and_the_others_say_so(w: World) -> None:
    link = w.replica()
    await asyncio.sleep(1)
    w.actor.away = True
    answered(link)
    await asyncio.sleep(1)
    for queries in (Queries(RecentRequests(), link), Queries(RecentRequests(), None)):
        page = await queries.requests({})
        assert (page["source"], page["data"], page["next"]) == ("memory", [], None)
        with pytest.raises(Unavailable):
            await queries.traffic()
    with pytest.raises(BadRequest, match="tennant") as caught:
        await queries.requests({"tennant": "x"})
    assert caught.value.param == "tennant"
    for before in ("nonsense", "5-\0"):
        with pytest.raises(BadRequest) as caught:
            await queries.requests({}, before)
        assert caught.value.param == "before"
    with pytest.raises(BadRequest, match="NUL") as caught:  # PostgreSQL would take none
        await queries.requests({"tenant": "a\0"})
    assert caught.value.param == "tenant"
    with pytest.raises(Unavailable):  # or a list of the ledger would go on in one replica's memory, and end as if whole
        await Queries(RecentRequests(), link).requests({}, f"{NOON}-r1")


class EarlierActor:
    """It knows filters alone, as the actor of an earlier version."""

    async def usage(self, filters: dict[str, object], _: object = ()) -> list[object]:
        raise UnknownQuestion(f"no such filter or group: {next(iter(filters))}")


@in_world
async def test_an_actor_of_an_earlier_version_is_no_fault_of_the_caller(w: World) -> None:
    link = w.replica(limits=LIMITS)
    await asyncio.sleep(1)
    w.actor.desk = EarlierActor()  # type: ignore[assignment]
    queries = Queries(RecentRequests(), link)
    for question in (queries.traffic, queries.limits, partial(queries.requests, {})):
        with pytest.raises(Unavailable, match="earlier version"):
            await question()
    w.actor.start()


@in_world
async def test_all_pages_of_a_replica_share_one_question_of_the_traffic(w: World) -> None:
    link = w.replica()
    await asyncio.sleep(1)
    queries, calls = Queries(RecentRequests(), link), 0
    ask = link._actor

    async def counted(method: str, *arguments: object) -> object:
        nonlocal calls
        calls += method == "usage"
        await asyncio.sleep(0.1)
        assert ask is not None
        return await ask(method, *arguments)

    link._actor = counted
    leaver = asyncio.create_task(queries.traffic())
    await asyncio.sleep(0.05)
    leaver.cancel()
    answers = await asyncio.gather(*(queries.traffic() for _ in range(20)))
    assert calls == 1, "who leaves takes nobody's answer away"
    assert all(answer == answers[0] for answer in answers)
    await asyncio.sleep(SHARED_SECONDS)
    await queries.traffic()
    assert calls == 2


@in_world
async def test_the_patrol_deletes_old_minutes(w: World) -> None:
    store = await w.actor.desk._here()
    store.write([settled(f"r{n}", began_at=NOON - n * KEPT_MS // 50, ended_at=NOON) for n in range(100)])
    for _ in range(3):
        await w.actor.desk.patrol()
        await asyncio.sleep(PATROL_SECONDS)
    with store.reading() as connection:
        kept = connection.exec_driver_sql("SELECT count(*), min(slot) FROM ledger_slots").one()
    assert kept == (51, (NOON - KEPT_MS) // MINUTE)


@in_world
async def test_a_question_that_there_is_none_of_is_named(w: World) -> None:
    with pytest.raises(UnknownQuestion, match="no such question: weather"):
        await w.actor.desk.usage({"question": "weather"})


def spent(subjects: dict[str, int], at: int = NOON) -> Counters:
    counters = Counters()
    for subject, cost in subjects.items():
        counters.add(subject, Spend(at, 1, 7, cost))
    return counters


@given(st.lists(st.tuples(st.sampled_from(["tenant", "key"]), st.sampled_from("abc"), st.integers(0, 2 * NANOS))))
def test_each_limit_has_what_its_subject_has_used(drawn: list[tuple[str, str, int]]) -> None:
    used = {f"{sort}:{name}": cost for sort, name, cost in drawn}
    limits = Limits({"tenant:a": Limit(monthly_cost=NANOS)}, {"tenant": Limit(5, 14, 2 * NANOS)})
    counters = spent(used)
    rows = limits_used(from_words(as_words(limits)), counters, counters.seen(month_of(NOON)), NOON)
    shown = {(row["subject"], row["limit"]): (row["used"], row["most"], row["share"]) for row in rows}
    cost = used.get("tenant:a", 0)
    expected = {("tenant:a", "monthly_cost"): (cost / NANOS, 1, min(1, cost / NANOS))}
    for subject, cost in used.items():
        if subject.startswith("tenant:") and subject != "tenant:a":
            expected[subject, "monthly_cost"] = (cost / NANOS, 2, min(1, cost / NANOS / 2))
            expected[subject, "requests_per_minute"] = (1, 5, 0.2)
            expected[subject, "tokens_per_minute"] = (7, 14, 0.5)
    assert shown == {name: pytest.approx(figures) for name, figures in expected.items()}
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)
    assert {row["period"] for row in rows} <= {"2026-09", "2026-09-21T14:13Z"}


def test_of_many_who_were_seen_those_with_the_highest_share_are_shown_and_all_that_have_names() -> None:
    draw, subjects = random.Random(1), [f"tenant:t{n}" for n in range(3 * MOST_OF_EACH)]
    counters = spent({subject: draw.randrange(NANOS // 2) for subject in subjects})
    limits = Limits({"tenant:idle": Limit(monthly_cost=NANOS)}, {"tenant": Limit(monthly_cost=NANOS)})
    rows = limits_used(limits, counters, counters.seen("2026-09"), NOON)
    highest = sorted((counters.used(subject, "monthly_cost", "2026-09") for subject in subjects), reverse=True)
    assert [round(row["used"] * NANOS) for row in rows] == [*highest[:MOST_OF_EACH], 0]
    assert rows[-1]["subject"] == "tenant:idle"


def test_a_key_that_is_named_without_its_tenant_may_be_several() -> None:
    counters = spent({"key:acme:ci": 5, "key:bolt:ci": 6, "key:acme:other": 7})
    limits = Limits({"key:ci": Limit(monthly_cost=10), "key:bolt:ci": Limit(monthly_cost=12), "key:x": Limit(1)})
    rows = limits_used(limits, counters, counters.seen("2026-09"), NOON)
    assert {(row["subject"], row["share"]) for row in rows} == {
        ("key:acme:ci", 0.5),
        ("key:bolt:ci", 0.5),
        ("key:x", 0),
    }


def test_who_asks_for_its_own_sees_nothing_else_and_its_limits_before_it_has_used_any() -> None:
    counters = spent({f"tenant:t{n}": NANOS for n in range(2 * MOST_OF_EACH)} | {"key:acme:ci": 5})
    limits = Limits({"tenant:t7": Limit(monthly_cost=NANOS), "key:ci": Limit(3)}, {"tenant": Limit(5, None, NANOS)})
    only = ["tenant:acme", "key:acme:ci"]
    rows = limits_used(limits, counters, counters.seen("2026-09"), NOON, only)
    assert {(row["subject"], row["limit"], row["used"]) for row in rows} == {
        ("key:acme:ci", "requests_per_minute", 1),
        ("tenant:acme", "requests_per_minute", 0),
        ("tenant:acme", "monthly_cost", 0),
    }


def test_a_limit_of_nothing_is_used_up() -> None:
    (row,) = limits_used(Limits({"tenant:a": Limit(0)}), Counters(), (), NOON)
    assert (row["most"], row["used"], row["share"]) == (0, 0, 1.0)
