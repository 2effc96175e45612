"""A real Prometheus scrapes a real cluster while a provider dies and comes back, and answers the dashboard."""

import asyncio
import json
import math
import pathlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import yaml

from actors.metrics import METRICS
from deployments.client import connect
from tests.cluster.conftest import CLOUDS, Cluster, eventually, healthy
from tests.fakes.server import Behaviour, status
from tests.observability.asked import Query, queries, rules, variables
from tests.observability.prometheus import Prometheus

pytestmark = pytest.mark.prometheus

# A journal must be full, and a report must cross a change of its circuit: neither can be brought about at will. No
# provider of this cluster has a credential that expires.
RARE = {
    "breakwater_ledger_dropped_total",
    "breakwater_late_reports_total",
    "breakwater_credential_age_seconds",
    "breakwater_credential_left_seconds",
    "breakwater_credential_failures_total",
    # Nor has a row a second leg, or a provider that goes on with a text or has a limit of calls. All prices are known.
    "breakwater_hedges_total",
    "breakwater_continued_total",
    "breakwater_limit",
    "breakwater_shed_total",
    "breakwater_unpriced_total",
}
MAY_BE_EMPTY = {"place"}  # Prometheus has no labels without a value
OPENAI = 'provider="openai",model="gpt-5.4-mini"'


def counted(prometheus: Prometheus, expression: str) -> float:
    return prometheus.value(f"sum({expression})") or 0.0


def ask(llm: Cluster, model: str, **more: Any) -> httpx2.Response:
    """A short one: the local model is slow."""
    return llm.post(model=model, max_tokens=4, **more)


def traffic(llm: Cluster) -> None:
    """Some of everything that goes well, and what a client and a limit do to a request."""
    for provider in (*CLOUDS, "local"):
        for stream in (False, True):
            assert ask(llm, f"first-{provider}", stream=stream).status_code == 200
    vectors = {"model": "vectors", "input": "Hi"}
    assert httpx2.post(f"{llm.url}/v1/embeddings", json=vectors, timeout=30).status_code == 200
    assert ask(llm, "nobody").status_code == 404
    key = {"idempotency-key": secrets.token_hex(8)}
    assert ask(llm, "first-openai", headers=key).status_code == 200
    while ask(llm, "default", headers={"x-tenant-id": "small"}).status_code != 429:
        pass


def until_a_probe(llm: Cluster, prometheus: Prometheus, result: str) -> None:
    probes = f'ray_breakwater_probes_total{{{OPENAI},result="{result}"}}'
    eventually(lambda: ask(llm, "first-openai").status_code and counted(prometheus, probes), 60)


def outage(llm: Cluster, prometheus: Prometheus) -> None:
    """openai dies, is skipped, fails a probe, comes back; two hang over a deadline; bedrock is isolated."""
    llm.fakes["openai"].behave = status(500)
    until_a_probe(llm, prometheus, "failed")
    llm.fakes["openai"].reset()
    until_a_probe(llm, prometheus, "passed")
    for silent in ("google_genai", "aws_bedrock"):
        llm.fakes[silent].behave = Behaviour("hang")
    assert ask(llm, "first-google_genai", headers={"x-request-timeout-seconds": "0.3"}).status_code == 504
    for silent in ("google_genai", "aws_bedrock"):
        llm.fakes[silent].reset()
    llm.command("isolate", "aws_bedrock")
    assert ask(llm, "first-aws_bedrock").headers["x-breakwater-provider"] == "openai"
    llm.command("restore", "aws_bedrock")


def slowness(llm: Cluster, prometheus: Prometheus) -> None:
    """openai is known for its quick answers, and then says nothing to twelve requests, which others answer."""

    def late(_: int) -> None:
        assert ask(llm, "first-openai", stream=True).status_code == 200

    for _ in range(60):
        assert ask(llm, "first-openai", stream=True).status_code == 200
    llm.fakes["openai"].behave = Behaviour("hang")
    with ThreadPoolExecutor(12) as clients:
        list(clients.map(late, range(12)))
    llm.fakes["openai"].reset()
    eventually(lambda: counted(prometheus, 'ray_breakwater_slow_targets{provider="openai"}'), 60)


@pytest.fixture(scope="module")
def seen(serving: Cluster, prometheus: Prometheus) -> Prometheus:
    """After traffic, an outage, and traffic again, all of it scraped."""
    llm = healthy(serving)
    traffic(llm)
    eventually(lambda: counted(prometheus, "ray_breakwater_requests_total"), 60)
    outage(llm, prometheus)
    before = counted(prometheus, "ray_breakwater_requests_total")
    traffic(healthy(serving))
    eventually(lambda: counted(prometheus, "ray_breakwater_requests_total") >= before + 10, 60)
    slowness(llm, prometheus)
    return prometheus


def drawn(series: list[dict[str, Any]]) -> bool:
    return any(not math.isnan(float(value)) for one in series for _, value in one["values"])


def test_prometheus_finds_the_node_where_ray_says(seen: Prometheus, discovery: pathlib.Path) -> None:
    import ray

    node = ray.nodes()[0]
    address = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    assert address in json.loads(discovery.read_text())[0]["targets"]
    health = {target["labels"]["instance"]: target["health"] for target in seen.targets()}
    assert health[address] == "up"


@pytest.mark.parametrize("name", sorted(METRICS.keys() - RARE))
def test_every_figure_arrives_under_its_name_with_its_labels(seen: Prometheus, name: str) -> None:
    figure = METRICS[name]
    suffix = "_bucket" if figure.kind == "histogram" else ""
    for one in eventually(lambda: seen.query(f"ray_{name}{suffix}")):
        labels = {*figure.labels, "application", "SessionName", "WorkerId"}
        assert labels - MAY_BE_EMPTY <= one["metric"].keys()
        assert one["metric"]["application"] == "llm"


@pytest.mark.parametrize("query", queries(), ids=lambda q: q.title)
def test_the_dashboards_queries_are_answered_with_data(seen: Prometheus, query: Query) -> None:
    empty = bool({name.removeprefix("ray_") for name in query.names} & RARE)
    seen.query(query.filled())
    eventually(lambda: drawn(seen.over(query.filled(), 120)) or empty)


def test_the_dashboards_variables_have_values(seen: Prometheus) -> None:
    values = {v.title: seen.names(v.legend, v.expression) for v in variables()}
    assert values["Application"] == {"llm"}
    assert len(values["SessionName"]) == 1
    assert values["Cluster"] == set()  # KubeRay's; all is `.*` then


@pytest.mark.parametrize(
    ("what", "least"),
    [
        (f'attempts_total{{{OPENAI},outcome="server_error",verdict="failed_start"}}', 4),
        (f'transitions_total{{{OPENAI},to="open",reason="failures"}}', 2),
        (f'transitions_total{{{OPENAI},to="half_open",reason="due"}}', 2),
        (f'transitions_total{{{OPENAI},to="closed",reason="recovered"}}', 1),
        (f'probes_total{{{OPENAI},result="granted"}}', 2),
        ('failovers_total{from="openai",to="google_genai",reason="server_error"}', 4),
        ('failovers_total{from="openai",to="google_genai",reason="open"}', 1),
        ('failovers_total{from="aws_bedrock",to="openai",reason="isolated"}', 1),
        ('deadline_misses_total{row="first-google_genai"}', 1),
        ('refused_total{code="rate_limit_exceeded"}', 2),
        ('requests_total{row="other",outcome="model_not_found"}', 2),
        ('requests_total{row="first-local",provider="local",outcome="ok"}', 4),
        ('tokens_total{provider="openai",kind="out"}', 1),
        (f"cost_usd_total{{{OPENAI}}}", 0.0001),
    ],
)
def test_prometheus_has_seen_what_happened(seen: Prometheus, what: str, least: float) -> None:
    eventually(lambda: counted(seen, f"ray_breakwater_{what}") >= least)


def test_all_rules_are_loaded_and_evaluated(seen: Prometheus) -> None:
    eventually(lambda: all(rule["health"] != "unknown" for rule in seen.rules().values()))
    loaded = seen.rules()
    assert loaded.keys() == {rule.get("alert") or rule["record"] for rule in rules()}
    assert {name: rule["lastError"] for name, rule in loaded.items() if rule["health"] != "ok"} == {}
    assert seen.value("breakwater:asked:rate3m") is not None
    eventually(lambda: {one["metric"]["provider"] for one in seen.query("breakwater:cloud")} == set(CLOUDS))


def test_an_open_circuit_is_on_its_way_to_an_alarm_that_says_which(llm: Cluster, seen: Prometheus) -> None:
    llm.fakes["openai"].behave = status(500)

    def pending() -> Any:
        ask(llm, "first-openai")
        return seen.rules()["BreakwaterProviderOpen"]["alerts"]

    [alert] = eventually(pending)
    assert alert["state"] == "pending"
    assert "openai/gpt-5.4-mini of llm is open" in alert["annotations"]["description"]
    llm.command("reset", "openai")
    eventually(lambda: not seen.rules()["BreakwaterProviderOpen"]["alerts"])


def test_ray_gives_grafana_the_folder_and_the_dashboards_that_we_name(
    serving: Cluster, discovery: pathlib.Path
) -> None:
    grafana = discovery.parent / "metrics" / "grafana"
    provider = yaml.safe_load((grafana / "provisioning" / "dashboards" / "default.yml").read_text())["providers"][0]
    assert (provider["folder"], pathlib.Path(provider["options"]["path"])) == ("Ray", grafana / "dashboards")
    uids = {json.loads(path.read_text())["uid"] for path in (grafana / "dashboards").glob("*.json")}
    assert {"rayServeDashboard", "rayDefaultDashboard"} <= uids
    assert "breakwater" not in uids


def strangers(llm: Cluster, word: str) -> None:
    """Everything that a client can name: a model that is pinned or unknown, its tenant, its agent, its functions."""
    headers = {"x-tenant-id": f"tenant-{word}", "x-agent-id": f"agent-{word}", "x-request-id": f"request-{word}"}
    assert ask(llm, f"openai/pinned-{word}", headers=headers).status_code == 200
    llm.fakes["openai"].behave = status(400)
    assert ask(llm, f"openai/refused-{word}", headers=headers).status_code == 400
    llm.fakes["openai"].reset()
    assert ask(llm, f"unknown-{word}", headers=headers).status_code == 404


async def functions(words: list[str]) -> None:
    async def well() -> str:
        return "done"

    async def ill() -> str:
        raise ConnectionError("gone")

    async with connect() as client:
        for word in words:
            names = {f"ill-{word}": ill, f"well-{word}": well}
            assert (await client.call_with_failover(f"ill-{word}", names)).value == "done"


def test_what_clients_name_becomes_no_label(llm: Cluster, seen: Prometheus) -> None:
    ours = '{__name__=~"ray_breakwater_.+"}'

    def all_told(words: list[str]) -> None:
        pinned = 'ray_breakwater_requests_total{row="other",outcome=~"ok|rejected|model_not_found"}'
        functional = 'ray_breakwater_attempts_total{provider="functions"}'
        before = counted(seen, pinned), counted(seen, functional)
        for word in words:
            strangers(llm, word)
        asyncio.run(functions(words))
        eventually(lambda: counted(seen, pinned) >= before[0] + 3 * len(words), 60)
        eventually(lambda: counted(seen, functional) >= before[1] + 2 * len(words), 60)

    all_told([secrets.token_hex(4)])
    # What a quiet minute adds by itself: other calls of the actor, other ends of a probe.
    series = {json.dumps(one["metric"]) for one in seen.query(ours)}
    words = [secrets.token_hex(4) for _ in range(50)]
    all_told(words)
    after = {json.dumps(one["metric"]) for one in seen.query(ours)}
    assert after - series == set()
    assert not [text for text in after if any(word in text for word in words)]
