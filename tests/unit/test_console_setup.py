"""How providers are set up, as the console shows it: without secrets, and with the prices that are known."""

from typing import Any

import pytest

from deployments.config.application import parse
from deployments.config.resolved import resolve
from deployments.console.setup import setup_of
from deployments.usage.prices import PriceList
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import ARGS, layout_of

SECRET = "sk-this-is-never-shown"
PLACED: dict[str, Any] = {
    "providers": {
        "openai": {
            "kind": "openai",
            "api_key_env": "MY_KEY",
            "places": [{"name": "a"}, {"name": "b", "api_key_env": "OTHER_KEY"}],
        },
        "google": {"kind": "google", "api_key_env": "NO_KEY"},
        "local": {"kind": "local"},
    },
    "models": {
        "default": {"openai": "gpt-5.4-mini", "google": "gemini-3-flash", "local": "smollm2-135m"},
        "fast": {"openai": "gpt-5.4-mini"},
    },
}


class WithPrices:
    def __init__(self, prices: PriceList):
        self.prices = prices


def test_a_credential_is_told_by_where_it_was_found_and_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.delenv("NO_KEY", raising=False)
    monkeypatch.delenv("OTHER_KEY", raising=False)
    setup = setup_of(resolve(parse(PLACED)), {}, None)
    assert SECRET not in str(setup)
    openai, google, local = setup["providers"]
    assert [(p["name"], p["left_out"] is None) for p in openai["places"]] == [("a", True), ("b", False)]
    assert "MY_KEY" in str(openai["places"][0]["credential"])
    assert "OTHER_KEY" in str(openai["places"][1]["left_out"])
    assert google["credential"]["found"] is False
    assert "NO_KEY" in str(google["left_out"])
    assert local["left_out"] is None


def test_a_model_is_there_once_with_all_its_rows_and_its_price() -> None:
    resolved = layout_of(ARGS)
    given = {"openai/gpt": {"input": "2.5", "output": 10}}
    prices = PriceList(parse({**ARGS, "prices": given}).prices, ours=resolved.fixed())
    ledger: Any = WithPrices(prices)
    aws, openai, local = setup_of(resolved, {}, ledger)["providers"]
    assert openai["models"] == [
        {"target": "openai/gpt", "model": "gpt", "rows": ["default", "solo"], "price": {"input": 2.5, "output": 10.0}}
    ]
    assert aws["models"][0]["price"] is None, "nobody knows it"
    assert local["models"][0]["price"] == {"input": 0.0, "output": 0.0}, "nobody bills us"


def test_the_thresholds_are_those_in_force_and_the_configured_ones_while_the_actor_is_away() -> None:
    async def main() -> None:
        async with client() as (http, w):
            await w.service.operations.thresholds({"failure_threshold": 5})
            assert (await http.get("/v1/setup")).json()["breaker"]["failure_threshold"] == 5
            w.actor.kill()
            assert (await http.get("/v1/setup")).json()["breaker"]["failure_threshold"] == 3

    run_virtually(main())


def test_who_changed_what_is_told_with_the_name_that_the_operator_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "k")
    monkeypatch.setenv("ADMIN", "root")

    async def main() -> None:
        async with client(GUARDED) as (http, _):
            admin = {"authorization": "Bearer root"}
            await http.post("/v1/providers/aws/isolate", headers=admin)
            named = {**admin, "x-breakwater-operator": ("änn\x07 " + "x" * 999).encode()}
            await http.patch("/v1/breaker", json={"failure_threshold": 4}, headers=named)
            changes = (await http.get("/v1/breaker", headers=admin)).json()["changes"]
            assert [change["what"] for change in changes] == ["thresholds", "isolate aws"]
            assert changes[1]["by"] == "the admin key"
            assert changes[0]["by"].startswith("änn xx")
            assert len(changes[0]["by"]) <= 128

    run_virtually(main())
