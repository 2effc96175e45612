"""Ray's control store stands still for ten seconds while the application is asked. `uv run pytest -m chaos`."""

import contextlib
import itertools
import os
import pathlib
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

from tests.cluster.conftest import Cluster, eventually
from tests.cluster.faults import replica_pids
from tests.cluster.test_chaos import Load, open_the_primary, whoami
from tests.fakes.server import Behaviour, status
from tests.repeated import Repeated

pytestmark = pytest.mark.chaos

FROZEN = 10.0  # seconds
# A loop that waits for the store is late by all of FROZEN. The median says how late it usually is; a single look may
# be late because this machine is busy.
USUALLY, EVER = 0.1, 1.0


def control_store() -> int:
    """The process of this test's own cluster: its child."""
    children = pathlib.Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    [found] = [pid for pid in pids if pathlib.Path(f"/proc/{pid}/comm").read_text() == "gcs_server\n"]
    return int(found)


@contextlib.contextmanager
def frozen() -> Iterator[float]:
    """Ends no sooner than FROZEN seconds after its start, on time.monotonic."""
    pid, until = control_store(), time.monotonic() + FROZEN
    os.kill(pid, signal.SIGSTOP)
    try:
        yield until
        time.sleep(max(0.0, until - time.monotonic()))
    finally:
        os.kill(pid, signal.SIGCONT)


@dataclass
class Pulse(Repeated):
    """Ask somebody ten times a second how late he is."""

    name: str
    ask: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    period = 0.1

    def look(self) -> None:
        began = time.monotonic()
        try:
            self.ask()
        except Exception as error:
            self.failed.append(f"{type(error).__name__}: {error}")
        self.seconds.append(time.monotonic() - began)

    def prompt(self) -> None:
        usual, longest = statistics.median(self.seconds), max(self.seconds)
        print(f"\n{self.name}: {len(self.seconds)} looks, median {usual:.4f} s, longest {longest:.3f} s")
        assert self.failed == []
        assert len(self.seconds) > FROZEN
        assert usual < USUALLY, self.seconds
        assert longest < EVER, self.seconds


@contextlib.contextmanager
def endless_stream(llm: Cluster) -> Iterator[list[float]]:
    """When each piece of a stream of `google_genai` came; it ends, whole, after the block."""
    end, came = threading.Event(), list[float]()
    llm.fakes["google_genai"].behave = Behaviour("endless", pace=0.05, until=end)

    def read() -> None:
        body = {"model": "first-google_genai", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
        with httpx2.stream("POST", f"{llm.url}/v1/chat/completions", json=body, timeout=60) as answer:
            for piece in answer.iter_raw():
                came.append(time.monotonic())
                if b"[DONE]" in piece:
                    came.append(0.0)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        eventually(lambda: len(came) > 3)
        yield came
    finally:
        end.set()
        reader.join(30)


def ask(actor: Any) -> Callable[[], Any]:
    return lambda: ray.get(actor.whoami.remote(), timeout=30)


def live(llm: Cluster) -> Callable[[], Any]:
    return lambda: httpx2.get(f"{llm.url}/livez", timeout=30).raise_for_status()


def test_while_the_control_store_stands_still_no_loop_does(llm: Cluster) -> None:
    """A circuit opens meanwhile and is probed: both actors and the ingress have reason to ask the store."""
    breaker, ledger = llm.breaker(), ray.get_actor("llm-ledger", namespace="breakwater")
    ask(breaker)(), ask(ledger)()
    pulses = [Pulse("breaker", ask(breaker)), Pulse("ledger", ask(ledger)), Pulse("ingress", live(llm))]
    llm.thresholds(recovery_timeout=2)
    with contextlib.ExitStack() as running:
        came = running.enter_context(endless_stream(llm))
        load = running.enter_context(Load(llm, clients=2))
        with frozen() as until:
            for pulse in pulses:
                running.enter_context(pulse)
            llm.fakes["aws_bedrock"].behave = status(500)
            eventually(lambda: llm.state("aws_bedrock") == "open", 5)
            llm.fakes["aws_bedrock"].reset()
            eventually(lambda: llm.state("aws_bedrock") == "closed", until - time.monotonic())
    llm.thresholds(recovery_timeout=None)
    for pulse in pulses:
        pulse.prompt()
    print(f"{len(load.answers)} requests, longest {max(took for _, took, *_ in load.answers):.2f} s")
    assert load.avoidable() == []
    assert came[-1] == 0.0, "the stream did not come to its end"
    assert longest_gap(came) < EVER
    eventually(lambda: whoami(llm))


def test_an_actor_that_dies_meanwhile_holds_up_no_ingress_and_is_there_again_afterwards(llm: Cluster) -> None:
    """The ingress looks for it all the time, and the store that knows where it is stands still."""
    open_the_primary(llm)
    before, [ingress] = whoami(llm), replica_pids("Ingress")
    pulse = Pulse("ingress", live(llm))
    with endless_stream(llm) as came, Load(llm, clients=2) as load, pulse, frozen():
        os.kill(before["pid"], signal.SIGKILL)
        began = time.monotonic()
    pulse.prompt()
    assert load.avoidable() == []
    assert longest_gap(came) < EVER
    eventually(lambda: whoami(llm).get("incarnation", 0) > before["incarnation"], 60)
    print(f"the breaker actor was back {time.monotonic() - began:.1f} s after its death")
    assert replica_pids("Ingress") == [ingress]
    eventually(lambda: llm.get("/v1/providers")["breaker_actor"] == "reachable", 30)
    assert threads_of(ingress, "control-store") <= 1


def longest_gap(came: list[float]) -> float:
    """Between two pieces of a stream, in seconds; its last entry says that it has ended whole."""
    return max(later - earlier for earlier, later in itertools.pairwise(came[:-1]))


def threads_of(pid: int, name: str) -> int:
    return sum(path.read_text().strip() == name for path in pathlib.Path(f"/proc/{pid}/task").glob("*/comm"))
