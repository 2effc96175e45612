"""Whose journal is missing?"""

import asyncio

from actors.ledger.journal.missing import KEPT_SECONDS, MISSING_AFTER_SECONDS, MOST, Writers
from actors.ledger.writer import LOST_AFTER_SECONDS, PATROL_SECONDS
from tests.ledger.world import World, answered, asked, in_world


def missing(writers: Writers, now: float) -> list[str]:
    return [each.replica for each in writers.missing(now)]


def test_the_journal_of_a_silent_replica_is_missing_until_it_is_heard_or_found() -> None:
    writers = Writers()
    for name in ("one", "two", "three"):
        writers.hear(name, f"host of {name}", 0.0)
    assert missing(writers, MISSING_AFTER_SECONDS) == []
    writers.hear("three", "host of three", 20.0)
    late = MISSING_AFTER_SECONDS + 1
    assert writers.missing(late) == [("one", "host of one", late), ("two", "host of two", late)]
    writers.hear("one", "host of one", late)
    writers.forget("two")
    assert missing(writers, late) == []
    assert writers.heard_since(20.0) == {"one", "three"}


def test_a_replica_of_the_version_before_is_not_missed_because_it_does_not_say_that_it_leaves() -> None:
    writers = Writers()
    writers.hear("old", None, 0.0)
    assert missing(writers, 1000.0) == []
    assert writers.heard_at("old", 7.0) == 0.0
    assert writers.heard_at("nobody", 7.0) == 7.0


def test_one_that_had_requests_open_is_expected_by_an_actor_that_begins() -> None:
    writers = Writers()
    writers.hear("lives", "host", 5.0)
    for name in ("lives", "gone"):
        writers.expect(name, 6.0)
    assert writers.missing(40.0) == [("lives", "host", 35.0), ("gone", None, 34.0)]


def test_what_is_known_is_bounded_in_number_and_in_time() -> None:
    writers = Writers()
    for number in range(MOST + 10):
        writers.hear(str(number), "host", float(number))
    assert len(writers) == MOST
    assert missing(writers, 2000.0)[0] == "10"
    assert missing(writers, 10 + KEPT_SECONDS)[0] == "11"
    assert missing(writers, 10 * KEPT_SECONDS) == []
    assert len(writers) == 0


async def patrolled(w: World, seconds: float) -> None:
    """Let so long pass, with the ledger actor's patrols."""
    for _ in range(int(seconds / PATROL_SECONDS)):
        await asyncio.sleep(PATROL_SECONDS)
        await w.actor.desk.patrol()
    await asyncio.sleep(3)


@in_world
async def test_a_node_that_is_gone_is_told_and_its_journal_found_when_it_is_back(w: World) -> None:
    stays, goes = w.replica(), w.replica(node="far")
    await w.settle()
    answered(goes)
    await w.kill(goes)
    await patrolled(w, MISSING_AFTER_SECONDS + 10)
    [told] = (await w.actor.desk.health())["missing_journals"]
    assert told[:2] == (goes.replica, "far")
    assert stays.health()["missing"] == 1
    await patrolled(w, LOST_AFTER_SECONDS)  # what it had open is given up, and its journal is missing all the same
    assert stays.health()["missing"] == 1
    assert (await w.total())["attempts"] == 0
    w.replica(node="far")
    await patrolled(w, 10)
    assert (await w.actor.desk.health())["missing_journals"] == []
    assert stays.health()["missing"] == 0
    assert (await w.total())["attempts"] == 1


@in_world
async def test_a_node_that_goes_with_the_actor_is_missed_by_the_next_one(w: World) -> None:
    stays, goes = w.replica(), w.replica(node="far")
    asked(goes).open("openai/gpt")
    await w.settle()
    await w.kill(goes)
    w.actor.start()
    await patrolled(w, MISSING_AFTER_SECONDS + 10)
    [told] = (await w.actor.desk.health())["missing_journals"]
    assert told[:2] == (goes.replica, None)
    assert stays.health()["missing"] == 1


@in_world
async def test_a_replica_that_leaves_is_not_missed(w: World) -> None:
    leaves = w.replica()
    answered(leaves)
    await w.settle()
    await leaves.close()
    w.links.remove(leaves)
    await patrolled(w, MISSING_AFTER_SECONDS + 10)
    health = await w.actor.desk.health()
    assert (health["missing_journals"], health["replicas"]) == ([], 0)
