"""Who used what, on a real cluster: every attempt has a row, and limits hold."""

import csv
import io
import secrets
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import Cluster, eventually
from tests.fakes.server import Behaviour, status


@pytest.fixture
def tenant() -> str:
    return f"tenant-{secrets.token_hex(4)}"


def usage(llm: Cluster, **params: Any) -> list[dict[str, Any]]:
    response = httpx2.get(f"{llm.url}/v1/usage", params=params, timeout=20)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


def settled(llm: Cluster, requests: int, **params: Any) -> dict[str, Any]:
    """The total, once so many requests are written down and none is under way."""

    def found() -> Any:
        rows = usage(llm, **params)
        return rows and rows[0]["requests"] == requests and not rows[0]["open"] and rows[0]

    return dict(eventually(found))


def test_each_attempt_is_accounted_to_its_own_provider_under_one_request(llm: Cluster, tenant: str) -> None:
    llm.fakes["aws_bedrock"].script = [status(500)]
    headers = {"x-tenant-id": tenant, "x-agent-id": "meetmind.coordinator"}
    assert llm.post(headers=headers).headers["x-breakwater-provider"] == "openai"
    total = settled(llm, 1, tenant=tenant)
    assert (total["answered"], total["attempts"], total["failures"]) == (1, 2, 1)
    rows = {
        row["provider"]: row for row in usage(llm, tenant=tenant, agent="meetmind.coordinator", group_by="provider")
    }
    assert (rows["aws_bedrock"]["failures"], rows["aws_bedrock"]["tokens_out"]) == (1, 0)
    openai = rows["openai"]
    assert (openai["answers"], openai["tokens_in"], openai["tokens_out"]) == (1, 7, 5)
    assert openai["cost_usd"] == pytest.approx((7 * 2 + 5 * 8) / 1e6)
    assert (openai["unknown_cost"], rows["aws_bedrock"]["unknown_cost"]) == (0, 0)


def test_an_unknown_price_is_an_unknown_cost(llm: Cluster, tenant: str) -> None:
    llm.post(model="openai/gpt-of-nobodys-list", headers={"x-tenant-id": tenant})
    total = settled(llm, 1, tenant=tenant)
    assert (total["tokens_out"], total["cost_usd"], total["unknown_cost"]) == (5, None, 1)


def test_a_vendors_list_price_counts_without_a_price_of_our_own(llm: Cluster, tenant: str) -> None:
    llm.post(headers={"x-tenant-id": tenant})
    total = settled(llm, 1, tenant=tenant)
    assert total["unknown_cost"] == 0
    assert total["cost_usd"] > 0


def test_a_stream_that_breaks_is_accounted_by_what_was_delivered(llm: Cluster, tenant: str) -> None:
    llm.fakes["aws_bedrock"].words = [f" word{n}" for n in range(60)]
    try:
        llm.post(stream=True)  # what a token of this provider is like is learnt from whole answers
        llm.fakes["aws_bedrock"].behave = Behaviour("cut", after=41, pace=0.003)
        assert "[DONE]" not in llm.post(stream=True, headers={"x-tenant-id": tenant}).text
    finally:
        llm.fakes["aws_bedrock"].words = ["Paris", " is", " the", " capital", "."]
    total = settled(llm, 1, tenant=tenant)
    assert (total["answers"], total["failures"], total["estimated"]) == (0, 1, 1)
    assert total["tokens_out"] > 0


def test_embeddings_and_handles_are_accounted_too(llm: Cluster, tenant: str) -> None:
    body = {"model": "vectors", "input": ["one", "two"]}
    httpx2.post(f"{llm.url}/v1/embeddings", json=body, headers={"x-tenant-id": tenant}, timeout=30)

    async def main() -> Any:
        from ray import serve

        handle = serve.get_app_handle("llm")
        request = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
        await handle.chat.remote(request, tenant_id=tenant, agent_id="a")
        await handle.generate_completion.remote("Hi", "meetmind.coordinator", tenant, "default", 0.3, 500)
        stream = handle.options(stream=True).generate_streaming_completion.remote("Hi", "a", tenant)
        assert [item async for item in stream][-1]["provider_used"] == "aws_bedrock"

    async def asked() -> Any:
        from ray import serve

        return await serve.get_app_handle("llm").get_usage_stats.remote(tenant)

    llm.run(main())
    settled(llm, 4, tenant=tenant)
    stats = llm.run(asked())
    assert (stats["tenant_id"], stats["requests"]) == (tenant, 4)
    assert {row["provider"] for row in stats["by_model"]} == {"aws_bedrock"}


def test_usage_comes_as_csv_too(llm: Cluster, tenant: str) -> None:
    llm.post(headers={"x-tenant-id": tenant})
    settled(llm, 1, tenant=tenant)
    params = {"tenant": tenant, "group_by": "tenant,day", "format": "csv"}
    response = httpx2.get(f"{llm.url}/v1/usage", params=params, timeout=20)
    assert response.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(response.text))
    assert (row["tenant"], row["answers"]) == (tenant, "1")


@pytest.mark.parametrize("params", [{"tennant": "x"}, {"group_by": "colour"}, {"since": "yesterday"}])
def test_a_question_that_there_is_none_of_is_a_400(llm: Cluster, params: dict[str, str]) -> None:
    response = httpx2.get(f"{llm.url}/v1/usage", params=params, timeout=20)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_tenant_over_its_requests_is_told_when_to_come_back(llm: Cluster) -> None:
    statuses = [llm.post(headers={"x-tenant-id": "small"}) for _ in range(5)]
    over = [r for r in statuses if r.status_code != 200]
    # Unless the minute has just turned between them.
    over = over or [r for r in [llm.post(headers={"x-tenant-id": "small"}) for _ in range(4)] if r.status_code != 200]
    assert {r.status_code for r in over} == {429}
    error = over[0].json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(over[0].headers["retry-after"]) <= 60
    assert llm.post().status_code == 200, "the others are not concerned"


def test_a_tenant_over_its_budget_is_told_402(llm: Cluster) -> None:
    headers = {"x-tenant-id": "poor"}
    llm.post(model="first-openai", headers=headers)
    refused = eventually(lambda: (r := llm.post(model="first-openai", headers=headers)).status_code == 402 and r)
    assert refused.json()["error"]["code"] == "insufficient_quota"


def test_health_tells_of_the_ledger(llm: Cluster) -> None:
    ledger = eventually(lambda: (s := llm.get("/v1/providers")["ledger"])["store"] == "up" and s)
    assert (ledger["journal"], ledger["dropped"]) == ("disk", 0)
