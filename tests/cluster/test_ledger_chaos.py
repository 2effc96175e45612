"""A thousand streamed requests while any process may die: the accounts are whole all the same.

uv run pytest -m chaos tests/cluster/test_ledger_chaos.py -s
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import ray

from tests.cluster.conftest import Cluster, eventually
from tests.cluster.faults import replica_pids
from tests.fakes.server import Behaviour

REQUESTS, WORKERS, WORDS = 1000, 8, 30
LEAVES = 4  # one client of so many goes away in mid-stream
KILL_SECONDS = 12.0  # a fifth start of the breaker actor within a minute is a crash loop
pytestmark = pytest.mark.chaos


@dataclass
class Client:
    """One request, named by its agent."""

    agent: str
    leaves: bool
    began: bool = False  # headers came: somebody had taken it
    whole: bool = False
    frames: int = 0

    def run(self, llm: Cluster, tenant: str) -> None:
        body = {"model": "first-openai", "stream": True, "messages": [{"role": "user", "content": "Count."}]}
        headers = {"x-tenant-id": tenant, "x-agent-id": self.agent}
        with (
            contextlib.suppress(httpx2.TransportError),
            httpx2.Client(timeout=60) as http,
            http.stream("POST", f"{llm.url}/v1/chat/completions", json=body, headers=headers) as response,
        ):
            self.began = response.status_code == 200
            for line in response.iter_lines():
                self.whole = self.whole or line == "data: [DONE]"
                self.frames += line.startswith("data: {")
                if self.leaves and self.frames > WORDS // 3:
                    return


@dataclass
class Killer:
    """Kills a process of one sort after the other."""

    victims: dict[str, Callable[[], list[int]]]
    kills: dict[str, int] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(KILL_SECONDS / len(self.victims)):
            name = random.choice(list(self.victims))
            with contextlib.suppress(Exception):
                for pid in self.victims[name]()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    self.kills[name] = self.kills.get(name, 0) + 1


def actor_pid(name: str) -> list[int]:
    actor = ray.get_actor(f"llm-{name}", namespace="breakwater")
    return [int(ray.get(actor.whoami.remote(), timeout=2)["pid"])]


def test_no_request_is_lost_or_doubled_whoever_dies(llm: Cluster) -> None:
    tenant, fake = f"chaos-{time.time_ns()}", llm.fakes["openai"]
    fake.words = [f" w{n}" for n in range(WORDS)]
    for _ in range(20):  # what a token is like is learnt from whole answers
        llm.post(model="first-openai", stream=True, stream_options={"include_usage": True})
    fake.behave = Behaviour("answer", pace=0.01)
    clients = [Client(f"agent-{n}", leaves=n % LEAVES == 0) for n in range(REQUESTS)]
    killer = Killer(
        {
            "Ingress": lambda: replica_pids("Ingress"),
            "openai": lambda: replica_pids("openai"),
            "ledger": lambda: actor_pid("ledger"),
            "breaker": lambda: actor_pid("breaker"),
        }
    )
    work, stop = iter(clients), threading.Event()
    lock = threading.Lock()

    def worker() -> None:
        while True:
            with lock:
                client = next(work, None)
            if client is None:
                return
            client.run(llm, tenant)

    threads = [threading.Thread(target=worker) for _ in range(WORKERS)]
    reaper = threading.Thread(target=killer.run, args=(stop,))
    for thread in (*threads, reaper):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reaper.join()
    fake.words = ["Paris", " is", " the", " capital", "."]
    taken = {c.agent for c in clients if c.began}
    rows = {r["agent"]: r for r in eventually(lambda: _all_settled(llm, tenant, taken), 120)}
    print(_report(clients, rows, killer))
    assert {a for a, r in rows.items() if r["requests"] != 1} == set(), "doubled"
    assert taken - rows.keys() == set(), "lost"
    for client in clients:
        if client.whole:
            assert rows[client.agent]["answered"] == 1
    assert sum(killer.kills.values()) >= 4
    _delivered_is_counted(clients, rows)


def _all_settled(llm: Cluster, tenant: str, taken: set[str]) -> list[dict[str, Any]] | None:
    params = {"tenant": tenant, "group_by": "agent"}
    response = httpx2.get(f"{llm.url}/v1/usage", params=params, timeout=20)
    if response.status_code != 200:
        return None  # its actor has just been killed
    rows = list(response.json()["data"])
    done = taken <= {r["agent"] for r in rows} and not any(r["open"] for r in rows)
    return rows if done else None


def _delivered_is_counted(clients: list[Client], rows: dict[str, dict[str, Any]]) -> None:
    """Of those who left: what their clients read, and what is written down for them."""
    left = [c for c in clients if c.leaves and c.began and not c.whole and rows[c.agent]["cancelled"] == 1]
    read = sum(c.frames - 1 for c in left)  # the first frame is the role alone
    written = sum(rows[c.agent]["tokens_out"] for c in left)
    print(f"{len(left)} left in mid-stream: {read} tokens read, {written} written down ({written / read - 1:+.1%})")
    # A frame or two were under way to the client when it left.
    assert read * 0.95 <= written <= read * 1.05 + 2 * len(left)


def _report(clients: list[Client], rows: dict[str, dict[str, Any]], killer: Killer) -> str:
    whole, taken = sum(c.whole for c in clients), sum(c.began for c in clients)
    lost = sum(r["lost"] for r in rows.values())
    return (
        f"\n{len(clients)} requests, {taken} taken, {whole} answered whole; {len(rows)} rows, "
        f"{lost} attempts lost with their replica; killed: {killer.kills}"
    )
