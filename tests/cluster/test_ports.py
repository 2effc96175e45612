"""What a `serve run` of a user's listens at, and what becomes of its ports and streams when a part of it is killed.

`uv run pytest -m nodes` runs these. Each has a cluster of its own, as a user starts it.
"""

import contextlib
import os
import pathlib
import re
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
import yaml

from deployments.ops.start_haproxy import UNIX_SOCKET
from tests.cluster.conftest import ROOT, _ready, eventually, free_port, serve_env
from tests.cluster.listening import (
    METRICS_AGENT,
    command_of,
    descendants,
    listening,
    name_of,
    reach_of,
    unix_connections,
)
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer
from tests.readme import section

pytestmark = pytest.mark.nodes

SILENCE = 6  # seconds that HAProxy waits for a replica here
CLOSED = {"`http_options.host`": "this machine"}  # as shipped
BETWEEN_NODES = ("a provider's replica", "the node's address")
QUICK = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.1", "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.1"}
PORTS = {
    name: free_port()
    for name in (
        "RAY_SERVE_HAPROXY_METRICS_PORT",
        "RAY_SERVE_HAPROXY_STATS_PORT",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    )
}


@dataclass
class Served:
    """`serve run` with the shipped config, whose OpenAI is a fake."""

    folder: pathlib.Path
    openai: FakeServer
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    seen: set[int] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, host: str = "127.0.0.1", args: dict[str, Any] | None = None, **environment: str) -> None:
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config["http_options"] = {"host": host, "port": self.port}
        ours = config["applications"][0]["args"]
        ours["providers"]["openai"]["base_url"] = f"{self.openai.url}/v1"
        ours["ledger"] = {"folder": str(self.folder / "ledger")}
        ours |= args or {}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        env = {**os.environ, **serve_env(), **{k: str(v) for k, v in PORTS.items()}, "OPENAI_API_KEY": "sk-fake"}
        env |= {**QUICK, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}", **environment}
        command = [sys.executable, "-m", "ray.serve.scripts", "run", str(self.folder / "config.yaml")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)

    def ready(self) -> None:
        process = self.process
        assert process is not None
        eventually(lambda: process.poll() is not None or (self.named("/haproxy ") and _ready(self.url)), 120)
        assert process.poll() is None, self.log.read_text()
        self.processes()

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "serve.log"

    def processes(self) -> list[int]:
        assert self.process is not None
        found = list(descendants(self.process.pid))
        self.seen |= set(found)
        return found

    def named(self, pattern: str) -> list[int]:
        return [pid for pid in self.processes() if re.search(pattern, command_of(pid))]

    def kill(self) -> None:
        """As `kill -9` does: nobody has a chance to clear up."""
        assert self.process is not None
        self.processes()
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.processes()
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        for pid in self.seen:
            if "ray" in command_of(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def served(tmp_path: pathlib.Path) -> Iterator[Served]:
    made = Served(tmp_path, FakeServer(OpenAIWire()))
    try:
        yield made
    finally:
        made.stop()
        made.openai.stop()


def told_by_the_page() -> set[tuple[str, str]]:
    """Which process is reachable from where, by the table of docs/operations.md."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", section("docs/operations.md", "## Ports"), re.MULTILINE)
    return {(process, CLOSED.get(reach, reach)) for process, _, reach in rows[2:]}


def ask(served: Served, stream: bool = False) -> httpx2.Response:
    body = {"model": "openai/gpt-5.4-mini", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    return httpx2.post(f"{served.url}/v1/chat/completions", json=body, timeout=60)


def found_listening(served: Served) -> dict[tuple[str, str], tuple[str, int]]:
    """Which process is reachable from where; its command and a port."""
    found = {}
    for pid in served.processes():
        if command := command_of(pid):  # it has not ended meanwhile
            found |= {(name_of(command), reach_of(at)): (command[:60], port) for at, port in listening(pid)}
    return found


def test_what_listens_where_is_what_the_page_says(served: Served) -> None:
    served.start()
    served.ready()
    assert ask(served).status_code == 200
    told = told_by_the_page()

    def all_of_them() -> bool:  # not while HAProxy is replaced, as it is when a replica has come
        found = found_listening(served)
        assert found.keys() <= told, {key: found[key] for key in found.keys() - told}
        return told - found.keys() == {BETWEEN_NODES} - found.keys() and len(served.named("/haproxy ")) == 1

    eventually(all_of_them)
    [proxy] = served.named("/haproxy ")
    ours = {served.port, *(PORTS[name] for name in PORTS if "HAPROXY" in name)}
    assert set(listening(proxy)) == {("127.0.0.1", port) for port in ours}
    assert ask(served).status_code == 200  # its connection stays
    [ingress] = served.named(r"ray::ServeReplica:llm:Ingress")
    assert unix_connections(ingress, f"@{UNIX_SOCKET.format(port='')}") > 0, "HAProxy asks the ingress by its port"
    assert served.named(METRICS_AGENT), "the page says that Ray's agent listens, and it does not run"


def stream(served: Served, came: list[float], ended: threading.Event) -> None:
    body = {"model": "openai/gpt-5.4-mini", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    with (
        contextlib.suppress(httpx2.TransportError),
        httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=60) as answer,
    ):
        for _ in answer.iter_raw():
            came.append(time.monotonic())
    ended.set()


def test_a_stream_through_an_ingress_that_stands_still_ends(served: Served) -> None:
    """As one through a node that has vanished, of which no word comes either."""
    served.start(RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S=str(SILENCE))
    served.ready()
    end, came, ended = threading.Event(), list[float](), threading.Event()
    served.openai.behave = Behaviour("endless", pace=0.05, until=end)
    client = threading.Thread(target=stream, args=(served, came, ended))
    client.start()
    eventually(lambda: len(came) > 3)
    [ingress] = served.named(r"ray::ServeReplica:llm:Ingress")
    os.kill(ingress, signal.SIGSTOP)
    try:
        assert ended.wait(SILENCE + 5), "the stream hangs"
        assert time.monotonic() - came[-1] > SILENCE - 1
    finally:
        os.kill(ingress, signal.SIGCONT)
        end.set()
        client.join(60)


def test_after_a_serve_run_was_killed_the_next_one_answers(served: Served) -> None:
    served.start()
    served.ready()
    served.kill()
    killed = time.monotonic()
    served.start()
    served.ready()
    print(f"it answered again {time.monotonic() - killed:.1f} s after the kill")
    assert ask(served).headers["x-breakwater-provider"] == "openai"
    eventually(lambda: len(served.named("/haproxy ")) == 1)


@pytest.mark.parametrize(
    ("args", "environment", "deployed"),
    [
        ({"auth": "none"}, {"RAY_AUTH_MODE": "disabled"}, False),
        ({"auth": "none", "cluster": "trusted"}, {"RAY_AUTH_MODE": "disabled"}, True),
        ({"auth": "none"}, {}, True),
    ],
    ids=["open", "meant", "token"],
)
def test_an_open_cluster_is_refused_unless_it_is_meant(
    served: Served, args: dict[str, Any], environment: dict[str, str], deployed: bool
) -> None:
    served.start("0.0.0.0", args, **environment)
    if deployed:
        served.ready()
        return
    eventually(lambda: "config.yaml: cluster: whoever reaches" in served.log.read_text(), 60)
    with pytest.raises(OSError, match=r"404|503|500|refused"):
        _ready(served.url)
