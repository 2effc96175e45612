"""A request that keeps to a scope is asked of no target outside of it, by whichever way it comes."""

import json
import pathlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from deployments.config.application import parse
from deployments.doors.messages.door import MESSAGES
from deployments.doors.responses.door import RESPONSES
from deployments.errors import BadRequest, ConfigError, NoAnswer, OutOfScope
from deployments.ingress.by_handle import answer_by_handle
from deployments.ingress.deployment import _options
from deployments.ingress.http import build_api_by_handle
from deployments.keys.key import digest_of
from deployments.openai_api.chat import check_request
from deployments.openai_api.embeddings import check_embedding_request
from deployments.ops.key import main as make_key
from deployments.python_api.doors import DoorApi
from deployments.python_api.facade import Facade
from deployments.service.arguments import CallOptions
from deployments.telemetry.explain import explain
from deployments.usage.caller import Caller, scope_of
from tests.clock import run_virtually
from tests.unit.test_http_api import client
from tests.unit.test_sessions import SERVER_ERROR
from tests.unit.world import REQUEST, World, world


def provider(name: str, *tags: str) -> dict[str, Any]:
    return {"kind": "openai", "base_url": f"http://127.0.0.1:1/{name}", "tags": list(tags)}


# `open` has no tags of its own, and one of a row's; `both` has a tag by its provider and another by its row.
ARGS: dict[str, Any] = {
    "providers": {
        "us": provider("us", "no-train"),
        "eu": provider("eu", "eu"),
        "both": provider("both", "eu"),
        "open": provider("open"),
    },
    "models": {
        "chat": {"us": "m", "eu": "m", "both": {"model": "m", "tags": ["no-train"]}, "open": "m"},
        "tagged": {"open": {"model": "m", "tags": ["eu"]}},
        "plain": {"us": "m", "open": "m"},
    },
    "embeddings": {
        "vectors": {"dimensions": 3, "targets": {"us": "text-embedding-3-small", "eu": "text-embedding-3-small"}}
    },
}


def in_world(test: Callable[[World], Awaitable[None]], **args: Any) -> None:
    async def main() -> None:
        async with world({**ARGS, **args}) as w:
            await test(w)

    run_virtually(main())


def calls(w: World) -> dict[str, int]:
    return {name: script.calls for name, script in w.hop.providers.items() if script.calls}


async def ask(w: World, scope: object, caller: Caller | None = None, **body: Any) -> str:
    caller = caller or Caller("http", scope=scope)
    request = check_request({**REQUEST, "model": "chat", **body})
    return (await w.service.complete(request, w.service.deadline(), caller)).target


@pytest.mark.parametrize(
    ("scope", "served"),
    [
        (None, "us/m"),
        ("no-train", "us/m"),
        ("eu", "eu/m"),
        ("EU , no-train", "both/m"),
        (["no-train", "eu"], "both/m"),
        (("eu",), "eu/m"),
    ],
)
def test_the_first_target_that_has_all_tags_is_asked_first(scope: object, served: str) -> None:
    async def test(w: World) -> None:
        assert await ask(w, scope) == served
        assert list(calls(w)) == [served.partition("/")[0]]

    in_world(test)


def test_a_failover_stays_within_the_scope_and_the_explanation_says_why_others_were_skipped() -> None:
    async def test(w: World) -> None:
        w.provider("eu").ends = [SERVER_ERROR]
        record = await w.service.admit(Caller("http", scope="eu"), check_request({**REQUEST, "model": "chat"}))
        answer = await w.service.failover.complete(
            check_request({**REQUEST, "model": "chat"}), w.service.deadline(), record
        )
        assert answer.target == "both/m"
        explained = explain(record)
        assert explained is not None
        outcomes = {one["provider"]: one["outcome"] for one in explained["candidates"]}
        assert outcomes == {
            "us": "skipped: outside the scope eu",
            "eu": "server_error",
            "both": "ok",
            "open": "skipped: outside the scope eu",
        }
        assert calls(w) == {"eu": 1, "both": 1}

    in_world(test)


def test_when_all_in_scope_are_out_it_waits_and_fails_and_asks_nobody_else() -> None:
    async def test(w: World) -> None:
        for name in ("eu", "both"):
            w.provider(name).ends = [SERVER_ERROR] * 50
        for _ in range(12):  # until both circuits are open, so that a panic is due
            with pytest.raises(Exception, match=r"failed|asked"):
                await ask(w, "eu")
            await w.settle()
        assert calls(w).keys() == {"eu", "both"}

    in_world(test)


@pytest.mark.parametrize(
    ("model", "scope"),
    [("chat", "mars"), ("plain", "eu"), ("plain", "eu,no-train"), ("open/m", "eu"), ("us/other", "eu")],
)
def test_a_row_without_a_target_in_scope_is_refused_before_any_attempt_and_the_scope_is_named(
    model: str, scope: str
) -> None:
    async def test(w: World) -> None:
        with pytest.raises(OutOfScope) as refused:
            await ask(w, scope, model=model)
        assert (refused.value.status, refused.value.code) == (403, "out_of_scope")
        for tag in scope.split(","):
            assert f"'{tag}'" in str(refused.value)
        assert "known tags: eu, no-train" in str(refused.value)
        assert calls(w) == {}

    in_world(test)


def test_tags_of_a_rows_target_hold_in_that_row_alone() -> None:
    async def test(w: World) -> None:
        assert await ask(w, "eu", model="tagged") == "open/m"
        assert await ask(w, "no-train", model="us/another") == "us/another"  # a pinned target has its provider's tags
        # Of two rows that lead to one target, one may have it in scope.
        assert await ask(w, "eu", model="plain", models=["plain", "tagged"]) == "open/m"

    in_world(test)


def test_all_places_of_a_provider_have_its_tags_and_those_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KEY_A", "KEY_B"):
        monkeypatch.setenv(variable, "k")
    places = [{"name": "a", "api_key_env": "KEY_A"}, {"name": "b", "api_key_env": "KEY_B"}]
    providers = {**ARGS["providers"], "both": {**ARGS["providers"]["both"], "places": places}}

    async def test(w: World) -> None:
        assert await ask(w, "eu,no-train") == "both#a/m"
        assert await ask(w, "eu", model="both#b/m") == "both#b/m"
        with pytest.raises(OutOfScope):
            await ask(w, "no-train", model="both#b/m")
        assert sum(calls(w).values()) == 2

    in_world(test, providers=providers)


def test_a_place_may_have_tags_beside_those_of_its_provider() -> None:
    places = [{"name": "us"}, {"name": "eu", "tags": ["in-eu"]}, {"name": "second", "tags": ["in-eu", "other"]}]
    providers = {**ARGS["providers"], "both": {**ARGS["providers"]["both"], "places": places}}

    async def test(w: World) -> None:
        assert await ask(w, "in-eu") == "both#eu/m"
        assert await ask(w, "eu,in-eu,no-train") == "both#eu/m"
        assert await ask(w, "in-eu", model="both/m") == "both#eu/m"
        w.provider("both#eu").ends = [SERVER_ERROR]
        with pytest.raises(NoAnswer):  # the second is at the same host, and the first is outside
            await ask(w, "in-eu")
        assert w.provider("both#us").calls == 0
        with pytest.raises(OutOfScope, match="known tags: eu, in-eu, no-train, other"):
            await ask(w, "other", model="both#eu/m")

    in_world(test, providers=providers)
    key = {"scopes": {"tenants": {"acme": ["in-eu"]}}}
    assert parse({**ARGS, "providers": providers, **key})
    with pytest.raises(ConfigError, match="no provider or target has the tag in-eu"):
        parse({**ARGS, **key})


@pytest.mark.parametrize("scope", ["", " ", ",", "eu,,x", "e u", "é", 7, {}, [], [7], ["eu", ""], b"eu", "x" * 65])
@pytest.mark.parametrize(("door", "name"), [("http", "x-breakwater-scope"), ("handle", "scope")])
def test_a_scope_that_names_no_tags_is_refused_and_not_taken_for_none(scope: object, door: str, name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        scope_of(Caller(door, scope=scope))
    assert (refused.value.status, refused.value.param) == (400, name)

    async def test(w: World) -> None:
        with pytest.raises(BadRequest):
            await ask(w, scope)
        assert calls(w) == {}

    in_world(test)


# Each door.

CHAT = {**REQUEST, "model": "chat"}
ROUTES: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", CHAT, "eu"),
    ("/v1/responses", {"model": "chat", "input": "Hi"}, "eu"),
    ("/v1/messages", {"model": "chat", "max_tokens": 9, "messages": REQUEST["messages"]}, "eu"),
]
STREAMED = [(path, {**body, "stream": True}, found) for path, body, found in ROUTES]


@pytest.mark.parametrize(("path", "body", "found"), [*ROUTES, *STREAMED])
def test_each_route_heeds_the_header(path: str, body: dict[str, Any], found: str) -> None:
    async def main() -> None:
        async with client(ARGS) as (http, w):
            answer = await http.post(path, json=body, headers={"x-breakwater-scope": "eu"})
            assert (answer.status_code, answer.headers["x-breakwater-provider"]) == (200, found)
            refused = await http.post(path, json=body, headers={"x-breakwater-scope": "mars"})
            assert refused.status_code == 403
            assert "mars" in refused.text
            empty = await http.post(path, json=body, headers={"x-breakwater-scope": ""})
            assert empty.status_code == 400
            twice = [
                ("x-breakwater-scope", "eu"),
                ("x-breakwater-scope", "no-train"),
                ("content-type", "application/json"),
            ]
            both = await http.post(path, json=body, headers=twice)
            assert both.headers["x-breakwater-provider"] == "both"
            assert calls(w) == {"eu": 1, "both": 1}

    run_virtually(main())


def test_embeddings_heed_it_too() -> None:
    async def test(w: World) -> None:
        request = check_embedding_request({"model": "vectors", "input": "Hi"})
        answer = await w.service.embeddings(request, w.service.deadline(), Caller("http", scope="eu"))
        assert answer.target.startswith("eu/")
        with pytest.raises(OutOfScope):
            await w.service.embeddings(request, w.service.deadline(), Caller("http", scope="mars"))
        by_handle = await w.python.embed(
            {"model": "vectors", "input": "Hi"}, CallOptions(caller=Caller("handle", scope="mars"))
        )
        assert by_handle["error"]["code"] == "out_of_scope"

    in_world(test)


def test_each_way_by_handle_heeds_it() -> None:
    async def test(w: World) -> None:
        options, outside = _options(scope="eu,no-train"), _options(scope=["mars"])
        assert (await w.python.chat(CHAT, options))["breakwater"]["provider"] == "both"
        assert (await w.python.chat(CHAT, outside))["status"] == 403
        assert (await w.python.chat(CHAT, _options(scope="")))["error"]["param"] == "scope"
        chunks = [chunk async for chunk in w.python.stream_chat(CHAT, options)]
        assert chunks[0]["breakwater"]["provider"] == "both"
        responses, messages = DoorApi(w.service, RESPONSES), DoorApi(w.service, MESSAGES)
        _, responses_body, _ = ROUTES[1]
        _, messages_body, _ = ROUTES[2]
        assert (await responses.ask(responses_body, options))["breakwater"]["provider"] == "both"
        assert (await messages.ask(messages_body, options))["breakwater"]["provider"] == "both"
        facade = Facade(w.service)
        assert (await facade.generate_completion("Hi", model="chat", scope="eu,no-train"))["provider_used"] == "both"
        assert (await facade.generate_completion("Hi", model="chat", scope="mars"))["status"] == 403
        last = [item async for item in facade.generate_streaming_completion("Hi", model="chat", scope="eu")][-1]
        assert last["provider_used"] == "eu"
        headers = [("content-type", "application/json"), ("x-breakwater-scope", "eu,no-train")]
        http: Any = {
            "method": "POST",
            "url": "/v1/chat/completions",
            "headers": headers,
            "body": json.dumps(CHAT).encode(),
        }
        answered = await answer_by_handle(build_api_by_handle(w.service), http)
        assert dict(answered["headers"])["x-breakwater-provider"] == "both"
        assert calls(w).keys() == {"both", "eu"}

    in_world(test)


# Keys and tenants.


def keys_file(folder: pathlib.Path, **fields: Any) -> str:
    path = folder / "keys.jsonl"
    path.write_text(json.dumps({"name": "alice", "sha256": digest_of("k").hex(), **fields}))
    return str(path)


def test_a_key_keeps_to_its_tags_and_a_header_can_only_add_to_them(tmp_path: pathlib.Path) -> None:
    args = {**ARGS, "auth": {"keys_file": keys_file(tmp_path, tags=["eu"])}}

    async def main() -> None:
        async with client(args) as (http, _):
            key = {"authorization": "Bearer k"}
            for headers, found in (({}, "eu"), ({"x-breakwater-scope": "no-train"}, "both")):
                answer = await http.post("/v1/chat/completions", json=CHAT, headers={**key, **headers})
                assert answer.headers["x-breakwater-provider"] == found
            plain = await http.post("/v1/chat/completions", json={**CHAT, "model": "plain"}, headers=key)
            assert (plain.status_code, plain.json()["error"]["code"]) == (403, "out_of_scope")

    run_virtually(main())


def test_a_tenant_and_a_key_of_the_environment_keep_to_the_scopes_of_the_configuration() -> None:
    async def test(w: World) -> None:
        assert await ask(w, None, Caller("http", "acme")) == "eu/m"
        assert await ask(w, None, Caller("handle", "acme", scope="no-train")) == "both/m"
        assert await ask(w, None, Caller("http", None, key_name="alice")) == "us/m"
        assert await ask(w, None, Caller("http", "acme", key_name="alice")) == "both/m"
        assert await ask(w, None, Caller("http", "bolt")) == "us/m"

    in_world(test, scopes={"tenants": {"acme": ["eu"]}, "keys": {"alice": ["no-train"]}})


def test_a_key_with_tags_is_made_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_key(["--name", "alice", "--tags", "eu, no-train"]) == 0
    assert json.loads(capsys.readouterr().out)["tags"] == ["eu", "no-train"]
    assert make_key(["--name", "alice", "--tags", "E U"]) == 1


def test_a_tag_in_the_keys_file_that_is_none_is_refused_by_its_line(tmp_path: pathlib.Path) -> None:
    args = {**ARGS, "auth": {"keys_file": keys_file(tmp_path, tags=["E U"])}}

    async def main() -> None:
        async with world(args):
            pass

    with pytest.raises(ConfigError, match=r"line 1: tags: each is no tag, which has small letters"):
        run_virtually(main())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scopes": {"tenants": {"acme": ["eur"]}}}, "scopes.tenants.acme: no provider or target has the tag eur"),
        ({"scopes": {"keys": {"alice": ["mars"]}}}, "scopes.keys.alice: no provider or target has the tag mars"),
        ({"models": {"r": {"us": {"model": "m", "tags": ["E U"]}}}}, "models.r.us.tags.0: is no tag, which has"),
    ],
)
def test_a_tag_that_nobody_has_or_that_is_none_is_refused_by_the_check(changes: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse({**ARGS, **changes})
    assert str(refused.value).startswith(sentence)


def test_a_request_without_a_scope_does_no_work_for_it() -> None:
    async def test(w: World) -> None:
        rows, looked = w.service.failover.rows, []
        rows._rows_of = lambda *a: looked.append(a) or {}  # type: ignore[method-assign, func-returns-value]
        await ask(w, None)
        assert looked == []

    in_world(test)
