"""What newcomers send, and the one true sentence that each mistake gets. A real HTTP client over ASGI."""

import json
from typing import Any

import pytest

from deployments.ingress.http import CHAT
from tests.clock import run_virtually
from tests.unit import world as worlds
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import ARGS, REQUEST

KEY = "sk-proj-abcdef1234567890"
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TEXT = {"type": "text", "text": "What is this?"}


def asks(message: Any, **fields: Any) -> dict[str, Any]:
    return {**REQUEST, "messages": [message], **fields}


async def told(args: dict[str, Any], method: str, path: str, **sent: Any) -> tuple[int, str | None, str]:
    """Return status, param and message of an error; nobody has been asked."""
    async with client(args) as (http, w):
        answer = await http.request(method, path, **sent)
        assert all(script.calls == 0 for script in w.hop.providers.values())
        assert KEY not in answer.text
        error = answer.json()["error"]
        assert answer.headers["content-type"] == "application/json"
        return answer.status_code, error["param"], error["message"]


BODIES: list[tuple[dict[str, Any] | bytes, str | None, str]] = [
    (b"", None, "The request body is empty: send a JSON object."),
    (b" \n", None, "The request body is empty: send a JSON object."),
    (b"model=default&messages=Hi", None, "The request body is not valid JSON, but a form: send a JSON object."),
    (
        b"{'model': 'default'}",
        None,
        "The request body is not valid JSON: it has single quotes, and JSON has double ones.",
    ),
    (json.dumps(REQUEST).encode("utf-16"), None, "The request body is not valid JSON: it must be in UTF-8."),
    (b'{"model": "default",}', None, "The request body is not valid JSON: "),
    (b'[{"model": "default"}]', None, "The request body must be a JSON object, not a list."),
    (
        json.dumps(json.dumps(REQUEST)).encode(),
        None,
        "The request body must be a JSON object, not text that holds one: it",
    ),
    (b'"Hi"', None, "The request body must be a JSON object, not text."),
    ({"model": "default", "prompt": "Hi"}, "messages", "Missing required parameter: 'messages' ('prompt' was given)."),
    ({"model": "default", "mesages": []}, "messages", "Missing required parameter: 'messages' ('mesages' was given)."),
    ({"messages": []}, "model", "Missing required parameter: 'model'."),
    ({**REQUEST, "messages": "Hi"}, "messages", "Invalid 'messages': must be a list, not text, as [{"),
    ({**REQUEST, "messages": {"role": "user"}}, "messages", "Invalid 'messages': must be a list, not an object, as [{"),
    ({**REQUEST, "messages": ["Hi"]}, "messages.0", "Invalid 'messages.0': must be an object, not text."),
    ({**REQUEST, "stream": "true"}, "stream", "Invalid 'stream': must be true or false, not text."),
    ({**REQUEST, "max_tokens": 0}, "max_tokens", "Invalid 'max_tokens': must be at least 1."),
    ({**REQUEST, "max_tokens": -1}, "max_tokens", "Invalid 'max_tokens': must be at least 1."),
    ({**REQUEST, "max_tokens": "100"}, "max_tokens", "Invalid 'max_tokens': must be a whole number, not text."),
    ({**REQUEST, "max_tokens": 10.5}, "max_tokens", "Invalid 'max_tokens': must be a whole number, not a number."),
    ({**REQUEST, "temperature": "0.7"}, "temperature", "Invalid 'temperature': must be a number, not text."),
    ({**REQUEST, "temperature": 7}, "temperature", "Invalid 'temperature': must be at most 2."),
    ({**REQUEST, "model": ""}, "model", "Invalid 'model': is empty."),
    ({**REQUEST, "model": None}, "model", "Invalid 'model': must be text, not null."),
    ({**REQUEST, "stop": 5}, "stop", "Invalid 'stop': must be text or a list, not a number."),
    (asks({"role": "User", "content": "Hi"}), "messages.0.role", "Invalid 'messages.0.role': must be 'system', 'devel"),
    (
        asks({"role": "user", "content": 7}),
        "messages.0.content",
        "Invalid 'messages.0.content': must be text or a list",
    ),
    (
        asks({"role": "user", "content": [{"text": "Hi"}]}),
        "messages.0.content.0.type",
        "Missing required parameter: 'messages.0.content.0.type'.",
    ),
]


@pytest.mark.parametrize(("body", "param", "sentence"), BODIES, ids=[str(row[2])[:70] for row in BODIES])
def test_a_mistake_in_a_body_gets_one_true_sentence(
    body: dict[str, Any] | bytes, param: str | None, sentence: str
) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    status, found, message = run_virtually(told(ARGS, "POST", CHAT, **sent))
    assert (status, found) == (400, param)
    assert message.startswith(sentence)


def test_what_harms_nobody_is_taken() -> None:
    async def main() -> None:
        async with client() as (http, _):
            fine = [
                {**REQUEST, "max_tokens": None},
                {**REQUEST, "stream": None, "stop": None},
                {**REQUEST, "temperature": 1},
            ]
            for body in fine:
                assert (await http.post(CHAT, json=body)).status_code == 200
            marked = b"\xef\xbb\xbf" + json.dumps(REQUEST).encode()
            assert (await http.post(CHAT, content=marked)).status_code == 200
            for path in (f"{CHAT}/", "/v1//chat/completions"):
                assert (await http.post(path, json=REQUEST)).status_code == 200
            for header in ("true", "false", ""):
                headers = {"x-breakwater-explain": header}
                assert (await http.post(CHAT, json=REQUEST, headers=headers)).status_code == 200

    run_virtually(main())


ROUTES = [
    (
        "GET",
        "/metrics",
        "No such route: GET /metrics. Metrics are at a port of Ray's, not here: see docs/observability",
    ),
    ("GET", "/docs", "No such route: GET /docs. The API is described at /openapi.json."),
    ("GET", "/healthz", "No such route: GET /healthz. Ask /livez or /readyz."),
    (
        "POST",
        "/chat/completions",
        "No such route: POST /chat/completions. Did you mean /v1/chat/completions? A client's",
    ),
    (
        "POST",
        "/v1/v1/chat/completions",
        "No such route: POST /v1/v1/chat/completions. Did you mean /v1/chat/completions?",
    ),
    ("POST", "/v1/chat/completion", "No such route: POST /v1/chat/completion. Did you mean /v1/chat/completions?"),
    ("POST", "/v1/completions", "No such route: POST /v1/completions. Use POST /v1/chat/completions."),
    ("POST", "/responses", "No such route: POST /responses. Did you mean /v1/responses?"),
    ("POST", "/v1/v1/responses", "No such route: POST /v1/v1/responses. Did you mean /v1/responses?"),
    ("POST", "/api/chat", "No such route: POST /api/chat. Use POST /v1/chat/completions."),
    ("GET", "/models", "No such route: GET /models. Did you mean /v1/models? A client's base URL ends with /v1, once."),
    ("GET", "/api/tags", "No such route: GET /api/tags. Use GET /v1/models."),
    ("GET", "/nothing/of/ours", "No such route: GET /nothing/of/ours."),
    ("GET", "/v1/" + "x" * 5000, "No such route: GET /v1/" + "x" * 196 + "."),
]


@pytest.mark.parametrize(("method", "path", "sentence"), ROUTES, ids=[row[1][:40] for row in ROUTES])
def test_a_route_that_is_not_there_is_told_with_where_to_look(method: str, path: str, sentence: str) -> None:
    status, param, message = run_virtually(told(ARGS, method, path))
    assert (status, param) == (404, None)
    assert message.startswith(sentence)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", f"{CHAT}/", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/breaker", "GET, HEAD, PATCH"),
        ("GET", "/v1/embeddings", "POST"),
        ("POST", "/", "GET, HEAD"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_told_with_those_that_it_has(method: str, path: str, allow: str) -> None:
    async def main() -> None:
        async with client() as (http, _):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)
            error = answer.json()["error"]
            assert error["code"] == "method_not_allowed"
            short = path.rstrip("/") or "/"
            assert error["message"] == f"{short} has no {method}: use {allow.replace(', ', ' or ')}."

    run_virtually(main())


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("x-request-timeout-seconds", "abc", "must be a positive number of seconds, as 2.5, without a unit."),
        ("x-request-timeout-seconds", "10s", "must be a positive number of seconds, as 2.5, without a unit."),
        ("x-request-timeout-seconds", KEY, "must be a positive number of seconds, as 2.5, without a unit."),
        ("x-breakwater-drop-unsupported", "yes", "must be one of none, hints, all."),
        ("x-breakwater-explain", "yes", "must be true or false."),
        ("x-breakwater-hedge", "no", "must be true or false."),
    ],
)
def test_a_mistake_in_a_header_is_told_by_the_headers_name(name: str, value: str, sentence: str) -> None:
    status, param, message = run_virtually(told(ARGS, "POST", CHAT, json=REQUEST, headers={name: value}))
    assert (status, param, message) == (400, name, f"'{name}' {sentence}")


AUTHORIZATIONS = [
    ({}, "You didn't provide an API key: send 'Authorization: Bearer KEY' or 'x-api-key: KEY'."),
    ({"authorization": KEY}, "The header 'authorization' must be 'Bearer KEY', and the word Bearer is not there."),
    ({"authorization": f"Basic {KEY}"}, "The header 'authorization' must be 'Bearer KEY', and the word Bearer is not"),
    ({"authorization": "Bearer "}, "The header 'authorization' must be 'Bearer KEY', and the key is empty."),
    ({"authorization": f"Bearer Bearer {KEY}"}, "Incorrect API key provided: the word Bearer is there twice."),
    ({"authorization": f'Bearer "{KEY}"'}, "Incorrect API key provided: it is in quotes."),
    ({"authorization": "Bearer $OPENAI_API_KEY"}, "Incorrect API key provided: a variable was not filled in."),
    ({"authorization": f"Bearer {KEY}"}, "Incorrect API key provided."),
    ({"x-api-key": KEY}, "Incorrect API key provided."),
    ({"x-api-key": f"Bearer {KEY}"}, "Incorrect API key provided: the word Bearer is there twice."),
    ({"x-api-key": " "}, "You didn't provide an API key"),
    ({"api-key": KEY}, "The key must be in 'Authorization: Bearer KEY', not in 'api-key'."),
]


@pytest.mark.parametrize(("headers", "sentence"), AUTHORIZATIONS)
def test_a_key_in_a_wrong_form_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")
    status, _, message = run_virtually(told(GUARDED, "POST", CHAT, json=REQUEST, headers=headers))
    assert (status, message.startswith(sentence)) == (401, True), message


EMBED = "/v1/embeddings"
VECTORS = {**ARGS, "embeddings": {"vectors": {"dimensions": 512, "targets": {"openai": "text-embedding-3-small"}}}}


@pytest.mark.parametrize(
    ("args", "path", "body", "sentence"),
    [
        (
            ARGS,
            CHAT,
            {**REQUEST, "model": "defualt"},
            "does not exist. Known models: default, solo. Did you mean 'default'?",
        ),
        (ARGS, CHAT, {**REQUEST, "model": "gpt-17"}, "The model 'gpt-17' does not exist. Known models: default, solo."),
        (ARGS, EMBED, {"model": "default", "input": "Hi"}, "No embeddings are configured."),
        (VECTORS, EMBED, {"model": "default", "input": "Hi"}, "does not exist. Known models: vectors."),
    ],
)
def test_a_model_that_does_not_exist_is_told_with_those_that_do(
    args: dict[str, Any], path: str, body: dict[str, Any], sentence: str
) -> None:
    status, param, message = run_virtually(told(args, "POST", path, json=body))
    assert (status, param) == (404, "model")
    assert message.endswith(sentence)


def test_a_model_of_a_provider_that_is_left_out_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    layout_of, why = worlds.layout_of, "OPENAI_API_KEY is not set"
    monkeypatch.setattr(worlds, "layout_of", lambda args: layout_of(args, {"openai": why}))
    pinned = told(ARGS, "POST", CHAT, json={**REQUEST, "model": "openai/gpt-4.1"})
    assert run_virtually(pinned) == (404, "model", f"The provider 'openai' is left out: {why}.")
    in_a_row = told(ARGS, "POST", CHAT, json={**REQUEST, "model": "solo"})
    sentence = f"No provider of 'solo' can be called: openai is left out: {why}."
    assert run_virtually(in_a_row) == (503, None, sentence)
    for model in ("vectors", "openai/text-embedding-3-small"):
        status, _, message = run_virtually(told(VECTORS, "POST", EMBED, json={"model": model, "input": "Hi"}))
        assert status in (404, 503)
        assert message.endswith(f"is left out: {why}.")


@pytest.mark.parametrize(
    ("content", "thing"),
    [
        ([TEXT, PNG], "the image in 'messages.0.content'"),
        ([TEXT, {"type": "input_audio", "input_audio": {}}], "the audio in 'messages.0.content'"),
        ([TEXT, {"type": "hologram"}], "'messages.0.content'"),
    ],
)
def test_what_no_provider_of_a_row_can_take_is_named(content: Any, thing: str) -> None:
    args = {**ARGS, "models": {"default": {"local": "smol"}}}
    body = asks({"role": "user", "content": content})
    status, param, message = run_virtually(told(args, "POST", CHAT, json=body))
    assert (status, param) == (400, "messages.0.content")
    assert message == f"No provider of 'default' can take {thing}."


def test_a_threshold_that_does_not_exist_is_told_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")
    admin = {"authorization": "Bearer root"}
    for change, sentence in (
        ({"failure_treshold": 3}, "Invalid threshold failure_treshold: unknown key, did you mean failure_threshold?"),
        ({"nonsense": 3}, "Invalid threshold nonsense: unknown key (known: failure_threshold, recovery_timeout"),
        ({"recovery_timeout": "soon"}, "Invalid threshold recovery_timeout: must be seconds, as 10, 10s, 500ms or 2m"),
    ):
        status, param, message = run_virtually(told(GUARDED, "PATCH", "/v1/breaker", json=change, headers=admin))
        assert (status, param) == (400, next(iter(change)))
        assert message.startswith(sentence)
