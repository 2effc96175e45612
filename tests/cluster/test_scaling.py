"""Replicas come and go with the load, alone, and no request notices.

`uv run pytest -m scaling` runs this and prints how many replicas there were and when.
"""

import asyncio
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from ray import serve

from deployments import app
from tests.cluster.conftest import CLOUDS, Cluster, config_of, eventually, started
from tests.cluster.replies import Reply
from tests.fakes.server import Behaviour

# Ray forgets some of its own processes as soon as it has killed them.
pytestmark = [pytest.mark.scaling, pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")]

BUSY, FRONT = "openai", "Ingress"
TARGET = "openai/gpt-5.4-mini"  # pinned, so that nobody else answers what it did not
QUIET = ("aws_bedrock", "google_genai", "anthropic", "local")
STREAMING, WHOLE = 104, 8  # clients at once: 112 are work for four replicas with a target of 32
PACE = 1.0  # seconds between frames, and of a whole answer: many calls at once, and little work
WORDS, MANY_WORDS = 12, 240  # of a usual stream, and of one that outlives HAProxy's own two minutes
PATIENT = {"timeout_seconds": 90, "connect": 30, "first_token": 60, "idle": 60}  # the machine may be busy
MOST_UNHEARD = 5  # of some 1,500 requests
States = dict[str, dict[str, int]]  # deployment to state to replicas
AT_REST: States = {name: {"RUNNING": 1} for name in (*QUIET, BUSY, FRONT)}


def scaling_config(fakes: dict[str, Any], port: int) -> dict[str, Any]:
    """As shipped, but for ten minutes until replicas go again, and for limits."""
    config = config_of(fakes, port)
    args = config["applications"][0]["args"]
    args["timeouts"] = {**PATIENT, "deadline": 120}
    for provider in CLOUDS:
        args["providers"][provider] |= {"timeouts": PATIENT}
    config["applications"][0]["deployments"] = [
        {"name": name, "autoscaling_config": {**options["autoscaling_config"], "downscale_delay_s": 20}}
        for name, options in ((BUSY, app._REMOTE), (FRONT, app._INGRESS))
    ]
    return config


def replicas() -> States:
    """As Serve says it."""
    found = serve.status().applications["llm"].deployments
    return {name: {str(s): n for s, n in d.replica_states.items() if n} for name, d in found.items()}


@dataclass
class Watch:
    """Serve's counts whenever they change, beside the number of requests under way.

    Whoever wants to know them asks here: `serve.status` is not for two threads at a time.
    """

    clients: "Clients"
    table: list[tuple[float, int, States]]
    now: States = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(0.5):
            if (now := replicas()) != self.now:
                self.table.append((time.monotonic() - self.began, self.clients.under_way, now))
                self.now = now

    def running(self, name: str) -> int:
        return self.now[name].get("RUNNING", 0)

    def draining(self, name: str) -> int:
        return self.now[name].get("STOPPING", 0)


@dataclass
class Clients:
    """Requests to the busy provider through the HTTP door, and what each got."""

    llm: Cluster
    http: httpx2.AsyncClient
    replies: list[Reply] = field(default_factory=list)
    under_way: int = 0
    unheard: int = 0  # requests that went into a connection that HAProxy was closing
    stopped: bool = False

    async def ask(self, stream: bool, begun: asyncio.Event | None = None) -> Reply:
        reply = Reply()
        body = {"model": TARGET, "stream": stream, "messages": [{"role": "user", "content": "Count."}]}
        self.under_way += 1
        try:
            try:
                await self._send(body, reply, begun)
            except httpx2.RemoteProtocolError as error:
                if reply.provider is not None or "without sending a response" not in str(error):
                    raise
                self.unheard += 1
                await self._send(body, reply, begun)  # as OpenAI's SDKs do
        except httpx2.TransportError as error:
            reply.error = {"code": type(error).__name__, "message": str(error)}
        finally:
            self.under_way -= 1
        self.replies.append(reply)
        return reply

    async def _send(self, body: dict[str, Any], reply: Reply, begun: asyncio.Event | None) -> None:
        async with self.http.stream("POST", f"{self.llm.url}/v1/chat/completions", json=body) as response:
            await _read(reply, response, begun)

    async def ask_until_stopped(self, streaming: int, whole: int) -> None:
        async def on_and_on(stream: bool) -> None:
            while not self.stopped:
                await self.ask(stream)

        self.stopped = False
        await asyncio.gather(*(on_and_on(n < streaming) for n in range(streaming + whole)))

    async def open(self, count: int) -> "list[asyncio.Task[Reply]]":
        """Streams whose first content has come."""
        begun = [asyncio.Event() for _ in range(count)]
        tasks = [asyncio.create_task(self.ask(True, event)) for event in begun]
        await asyncio.gather(*(event.wait() for event in begun))
        return tasks


async def _read(reply: Reply, response: httpx2.Response, begun: asyncio.Event | None) -> None:
    reply.status = response.status_code
    reply.provider = response.headers.get("x-breakwater-provider")
    reply.attempts = int(response.headers.get("x-breakwater-attempts", "0"))
    async for line in response.aiter_lines():
        if begun is not None:
            begun.set()
        if line.startswith("{"):
            reply.take(json.loads(line))
            reply.done = reply.error is None
        elif line.startswith("data: {"):
            reply.take(json.loads(line[6:]))
        elif line == "data: [DONE]":
            reply.done = True


@pytest.fixture
def llm(tmp_path: pathlib.Path) -> Iterator[Cluster]:
    with started(tmp_path, scaling_config) as cluster:
        eventually(lambda: replicas() == AT_REST, 120)
        # A paced fake closes each connection; one who does not know may send the next request into that.
        cluster.fakes[BUSY].behave = Behaviour("answer", pace=PACE, headers={"connection": "close"})
        yield cluster


@pytest.fixture
def clients(llm: Cluster) -> Iterator[Clients]:
    async def made() -> Clients:
        return Clients(llm, httpx2.AsyncClient(timeout=300, limits=httpx2.Limits(max_connections=None)))

    clients = llm.run(made())
    yield clients
    clients.stopped = True
    llm.run(clients.http.aclose())


@pytest.fixture
def watch(clients: Clients, scaling: list[Any]) -> Iterator[Watch]:
    watch = Watch(clients, scaling)
    thread = threading.Thread(target=watch.run)
    thread.start()
    eventually(lambda: watch.now)
    yield watch
    watch.stop.set()
    thread.join()


def say(llm: Cluster, words: int) -> None:
    llm.fakes[BUSY].words = [f" {n}" for n in range(words)]


def load(clients: Clients, streaming: int, whole: int) -> Any:
    return asyncio.run_coroutine_threadsafe(clients.ask_until_stopped(streaming, whole), clients.llm.loop)


def test_the_busy_provider_alone_gets_replicas_and_loses_them_again_and_no_request_is_lost(
    llm: Cluster, clients: Clients, watch: Watch
) -> None:
    # The first are on the oldest replicas, and in the HAProxy that the ingress's first new replica replaces.
    say(llm, MANY_WORDS)
    long = llm.run(clients.open(4))
    say(llm, WORDS)

    busy = load(clients, STREAMING, WHOLE)
    eventually(lambda: watch.running(BUSY) >= 3 and watch.running(FRONT) >= 2, 240)
    answered = len(clients.replies) + 2 * (STREAMING + WHOLE)
    eventually(lambda: len(clients.replies) >= answered, 240)
    clients.stopped = True
    busy.result(120)

    # These are on every replica, the ones that will be removed among them.
    say(llm, MANY_WORDS)
    long += llm.run(clients.open(24))
    light = load(clients, 0, 4)
    eventually(lambda: watch.running(BUSY) == 1 and watch.running(FRONT) == 1, 240)
    assert watch.draining(BUSY) >= 1, "no removed replica had a stream"
    assert watch.draining(FRONT) >= 1, "no removed ingress had a stream"
    assert [task.result() for task in long if task.done()] == [], "not cut, and not shorter than the removal"

    eventually(lambda: all(task.done() for task in long), 420)
    clients.stopped = True
    light.result(60)
    eventually(lambda: watch.now == AT_REST, 120)
    all_is_well(llm, clients, watch, [task.result() for task in long])


def all_is_well(llm: Cluster, clients: Clients, watch: Watch, long: list[Reply]) -> None:
    assert [r for r in clients.replies if not r.whole] == []
    # Each change of the ingress's replicas replaces HAProxy, and the old one closes what is idle at that instant.
    assert clients.unheard <= MOST_UNHEARD
    assert {r.text for r in long} == {"".join(llm.fakes[BUSY].words)}
    assert {r.provider for r in clients.replies} == {BUSY}
    assert max(states[BUSY].get("RUNNING", 0) for _, _, states in watch.table) >= 3
    for _, _, states in watch.table:
        assert all(states[name] == AT_REST[name] for name in QUIET), states
    assert set(llm.get("/v1/providers")["provider_states"].values()) == {"closed"}
