"""A cluster of its own, which reports every other second, and a Prometheus over it."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Cluster, config_of, healthy, started
from tests.observability.prometheus import Prometheus, discovery_file, program, running_prometheus


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    program("prometheus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "2000")
        with started(tmp_path_factory.mktemp("cluster"), config_of) as made:
            yield made


@pytest.fixture
def llm(serving: Cluster) -> Cluster:
    return healthy(serving)


@pytest.fixture(scope="session")
def discovery(serving: Cluster) -> pathlib.Path:
    return discovery_file()


@pytest.fixture(scope="session")
def prometheus(discovery: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), discovery) as made:
        yield made
