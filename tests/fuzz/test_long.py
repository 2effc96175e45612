"""Ten minutes of Schemathesis over `serve run`: HAProxy, ingress, replicas, actors, ledger and the local model.

The clouds are fakes on their real wires. `FUZZ_SECONDS` sets the time of both runs together.
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import CLOUDS, Cluster, config_of, eventually, started
from tests.fakes.server import FakeServer
from tests.fuzz.fuzzer import ADMIN_KEY, SPARE, TAG, TENANT, TENANT_KEY, Fuzzed, description_for, fuzz

pytestmark = pytest.mark.fuzz

SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
ROWS = (
    "default",
    "only-aws_bedrock",
    "only-openai",
    "only-google_genai",
    "only-anthropic",
    "only-local",
    "openai/gpt-5.4-mini",
)
STACK = "Traceback (most recent call last)"


def config_for_fuzzing(fakes: dict[str, FakeServer], port: int, *, keys: bool) -> dict[str, Any]:
    config = config_of(fakes, port)
    args = config["applications"][0]["args"]
    args["providers"][SPARE] = args["providers"]["openai"]
    for tier in (*CLOUDS, "local"):
        args["models"][f"only-{tier}"] = {tier: args["models"]["default"][tier]}
        # A machine that stands still for a second or two is no provider that is silent.
        args["providers"][tier].pop("timeouts", None)
    args["models"][SPARE] = {SPARE: "gpt-5.4-mini"}
    args["providers"] = {name: {**settings, "tags": [TAG]} for name, settings in args["providers"].items()}
    # The real model is slow, and speaks until its context is full: a small one is full soon.
    args["providers"]["local"] |= {"context": 256}
    args["timeouts"] = {"timeout_seconds": 25, "connect": 5, "first_token": 15, "idle": 15, "deadline": 30}
    args["breaker"] = {"failure_threshold": 3, "recovery_timeout": 60}
    args["limits"] = {}
    args["auth"] = {"admin_key_env": "BREAKWATER_ADMIN_KEY", **({"api_keys_env": "FUZZ_KEYS"} if keys else {})}
    return config


@pytest.fixture(params=[False, True], ids=["without keys", "with keys"])
def keys(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def llm(keys: bool, tmp_path: pathlib.Path) -> Iterator[Cluster]:
    environment = {"BREAKWATER_ADMIN_KEY": ADMIN_KEY, "FUZZ_KEYS": f"{TENANT_KEY}:{TENANT}:fuzz"}
    with started(tmp_path, lambda fakes, port: config_for_fuzzing(fakes, port, keys=keys), **environment) as made:
        eventually(lambda: ask(made, "/v1/providers")["breaker_actor"] == "reachable")
        # It serves before its ledger is there, and says so to whom asks for usage.
        eventually(lambda: "error" not in ask(made, "/v1/usage"))
        yield made


def ask(llm: Cluster, path: str) -> Any:
    return httpx2.get(f"{llm.url}{path}", headers={"authorization": f"Bearer {TENANT_KEY}"}, timeout=30).json()


def test_ten_minutes_find_no_fault_of_ours(
    llm: Cluster, keys: bool, runs: dict[str, Fuzzed], tmp_path: pathlib.Path
) -> None:
    providers = (*CLOUDS, "local", SPARE)
    description = description_for(ROWS, ["vectors"], providers, keys=keys)
    options = ["--max-time", str(int(SECONDS / 2)), "--max-examples", "200"]
    fuzzed = runs["with keys" if keys else "without keys"] = fuzz(
        llm.url, description, tmp_path, options, SECONDS / 2 + 300
    )
    assert fuzzed.passed, fuzzed.output[-30_000:]
    assert unmoved(llm), ask(llm, "/v1/providers")
    assert eventually(lambda: not any(each.under_way for fake in llm.fakes.values() for each in fake.received))
    assert stacks(llm) == []


def unmoved(llm: Cluster) -> bool:
    """Return whether no circuit but the operators' own has moved, nor counts a failure."""
    health = ask(llm, "/v1/providers")["provider_health"]
    return all(
        (told["state"], told["consecutive_failures"]) == ("closed", 0) for name, told in health.items() if name != SPARE
    )


def stacks(llm: Cluster) -> list[str]:
    """Return what was logged of our own failures, by replicas and actors. Ray's dashboard has failures of its own."""
    import ray

    folder = pathlib.Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    files = [llm.log, *folder.glob("serve/*.log"), *folder.glob("worker-*")]
    texts = [file.read_text(errors="replace") for file in files]
    return [text[at : at + 3000] for text in texts if (at := text.find(STACK)) >= 0]
