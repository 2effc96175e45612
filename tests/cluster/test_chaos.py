"""Real processes killed on a real cluster, under load. The long form: `uv run pytest -m chaos`."""

import contextlib
import itertools
import os
import pathlib
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import ray

from tests.cluster.conftest import Cluster, eventually, overridden
from tests.cluster.test_whole_path import deploy, ingress_replicas
from tests.fakes.server import Behaviour, status


@dataclass
class Load:
    """Clients that ask as fast as they are answered; what each got and when."""

    llm: Cluster
    clients: int = 4
    answers: list[tuple[float, float, int, str]] = field(default_factory=list)  # began, seconds, status, provider
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self._ask) for _ in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                answer = self.llm.post()
                code, provider = answer.status_code, answer.headers.get("x-breakwater-provider", "")
            except httpx2.TransportError as error:
                code, provider = 0, type(error).__name__
            self.answers.append((began, time.monotonic() - began, code, provider))

    def lost(self) -> list[tuple[float, float, int, str]]:
        return [a for a in self.answers if a[2] != 200]

    def avoidable(self) -> list[tuple[float, float, int, str]]:
        """Who got no answer, or the local model's, though a cloud would have answered. One is always well here."""
        found = [a for a in self.answers if a[2] != 200 or a[3] == "local"]
        print(f"\n{len(self.answers)} requests, {len(found)} avoidable failures, {len(self.lost())} of them lost")
        return found


def whoami(llm: Cluster) -> dict[str, Any]:
    try:
        return dict(ray.get(llm.breaker().whoami.remote(), timeout=5))
    except (ray.exceptions.RayError, ValueError):
        return {}


def kill_actor(llm: Cluster) -> dict[str, Any]:
    """SIGKILL; who answers afterwards."""
    before = eventually(lambda: whoami(llm))
    os.kill(before["pid"], signal.SIGKILL)
    return dict(eventually(lambda: (now := whoami(llm)).get("incarnation", 0) > before["incarnation"] and now, 60))


def open_the_primary(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = status(500)
    for _ in range(3):
        llm.post()
    eventually(lambda: llm.state("aws_bedrock") == "open")


@pytest.fixture
def slow_recovery(llm: Cluster) -> Iterator[Cluster]:
    """A minute until a probe, so that whatever reaches the dead provider before is a storm."""
    llm.thresholds(recovery_timeout=60, recovery_cap=60)
    yield llm
    llm.thresholds(recovery_timeout=None, recovery_cap=None)


def outage_with_kills(llm: Cluster, kills: int) -> tuple[Load, list[float]]:
    open_the_primary(llm)
    dead = llm.fakes["aws_bedrock"]
    before = len(dead.received)
    back: list[float] = []
    with Load(llm) as load:
        for _ in range(kills):
            time.sleep(random.uniform(0.1, 0.5))
            killed = time.monotonic()
            kill_actor(llm)
            back.append(time.monotonic() - killed)
            assert llm.state("aws_bedrock") == "open", "a circuit that was open is open after the restart"
    assert len(dead.received) - before <= 1, "a new storm into the dead provider"
    return load, back


def test_the_actor_killed_in_an_outage_loses_no_request_and_starts_no_storm(slow_recovery: Cluster) -> None:
    load, _ = outage_with_kills(slow_recovery, kills=2)
    assert load.answers
    assert load.avoidable() == []


@pytest.mark.chaos
def test_the_actor_killed_a_dozen_times(slow_recovery: Cluster) -> None:
    # Three at a time: a fifth start within a minute is a crash loop, which forgets on purpose.
    total, seconds = 0, []
    for _ in range(4):
        slow_recovery.command("reset", "aws_bedrock")
        load, back = outage_with_kills(slow_recovery, kills=3)
        assert load.avoidable() == []
        total += len(load.answers)
        seconds += back
        time.sleep(61)
    print(
        f"\n{total} requests, 0 lost; actor back after p50 {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s"
    )


@pytest.mark.chaos
def test_two_ingress_replicas_send_one_probe_an_interval(llm: Cluster) -> None:
    """Whoever probes, the dead provider sees one call per open time; recovery_timeout is 2 s here."""
    with_replicas(llm, 2)
    try:
        open_the_primary(llm)
        dead = llm.fakes["aws_bedrock"]
        dead.received.clear()
        arrivals: list[float] = []
        with Load(llm, clients=8) as load:
            deadline = time.monotonic() + 8
            while time.monotonic() < deadline:
                while len(arrivals) < len(dead.received):
                    arrivals.append(time.monotonic())
                time.sleep(0.005)
        assert load.avoidable() == []
        gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
        assert 1 <= len(arrivals) <= 4, arrivals
        assert all(gap > 1.9 for gap in gaps), gaps
    finally:
        with_replicas(llm, 1)


def with_replicas(llm: Cluster, count: int) -> None:
    """Replicas of the ingress. Here one goes at once, not after 30 s: until HAProxy knows it, requests are lost."""
    before = haproxies()
    deploy(llm, overridden(llm, "Ingress", autoscaling_config={"min_replicas": count, "max_replicas": count}))
    eventually(lambda: len(ingress_replicas()) == count, 60)
    eventually(lambda: haproxies() - before)
    eventually(lambda: llm.get("/readyz") == {"status": "ready"}, 30)


def haproxies() -> set[str]:
    """The processes: one that knows other replicas is another process."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text() == "haproxy\n":
                found.add(path.parent.name)
    return found


FAULTS: dict[str, Callable[[Any], None]] = {
    "refuse": lambda fake: fake.refuse(),
    "500": lambda fake: setattr(fake, "behave", status(500)),
    "429": lambda fake: setattr(fake, "behave", status(429, retry_after="30")),
    "hang": lambda fake: setattr(fake, "behave", Behaviour("hang")),
}


@pytest.mark.chaos
@pytest.mark.parametrize("fault", FAULTS)
def test_time_to_failover(llm: Cluster, fault: str) -> None:
    """From the fault's start to the start of the first request that is answered by the next at once."""
    seconds = []
    for _ in range(5):
        llm.fakes["aws_bedrock"].reset()
        llm.command("reset", "aws_bedrock")
        eventually(lambda: llm.state("aws_bedrock") == "closed")
        with Load(llm) as load:
            time.sleep(0.3)
            began = time.monotonic()
            FAULTS[fault](llm.fakes["aws_bedrock"])
            eventually(lambda: llm.state("aws_bedrock") == "open", 60)
            time.sleep(0.2)
        assert load.avoidable() == []
        last = max((start for start, _, _, by in load.answers if by == "aws_bedrock"), default=began)
        clean = min(s for s, took, _, by in load.answers if s > max(last, began) and by == "openai" and took < 0.25)
        seconds.append(clean - began)
    middle, longest = statistics.median(seconds), max(seconds)
    print(f"\n{fault}: time to failover p50 {middle:.2f} s, max {longest:.2f} s of {len(seconds)}")
