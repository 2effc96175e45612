"""Who writes to the store, whose journal is missing, and two clusters that share a store."""

import asyncio
from typing import Any

from actors.ledger.heartbeats import BEAT_SECONDS, KEPT_SECONDS, MISSING_SECONDS
from actors.ledger.single_writer.writer import LOST_AFTER_SECONDS, PATROL_SECONDS
from actors.ledger.store import LedgerStore
from tests.ledger.world import DeskInProcess, World, answered, asked, in_world

NOW = 1_790_000_000_000
LATE = int(1000 * MISSING_SECONDS) + 1000  # ms
SOON = MISSING_SECONDS + BEAT_SECONDS + PATROL_SECONDS


def test_the_journal_of_a_silent_replica_is_missing_until_it_is_heard_or_found(url: str) -> None:
    store = LedgerStore(url)
    store.start()
    assert store.beat({"one": "host 1", "two": "host 2", "old": None}, NOW) == []
    assert store.beat({}, NOW + 1000) == []
    missing = store.beat({}, NOW + LATE)
    assert missing == [("one", "host 1", LATE / 1000), ("two", "host 2", LATE / 1000)]
    store.forget("two")
    assert store.beat({"one": "host 1"}, NOW + LATE) == []
    assert store.heard_since(NOW + 1) == {"one"}
    assert store.heard_since(NOW) == {"one", "old"}
    store.close()


def test_after_a_day_it_is_told_no_more(url: str) -> None:
    store = LedgerStore(url)
    store.start()
    store.beat({"one": "host 1"}, NOW)
    day = int(1000 * KEPT_SECONDS)
    assert len(store.beat({}, NOW + day)) == 1
    assert store.beat({}, NOW + day + 1) == []
    store.close()


async def patrolled(w: World, seconds: float, *others: DeskInProcess) -> None:
    """Let so long pass, with the ledger actors' patrols."""
    for _ in range(int(seconds / PATROL_SECONDS) + 1):
        await asyncio.sleep(PATROL_SECONDS)
        for actor in (w.actor, *others):
            await actor.desk.patrol()
    await asyncio.sleep(3)


async def missing(w: World) -> list[tuple[str, str]]:
    return [each[:2] for each in (await w.actor.desk.health())["missing_journals"]]


@in_world
async def test_a_node_that_is_gone_is_told_and_its_journal_found_when_it_is_back(w: World) -> None:
    stays, goes = w.replica(), w.replica(node="far")
    await patrolled(w, BEAT_SECONDS)
    answered(goes)
    await w.kill(goes)
    await patrolled(w, SOON)
    assert await missing(w) == [(goes.replica, "far")]
    assert stays.health()["missing"] == 1
    await patrolled(w, LOST_AFTER_SECONDS)  # what it had open is given up, and its journal is missing all the same
    assert stays.health()["missing"] == 1
    assert (await w.total())["attempts"] == 0
    w.replica(node="far")
    await patrolled(w, 10)
    assert await missing(w) == []
    assert stays.health()["missing"] == 0
    assert (await w.total())["attempts"] == 1


@in_world
async def test_a_node_that_goes_with_the_actor_soon_after_its_replica_has_begun_is_missed_too(w: World) -> None:
    w.replica()
    goes = w.replica(node="far")
    answered(goes)
    await patrolled(w, 3)
    await w.kill(goes)
    w.actor.start()
    await patrolled(w, SOON)
    assert await missing(w) == [(goes.replica, "far")]


@in_world
async def test_what_could_not_be_written_of_a_new_replica_is_written_later(w: World) -> None:
    desk, put, told = w.actor.desk, w.actor.desk._put_beat, list[set[str]]()

    def fails_once(hosts: Any) -> Any:
        told.append(set(hosts))
        if len(told) == 1:
            raise OSError("the store is away")
        return put(hosts)

    desk._put_beat = fails_once  # type: ignore[method-assign]
    replica = w.replica()
    await patrolled(w, 5)
    assert told == [{replica.replica}] * 2


@in_world
async def test_a_node_that_goes_with_the_actor_is_missed_by_the_next_one(w: World) -> None:
    stays, goes = w.replica(), w.replica(node="far")
    await patrolled(w, BEAT_SECONDS)
    await w.kill(goes)
    w.actor.start()
    await patrolled(w, SOON)
    assert await missing(w) == [(goes.replica, "far")]
    assert stays.health()["missing"] == 1


@in_world
async def test_a_replica_that_leaves_is_not_missed(w: World) -> None:
    leaves = w.replica()
    answered(leaves)
    await patrolled(w, BEAT_SECONDS)
    await leaves.close()
    w.links.remove(leaves)
    await patrolled(w, SOON)
    health = await w.actor.desk.health()
    assert (health["missing_journals"], health["replicas"]) == ([], 0)


@in_world
async def test_of_two_clusters_with_one_store_neither_gives_up_what_the_other_has_open(w: World) -> None:
    """Their ledger actors never hear each other's replicas."""
    other = DeskInProcess(w.actor.config)
    theirs = w.replica(node="theirs", actor=other)
    ours = w.replica()
    for link in (ours, theirs):
        asked(link).open("openai/gpt")
    await patrolled(w, 2 * LOST_AFTER_SECONDS, other)
    assert ((await w.total())["open"], (await w.total())["lost"]) == (2, 0)
    assert [await missing(w), (await other.desk.health())["missing_journals"]] == [[], []]
    await w.kill(theirs)
    await patrolled(w, LOST_AFTER_SECONDS + BEAT_SECONDS, other)
    assert ((await w.total())["open"], (await w.total())["lost"]) == (1, 1)
    await other.stop()


@in_world
async def test_a_replica_that_could_not_say_that_it_leaves_is_buried_by_another(w: World) -> None:
    """The ledger actor is away at that moment, and all rows are in the store."""
    stays, leaves = w.replica(), w.replica()
    answered(leaves)
    await patrolled(w, BEAT_SECONDS)
    w.actor.away = True
    await leaves.close()
    w.links.remove(leaves)
    w.actor.away = False
    await patrolled(w, SOON)
    assert await missing(w) == []
    assert stays.health()["adopted"] == 1


@in_world
async def test_an_actor_that_begins_takes_nobody_for_missing_whom_it_has_not_heard_yet(w: World) -> None:
    replicas = [w.replica(node=name) for name in "abc"]
    await patrolled(w, BEAT_SECONDS)
    w.actor.away = True
    await asyncio.sleep(3 * MISSING_SECONDS)
    w.actor.start()
    w.actor.away = False
    for _ in range(20):
        await w.actor.desk.patrol()
        assert await missing(w) == []
        await asyncio.sleep(PATROL_SECONDS)
    assert len(replicas) == 3
