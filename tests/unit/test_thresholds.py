"""Thresholds that an operator sets while it runs: what they beat, how that is seen, and how they are taken back."""

import json
import logging
from typing import Any

import pytest

from actors.breaker_actor import log_hidden
from deployments.python_api.facade import Facade
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client


def test_a_threshold_that_was_set_beats_a_new_config_in_plain_sight_until_it_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYS", "k")
    monkeypatch.setenv("ADMIN", "root")

    async def main() -> None:
        async with client(GUARDED) as (http, w):
            admin = {"authorization": "Bearer root"}
            await http.patch("/v1/breaker", json={"failure_threshold": 5}, headers=admin)
            await w.service.reconfigure({"breaker": {"failure_threshold": 7}})
            seen = (await http.get("/v1/breaker", headers=admin)).json()
            assert seen["failure_threshold"] == 5
            assert seen["overrides"] == {"failure_threshold": {"value": 5, "configured": 7}}
            assert await Facade(w.service).thresholds(admin_key="root") == seen
            done = await Facade(w.service).thresholds({"failure_threshold": None}, admin_key="root")
            assert (done["failure_threshold"], done["overrides"]) == (7, {})
            assert (await http.get("/v1/breaker", headers=admin)).json() == done

    run_virtually(main())


def test_a_breaker_actor_of_an_earlier_version_tells_what_was_set_without_what_the_config_says() -> None:
    async def main() -> None:
        async with client() as (_, w):
            await w.actor.override({"recovery_cap": 90})
            health = w.actor.health

            async def earlier() -> dict[str, Any]:
                return {name: value for name, value in (await health()).items() if name != "configured"}

            w.actor.health = earlier  # type: ignore[method-assign]
            answer = await w.service.operations.thresholds()
            assert answer["overrides"] == {"recovery_cap": {"value": 90, "configured": None}}

    run_virtually(main())


def test_the_log_names_a_threshold_that_a_new_config_changes_in_vain(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_hidden({"failure_threshold": 5}, {"failure_threshold": 3}, {"failure_threshold": 7})
    [line] = caplog.messages
    said = json.loads(line)
    assert said["event"] == "override"
    assert (said["threshold"], said["configured"], said["in_force"]) == ("failure_threshold", 7, 5)
    assert said["hint"] == 'PATCH /v1/breaker with {"failure_threshold": null}'


def test_the_log_is_silent_where_a_new_config_changes_nothing_that_was_set(caplog: pytest.LogCaptureFixture) -> None:
    before = {"failure_threshold": 3, "recovery_timeout": 60}
    with caplog.at_level(logging.WARNING):
        log_hidden({"failure_threshold": 5}, before, {"failure_threshold": 3, "recovery_timeout": 30})
        log_hidden({"failure_threshold": 5}, before, {"failure_threshold": 5, "recovery_timeout": 60})
    assert caplog.messages == []
