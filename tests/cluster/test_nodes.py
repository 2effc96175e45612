"""Two nodes, an ingress on one and its provider on the other: calls go over a connection between them.

`uv run pytest -m nodes` runs this. Both nodes are on this machine; Ray and we take them for two.
"""

import contextlib
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

from tests.cluster.conftest import Cluster, config_of, eventually, started
from tests.cluster.faults import replica_pids

# Ray forgets some of its own processes as soon as it has killed them.
pytestmark = [pytest.mark.nodes, pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")]

TARGET = "openai/gpt-5.4-mini"
ESTABLISHED = "01"


def far_config(fakes: dict[str, Any], port: int) -> dict[str, Any]:
    config = config_of(fakes, port)
    config["proxy_location"] = "HeadOnly"  # two on one machine would want the same ports
    elsewhere = {"ray_actor_options": {"num_cpus": 0.1, "resources": {"far": 0.1}}}
    one = {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}
    config["applications"][0]["deployments"] = [{"name": "openai", **elsewhere, **one}]
    return config


@contextlib.contextmanager
def another_node() -> Iterator[None]:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", address, "--block"]
    with subprocess.Popen([*command, "--num-cpus", "1", "--resources", '{"far": 1}'], stdout=subprocess.DEVNULL) as run:
        try:
            yield
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(60)


def connections(pid: int) -> set[tuple[str, str]]:
    """A process's own ends and the others, of IPv4; gRPC's are of IPv6."""
    held = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(fd.readlink()))
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {(row[1], row[2]) for row in rows if row[3] == ESTABLISHED and f"socket:[{row[9]}]" in held}


def between(one: str, other: str) -> set[tuple[str, str]]:
    [mine], [theirs] = replica_pids(one), replica_pids(other)
    return connections(mine) & {(there, here) for here, there in connections(theirs)}


def asked(llm: Cluster, stream: bool) -> tuple[int, str | None, bool]:
    reply = llm.post(model=TARGET, stream=stream)
    return reply.status_code, reply.headers.get("x-breakwater-provider"), stream == ("data: [DONE]" in reply.text)


def test_calls_to_another_node_go_over_a_connection_of_their_own(tmp_path: pathlib.Path) -> None:
    with started(tmp_path, far_config) as llm, another_node():
        eventually(lambda: llm.post(model=TARGET).status_code == 200, 90)
        with ThreadPoolExecutor(16) as clients:
            asking = [clients.submit(asked, llm, number % 2 == 0) for number in range(300)]
            eventually(lambda: between("Ingress", "openai"))
            assert {reply.result() for reply in asking} == {(200, "openai", True)}
        eventually(lambda: not between("Ingress", "openai"))
