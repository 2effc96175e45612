"""One cluster for all clients: the one of `tests/cluster`, with a row of its own for each tier.

The tables are of what ran, and are printed at the end of `-m clients`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.client import CLIENTS, Client, Missing, started_client
from tests.clients.coding_agents import AGENTS
from tests.cluster.conftest import CLOUDS, Cluster, config_of, healthy, started
from tests.fakes.server import FakeServer

TIERS = (*CLOUDS, "local")
PAIRS = [(first, then) for first in CLOUDS for then in TIERS if first != then]
CELLS: dict[tuple[str, str], dict[str, str]] = {}  # capability and tier: client to what came of it
TABLES: dict[str, list[str]] = {}  # of the suites, by name


def config_for_clients(fakes: dict[str, FakeServer], port: int) -> dict[str, Any]:
    config = config_of(fakes, port)
    args = config["applications"][0]["args"]
    models = args["models"]
    row = models["default"]
    for tier in TIERS:
        models[f"only-{tier}"] = {tier: row[tier]}
    # What the vendors' own tests ask for.
    models["gpt-6-astra"] = {"openai": "gpt-6-astra"}
    models["claude-opus-5-5"] = {"aws_bedrock": "global.anthropic.claude-opus-5-5"}
    # Coding agents choose their tools by the model's name, and by how it begins.
    args["aliases"] = {f"{stem}{row}": row for its in AGENTS.values() for stem in its.models if stem for row in models}
    small = "text-embedding-3-small"
    args["embeddings"][small] = {"dimensions": 1536, "targets": {"openai": small}}
    return config


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started(tmp_path_factory.mktemp("cluster"), config_for_clients) as made:
        yield made


@pytest.fixture
def llm(serving: Cluster) -> Iterator[Cluster]:
    words = {name: fake.words for name, fake in serving.fakes.items()}
    yield healthy(serving)
    for name, fake in serving.fakes.items():
        fake.words = words[name]


@pytest.fixture(scope="session", params=CLIENTS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    try:
        made = started_client(request.param, tmp_path_factory.mktemp(request.param))
    except Missing as missing:
        pytest.fail(f"{request.param} can't run: {missing}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def tables() -> dict[str, list[str]]:
    return TABLES


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    values = getattr(item, "callspec", None)
    if values is not None and "client" in values.params and (call.when == "call" or not report.passed):
        words = {"passed": "pass", "failed": "FAIL", "skipped": "xfail" if hasattr(report, "wasxfail") else "skip"}
        capability = item.name.partition("[")[0].removeprefix("test_").replace("_", " ")
        tiers = [str(values.params[name]) for name in ("tier", "then") if name in values.params]
        row = CELLS.setdefault((capability, ", then ".join(tiers) or "-"), {})
        row[str(values.params["client"])] = words[report.outcome]
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tables = [*TABLES.values(), *([list(client_table())] if CELLS else [])]
    for table in tables:
        for line in ("", *table):
            terminalreporter.write_line(line)


def client_table() -> Iterator[str]:
    yield "| capability | tier | " + " | ".join(CLIENTS) + " |"
    yield "|---|---|" + "---|" * len(CLIENTS)
    for (capability, tier), cells in CELLS.items():
        yield f"| {capability} | {tier} | " + " | ".join(cells.get(name, "-") for name in CLIENTS) + " |"
