"""A whole site: the head with Redis and PostgreSQL beside it, two workers, and Breakwater as KubeRay runs it.

The config and the environment are those of `deployments/ops/kuberay`, but for what a test may not wait for. What the
operator of KubeRay does is done here: it puts the config to the head's dashboard, sets variables of its own, and sends
clients to workers that say that they are ready.
"""

import contextlib
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import yaml

from deployments.ops.cluster_config import serve_config
from deployments.ops.kuberay.rayservice import LONGEST_STREAM, environment
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.ledger.conftest import own_server
from tests.nodes.machine import Machine
from tests.nodes.network import SWITCH, Network, inside
from tests.nodes.provider import Provider

ROOT = pathlib.Path(__file__).parents[2]
KEY = "sk-of-a-caller"
ADMIN = "of-an-operator"
WORKERS = ("one", "two")
PROVIDERS = ("openai", "google_genai")
STATE = "/tmp/ray/breakwater"  # the ledger's folder: on each machine's own disk
SETTLED = 5.0  # seconds until each HAProxy has seen twice that its new servers live
DEADLINE = 240.0  # seconds for a start on a busy machine

# As KubeRay sets them on all pods, and the last one on workers with the fault tolerance of the head.
OPERATORS = {"RAY_gcs_server_request_timeout_seconds": "5", "RAY_SERVE_KV_TIMEOUT_S": "5"}
OF_WORKERS = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(LONGEST_STREAM + 30),  # of our manifests
}


def eventually(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value of `what`. Fails if there is none in time; what can't be reached is not true yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx2.HTTPError, OSError, LookupError, ValueError):
            if value := what():
                return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.1)


def config_of(fakes: Mapping[str, Provider]) -> dict[str, Any]:
    """Return KubeRay's config with two providers, each at its fake."""
    config: dict[str, Any] = yaml.safe_load(serve_config())
    [application] = config["applications"]
    args = application["args"]
    args["providers"] = {name: args["providers"][name] for name in PROVIDERS}
    args["providers"]["openai"]["base_url"] = f"{fakes['openai'].url}/v1"
    args["providers"]["google_genai"]["base_url"] = fakes["google_genai"].url
    default = args["models"]["default"]
    args["models"] = {"default": {name: default[name] for name in PROVIDERS}}
    args["ledger"]["folder"] = STATE
    application["deployments"] = [d for d in application["deployments"] if d["name"] in ("Ingress", *PROVIDERS)]
    for deployment in application["deployments"]:
        # Two cores for three machines: further replicas would make the load that they are to take.
        deployment["autoscaling_config"]["max_replicas"] = deployment["autoscaling_config"]["min_replicas"]
    return config


@dataclass
class Site:
    folder: pathlib.Path
    network: Network
    fakes: dict[str, Provider]
    config: dict[str, Any]
    ledger_url: str
    labels: Mapping[str, str] = field(default_factory=dict)  # a machine's name: Ray's labels of it
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    machines: dict[str, Machine] = field(default_factory=dict)
    redis: subprocess.Popen[bytes] | None = None

    @property
    def head(self) -> Machine:
        return self.machines["head"]

    @property
    def workers(self) -> list[Machine]:
        return [self.machines[name] for name in WORKERS]

    def start(self) -> None:
        self.start_redis()
        self._add("head", "--head", "--num-cpus=0", "--dashboard-host=0.0.0.0", f"--redis-password={self.token}")
        self.head.start()
        eventually(self.dashboard_answers, DEADLINE)
        for name in WORKERS:
            self._add(name, f"--address={self.head.address}:6379", "--num-cpus=2")
            self.machines[name].start()
        eventually(lambda: len(self.nodes()) == 1 + len(WORKERS), DEADLINE)
        self.deploy(self.config)
        eventually(self.running, DEADLINE)
        eventually(lambda: len(self.ready()) == len(WORKERS), DEADLINE)
        time.sleep(SETTLED)

    def start_redis(self) -> None:
        folder = self.folder / "redis"
        folder.mkdir(exist_ok=True)
        options = {"bind": SWITCH, "dir": str(folder), "requirepass": self.token, "appendonly": "yes", "save": ""}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.redis = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
        eventually(_listens_at_redis)  # Ray's head looks for it once

    def stop_redis(self) -> None:
        if self.redis is not None:
            self.redis.terminate()
            self.redis.wait(30)

    def revive_head(self) -> None:
        """Start the head again if it has ended, as its control store does without Redis: KubeRay would."""
        if not self.head.alive:
            self.head.kill()
            self.head.start()
        eventually(self.dashboard_answers, DEADLINE)

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.kill()
        self.stop_redis()

    def _add(self, name: str, *words: str) -> None:
        labels = (f"--labels={self.labels[name]}",) if name in self.labels else ()
        own = OPERATORS | ({} if name == "head" else OF_WORKERS)
        self.machines[name] = Machine(
            self.network,
            name,
            self.folder / name,
            (*words, *labels, "--metrics-export-port=8080"),
            self._variables(own),
        )

    def _variables(self, own: Mapping[str, str]) -> dict[str, str]:
        here = environment() | {
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "deployments" / "ops" / "haproxy"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'deployments' / 'ops' / 'serve_run' / 'site'}",
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_REDIS_ADDRESS": f"{SWITCH}:6379",
            "RAY_external_storage_namespace": "site",
            "OPENAI_API_KEY": "sk-fake",
            "GOOGLE_API_KEY": "fake",
            "BREAKWATER_API_KEYS": KEY,
            "BREAKWATER_ADMIN_KEY": ADMIN,
            "BREAKWATER_LEDGER_URL": self.ledger_url,
        }
        return here | own

    # What the operator of KubeRay does, and an administrator.

    def dashboard(self, method: str, path: str, **more: Any) -> Any:
        headers = {"x-ray-authorization": f"Bearer {self.token}"}
        url = f"http://{self.head.address}:8265{path}"
        answer = httpx2.request(method, url, headers=headers, timeout=60, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def dashboard_answers(self) -> bool:
        return bool(self.dashboard("GET", "/api/version"))

    def deploy(self, config: Mapping[str, Any]) -> None:
        self.dashboard("PUT", "/api/serve/applications/", json=config)

    def application(self) -> dict[str, Any]:
        return dict(self.dashboard("GET", "/api/serve/applications/")["applications"]["llm"])

    def running(self) -> bool:
        return self.application()["status"] == "RUNNING"

    def _state(self, what: str) -> list[dict[str, Any]]:
        answer = self.dashboard("GET", f"/api/v0/{what}", params={"detail": "1", "limit": "1000"})
        return list(answer["data"]["result"]["result"])

    def nodes(self) -> dict[str, str]:
        """Return the living machines by Ray's id of each."""
        names = {machine.address: name for name, machine in self.machines.items()}
        return {node["node_id"]: names[node["node_ip"]] for node in self._state("nodes") if node["state"] == "ALIVE"}

    def machine_of(self, actor: str) -> str | None:
        """Return the machine that a living actor of this name runs on."""
        nodes = self.nodes()
        found = [each for each in self._state("actors") if each["name"] == actor and each["state"] == "ALIVE"]
        return nodes.get(found[0]["node_id"]) if found else None

    def placement(self) -> dict[str, list[str]]:
        """Return for each deployment on which machines its replicas run."""
        nodes = self.nodes()
        deployments = self.application()["deployments"]
        return {
            name: sorted(nodes.get(r["node_id"], "?") for r in each["replicas"] if r["state"] == "RUNNING")
            for name, each in deployments.items()
        }

    def ready(self) -> list[Machine]:
        """Return the workers whose readiness probe would pass now."""
        return [machine for machine in self.workers if is_ready(machine)]

    # Breakwater, by one of its doors.

    def get(self, machine: Machine, path: str) -> Any:
        url = f"http://{machine.address}:8000{path}"
        return httpx2.get(url, headers={"authorization": f"Bearer {KEY}"}, timeout=5).json()

    def command(self, machine: Machine, verb: str, provider: str) -> None:
        url = f"http://{machine.address}:8000/v1/providers/{provider}/{verb}"
        httpx2.post(url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=10).raise_for_status()

    def breaker_answers(self, machine: Machine) -> bool:
        return bool(self.get(machine, "/v1/providers")["breaker_actor"] == "reachable")


def _listens_at_redis() -> bool:
    with socket.create_connection((SWITCH, 6379), timeout=1):
        return True


def is_ready(machine: Machine) -> bool:
    try:
        return httpx2.get(f"http://{machine.address}:8000/-/healthz", timeout=1).status_code == 200
    except httpx2.HTTPError:
        return False


@contextlib.contextmanager
def running_site(
    folder: pathlib.Path,
    labels: Mapping[str, str] | None = None,
    change: Callable[[dict[str, Any]], None] = lambda config: None,
) -> Iterator[Site]:
    """A site that serves. `change` changes its Serve config; the caller's thread is inside of its network."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        stack.enter_context(inside(network.switch))
        store = stack.enter_context(own_server(SWITCH))
        fakes = {"openai": Provider(OpenAIWire(), host=SWITCH), "google_genai": Provider(GeminiWire(), host=SWITCH)}
        for fake in fakes.values():
            stack.callback(fake.stop)
        config = config_of(fakes)
        change(config)
        url = f"postgresql+psycopg://ledger@{SWITCH}/postgres"
        assert store.server is not None
        site = Site(folder, network, fakes, config, url, labels or {})
        stack.callback(site.stop)
        site.start()
        yield site
