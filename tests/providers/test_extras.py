"""What a configuration adds to requests: `extra_body`, `extra_headers` and `extra_query`, of providers and of rows."""

import asyncio
import json
import pathlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.genai import _common

from deployments.config.application import apply_user_config, parse
from deployments.config.check import check
from deployments.config.resolved import resolve
from deployments.errors import ConfigError
from deployments.openai_api.chat import check_request
from deployments.openai_api.embeddings import check_embedding_request
from deployments.providers.extras import Extras, merged
from tests.fakes.server import FakeServer, Received, status
from tests.providers.conftest import WIRES
from tests.providers.test_bedrock_requests import signature_at
from tests.providers.whole_app import MODELS, args_for, whole_app
from tests.unit.world import World

CLOUDS = ("openai", "openai_responses", "bedrock", "google", "anthropic")
# A field of each API that we have no word for, inside of an object that we write too where there is one.
BODIES: dict[str, dict[str, Any]] = {
    "openai": {"provider": {"data_collection": "deny", "order": ["a"]}, "top_k": 3},
    "openai_responses": {"reasoning": {"summary": "auto"}, "truncation": "auto"},
    "bedrock": {"additionalModelRequestFields": {"top_k": 3}, "performanceConfig": {"latency": "optimized"}},
    "google": {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 512}},
    },
    "anthropic": {"service_tier": "standard_only", "metadata": {"user_id": "u1"}},
}
HEADERS = {"X-Team": "blue", "User-Agent": "ours/1", "X-Gate-Token": {"env": "GATE_TOKEN"}}
QUERY = {"a b": "c&d", "n": 3}


@pytest.fixture(params=CLOUDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(kind: str) -> Iterator[FakeServer]:
    made = FakeServer(WIRES[kind](), ["Paris."])
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_TOKEN", "t0ken")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
    monkeypatch.setenv("GOOGLE_API_KEY", "fake")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "fake")


def args(kind: str, fake: FakeServer, **settings: Any) -> dict[str, Any]:
    made = args_for({kind: fake})
    made["providers"][kind] |= settings
    return made


def in_app(made: dict[str, Any], test: Callable[[World], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with whole_app(made) as w:
            return await test(w)

    return asyncio.run(main())


async def ask(w: World, model: str = "all", **body: Any) -> None:
    given = {"model": model, "messages": [{"role": "user", "content": "Where?"}], "temperature": 1, **body}
    request = check_request(given)
    if not given.get("stream"):
        await w.service.failover.complete(request, w.service.deadline())
        return
    answer = await w.service.failover.stream(request, w.service.deadline())
    assert b"[DONE]" in b"".join([frame async for frame in answer.frames()])
    await answer.close()


def holds(body: Any, more: Any) -> bool:
    """Return whether a body has all of this in it."""
    if isinstance(more, dict):
        return isinstance(body, dict) and all(name in body and holds(body[name], inner) for name, inner in more.items())
    return bool(body == more)


def query_of(received: Received) -> dict[str, list[str]]:
    return parse_qs(urlsplit(received.path).query)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_each_wire_gets_what_its_provider_adds_beside_what_it_got_before(
    kind: str, fake: FakeServer, stream: bool
) -> None:
    in_app(args(kind, fake), lambda w: ask(w, stream=stream))
    more = {"extra_body": BODIES[kind], "extra_headers": HEADERS, "extra_query": QUERY}
    in_app(args(kind, fake, **more), lambda w: ask(w, stream=stream))
    before, after = fake.received
    assert fake.objections == []
    assert after.body == merged(before.body, BODIES[kind])
    assert holds(after.body, BODIES[kind])
    told = {"x-team": "blue", "user-agent": "ours/1", "x-gate-token": "t0ken"}
    assert {name: after.headers.get(name) for name in told} == told
    kept = before.headers.keys() - {"user-agent", "content-length", "x-amz-date", "authorization", "host"}
    assert {name: after.headers[name] for name in kept} == {name: before.headers[name] for name in kept}
    assert query_of(after) == {**query_of(before), "a b": ["c&d"], "n": ["3"]}


def test_a_row_adds_its_own_over_its_providers_and_another_row_does_not(kind: str, fake: FakeServer) -> None:
    made = args(kind, fake, extra_headers={"X-Team": "blue", "X-Both": "1"}, extra_query={"q": "1"})
    target = {"model": MODELS[kind], "extra_body": BODIES[kind], "extra_headers": {"x-team": "red"}}
    made["models"] = {"all": {kind: MODELS[kind]}, "special": {kind: target}}
    made["aliases"] = {"other": "special"}

    async def test(w: World) -> None:
        for model in ("all", "special", "other", f"{kind}/{MODELS[kind]}"):
            await ask(w, model)

    in_app(made, test)
    plain, special, other, pinned = fake.received
    assert [r.headers["x-team"] for r in fake.received] == ["blue", "red", "red", "blue"]
    assert {r.headers["x-both"] for r in fake.received} == {"1"}
    assert all(query_of(r)["q"] == ["1"] for r in fake.received)
    assert holds(special.body, BODIES[kind])
    assert special.body == other.body
    assert plain.body == pinned.body != special.body


@pytest.mark.parametrize("kind", ["openai"], indirect=True)
def test_a_row_adds_its_own_at_each_place_of_its_provider(
    kind: str, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    places = [{"name": "a", "api_key_env": "KEY_A"}, {"name": "b", "api_key_env": "KEY_B"}]
    made = args(kind, fake, places=places, extra_headers={"X-Team": "blue"})
    made["models"] = {"special": {kind: {"model": MODELS[kind], "extra_body": BODIES[kind]}}}
    fake.script = [status(401)]
    in_app(made, lambda w: ask(w, "special"))
    assert [r.headers["authorization"] for r in fake.received] == ["Bearer a", "Bearer b"]
    assert all(r.headers["x-team"] == "blue" and holds(r.body, BODIES[kind]) for r in fake.received)


def test_of_several_models_in_a_request_the_first_row_that_has_a_target_says_what_is_added() -> None:
    fake = FakeServer(WIRES["openai"]())
    made = args("openai", fake)
    target = {"model": MODELS["openai"], "extra_body": {"top_k": 7}}
    made["models"] = {"plain": {"openai": MODELS["openai"]}, "special": {"openai": target}}

    async def test(w: World) -> None:
        for models in (["special", "plain"], ["plain", "special"]):
            await ask(w, models[0], models=models)

    in_app(made, test)
    fake.stop()
    assert ["top_k" in r.body for r in fake.received] == [True, False]


@pytest.mark.parametrize("kind", ["openai", "bedrock", "google"], indirect=True)
def test_embeddings_get_a_providers_headers_and_query_and_no_fields_of_a_chat(kind: str, fake: FakeServer) -> None:
    made = args(kind, fake, extra_body=BODIES[kind], extra_headers={"X-Team": "blue"}, extra_query={"q": "1"})
    models = {"openai": "text-embedding-3-small", "bedrock": "amazon.titan-embed-text-v2:0"}
    model = models.get(kind, "gemini-embedding-001")
    made["embeddings"] = {"vectors": {"dimensions": 512, "targets": {kind: model}}}

    async def test(w: World) -> None:
        request = check_embedding_request({"model": "vectors", "input": "Hi", "dimensions": 512})
        await w.service.embedder.complete(request, w.service.deadline(), None, "embed")

    in_app(made, test)
    (received,) = fake.received
    assert received.headers["x-team"] == "blue"
    assert query_of(received)["q"] == ["1"]
    assert not received.body.keys() & BODIES[kind].keys()


@pytest.mark.parametrize("kind", ["bedrock"], indirect=True)
def test_what_is_added_to_a_request_to_aws_is_signed(kind: str, fake: FakeServer) -> None:
    in_app(args(kind, fake, extra_headers={"X-Team": "blue"}, extra_query=QUERY), ask)
    (received,) = fake.received
    assert "x-team" in received.headers["authorization"]
    assert received.headers["authorization"].endswith(f"Signature={signature_at(fake, received)}")


@pytest.mark.parametrize("kind", ["openai"], indirect=True)
def test_a_request_with_headers_of_ones_own_follows_no_redirect(kind: str, fake: FakeServer) -> None:
    """One of them may be a key, and aiohttp would send it to any host."""
    from tests.fakes.server import Behaviour

    elsewhere = FakeServer(WIRES["openai"]())
    fake.behave = Behaviour("raw", status=307, headers={"location": f"{elsewhere.url}/v1/chat/completions"})
    in_app(args(kind, fake), ask)
    with pytest.raises(Exception, match="HTTP 307"):
        in_app(args(kind, fake, extra_headers={"X-Team": "blue"}), ask)
    elsewhere.stop()
    assert len(elsewhere.received) == 1


def test_bodies_are_merged_as_googles_sdk_merges_its_own() -> None:
    """The oracle: `HttpOptions.extra_body`, `recursive_dict_update`."""
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}}),
        ({"a": [1, 2]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": 2}}),
        ({"a": {"b": 1}}, {"a": None}),
        ({}, {"x": {"y": [{"z": 1}]}}),
    ]
    for body, more in cases:
        theirs = json.loads(json.dumps(body))
        _common.recursive_dict_update(theirs, more)
        before = json.dumps(body)
        assert merged(body, more) == theirs
        assert json.dumps(body) == before


def test_no_value_that_may_be_secret_is_in_a_repr() -> None:
    assert "s3cret" not in repr(Extras({}, {"x": "s3cret"}, {"y": "s3cret"}))


# The check of a configuration.


def config(kind: str, provider: dict[str, Any], target: dict[str, Any] | None = None) -> dict[str, Any]:
    settings = {"kind": kind, **provider}
    if kind == "bedrock":
        settings |= {"region": "us-east-1"}
    model = "smollm2-135m" if kind == "local" else "m"
    row = {"p": model if target is None else {"model": model, **target}}
    return {"providers": {"p": settings}, "models": {"r": row}}


@pytest.mark.parametrize(
    ("kind", "given", "sentence"),
    [
        *(
            ("openai", {"extra_headers": {name: "x"}}, f"extra_headers.{name}: is Breakwater's own")
            for name in (
                "Authorization",
                "host",
                "Content-Length",
                "X-API-Key",
                "api-key",
                "x-amz-date",
                "Content-Type",
            )
        ),
        *(
            ("openai", {"extra_body": {name: 1}}, f"extra_body.{name}: is Breakwater's own")
            for name in ("model", "messages", "stream", "tools", "n", "max_tokens")
        ),
        ("anthropic", {"extra_body": {"system": "x"}}, "extra_body.system: is Breakwater's own"),
        ("bedrock", {"extra_body": {"toolConfig": {}}}, "extra_body.toolConfig: is Breakwater's own"),
        ("bedrock", {"extra_body": {"inferenceConfig": {"maxTokens": 1}}}, "extra_body.inferenceConfig.maxTokens: is"),
        ("google", {"extra_body": {"contents": []}}, "extra_body.contents: is Breakwater's own"),
        (
            "google",
            {"extra_body": {"generationConfig": {"candidateCount": 2}}},
            "extra_body.generationConfig.candidateCount: is Breakwater's own",
        ),
        ("google", {"extra_query": {"key": "x"}}, "extra_query.key: is Breakwater's own"),
        ("openai", {"extra_query": {"X-Amz-Signature": "x"}}, "extra_query.X-Amz-Signature: is Breakwater's own"),
        ("openai", {"extra_headers": {"X-Token": "abc"}}, "extra_headers.X-Token: may be a secret by its name"),
        ("openai", {"extra_query": {"code_key": "abc"}}, "extra_query.code_key: may be a secret by its name"),
        ("openai", {"extra_headers": {"X-Y": "sk-abc"}}, "extra_headers.X-Y: looks like a key"),
        ("openai", {"extra_body": {"a": [{"b": "sk-abc"}]}}, "extra_body: has what looks like a key"),
        ("openai", {"extra_headers": {"X-Y": "a\nb"}}, "extra_headers.X-Y: has a blank or a line break"),
        ("openai", {"extra_headers": {"X-Y": "${Y}"}}, "extra_headers.X-Y: is not filled in from the environment"),
        ("openai", {"extra_headers": {"X Y": "1"}}, "extra_headers.X Y: is no name of a header"),
        ("openai", {"extra_headers": {"x-y": "1", "X-Y": "2"}}, "extra_headers.x-y: is there twice"),
        ("openai", {"extra_headers": {"X-Y": {"env": "sk-abcdef"}}}, "extra_headers.X-Y.env: looks like a key"),
        ("openai", {"extra_headers": {"X-Y": {"file": "F"}}}, "extra_headers.X-Y.file: unknown key (known: env)"),
        (
            "local",
            {"extra_body": {"a": 1}},
            "extra_body: a provider of kind local is sent no requests over the network",
        ),
        ("local", {"extra_headers": {"x": "1"}}, "extra_headers: a provider of kind local is sent no requests"),
    ],
)
def test_what_is_ours_or_secret_can_not_be_added(kind: str, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(config(kind, given))
    assert str(refused.value).startswith(f"providers.p.{sentence}")
    with pytest.raises(ConfigError) as refused:
        parse(config(kind, {}, given))
    assert str(refused.value).startswith(f"models.r.p.{sentence}")
    assert "sk-abc" not in str(refused.value)


@pytest.mark.parametrize("target", [{"extra_bodi": {}}, {"extra_body": 1}, {"model": "a b"}, {"model": "sk-abc123"}])
def test_a_target_that_is_wrong_is_told_by_its_key(target: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^models\.r\.p\.(extra_bod|model)"):
        parse(config("openai", {}, target))


def test_what_rows_add_outlives_a_change_of_thresholds() -> None:
    more = {"extra_body": {"a": {"b": 1}}, "extra_headers": {"X-Y": {"env": "GATE_TOKEN"}}}
    before = parse(config("openai", more, more))
    after = apply_user_config(before, {"breaker": {"failure_threshold": 9}})
    assert after.breaker.failure_threshold == 9
    assert after.models == before.models
    assert after.extras_of("p").of("r", "m") == before.extras_of("p").of("r", "m")
    assert before.extras_of("p").of(None, "m") == Extras({"a": {"b": 1}}, {"x-y": "t0ken"})


@pytest.mark.parametrize("value", ["", "  ", "two\nlines"])
@pytest.mark.parametrize("in_row", [False, True])
def test_a_provider_whose_variable_is_not_set_is_left_out(
    monkeypatch: pytest.MonkeyPatch, value: str, in_row: bool
) -> None:
    monkeypatch.setenv("GATE_TOKEN", value)
    more = {"extra_headers": {"X-Token": {"env": "GATE_TOKEN"}}}
    made = config("openai", {} if in_row else more, more if in_row else None)
    made["providers"]["local"] = {"kind": "local"}
    made["models"]["r"]["local"] = "smollm2-135m"
    (reason,) = [tier.left_out for tier in resolve(parse(made)).tiers if tier.name == "p"]
    where = "models.r.p" if in_row else "providers.p"
    assert reason is not None
    assert reason.startswith(f"{where}.extra_headers.X-Token: ")
    assert "GATE_TOKEN" in reason


def test_the_command_that_checks_a_file_takes_a_row_with_all_of_it(tmp_path: pathlib.Path) -> None:
    made = config("openai", {}, {"extra_body": {"a": {"b": 1}}, "extra_headers": {"X-Y": "1"}, "extra_query": {"q": 2}})
    application = {"name": "llm", "import_path": "deployments.app:build_app", "args": {**made, "auth": "none"}}
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({"applications": [application]}))
    assert "p (openai): ready" in check(str(path))
