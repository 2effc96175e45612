"""Two applications of Breakwater on one cluster: each has circuits, limits and a ledger of its own."""

import copy
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import yaml

from tests.cluster.conftest import Cluster, eventually
from tests.cluster.test_whole_path import deploy
from tests.fakes.server import status

SECOND = "second"


@pytest.fixture
def both(llm: Cluster, tmp_path: pathlib.Path) -> Iterator[Cluster]:
    """The cluster with a second application, below a path of its own."""
    config = yaml.safe_load(llm.config.read_text())
    with_second = copy.deepcopy(config)
    second = copy.deepcopy(config["applications"][0])
    second |= {"name": SECOND, "route_prefix": f"/{SECOND}"}
    second["args"]["models"] = {"default": {"openai": "gpt-5.4-mini", "google_genai": "gemini-3.8-flash"}}
    second["args"]["providers"] = {name: second["args"]["providers"][name] for name in ("openai", "google_genai")}
    for name in ("rows", "embeddings", "limits"):
        second["args"].pop(name, None)
    second["deployments"] = [each for each in second["deployments"] if each["name"] in ("Ingress", "openai")]
    with_second["applications"].append(second)
    deploy(llm, with_second)
    eventually(lambda: asked(llm).status_code == 200, 120)
    yield llm
    deploy(llm, config)


def asked(llm: Cluster, path: str = f"/{SECOND}") -> httpx2.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
    return httpx2.post(f"{llm.url}{path}/v1/chat/completions", json=body, timeout=30)


def states(llm: Cluster, path: str) -> dict[str, Any]:
    return dict(llm.get(f"{path}/v1/providers")["provider_states"])


def requests(llm: Cluster, path: str) -> int:
    return int(llm.get(f"{path}/v1/usage").get("data", [{"requests": 0}])[0]["requests"])


def test_a_circuit_opens_in_the_application_that_asked_and_in_no_other(both: Cluster) -> None:
    before = requests(both, "")
    both.fakes["openai"].behave = status(500)

    def opened() -> bool:  # its breaker actor may still be starting, and then it has heard of no failure before
        assert asked(both).status_code == 200
        return bool(states(both, f"/{SECOND}")["openai"] == "open")

    for _ in range(2):
        assert asked(both).status_code == 200
    eventually(opened)
    assert states(both, "")["openai"] == "closed"
    eventually(lambda: requests(both, f"/{SECOND}") >= 3)  # its ledger may still be starting
    assert requests(both, "") == before
    assert both.post().status_code == 200
