"""The OpenAPI description says what the HTTP API takes and answers: its routes, its errors, its answers."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from deployments import errors
from deployments.config.settings import Overrides
from deployments.errors import BadRequest, LimitReached, WrongRoute
from deployments.ingress.http import route_table
from deployments.ingress.openapi import read_description
from deployments.openai_api.chat import _Request
from deployments.openai_api.embeddings import _EmbeddingRequest, check_embedding_request
from deployments.service.auth import Access
from tests.clock import run_virtually
from tests.described import DOCUMENT, objection
from tests.unit.test_failover import SERVER_ERROR
from tests.unit.test_http_api import client
from tests.unit.world import ARGS, REQUEST

SCHEMAS = DOCUMENT["components"]["schemas"]
KEYS = {"key": Access.KEY, "adminKey": Access.ADMIN}
NEEDS: dict[Access, set[Access]] = {
    Access.ANYONE: set(),
    Access.KEY_OR_ADMIN: {Access.KEY, Access.ADMIN},
    Access.OPERATOR: {Access.ADMIN},
}


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_the_description_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(read_description()).validate()


def test_it_has_each_route_and_nothing_else_and_says_who_may_call_it() -> None:
    async def main() -> None:
        async with client() as (_, w):
            table = {(r.method, re.sub(r":path\}", "}", r.path)): r.access for r in route_table(w.service)}
        assert described() == set(table)
        for (method, path), access in table.items():
            security = DOCUMENT["paths"][path][method.lower()].get("security", DOCUMENT["security"])
            named = {KEYS[name] for need in security for name in need}
            wanted = NEEDS.get(access, {access})
            assert named == wanted, (method, path)

    run_virtually(main())


def statuses() -> set[str]:
    """Return the status of each error that a client may get."""
    fixed = {c.status for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.BreakwaterError)}
    assert {LimitReached, WrongRoute} <= {c for c in vars(errors).values() if isinstance(c, type)}
    return {str(status) for status in fixed | {402, 429, 503, 504}}  # those of LimitReached and of NoAnswer


def test_a_chat_may_end_with_the_status_of_each_error() -> None:
    told = set(DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"])
    assert told == {"200", "4XX", *statuses()}


@pytest.mark.parametrize(("name", "model"), [("ChatRequest", _Request), ("EmbeddingRequest", _EmbeddingRequest)])
def test_it_requires_what_we_check_and_takes_other_fields(name: str, model: Any) -> None:
    schema = SCHEMAS[name]
    assert set(model.model_fields) <= set(schema["properties"])
    either = {name for one in schema.get("anyOf", ()) for name in one["required"]}  # `model` is made of `models`
    assert set(schema["required"]) == {n for n, field in model.model_fields.items() if field.is_required()} - either
    assert schema["additionalProperties"] is True


BAD: list[dict[str, Any]] = [
    {"temperature": 2.1},
    {"top_p": -0.1},
    {"max_tokens": 0},
    {"n": 0},
    {"seed": "1"},
    {"stop": 1},
    {"model": ""},
    {"model": "m" * 513},
    {"messages": []},
    {"messages": [{"role": "robot"}]},
    {"seed": 2**64},
    {"max_tokens": 2**64},
    {"n": 2**64},
    {"stream": 1},
    {"stream_options": {"include_usage": "false"}},
    {"stream_options": {"include_usage": 1}},
]


@pytest.mark.parametrize("more", [{}, {"temperature": 2}, {"stop": ["a"]}, {"tomorrow": 1}, {"seed": None}, *BAD])
def test_what_we_refuse_the_description_refuses_and_the_other_way_round(more: dict[str, Any]) -> None:
    async def main() -> None:
        async with client() as (http, _):
            body = {**REQUEST, **more}
            status = (await http.post("/v1/chat/completions", json=body)).status_code
            assert (status == 200) is _is_valid("ChatRequest", body) is (more not in BAD)

    run_virtually(main())


TEXTS: list[Any] = ["a", ["a", "b"], [1, 0], [[1], [2, 3]]]
NO_TEXTS: list[Any] = [
    "",
    [],
    [""],
    ["a", ""],
    [-1],
    [[]],
    [[1], []],
    [[-1]],
    [2**64],
    [1, "a"],
    [1.5],
    [None],
    None,
    1,
    {},
]


@pytest.mark.parametrize("given", [*TEXTS, *NO_TEXTS], ids=str)
def test_what_can_not_be_embedded_is_a_400_and_described_as_such(given: Any) -> None:
    args = {**ARGS, "embeddings": {"vectors": {"dimensions": 2, "targets": {"openai": "embedding"}}}}

    async def main() -> None:
        async with client(args) as (http, w):
            w.provider("openai").ends = [SERVER_ERROR]  # it has no vectors, and is asked for all that can be embedded
            body = {"model": "vectors", "input": given}
            status = (await http.post("/v1/embeddings", json=body)).status_code
            assert status == (503 if given in TEXTS else 400)
            assert bool(w.provider("openai").calls) is _is_valid("EmbeddingRequest", body) is (given in TEXTS)

    run_virtually(main())


@pytest.mark.parametrize("more", [{"user": ["a"]}, {"dimensions": 0}, {"encoding_format": "hex"}], ids=str)
def test_fields_of_embeddings_that_are_refused_are_described_as_such(more: dict[str, Any]) -> None:
    body = {"model": "vectors", "input": "a", **more}
    with pytest.raises(BadRequest):
        check_embedding_request(body)
    assert not _is_valid("EmbeddingRequest", body)


CHANGES: list[dict[str, Any]] = [
    {},
    {"failure_threshold": 50},
    {"recovery_timeout": 0.5, "recovery_cap": None},
    {"window_calls": 35.0},
    {"recovery_timeout": "30s"},
]
NO_CHANGES: list[dict[str, Any]] = [
    {"tomorrow": None},
    {"failure_threshold": 0},
    {"failure_threshold": 51},
    {"window_ratio": 0},
    {"window_ratio": 1.1},
    {"window_calls": 1.5},
    {"window_calls": 1_000_001},
    {"slow_start": -1},
    {"slow_start": False},
    {"throttle_max": 3601},
]


@pytest.mark.parametrize("changes", [*CHANGES, *NO_CHANGES], ids=str)
def test_thresholds_that_are_refused_are_described_as_such(changes: dict[str, Any]) -> None:
    async def main() -> None:
        async with client({**ARGS, "auth": {"admin_key_env": "ADMIN"}}) as (http, _):
            answer = await http.patch("/v1/breaker", json=changes, headers={"authorization": "Bearer admin"})
            assert (answer.status_code == 200) is _is_valid("Thresholds", changes) is (changes in CHANGES)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADMIN", "admin")
        run_virtually(main())


def test_it_has_each_threshold() -> None:
    assert set(SCHEMAS["Thresholds"]["properties"]) == set(Overrides.model_fields)


def _is_valid(name: str, body: Any) -> bool:
    return Draft202012Validator({**SCHEMAS[name], "components": DOCUMENT["components"]}).is_valid(body)


def test_anyone_may_read_it() -> None:
    async def main() -> None:
        async with client() as (http, _):
            assert (await http.get("/openapi.json")).json() == DOCUMENT

    run_virtually(main())


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ((200, "application/json", b'{"object":"list"}'), True),
        ((302, "application/json", b"{}"), True),
        ((500, "text/plain", b"Internal Server Error"), True),
        ((500, "application/json", b'{"error":{"message":"x","type":"t","param":null,"code":null}}'), False),
        ((500, "application/json", b'{"error":{"message":"x"}}'), True),
    ],
)
def test_an_answer_that_breaks_it_is_noticed(answer: tuple[int, str, bytes], wrong: bool) -> None:
    assert (objection("POST", "/v1/chat/completions", *answer) is not None) is wrong
