"""The breaker actor as a singleton: stale code is replaced, state is handed on, a successor ends the older."""

import asyncio
import contextlib
import pathlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import ray

from actors.breaker.circuit import Policy
from actors.breaker_actor import breaker_actor
from actors.singleton import GONE_SECONDS, NAMESPACE, CheckpointStore, code_fingerprint
from tests.cluster.conftest import Cluster, eventually

CONFIG = {"policy": asdict(Policy()), "targets": ["aws/haiku", "openai/gpt"]}


@pytest.fixture
def app(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """An application's name of the test's own; its actor is ended afterwards."""
    name = f"app-{request.node.name}"
    yield name
    try:
        ray.kill(ray.get_actor(f"{name}-breaker", namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return


def summoned(app: str, *, newest: bool = True) -> Any:
    return asyncio.run(breaker_actor(app).get_or_create(CONFIG, newest=newest))


def whoami(actor: Any) -> dict[str, Any]:
    return dict(ray.get(actor.whoami.remote(), timeout=10))


def incarnation(app: str) -> int | None:
    """Of the actor that is summoned; one that is dying may still be found, and does not answer."""
    try:
        return int(whoami(summoned(app))["incarnation"])
    except ray.exceptions.RayError:
        return None


def test_all_who_ask_get_the_same_actor(app: str) -> None:
    assert whoami(summoned(app)) == whoami(summoned(app, newest=False))


def test_an_actor_with_other_code_is_replaced_by_a_replica_that_starts_and_by_no_other(app: str) -> None:
    @ray.remote
    class Stale:
        async def hello(self, config: Any) -> dict[str, Any]:
            return {"code": "old", "incarnation": 1}

        async def whoami(self) -> dict[str, Any]:
            return {"code": "old", "pid": 0}

    stale = Stale.options(name=f"{app}-breaker", namespace=NAMESPACE, lifetime="detached").remote()
    ray.get(stale.hello.remote(None))
    assert whoami(summoned(app, newest=False))["code"] == "old"
    assert whoami(summoned(app))["code"] == code_fingerprint()


def test_only_a_replica_that_starts_makes_an_actor_in_the_moment_in_which_one_is_replaced(app: str) -> None:
    waiting = breaker_actor(app)

    def seen() -> Any:
        with contextlib.suppress(ConnectionError, ray.exceptions.RayError):
            return asyncio.run(waiting.get_or_create(CONFIG, newest=False))

    assert seen() is None
    assert whoami(summoned(app)) == whoami(seen())
    ray.kill(seen(), no_restart=True)
    began = time.monotonic()

    def is_replaced() -> bool:
        with contextlib.suppress(ray.exceptions.RayError):  # the killed one is found until its death is known
            return (made := seen()) is not None and whoami(made)["incarnation"] == 2
        return False

    eventually(is_replaced)
    assert time.monotonic() - began >= GONE_SECONDS, "who else would make one if no replica starts?"


def test_a_replaced_actor_leaves_what_it_knew(app: str) -> None:
    old = summoned(app)
    ray.get(old.command.remote("isolate", "aws"))
    ray.kill(old, no_restart=True)
    eventually(lambda: incarnation(app) == 2)
    health = ray.get(summoned(app).health.remote())["targets"]
    assert (health["aws/haiku"]["isolated"], health["openai/gpt"]["isolated"]) == (True, False)


def test_thresholds_set_by_hand_outlive_the_actor_and_a_new_config(app: str) -> None:
    old = summoned(app)
    ray.get(old.override.remote({"failure_threshold": 1}))
    ray.kill(old, no_restart=True)
    eventually(lambda: incarnation(app) == 2)
    raised = {**CONFIG, "policy": asdict(Policy(failure_threshold=7))}
    actor = summoned(app)
    ray.get(actor.hello.remote(raised))
    health = ray.get(actor.health.remote())
    assert health["policy"]["failure_threshold"] == 1
    assert (health["overrides"], health["configured"]["failure_threshold"]) == ({"failure_threshold": 1}, 7)
    hidden = '{"event": "override", "threshold": "failure_threshold", "configured": 7, "in_force": 1'
    logs = pathlib.Path(ray._private.worker._global_node.get_logs_dir_path())
    eventually(lambda: any(hidden in log.read_text() for log in logs.glob("worker-*.err")))
    ray.get(summoned(app).override.remote({"failure_threshold": None}))
    assert ray.get(summoned(app).health.remote())["policy"]["failure_threshold"] == 3


def test_an_actor_that_dies_again_and_again_starts_without_its_checkpoint(app: str) -> None:
    for n in range(1, 5):
        actor = summoned(app)
        ray.get(actor.command.remote("isolate", "aws"))
        ray.kill(actor, no_restart=True)
        eventually(lambda n=n: incarnation(app) == n + 1)
    health = ray.get(summoned(app).health.remote())["targets"]
    assert not health["aws/haiku"]["isolated"]


def test_two_applications_on_one_cluster_do_not_meet(app: str) -> None:
    other = summoned(f"{app}-other")
    try:
        ray.get(other.command.remote("isolate", "aws"))
        assert not ray.get(summoned(app).health.remote())["targets"]["aws/haiku"]["isolated"]
    finally:
        ray.kill(other, no_restart=True)


def test_an_unreadable_checkpoint_is_a_clean_start_and_no_crash_loop(app: str) -> None:
    store = CheckpointStore(app)
    store.save(store.claim(), {"aws/haiku": {"state": "ajar"}})
    health = ray.get(summoned(app).health.remote())["targets"]
    assert health["aws/haiku"]["state"] == "closed"


def test_an_incarnation_that_has_a_successor_exits(app: str) -> None:
    first = whoami(summoned(app))
    assert CheckpointStore(app).claim() == first["incarnation"] + 1
    eventually(lambda: _answer(app).get("pid") not in (None, first["pid"]), 60)


def _answer(app: str) -> dict[str, Any]:
    try:
        return whoami(ray.get_actor(f"{app}-breaker", namespace=NAMESPACE))
    except (ray.exceptions.RayError, ValueError):
        return {}


def test_a_report_that_is_sent_twice_counts_once(app: str) -> None:
    actor = summoned(app)
    item = {
        "target": "aws/haiku",
        "incarnation": whoami(actor)["incarnation"],
        "epoch": 0,
        "verdict": "failed_start",
        "kind": "connect",
        "count": 1,
        "ms": 1.0,
    }
    for _ in range(5):
        ray.get(actor.report.remote("replica", 1, [item, item]))
    assert ray.get(actor.health.remote())["targets"]["aws/haiku"]["consecutive_failures"] == 2


def test_five_hundred_parked_polls_starve_nobody_and_all_hear_of_a_change(app: str) -> None:
    actor = summoned(app)
    seen = ray.get(actor.watch.remote(None))["version"]
    polls = [actor.watch.remote(seen) for _ in range(500)]
    assert ray.get(actor.whoami.remote(), timeout=20)
    began = time.monotonic()
    ray.get(actor.command.remote("isolate", "aws"))
    answers = ray.get(polls, timeout=20)
    assert time.monotonic() - began < 20, "they waited for their time limit"
    assert all(tuple(a["version"]) > tuple(seen) for a in answers)
