"""A redeploy under load loses no request and no stream. `uv run pytest -m nodes`.

It has a cluster of its own: in the one of the other tests a replica goes before HAProxy knows that.
"""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx2
import pytest
import yaml

from tests.cluster.conftest import Cluster, eventually, patient_config, started
from tests.cluster.faults import replica_pids
from tests.cluster.test_chaos import Load
from tests.cluster.test_whole_path import deploy
from tests.fakes.server import Behaviour

STREAMS = 10
LONGEST = 4.0  # seconds: where the old replicas go before the new ones are there, requests wait for 6 to 10


@contextlib.contextmanager
def endless_streams(llm: Cluster) -> Iterator[list["Future[httpx2.Response]"]]:
    """They come to their end after the block."""
    end = threading.Event()
    llm.fakes["google_genai"].behave = Behaviour("endless", pace=0.1, until=end)
    with ThreadPoolExecutor(STREAMS) as clients:
        try:
            yield [clients.submit(llm.post, model="first-google_genai", stream=True) for _ in range(STREAMS)]
        finally:
            end.set()


def replaced(before: dict[str, set[int]]) -> bool:
    """Does each deployment run, with none of these replicas? At first Serve knows a new application's name only."""
    with contextlib.suppress(KeyError):
        return all((now := set(replica_pids(name))) and not now & old for name, old in before.items())
    return False


@pytest.mark.nodes
def test_a_redeploy_under_load_loses_nothing(tmp_path: pathlib.Path) -> None:
    """Every replica is another one afterwards: a change of `args` restarts them all."""
    with started(tmp_path, patient_config, RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="5") as llm:
        redeploy_under_load(llm)


def redeploy_under_load(llm: Cluster) -> None:
    config = yaml.safe_load(llm.config.read_text())
    config["applications"][0]["args"]["drop_unsupported"] = "all"
    before = {name: set(replica_pids(name)) for name in ("Ingress", "aws_bedrock", "openai")}
    with endless_streams(llm) as streams:
        eventually(lambda: len(llm.fakes["google_genai"].received) == STREAMS)
        with Load(llm, clients=2) as load:
            time.sleep(1)
            deploy(llm, config)
            eventually(lambda: replaced(before), 90)
            time.sleep(7)
    whole = ["data: [DONE]" in stream.result().text for stream in streams]
    longest = max(took for _, took, *_ in load.answers)
    print(f"\n{len(load.answers)} requests, longest {longest:.2f} s; {sum(whole)} of {STREAMS} streams whole")
    assert load.lost() == []
    assert longest < LONGEST
    assert whole == [True] * STREAMS
