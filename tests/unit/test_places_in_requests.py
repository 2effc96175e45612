"""A request's way over the places of one provider, and what their circuits learn of each other."""

import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from actors.breaker.outcomes import NO_CREDENTIAL, Outcome
from deployments.console.view import StatusData, build_status
from deployments.errors import NoAnswer, NotFound, UnknownModel
from deployments.openai_api.chat import check_request
from deployments.service.arguments import CallOptions
from deployments.telemetry.request_log import line_of
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import CONNECT, SERVER_ERROR, complete, read, stream
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST, World, world

URL = "http://one.example/v1"
PLACES = [
    {"name": "a", "api_key_env": "KEY_A", "bucket": "project"},
    {"name": "b", "api_key_env": "KEY_B", "bucket": "project"},
    {"name": "c", "api_key_env": "KEY_C"},
    {"name": "far", "api_key_env": "KEY_A", "base_url": "http://two.example/v1", "bucket": "far"},
]
THROTTLED = Outcome("throttled", status=429, retry_after=30.0)
REFUSED = Outcome("credential", status=401)


def args(places: list[dict[str, Any]] = PLACES, **more: Any) -> dict[str, Any]:
    placed = {"kind": "openai", "base_url": URL, "places": places, **more}
    models = {"default": {"openai": "gpt", "aws": "haiku"}, "small": {"openai": "mini"}}
    return {"providers": {**ARGS["providers"], "openai": placed}, "models": models}


def placed(
    test: Callable[..., Awaitable[None]], places: list[dict[str, Any]] = PLACES, **more: Any
) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with world(args(places, **more)) as w:
                await test(w)

        run_virtually(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def spread(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    return placed(test, places_order="spread")


def asked(w: World) -> dict[str, int]:
    return {name: script.calls for name, script in w.hop.providers.items() if script.calls}


def told(entries: list[dict[str, Any]]) -> list[str]:
    return [f"{e['provider']}{'#' + e['place'] if 'place' in e else ''}: {e['outcome']}" for e in entries]


@placed
async def test_the_first_place_answers_and_is_named_beside_its_provider(w: World) -> None:
    answer = await complete(w)
    assert answer.target == "openai#a/gpt"
    assert asked(w) == {"openai#a": 1}
    served = w.service.served_by(answer)
    assert (served["provider"], served["place"], served["model"]) == ("openai", "a", "gpt")
    assert answer.record.summary is not None
    assert json.loads(line_of(answer.record.summary))["place"] == "a"


@placed
async def test_a_dead_host_costs_one_attempt_however_many_places_it_has(w: World) -> None:
    for name in "abc":
        w.provider(f"openai#{name}").ends = [CONNECT]
    answer = await complete(w)
    assert answer.target == "openai#far/gpt"
    assert asked(w) == {"openai#a": 1, "openai#far": 1}
    assert told(answer.record.entries) == [
        "openai#a: connect",
        "openai#b: skipped: host_failed",
        "openai#c: skipped: host_failed",
        "openai#far: ok",
    ]


@placed
async def test_a_dead_host_opens_the_circuits_of_all_its_places_at_once(w: World) -> None:
    for name in "abc":
        w.provider(f"openai#{name}").ends = [CONNECT]
    for _ in range(3):
        await complete(w)
    await w.settle()
    states = {name: t["state"] for name, t in w.targets().items()}
    assert [states[f"openai#{name}/gpt"] for name in ("a", "b", "c", "far")] == ["open", "open", "open", "closed"]
    health = w.targets()["openai#b/gpt"]
    assert (health["requests"], health["last_error"]["kind"]) == (0, "connect")  # it was not asked
    assert asked(w) == {"openai#a": 3, "openai#far": 3}
    await complete(w)
    assert asked(w) == {"openai#a": 3, "openai#far": 4}


MANY = [{"name": f"key-{number}", "api_key_env": f"KEY_{number}"} for number in range(12)]
SILENT = Outcome("first_token")


def test_a_silent_host_costs_two_attempts_however_many_places_it_has_and_the_next_provider_has_its_time() -> None:
    async def test(w: World) -> None:
        for place in MANY:
            script = w.provider(f"openai#{place['name']}")
            script.ends, script.seconds = [SILENT], 10.0
        w.provider("aws").seconds = 8.0
        answer = await complete(w)
        assert answer.target == "aws/haiku"
        assert asked(w) == {"openai#key-0": 1, "openai#key-1": 1, "aws": 1}
        assert set(told(answer.record.entries)[2:-1]) == {
            f"openai#key-{number}: skipped: host_silent" for number in range(2, 12)
        }
        await w.settle()
        states = {target["state"] for target in w.targets().values()}
        assert states == {"closed"}  # one silence may be the request's own

    placed(test, MANY)()


@placed
async def test_two_silent_places_leave_a_place_at_another_host_to_be_asked(w: World) -> None:
    for name in "abc":
        w.provider(f"openai#{name}").ends = [SILENT]
    answer = await complete(w)
    assert told(answer.record.entries) == [
        "openai#a: first_token",
        "openai#b: first_token",
        "openai#c: skipped: host_silent",
        "openai#far: ok",
    ]


def test_where_nobody_else_can_be_asked_each_place_of_a_silent_host_is() -> None:
    async def test(w: World) -> None:
        w.provider("openai#a").ends = w.provider("openai#b").ends = [SILENT]
        assert (await complete(w, "small")).target == "openai#c/mini"
        await w.service.operations.command("isolate", "aws")
        await w.settle()
        assert (await complete(w)).target == "openai#c/gpt"

    placed(test, PLACES[:3])()


@placed
async def test_a_5xx_goes_round_the_host_and_opens_no_other_places_circuit(w: World) -> None:
    w.provider("openai#a").ends = [SERVER_ERROR]
    for _ in range(3):
        assert (await complete(w)).target == "openai#far/gpt"
    await w.settle()
    assert w.targets()["openai#a/gpt"]["state"] == "open"
    assert w.targets()["openai#b/gpt"]["state"] == "closed"
    assert (await complete(w)).target == "openai#b/gpt"


@placed
async def test_a_throttle_cools_its_bucket_in_this_request_and_in_those_that_follow(w: World) -> None:
    w.provider("openai#a").ends = [THROTTLED]
    answer = await complete(w)
    assert told(answer.record.entries) == ["openai#a: throttled", "openai#b: skipped: throttled", "openai#c: ok"]
    await w.settle()
    states = {name: (t["state"], t["reason"]) for name, t in w.targets().items()}
    assert states["openai#a/gpt"] == states["openai#b/gpt"] == ("open", "throttled")
    assert states["openai#c/gpt"] == states["openai#a/mini"] == ("closed", "")
    assert 28 < w.targets()["openai#b/gpt"]["retry_in_seconds"] < 30
    assert (await complete(w)).target == "openai#c/gpt"
    assert asked(w) == {"openai#a": 1, "openai#c": 2}


@placed
async def test_who_finds_every_place_throttled_gets_a_429(w: World) -> None:
    for name in ("a", "b", "c", "far"):
        w.provider(f"openai#{name}").ends = [THROTTLED]
    with pytest.raises(NoAnswer) as refused:
        await complete(w, "small")
    assert refused.value.status == 429
    assert asked(w) == {"openai#a": 1, "openai#c": 1, "openai#far": 1}


@placed
async def test_a_refused_key_takes_its_place_out_with_all_models_and_no_other(w: World) -> None:
    w.provider("openai#a").ends = [REFUSED]
    answer = await complete(w)
    assert told(answer.record.entries) == ["openai#a: credential", "openai#b: ok"]
    await w.settle()
    states = {name: t["state"] for name, t in w.targets().items()}
    assert {name for name, state in states.items() if state == "open"} == {"openai#a/gpt", "openai#a/mini"}
    assert (await complete(w, "small")).target == "openai#b/mini"
    assert asked(w) == {"openai#a": 1, "openai#b": 2}
    health = await w.service.operations.provider_health("openai")
    assert health["available"]
    assert [place["available"] for place in health["places"].values()] == [False, True, True, True]


@placed
async def test_a_permission_for_one_model_takes_no_other_model_of_its_place_out(w: World) -> None:
    w.provider("openai#a").ends = [Outcome("credential", status=403, code="AccessDeniedException"), None]
    assert told((await complete(w)).record.entries) == ["openai#a: credential", "openai#b: ok"]
    await w.settle()
    states = {name: t["state"] for name, t in w.targets().items()}
    assert {name for name, state in states.items() if state == "open"} == {"openai#a/gpt"}
    assert (await complete(w, "small")).target == "openai#a/mini"


@placed
async def test_two_models_of_one_refused_key_are_one_attempt(w: World) -> None:
    for name in ("a", "b", "c", "far"):
        w.provider(f"openai#{name}").ends = [REFUSED]
    request = check_request({**REQUEST, "model": "small", "models": ["small", "default"]})
    answer = await w.service.failover.complete(request, w.service.deadline())
    assert answer.target == "aws/haiku"
    assert asked(w) == {"openai#a": 1, "openai#b": 1, "openai#c": 1, "openai#far": 1, "aws": 1}
    assert told(answer.record.entries).count("openai#c: skipped: key_refused") == 1


@placed
async def test_a_full_replica_is_full_for_all_places(w: World) -> None:
    w.provider("openai#a").ends = [Outcome("busy")]
    answer = await complete(w)
    assert answer.target == "aws/haiku"
    assert asked(w) == {"openai#a": 1, "aws": 1}
    await w.settle()
    assert {t["state"] for t in w.targets().values()} == {"closed"}


@placed
async def test_an_operator_takes_out_one_place_or_the_whole_provider(w: World) -> None:
    operations = w.service.operations
    health = await operations.command("isolate", "openai#a")
    assert set(health["targets"]) == {"openai#a/gpt", "openai#a/mini"}
    assert health["isolated"]
    assert not (await operations.provider_health("openai"))["isolated"]
    assert (await complete(w)).target == "openai#b/gpt"
    await operations.command("isolate", "openai")
    assert (await complete(w)).target == "aws/haiku"
    await operations.command("restore", "openai#b")
    assert (await complete(w)).target == "openai#b/gpt"
    with pytest.raises(NotFound, match="openai#nowhere"):
        await operations.command("isolate", "openai#nowhere")


@placed
async def test_a_pinned_model_means_every_place_and_a_pinned_place_that_alone(w: World) -> None:
    w.provider("openai#a").ends = [REFUSED]
    assert (await complete(w, "openai/other")).target == "openai#b/other"
    with pytest.raises(NoAnswer):
        await complete(w, "openai#a/other")
    for unknown in ("openai#nowhere/gpt", "openai#/gpt", "aws#a/haiku"):
        with pytest.raises(UnknownModel):
            await complete(w, unknown)


@spread
async def test_a_session_keeps_its_place_and_sessions_are_spread(w: World) -> None:
    async def place_of(session: str) -> str:
        answer = await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", session=session)))
        return str(answer["breakwater"]["place"])

    first = {name: await place_of(name) for name in map(str, range(40))}
    assert set(first.values()) == {"a", "b", "c", "far"}
    assert {name: await place_of(name) for name in first} == first
    lost = next(name for name, place in first.items() if place == "a")
    w.provider("openai#a").ends = [THROTTLED, None]
    moved = await place_of(lost)
    assert moved in ("c", "far")
    assert await place_of(lost) == moved


@spread
async def test_without_sessions_a_tenant_keeps_its_place(w: World) -> None:
    async def place_of(tenant: str) -> str:
        answer = await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", tenant)))
        return str(answer["breakwater"]["place"])

    first = {name: await place_of(name) for name in map(str, range(40))}
    assert len(set(first.values())) == 4
    assert {name: await place_of(name) for name in first} == first


@placed
async def test_a_request_is_explained_with_its_places(w: World) -> None:
    w.provider("openai#a").ends = [THROTTLED]
    answer = await w.python.chat(REQUEST, CallOptions(caller=Caller("handle", explain=True)))
    explained = answer["breakwater"]["explained"]
    assert (explained["provider"], explained["place"]) == ("openai", "c")
    assert [(c.get("place"), c["outcome"]) for c in explained["candidates"]] == [
        ("a", "throttled"),
        ("b", "skipped: throttled"),
        ("c", "ok"),
        ("far", "not reached"),
        (None, "not reached"),
    ]
    assert not any("KEY_" in json.dumps(c) for c in explained["candidates"])


@placed
async def test_while_the_breaker_actor_is_away_a_throttle_cools_its_bucket_here(w: World) -> None:
    await w.settle()
    w.actor.kill()
    w.provider("openai#a").ends = [THROTTLED]
    await complete(w)
    w.provider("openai#c").ends = [SERVER_ERROR]
    answer = await complete(w)
    assert told(answer.record.entries)[:2] == ["openai#a: skipped: throttled", "openai#b: skipped: throttled"]
    assert w.provider("openai#b").calls == 0


@placed
async def test_a_stream_that_is_throttled_in_its_middle_cools_its_bucket(w: World) -> None:
    script = w.provider("openai#a")
    script.ends, script.after = [replace(THROTTLED, content=True)], 1
    with contextlib.suppress(Exception):
        await read(await stream(w))
    await w.settle()
    assert w.targets()["openai#b/gpt"]["reason"] == "throttled"
    assert w.targets()["openai#c/gpt"]["state"] == "closed"


@placed
async def test_another_key_of_the_same_host_is_asked_where_only_the_first_ones_token_is_missing(w: World) -> None:
    w.provider("openai#a").ends = [Outcome("connect", code=NO_CREDENTIAL)]
    assert (await complete(w)).target == "openai#b/gpt"
    await w.settle()
    assert w.targets()["openai#b/gpt"]["consecutive_failures"] == 0


@placed
async def test_the_console_is_healthy_while_another_place_answers(w: World) -> None:
    w.provider("openai#a").ends = [REFUSED]
    await complete(w)
    await w.settle()
    data = StatusData(
        0.0, w.targets(), {}, False, {("chat", "default"): w.breaker.plan(w.service.failover.rows.of("default"))}
    )
    status = build_status(w.service.resolved, data)
    assert status["health"] == "healthy"
    [tier] = [tier for tier in status["tiers"] if tier["name"] == "openai"]
    assert tier["word"] == "partly open"
    assert "a: gpt" in [circuit["model"] for circuit in tier["targets"]]


def test_http_names_the_place_wherever_it_names_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN", "admin")

    async def main() -> None:
        async with client({**args(), "auth": {"admin_key_env": "ADMIN"}}) as (http, w):
            w.provider("openai#a").ends = [THROTTLED]
            answer = await http.post("/v1/chat/completions", json=REQUEST)
            assert (answer.headers["x-breakwater-provider"], answer.headers["x-breakwater-place"]) == ("openai", "c")
            explained = (await http.get(f"/v1/requests/{answer.headers['x-breakwater-request-id']}")).json()
            assert (explained["provider"], explained["place"], explained["candidates"][0]["place"]) == (
                "openai",
                "c",
                "a",
            )
            path, admin = "/v1/providers/openai%23c", {"authorization": "Bearer admin"}
            assert (await http.post(f"{path}/isolate", headers=admin)).json()["isolated"]
            assert list((await http.get(path)).json()["targets"]) == ["openai#c/gpt", "openai#c/mini"]
            places = (await http.get("/v1/providers/openai")).json()["places"]
            assert {name: place["available"] for name, place in places.items()} == {
                "a": True,  # for its other model
                "b": True,
                "c": False,
                "far": True,
            }
            for name in ("openai#far", "openai#b"):
                w.provider(name).ends = [REFUSED]
            refused = await http.post("/v1/chat/completions", json={**REQUEST, "model": "openai/gpt"})
            assert [a["place"] for a in refused.json()["error"]["attempts"]] == ["a", "b", "c", "far"]
            assert "First error (openai#far)" in refused.json()["error"]["message"]
            without = await http.post("/v1/chat/completions", json={**REQUEST, "model": "aws/haiku"})
            assert "x-breakwater-place" not in without.headers

    run_virtually(main())
