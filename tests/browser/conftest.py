"""One browser, and one cluster with the shipped rows, whose open circuits stay open for long enough to be looked at."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.browser import Browser
from tests.clients.client import Missing
from tests.cluster.conftest import Cluster, config_of, healthy, started
from tests.fakes.server import FakeServer


def config_for_pages(fakes: dict[str, FakeServer], port: int) -> dict[str, Any]:
    config = config_of(fakes, port)
    args = config["applications"][0]["args"]
    args["models"] = {name: args["models"][name] for name in ("default", "gpt-4")}
    del args["embeddings"], args["rows"]
    args["breaker"] = {"failure_threshold": 3, "recovery_timeout": 60}
    return config


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), config_for_pages) as made:
        yield made


@pytest.fixture
def llm(serving: Cluster) -> Cluster:
    return healthy(serving)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        made = Browser(tmp_path_factory.mktemp("browser"))
    except Missing as missing:
        pytest.fail(str(missing))
    yield made
    made.close()


@pytest.fixture
def traffic(llm: Cluster) -> Iterator[None]:
    """A few requests a second over both rows, for as long as the test runs."""
    with flowing(llm):
        yield


@contextlib.contextmanager
def flowing(llm: Cluster) -> Iterator[None]:
    over = threading.Event()

    def ask(row: str) -> None:
        while not over.wait(0.2):
            llm.post(model=row)

    threads = [threading.Thread(target=ask, args=(row,)) for row in ("default", "gpt-4")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


@pytest.fixture(scope="session")
def shots() -> pathlib.Path | None:
    """Where pictures go, for those who want to look: BREAKWATER_SHOTS."""
    folder = os.environ.get("BREAKWATER_SHOTS")
    return pathlib.Path(folder) if folder else None
