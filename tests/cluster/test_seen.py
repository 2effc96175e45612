"""What operators see of a real cluster: a request explained, the log, Ray's metrics and Ray's dashboard."""

import json
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import APP, CLOUDS, WIRES, Cluster, eventually
from tests.fakes.server import Behaviour, status


def explained(llm: Cluster, name: str) -> dict[str, Any]:
    response = httpx2.get(f"{llm.url}/v1/requests/{name}", timeout=20)
    assert response.status_code == 200, response.text
    return dict(response.json())


def log_lines(of: str) -> Iterator[dict[str, Any]]:
    """Lines of JSON in the logs that Serve keeps of a deployment's replicas."""
    import ray

    folder = pathlib.Path(ray._private.worker._global_node.get_session_dir_path()) / "logs" / "serve"
    for path in folder.glob(f"replica_{APP}_{of}_*.log"):
        for line in path.read_text(errors="replace").splitlines():
            _, event, told = line.partition('{"event"')
            if event:
                yield json.loads(event + told)


def metrics() -> str:
    """What Ray's own export says now."""
    import ray

    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return str(httpx2.get(url, timeout=20).text)


@pytest.mark.parametrize(("provider", "at"), [(name, place) for place, name in enumerate(CLOUDS)])
def test_each_providers_replica_tells_the_times_of_its_own_wire(llm: Cluster, provider: str, at: int) -> None:
    for dead in CLOUDS[:at]:
        llm.fakes[dead].behave = status(500)
    llm.fakes[provider].words = ["one", " two"]
    llm.fakes[provider].behave = Behaviour("answer", pace=0.02)
    response = llm.post(stream=True, headers={"x-breakwater-explain": "true"})
    told = explained(llm, response.headers["x-breakwater-request-id"])
    assert f'"request_id":"{told["request_id"]}"' in response.text
    failed, (served, *others) = told["candidates"][:at], told["candidates"][at:]
    assert [c["outcome"] for c in failed] == ["server_error"] * at
    assert (served["provider"], served["outcome"], served["verdict"]) == (provider, "ok", "ok")
    assert 0 < served["upstream_first_ms"] <= served["first_token_ms"] <= served["ms"] <= told["ms"]
    assert served["upstream_first_ms"] < served["upstream_ms"]
    assert 0 <= told["added_ms"] < told["ms"]
    assert {c["outcome"] for c in others} == {"not reached"}


def test_a_request_that_an_open_circuit_sent_elsewhere_says_so(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = status(500)
    eventually(lambda: llm.post() and llm.state("aws_bedrock") == "open")
    response = llm.post(headers={"x-request-id": (mine := secrets.token_hex(8))})
    skipped, served, *_ = explained(llm, mine)["candidates"]
    assert (skipped["outcome"], skipped["state"]) == ("skipped: open", "open")
    assert skipped["retry_in_seconds"] > 0
    assert skipped["since_seconds"] >= 0
    assert served["provider"] == response.headers["x-breakwater-provider"] == "openai"


def test_the_ledger_explains_what_no_ingress_remembers(llm: Cluster) -> None:
    import ray

    llm.fakes["aws_bedrock"].script = [status(500)]
    response = llm.post(headers={"x-request-id": (mine := secrets.token_hex(8))})
    remembered = explained(llm, mine)
    ledger = ray.get_actor(f"{APP}-ledger", namespace="breakwater")

    def written() -> Any:
        rows = ray.get(ledger.request.remote(mine))
        return rows and rows["request"]["state"] == "settled" and rows

    rows = eventually(written)
    assert json.loads(rows["request"]["trail"]) == remembered["candidates"]
    assert rows["request"]["request_id"] == response.headers["x-breakwater-request-id"]
    assert httpx2.get(f"{llm.url}/v1/requests/{secrets.token_hex(8)}", timeout=20).status_code == 404


def test_each_request_has_one_line_in_the_log_soon_and_without_its_content(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].script = [status(500)]
    secret = secrets.token_hex(8)
    name = llm.post(messages=[{"role": "user", "content": secret}]).headers["x-breakwater-request-id"]

    def found() -> list[dict[str, Any]]:
        return [line for line in log_lines("Ingress") if line["request_id"] == name]

    [line] = eventually(found)
    assert (line["event"], line["provider"], line["outcome"]) == ("request", "openai", "ok")
    assert [a["outcome"] for a in line["attempts"]] == ["server_error", "ok"]
    assert (line["tokens_in"], line["tokens_out"]) == (7, 5)
    assert secret not in json.dumps(line)


def test_rays_own_export_has_our_figures_and_no_name_that_a_client_chose(llm: Cluster) -> None:
    chosen = f"chosen-{secrets.token_hex(4)}"
    for model in (f"openai/{chosen}", chosen, "default"):
        llm.post(model=model, headers={"x-tenant-id": chosen, "x-agent-id": chosen})
    llm.fakes["aws_bedrock"].behave = status(500)
    eventually(lambda: llm.post() and llm.state("aws_bedrock") == "open")

    def exported() -> Any:
        text = metrics()
        wanted = ("ray_breakwater_requests_total{", 'model="other"', 'to="open"', 'row="other"')
        return all(part in text for part in wanted) and text

    text = eventually(exported, 60)
    ours = [line for line in text.splitlines() if line.startswith("ray_breakwater_")]
    assert all('application="llm"' in line for line in ours)
    assert not [line for line in ours if chosen in line]


def test_rays_dashboard_finds_the_application_and_its_two_actors_by_clear_names(llm: Cluster) -> None:
    from ray._private.authentication.authentication_token_setup import _get_default_token_path

    headers = {"authorization": f"Bearer {_get_default_token_path().read_text().strip()}"}
    serve = httpx2.get(f"{llm.dashboard}/api/serve/applications/", headers=headers, timeout=20).json()
    assert set(serve["applications"][APP]["deployments"]) == {"Ingress", *WIRES, "local"}
    actors = (
        httpx2.get(f"{llm.dashboard}/logical/actors", headers=headers, timeout=20).json()["data"]["actors"].values()
    )
    named = {a["name"]: a["className"] for a in actors if a["state"] == "ALIVE"}
    assert named[f"{APP}-breaker"] == "BreakerActor"
    assert named[f"{APP}-ledger"] == "LedgerActor"


def served_by_serve(status: str) -> float:
    """Return how many requests with POST Serve has counted of the application, by the status of their answers."""
    lines = [line for line in metrics().splitlines() if line.startswith("ray_serve_num_http_requests_total{")]
    wanted = [line for line in lines if f'status_code="{status}"' in line and 'method="POST"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in wanted if f'application="{APP}"' in line)


def test_serve_counts_the_requests_that_go_past_its_wrapping(llm: Cluster) -> None:
    """By these figures it shows an application and its users' errors; by the same way it scales and drains."""
    answered, refused = served_by_serve("200"), served_by_serve("404")
    for _ in range(5):
        assert llm.post().status_code == 200
    assert llm.post(stream=True).status_code == 200
    assert llm.post(model="nobody").status_code == 404
    eventually(lambda: served_by_serve("200") >= answered + 6 and served_by_serve("404") >= refused + 1, 60)
