"""Two versions on one cluster: an upgrade, a rollback and an upgrade again, under load. `uv run pytest -m upgrade -s`.

Each version is a checkout of its own. The config names one in `PYTHONPATH` of the application's `runtime_env`, so a
deploy replaces every replica by one of the other version, and both run meanwhile.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import ray
import yaml

from actors.singleton import code_fingerprint
from tests.checkouts import LAST, checkout
from tests.cluster.conftest import ROOT, Cluster, eventually, patient_config, started
from tests.cluster.faults import replica_pids
from tests.cluster.test_chaos import whoami
from tests.cluster.test_redeploy import replaced
from tests.cluster.test_usage import settled, usage
from tests.cluster.test_whole_path import deploy
from tests.fakes.server import Behaviour

DEPLOYMENTS = ("Ingress", "aws_bedrock", "openai", "google_genai", "anthropic", "local")
WHILE = 4.0  # seconds between two changes
STREAMS = 4
PAUSE = 0.02  # seconds between two requests of a client: the account of all is asked for by agent, 10,000 at most
LONGEST = 10.0  # seconds that a request may take, on a machine that starts a dozen processes meanwhile
pytestmark = pytest.mark.upgrade

# An app of another team, with its copy of the client. It asks until its input ends, and prints what became of it.
AGENT = """
import asyncio, json, sys, threading
from breakwater import connect

async def main():
    tenant, kind, ended, done = sys.argv[1], sys.argv[2], threading.Event(), []
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    async with connect("llm") as llm:
        while not ended.is_set():
            whose = {"tenant_id": tenant, "agent_id": f"{kind}-{len(done)}"}
            try:
                if len(done) % 2:
                    items = [item async for item in llm.generate_streaming_completion("Hi", model="default", **whose)]
                    done.append((whose["agent_id"], "".join(item.get("delta", "") for item in items)))
                else:
                    answer = await llm.generate_completion("Hi", model="default", **whose)
                    done.append((whose["agent_id"], answer["response"]))
            except Exception as error:
                done.append((whose["agent_id"], repr(error)))
            await asyncio.sleep(0.02)
    print(json.dumps(done))

asyncio.run(main())
"""
ANSWER = "Paris is the capital."


@dataclass
class Clients:
    """By HTTP, whole and streamed, each request with an agent's name of its own."""

    llm: Cluster
    tenant: str
    answers: dict[str, tuple[float, str]] = field(default_factory=dict)  # agent: seconds, and the text or the error
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, name: str, stream: bool) -> None:
        number = 0
        while not self.stop.is_set():
            agent, began = f"{name}-{(number := number + 1)}", time.monotonic()
            headers = {"x-tenant-id": self.tenant, "x-agent-id": agent}
            try:
                response = self.llm.post(stream=stream, headers=headers)
                text = _streamed(response.text) if stream else response.json()["choices"][0]["message"]["content"]
            except (httpx2.TransportError, KeyError) as error:
                text = repr(error)
            self.answers[agent] = (time.monotonic() - began, text)
            self.stop.wait(PAUSE)


def _streamed(text: str) -> str:
    frames = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    if frames[-1:] != ["[DONE]"]:
        return text
    return "".join(c["delta"].get("content") or "" for f in frames[:-1] for c in json.loads(f)["choices"])


@contextlib.contextmanager
def load(llm: Cluster, tenant: str, agents: dict[str, pathlib.Path]) -> Iterator[dict[str, tuple[float, str]]]:
    """What each request got, once the block has ended: of clients by HTTP, and of agents with either client."""
    clients = Clients(llm, tenant)
    env = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    apps = [
        subprocess.Popen(
            [sys.executable, "agent.py", tenant, kind],
            cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for kind, folder in agents.items()
    ]  # fmt: skip
    threads = [threading.Thread(target=clients.ask, args=(f"http-{n}", n % 2 == 1)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield clients.answers
    finally:
        clients.stop.set()
        said = [app.communicate(timeout=60)[0] for app in apps]
        for thread in threads:
            thread.join()
    for lines in said:  # Ray writes warnings of its own there
        clients.answers |= {agent: (0.0, text) for agent, text in json.loads(lines.splitlines()[-1])}


def agent_app(folder: pathlib.Path, client: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    (folder / "agent.py").write_text(AGENT)
    shutil.copy(client / "deployments" / "client.py", folder / "breakwater.py")
    return folder


def of_version(config: dict[str, Any], root: pathlib.Path) -> dict[str, Any]:
    """With new replicas before the old ones stop, which the earlier version does not ask for by itself."""
    app = config["applications"][0]
    known = {each["name"]: each for each in app.get("deployments", [])}
    app["deployments"] = [{"name": name, **known.get(name, {}), "max_surge_percent": 100} for name in DEPLOYMENTS]
    app["runtime_env"] = {"env_vars": {"PYTHONPATH": str(root)}}
    return config


def move_to(llm: Cluster, root: pathlib.Path) -> None:
    """Deploy the version in this checkout, and wait until no replica of the other one takes calls."""
    before = {name: set(replica_pids(name)) for name in DEPLOYMENTS}
    actor = whoami(llm).get("code")
    deploy(llm, of_version(yaml.safe_load(llm.config.read_text()), root))
    eventually(lambda: replaced(before), 120)
    eventually(lambda: whoami(llm).get("code") not in (None, actor), 60)
    eventually(lambda: llm.get("/v1/providers/openai")["isolated"])  # or what the actor before knew is forgotten


@pytest.mark.parametrize("version", [LAST])  # an earlier one knows no provider of kind anthropic
def test_an_upgrade_a_rollback_and_an_upgrade_lose_nothing(tmp_path: pathlib.Path, version: str) -> None:
    earlier = checkout(version, tmp_path)
    agents = {"old": agent_app(tmp_path / "old", earlier), "new": agent_app(tmp_path / "new", ROOT)}
    environment = {
        "PYTHONPATH": str(earlier),  # Serve's controller has the version with which the cluster began, for good
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "deployments" / "ops" / "haproxy"),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    }
    neutral = tmp_path / "neutral"
    neutral.mkdir()
    with started(
        tmp_path, lambda fakes, port: of_version(patient_config(fakes, port), earlier), neutral, **environment
    ) as llm:
        assert whoami(llm)["code"] != code_fingerprint()
        there_and_back(llm, earlier, agents)


def there_and_back(llm: Cluster, earlier: pathlib.Path, agents: dict[str, pathlib.Path]) -> None:
    tenant = f"upgrade-{time.time_ns()}"
    llm.command("isolate", "openai")
    with load(llm, tenant, agents) as answers:
        time.sleep(WHILE)
        with streams_cut_off(llm, f"{tenant}-cut"):
            move_to(llm, ROOT)
            assert whoami(llm)["code"] == code_fingerprint()
        time.sleep(WHILE)
        move_to(llm, earlier)  # to which the store is too new: rows wait in the journals
        assert whoami(llm)["code"] != code_fingerprint()
        time.sleep(WHILE)
        move_to(llm, ROOT)
        time.sleep(WHILE)
    print(f"\n{whoami(llm)['incarnation']} starts of the breaker actor for three replacements")
    accounted(llm, tenant, answers)


@contextlib.contextmanager
def streams_cut_off(llm: Cluster, tenant: str) -> Iterator[None]:
    """Streams of the replica that serves now, which is killed after the block. What they had used is written down."""
    end = threading.Event()
    fake = llm.fakes["google_genai"]
    fake.behave = Behaviour("endless", pace=0.1, until=end)
    old = replica_pids("Ingress")

    def stream(number: int) -> None:
        with contextlib.suppress(httpx2.TransportError):
            headers = {"x-tenant-id": tenant, "x-agent-id": f"cut-{number}"}
            llm.post(model="first-google_genai", stream=True, headers=headers)

    threads = [threading.Thread(target=stream, args=(n,)) for n in range(STREAMS)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(fake.received) == STREAMS)
    yield
    time.sleep(WHILE)  # until nobody sends it requests any more
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    end.set()
    total = eventually(lambda: (rows := usage(llm, tenant=tenant)) and rows[0]["lost"] == STREAMS and rows[0], 60)
    assert (total["requests"], total["attempts"], total["open"], total["answers"]) == (STREAMS, STREAMS, 0, 0)
    assert total["tokens_out"] >= STREAMS


def accounted(llm: Cluster, tenant: str, answers: dict[str, tuple[float, str]]) -> None:
    """Each request was answered whole, and has one row."""
    kinds = {kind: sum(agent.startswith(kind) for agent in answers) for kind in ("http", "old", "new")}
    longest = max(seconds for seconds, _ in answers.values())
    print(f"\n{len(answers)} requests {kinds}, the longest {longest:.2f} s")
    assert {agent: text for agent, (_, text) in answers.items() if text != ANSWER} == {}
    assert min(kinds.values()) > 0
    settled(llm, len(answers), tenant=tenant)
    params = {"tenant": tenant, "group_by": "agent"}
    rows = {r["agent"]: r for r in httpx2.get(f"{llm.url}/v1/usage", params=params, timeout=30).json()["data"]}
    assert rows.keys() == answers.keys()
    assert {a: r for a, r in rows.items() if (r["requests"], r["answered"], r["lost"]) != (1, 1, 0)} == {}
    assert longest < LONGEST
