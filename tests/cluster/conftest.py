"""One Ray cluster for all of these tests, started as a user starts it: `serve run` with a config file.

The clouds are fakes on their real wires; the local tier is the real model. The test process
joins the cluster as a second driver, so that handles and actors are seen as another app sees them.
"""

import asyncio
import contextlib
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import yaml

from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer
from tests.starting import ROOT, free_port, joined_environment, serve_env

CLOUDS = ("aws_bedrock", "openai", "google_genai", "anthropic")
APP = "llm"
GPU = "gpu"  # a deployment of another application, by its handle: it answers what its fake answers
WIRES = (*CLOUDS, GPU)
pytest.register_assert_rewrite("tests.cluster.faults", "tests.cluster.doors", "tests.cluster.replies")
# For each provider a row of two that begins with it, so that each can be the first and the one that breaks.
NEXT = {"aws_bedrock": "openai", "openai": "google_genai", "google_genai": "aws_bedrock"}
NEXT |= {"anthropic": "openai", "local": "openai"}
AFTER = {**NEXT, GPU: "openai"}
WINDOWS = {"aws_bedrock": 200_000, "openai": 400_000, "google_genai": 1_000_000, "anthropic": 200_000}
THEIRS = "theirs"  # the model of the deployment
VECTORS = {
    "aws_bedrock": "amazon.titan-embed-text-v2:0",
    "openai": "text-embedding-3-large",
    "google_genai": "gemini-embedding-001",
}
LIMITS = {"timeout_seconds": 3, "connect": 1, "first_token": 2, "idle": 2}  # of the clouds
HASTY = ("matrix", "chaos")  # the tests that wait for those
# For all others: a machine that stands still for a second or two is no provider that is silent.
PATIENT = {"timeout_seconds": 10, "connect": 5, "first_token": 8, "idle": 8}
SOON = 6.0  # seconds; what has ended within them was ended by none of those
PICTURES = free_port()  # where a test may serve a picture: its port stands in the config


# Ray reads some of it when it is imported, which the test modules beside this one do.
os.environ.update(serve_env())


def eventually(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of `what`, within a deadline."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, httpx2.TransportError):
            if value := what():
                return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@dataclass
class Cluster:
    url: str
    log: pathlib.Path
    config: pathlib.Path
    dashboard: str
    fakes: dict[str, FakeServer]
    env: dict[str, str] = field(repr=False, default_factory=dict)
    hasty: bool = True  # are its limits those that a test waits out?
    tiers: tuple[str, ...] = (*CLOUDS, "local")
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 180) -> Any:
        """On the one loop of all handles: a handle's router lives on the loop that first used it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def post(self, *, stream: bool = False, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
        request = {
            "model": "default",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "stream": stream,
            **body,
        }
        return httpx2.post(f"{self.url}/v1/chat/completions", json=request, headers=headers, timeout=60)

    def get(self, path: str) -> Any:
        return httpx2.get(f"{self.url}{path}", timeout=30).json()

    def command(self, verb: str, provider: str) -> None:
        """On a busy machine the actor may still be starting: until then it is a 503."""
        path, headers = f"{self.url}/v1/providers/{provider}/{verb}", {"authorization": "Bearer admin"}
        eventually(lambda: httpx2.post(path, headers=headers, timeout=10).status_code == 200)

    def thresholds(self, **changes: float | None) -> dict[str, Any]:
        """Those in force. Changes go over the config, and None takes one back. A new actor may take a moment here."""

        def answer() -> Any:
            headers = {"authorization": "Bearer admin"}
            response = httpx2.patch(f"{self.url}/v1/breaker", json=changes, headers=headers, timeout=10)
            return response.status_code == 200 and response.json()

        return dict(eventually(answer))

    def state(self, provider: str) -> str:
        return str(self.get("/v1/providers")["provider_states"][provider])

    def breaker(self) -> Any:
        import ray

        return ray.get_actor(f"{APP}-breaker", namespace="breakwater")


def config_of(fakes: dict[str, FakeServer], port: int) -> dict[str, Any]:
    """The shipped config, with the clouds at their fakes and times that a test can wait for."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    args = config["applications"][0]["args"]
    args["providers"]["aws_bedrock"] |= {"endpoint_url": fakes["aws_bedrock"].url}
    args["providers"]["openai"] |= {"base_url": f"{fakes['openai'].url}/v1"}
    for provider in ("google_genai", "anthropic"):
        args["providers"][provider] |= {"base_url": fakes[provider].url}
    for provider, after in NEXT.items():
        row = args["models"]["default"]
        args["models"][f"first-{provider}"] = {name: row[name] for name in (provider, after)}
        args["models"][f"on-{provider}"] = {name: row[name] for name in (provider, after)}
    args["rows"] = {f"on-{provider}": {"continuation": {"mode": "text"}} for provider in NEXT}
    for first in NEXT:
        for second in NEXT.keys() - {first}:
            args["models"][f"{first}-{second}"] = {name: args["models"]["default"][name] for name in (first, second)}
    args["embeddings"] = {"vectors": {"dimensions": 512, "targets": VECTORS}}
    args["images"] = {"hosts": [f"127.0.0.1:{PICTURES}"]}
    args["prices"] = {"gpt-5.4-mini": {"input": 2, "output": 8}, "local/smollm2-135m": {"input": 0, "output": 0}}
    args["limits"] = {"tenants": {"small": {"requests_per_minute": 3}, "poor": {"monthly_cost": 0.00001}}}
    for provider, window in WINDOWS.items():
        args["providers"][provider] |= {"context_windows": {args["models"]["default"][provider]: window}}
    for provider in CLOUDS:
        args["providers"][provider] |= {"timeouts": LIMITS}
    args["breaker"] = {"failure_threshold": 3, "recovery_timeout": 2}
    args["timeouts"] = {"timeout_seconds": 20, "connect": 1, "first_token": 4, "idle": 15, "deadline": 30}
    args["auth"] = {"admin_key_env": "BREAKWATER_ADMIN_KEY"}
    one = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}
    config["applications"][0]["deployments"] = [
        # Tests fill these for longer than it takes a second replica to come.
        {"name": "Ingress", **one},
        {"name": "openai", "max_ongoing_requests": 77, **one},
        {"name": "local", **one},
    ]
    return config


def with_gpu(config: dict[str, Any], fakes: dict[str, FakeServer], hasty: bool) -> dict[str, Any]:
    """The config with a further tier, and the application that it calls."""
    args = config["applications"][0]["args"]
    args["providers"][GPU] = {"kind": "serve", "app": "relay", "context_windows": {THEIRS: WINDOWS["openai"]}}
    if hasty:
        args["providers"][GPU]["timeouts"] = LIMITS
    args["models"][f"first-{GPU}"] = {GPU: THEIRS, "openai": args["models"]["default"]["openai"]}
    relay = {"name": "relay", "route_prefix": "/relay", "import_path": "tests.cluster.relay_app:build_app"}
    config["applications"].append({**relay, "args": {"url": fakes[GPU].url}})
    return config


def patient_config(fakes: dict[str, FakeServer], port: int) -> dict[str, Any]:
    """With limits that no stall of a busy machine comes near, and circuits that stay open while a test looks."""
    config = config_of(fakes, port)
    args = config["applications"][0]["args"]
    # The application's own, which alone can be set while it runs.
    for provider in CLOUDS:
        del args["providers"][provider]["timeouts"]
    args["timeouts"] = {**PATIENT, "deadline": 60}
    args["providers"]["local"] |= {"timeouts": {"timeout_seconds": 30, "first_token": 15, "idle": 15}}
    args["breaker"] = {"failure_threshold": 3, "recovery_timeout": 60}
    return config


def overridden(llm: "Cluster", deployment: str, **options: Any) -> dict[str, Any]:
    """The cluster's config with other options of a deployment."""
    config = yaml.safe_load(llm.config.read_text())
    [found] = [each for each in config["applications"][0]["deployments"] if each["name"] == deployment]
    found |= options
    return dict(config)


ConfigOf = Callable[[dict[str, FakeServer], int], dict[str, Any]]


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    hasty = any(item.get_closest_marker(name) for item in request.session.items for name in HASTY)
    make = config_of if hasty else patient_config
    with started(tmp_path_factory.mktemp("cluster"), lambda *given: with_gpu(make(*given), given[0], hasty)) as made:
        made.hasty, made.tiers = hasty, (*WIRES, "local")
        yield made


@contextlib.contextmanager
def started(folder: pathlib.Path, config_of: ConfigOf, at: pathlib.Path = ROOT, **extra: str) -> Iterator[Cluster]:
    """A cluster that serves; `config_of` makes its config of the fakes and a port, `extra` is of its environment.

    Serve is started in the folder `at`, which comes first on the path of all its replicas.
    """
    fakes = {
        "aws_bedrock": FakeServer(BedrockWire()),
        "openai": FakeServer(OpenAIWire()),
        "google_genai": FakeServer(GeminiWire()),
        "anthropic": FakeServer(AnthropicWire()),
        GPU: FakeServer(OpenAIWire()),
    }
    port = free_port()
    config = config_of(fakes, port)
    config["applications"][0]["args"]["ledger"] = {"folder": str(folder / "ledger")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    env = joined_environment(
        {
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIAFAKE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OPENAI_API_KEY": "sk-fake",
            "GOOGLE_API_KEY": "fake",
            "ANTHROPIC_API_KEY": "sk-ant-fake",
            "BREAKWATER_ADMIN_KEY": "admin",
            **extra,
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        import ray

        dashboard = free_port()
        context = ray.init(include_dashboard=True, dashboard_port=dashboard, log_to_driver=False)
        address = context.address_info["gcs_address"]
        log = folder / "serve.log"
        with log.open("w") as out:
            run = subprocess.Popen(
                [sys.executable, "-m", "ray.serve.scripts", "run", str(folder / "config.yaml")],
                cwd=at,
                env={**os.environ, "RAY_ADDRESS": address},
                stdout=out,
                stderr=out,
            )
        made = Cluster(
            f"http://127.0.0.1:{port}", log, folder / "config.yaml", f"http://127.0.0.1:{dashboard}", fakes, env
        )
        thread = threading.Thread(target=made.loop.run_forever, daemon=True)
        thread.start()
        try:
            eventually(lambda: run.poll() is not None or _ready(made.url), 240)
            assert run.poll() is None, log.read_text()
            yield made
        finally:
            made.loop.call_soon_threadsafe(made.loop.stop)
            run.send_signal(signal.SIGINT)
            try:
                run.wait(60)
            except subprocess.TimeoutExpired:
                run.kill()  # started in the background of a shell it can't be interrupted
                run.wait(10)
            ray.shutdown()
            _forget_processes()
            thread.join(10)
            made.loop.close()
            for fake in fakes.values():
                fake.stop()


def _forget_processes() -> None:
    """Ray ends its own processes without waiting for them, which Python finds worth a warning when it forgets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
            return bool(json.load(response)["status"] == "ready")
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False


@pytest.fixture(autouse=True)
def quick_clients(monkeypatch: pytest.MonkeyPatch, authority: pathlib.Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))


@pytest.fixture
def llm(cluster: Cluster) -> Cluster:
    return healthy(cluster)


@pytest.fixture
def quick_recovery(llm: Cluster) -> Iterator[Cluster]:
    """A second until a probe."""
    llm.thresholds(recovery_timeout=1)
    yield llm
    llm.thresholds(recovery_timeout=None)


def healthy(cluster: Cluster) -> Cluster:
    """The application with every provider healthy and every circuit closed."""
    for fake in cluster.fakes.values():
        fake.reset()
    for name in cluster.tiers:
        cluster.command("reset", name)
    states = {name: "closed" for name in cluster.tiers}
    eventually(lambda: cluster.get("/v1/providers")["provider_states"].items() >= states.items())
    return cluster


DOORS = ("http", "responses", "messages", "handle")
MATRIX: list[tuple[str, str, bool, str, bool, float | None]] = []  # what, wire, stream, door, passed, seconds
OUTAGES: list[tuple[str, str, str, int, int, int, float, float]] = []  # ... lost, calls, requests, ms late p50, p95
SCALING: list[tuple[float, int, dict[str, dict[str, int]]]] = []  # seconds, requests under way, replicas by state


@pytest.fixture(scope="session")
def matrix() -> list[tuple[str, str, bool, str, bool, float | None]]:
    return MATRIX


@pytest.fixture(scope="session")
def outages() -> list[tuple[str, str, str, int, int, int, float, float]]:
    return OUTAGES


@pytest.fixture(scope="session")
def scaling() -> list[tuple[float, int, dict[str, dict[str, int]]]]:
    return SCALING


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The tables of `-m matrix` and `-m scaling`."""
    for line in [*matrix_table(), *outage_table(), *scaling_table()]:
        terminalreporter.write_line(line)


def matrix_table() -> Iterator[str]:
    """Seconds to the end of the client's answer, or to the upstream's close when it was the client who left."""
    columns = [(stream, door) for stream in (False, True) for door in DOORS]
    rows: dict[tuple[str, str], dict[tuple[bool, str], str]] = {}
    for what, wire, stream, door, passed, seconds in MATRIX:
        cell = f"{'pass' if passed else 'FAIL'} {'' if seconds is None else f'{seconds:.2f}'}"
        rows.setdefault((what, wire), {})[(stream, door)] = cell.strip()
    if rows:
        names = [f"{'stream' if stream else 'whole'}, {door}" for stream, door in columns]
        yield "\n| fault | wire | " + " | ".join(names) + " |"
        yield "|---|---|" + "---|" * len(columns)
    for (what, wire), cells in rows.items():
        yield f"| {what} | {wire} | " + " | ".join(cells.get(column, "-") for column in columns) + " |"
    if rows:
        yield f"\n{len(MATRIX)} cells, {sum(not entry[4] for entry in MATRIX)} failed"


def outage_table() -> Iterator[str]:
    if OUTAGES:
        yield "\n| outage | wire | form | answers lost | calls into the dead | requests | late p50 ms | late p95 ms |"
        yield "|---|---|---|--:|--:|--:|--:|--:|"
    for what, wire, form, lost, calls, requests, p50, p95 in OUTAGES:
        yield f"| {what} | {wire} | {form} | {lost} | {calls} | {requests} | {p50:+.0f} | {p95:+.0f} |"


def scaling_table() -> Iterator[str]:
    """Replicas that run, `+` those that start, `-` those that end their last requests."""
    names = sorted(SCALING[0][2]) if SCALING else []
    if SCALING:
        yield "\n| seconds | requests under way | " + " | ".join(names) + " |"
        yield "|--:|--:|" + "---|" * len(names)
    for seconds, under_way, states in SCALING:
        cells = " | ".join(_replicas(states.get(name, {})) for name in names)
        yield f"| {seconds:.0f} | {under_way} | {cells} |"


def _replicas(states: dict[str, int]) -> str:
    more = [f"{sign}{n}" for sign, state in (("+", "STARTING"), ("-", "STOPPING")) if (n := states.get(state, 0))]
    return " ".join([str(states.get("RUNNING", 0)), *more])
