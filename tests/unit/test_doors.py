"""The doors over HTTP and by handle: one path for all APIs, and each client reads its own words."""

import asyncio
import functools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from anthropic.types import ModelInfo

from actors.breaker.outcomes import Outcome
from deployments.doors.messages.door import MESSAGES
from deployments.doors.responses.door import RESPONSES
from deployments.ingress.by_handle import HttpRequest, call_by_handle
from deployments.ingress.http import build_api_by_handle, route_table
from deployments.python_api.doors import DoorApi, events_in
from deployments.service.arguments import CallOptions
from deployments.service.auth import Access
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_http_api import GUARDED, client
from tests.unit.world import ARGS, REQUEST, world

RESPOND: dict[str, Any] = {"model": "default", "input": "Hi"}
MESSAGE: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 99}
DOORS = [("/v1/responses", RESPOND), ("/v1/messages", MESSAGE)]
E500 = Outcome("server_error", status=500, message="no")
TOO_LONG = Outcome("too_long", status=400, message="This model's maximum context length is 2048 tokens.")
OPTIONS = CallOptions(caller=Caller("handle"))


def text_of(answer: Mapping[str, Any]) -> str:
    """Return the text of either API's whole answer."""
    parts = answer["output"][-1]["content"] if "output" in answer else answer["content"]
    return "".join(part.get("text", "") for part in parts)


@pytest.mark.parametrize(("path", "body"), DOORS)
def test_a_door_fails_over_and_says_who_answered(path: str, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends = [E500]
            response = await http.post(path, json=body)
            assert response.status_code == 200
            assert text_of(response.json()) == "openai says hello"
            headers = response.headers
            assert (headers["x-breakwater-provider"], headers["x-breakwater-attempts"]) == ("openai", "2")
            assert headers["request-id"] == headers["x-breakwater-request-id"]
            told = await w.service.queries.request(headers["x-breakwater-request-id"])
            assert (told["door"], told["row"], told["outcome"]) == (path.removeprefix("/v1/"), "default", "ok")

    run_virtually(main())


ENDS = {"/v1/responses": "response.completed", "/v1/messages": "message_stop"}
BREAKS = {"/v1/responses": "response.failed", "/v1/messages": "error"}


@pytest.mark.parametrize(("path", "body"), DOORS)
def test_a_stream_ends_in_the_doors_own_way(path: str, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with client() as (http, _):
            response = await http.post(path, json={**body, "stream": True})
            assert response.headers["content-type"].startswith("text/event-stream")
            events = events_in(response.content)
            assert events[-1]["type"] == ENDS[path]
            assert b"event: " in response.content

    run_virtually(main())


@pytest.mark.parametrize(("path", "body"), DOORS)
def test_a_stream_that_breaks_off_is_never_whole(path: str, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with client() as (http, w):
            for name in ("aws", "openai", "local"):
                w.provider(name).ends, w.provider(name).after = [Outcome("broken", content=True)], 1
            response = await http.post(path, json={**body, "stream": True})
            assert response.status_code == 200
            assert [event["type"] for event in events_in(response.content)][-1] == BREAKS[path]
            assert ENDS[path].encode() not in response.content

    run_virtually(main())


@pytest.mark.parametrize(("path", "body"), DOORS)
@pytest.mark.parametrize("stream", [False, True])
def test_when_all_are_down_each_client_reads_its_own_error(path: str, body: dict[str, Any], stream: bool) -> None:
    async def main() -> None:
        async with client() as (http, w):
            for name in ("aws", "openai", "local"):
                w.provider(name).ends = [E500]
            response = await http.post(path, json={**body, "stream": stream})
            assert response.status_code == 503
            error = response.json()
            assert "retry-after" in response.headers
            assert error["error"]["type"] == ("api_error" if path == "/v1/messages" else "server_error")
            assert ("type" in error) is (path == "/v1/messages")

    run_virtually(main())


def test_a_key_that_is_wrong_is_told_in_anthropics_words_where_its_clients_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")

    async def main() -> None:
        async with client(GUARDED) as (http, _):
            for path, headers in (("/v1/messages", {}), ("/v1/models", {"anthropic-version": "2023-06-01"})):
                method = "POST" if path == "/v1/messages" else "GET"
                response = await http.request(method, path, json=MESSAGE, headers={**headers, "x-api-key": "wrong"})
                assert response.status_code == 401
                assert (response.json()["type"], response.json()["error"]["type"]) == ("error", "authentication_error")

    run_virtually(main())


def test_a_query_does_no_harm_and_a_route_that_is_not_there_is_told_in_anthropics_words() -> None:
    async def main() -> None:
        async with client() as (http, _):
            assert (await http.post("/v1/messages?beta=true", json=MESSAGE)).status_code == 200
            assert (await http.post("/v1/messages/count_tokens?beta=true", json=MESSAGE)).status_code == 200
            missing = await http.get("/v1/messages/batches")
            assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")

    run_virtually(main())


def test_models_have_the_shape_that_the_client_asks_for() -> None:
    async def main() -> None:
        async with client() as (http, _):
            listed = (await http.get("/v1/models", headers={"anthropic-version": "2026-10-21"})).json()
            assert [(model["type"], model["id"]) for model in listed["data"]] == [
                ("model", "default"),
                ("model", "solo"),
            ]
            assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("default", "solo", False)
            one = (await http.get("/v1/models/solo", headers={"anthropic-version": "2023-06-01"})).json()
            assert (one["type"], one["display_name"]) == ("model", "solo")
            for model in (*listed["data"], one):
                ModelInfo.model_validate(model)  # Anthropic's client when it is strict

    run_virtually(main())


def test_tokens_are_counted_as_limits_count_them_and_without_an_answers_limit() -> None:
    async def main() -> None:
        async with client() as (http, w):
            counted = {k: v for k, v in MESSAGE.items() if k != "max_tokens"}
            messages = await http.post("/v1/messages/count_tokens", json=counted)
            responses = await http.post("/v1/responses/input_tokens", json=RESPOND)
            assert messages.json() == {"input_tokens": responses.json()["input_tokens"]}
            assert responses.json()["object"] == "response.input_tokens"
            assert messages.headers["x-breakwater-estimated"] == "true"
            longer = [*MESSAGE["messages"], {"role": "user", "content": "more " * 100}]
            more = await http.post("/v1/messages/count_tokens", json={**counted, "messages": longer})
            assert more.json()["input_tokens"] > messages.json()["input_tokens"] + 50
            assert [script.calls for script in w.hop.providers.values()] == [0, 0, 0]

    run_virtually(main())


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/responses", {**RESPOND, "truncation": "auto"}, "truncation"),
        ("/v1/messages", {**MESSAGE, "metadata": {"user_id": "x"}}, "metadata.user_id"),
    ],
)
def test_what_a_door_leaves_out_is_named_or_refused_as_its_client_wishes(
    path: str, body: dict[str, Any], field: str
) -> None:
    async def main() -> None:
        async with client() as (http, w):
            answered = await http.post(path, json=body)
            assert answered.headers["x-breakwater-dropped"] == field
            refused = await http.post(path, json=body, headers={"x-breakwater-drop-unsupported": "none"})
            assert refused.status_code == 400
            assert f"'{field}'" in refused.json()["error"]["message"]
            assert w.provider("aws").calls == 1

    run_virtually(main())


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (
            "/v1/responses",
            {**RESPOND, "truncation": "auto", "text": {"verbosity": "low"}},
            ["truncation", "text.verbosity"],
        ),
        ("/v1/messages", {**MESSAGE, "metadata": {"user_id": "x"}, "service_tier": "auto"}, ["metadata.user_id"]),
    ],
)
def test_an_explained_answer_names_what_was_left_out_as_its_header_does(
    path: str, body: dict[str, Any], fields: list[str]
) -> None:
    async def main() -> None:
        async with client() as (http, _):
            answered = await http.post(path, json=body, headers={"x-breakwater-explain": "true"})
            assert answered.json()["breakwater"]["dropped"] == fields
            assert answered.headers["x-breakwater-dropped"] == ", ".join(fields)

    run_virtually(main())


@pytest.mark.parametrize("explain", ["true", "false"])
def test_a_response_that_failed_in_mid_stream_tells_its_attempts(explain: str) -> None:
    async def main() -> None:
        async with client() as (http, w):
            w.provider("aws").ends, w.provider("aws").after = [Outcome("broken", content=True)], 1
            headers = {"x-breakwater-explain": explain}
            response = await http.post("/v1/responses", json={**RESPOND, "stream": True}, headers=headers)
            told = events_in(response.content)[-1]["response"]["breakwater"]
            assert [attempt["outcome"] for attempt in told["attempts"]] == ["broken"]
            assert ("explained" in told) is (explain == "true")

    run_virtually(main())


def test_a_stream_of_messages_begins_with_an_estimate_of_its_prompt() -> None:
    async def main() -> None:
        async with client() as (http, _):
            counted = await http.post("/v1/messages/count_tokens", json=MESSAGE)
            response = await http.post("/v1/messages", json={**MESSAGE, "stream": True})
            start = events_in(response.content)[0]
            assert start["message"]["usage"]["input_tokens"] == counted.json()["input_tokens"] > 0

    run_virtually(main())


def test_responses_are_not_stored_and_that_is_said() -> None:
    async def main() -> None:
        async with client() as (http, _):
            for method, path in (
                ("GET", "resp_1"),
                ("DELETE", "resp_1"),
                ("POST", "resp_1/cancel"),
                ("POST", "compact"),
            ):
                response = await http.request(method, f"/v1/responses/{path}")
                assert response.status_code == 404
                assert "not stored" in response.json()["error"]["message"]

    run_virtually(main())


def test_a_prompt_that_is_too_long_is_told_in_the_words_by_which_clients_compact() -> None:
    async def main() -> None:
        async with client() as (http, w):
            for name in ("aws", "openai", "local"):
                w.provider(name).ends = [TOO_LONG]
            message = await http.post("/v1/messages", json=MESSAGE)
            assert message.status_code == 400
            assert message.json()["error"]["message"].startswith("prompt is too long: ")
            respond = await http.post("/v1/responses", json=RESPOND)
            assert (respond.status_code, respond.json()["error"]["code"]) == (400, "context_length_exceeded")

    run_virtually(main())


@pytest.mark.parametrize(("door", "body"), [(RESPONSES, RESPOND), (MESSAGES, MESSAGE)])
def test_by_handle_an_answer_and_its_events_are_dicts(door: Any, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with world() as w:
            api = DoorApi(w.service, door)
            answer = await api.ask(body, OPTIONS)
            assert text_of(answer) == "aws says hello"
            assert answer["breakwater"]["provider"] == "aws"
            events = [event async for event in api.stream(body, OPTIONS)]
            assert events[0]["breakwater"]["provider"] == "aws"
            assert events[-1]["type"] == ENDS[f"/v1/{door.name}"]
            wrong = await api.ask({**body, "model": "none"}, OPTIONS)
            assert (wrong["status"], wrong["error"]["code"]) == (404, "model_not_found")
            assert [event async for event in api.stream({**body, "model": 7}, OPTIONS)][-1]["status"] == 400

    run_virtually(main())


def request_of(path: str, body: Mapping[str, Any], **headers: str) -> HttpRequest:
    given = [("content-type", "application/json"), *headers.items()]
    return {"method": "POST", "url": path, "headers": given, "body": json.dumps(body).encode()}


CHAT = ("/v1/chat/completions", REQUEST)


@pytest.mark.parametrize(("path", "body"), [CHAT, *DOORS])
@pytest.mark.parametrize("stream", [False, True])
def test_the_http_api_by_handle_answers_as_over_a_port(path: str, body: dict[str, Any], stream: bool) -> None:
    async def main() -> None:
        async with world() as w:
            call = call_by_handle(build_api_by_handle(w.service), request_of(path, {**body, "stream": stream}))
            head, *parts = [item async for item in call]
            assert isinstance(head, dict)
            assert head["status"] == 200
            headers = dict(head["headers"])
            told = await w.service.queries.request(headers["x-breakwater-request-id"])
            assert (told["door"], told["outcome"]) == ("handle", "ok")
            content = head["body"] + b"".join(part for part in parts if isinstance(part, bytes))
            assert (b"data: " in content) is stream
            assert b"hello" in content or b"Hel" in content

    run_virtually(main())


def test_by_handle_no_key_is_asked_for_and_all_routes_answer_but_those_of_operators_and_browsers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEYS", "alpha")
    monkeypatch.setenv("ADMIN", "root")
    missing = {("GET", "/"), ("GET", "/v1/events")}
    names = {"{name:path}": "default", "{name}": "aws", "{verb}": "reset"}
    bodies = {"/v1/embeddings": {"model": "none", "input": "Hi"}, "/v1/chat/completions": REQUEST, **dict(DOORS)}

    async def main() -> None:
        async with world(GUARDED) as w:
            app = build_api_by_handle(w.service)
            for route in route_table(w.service):
                path = functools.reduce(lambda path, name: path.replace(name, names[name]), names, route.path)
                body = bodies.get(path.removesuffix("/count_tokens").removesuffix("/input_tokens"), {})
                request: HttpRequest = {**request_of(path, body), "method": route.method}
                [head, *_] = [item async for item in call_by_handle(app, request)]
                assert isinstance(head, dict)
                here = route.access not in (Access.ADMIN, Access.OPERATOR) and (route.method, route.path) not in missing
                assert (b"No such route" not in head["body"]) is here, path
                assert head["status"] not in (401, 403, 500), (path, head)

    run_virtually(main())


def test_the_models_by_handle_are_those_by_http_in_either_form() -> None:
    async def main() -> None:
        async with client() as (http, w):
            app = build_api_by_handle(w.service)
            for path in ("/v1/models", "/v1/models/solo"):
                for headers in ({}, {"anthropic-version": "2026-10-21"}):
                    request: HttpRequest = {**request_of(path, {}, **headers), "method": "GET", "body": b""}
                    [head] = [item async for item in call_by_handle(app, request)]
                    assert isinstance(head, dict)
                    assert json.loads(head["body"]) == (await http.get(path, headers=headers)).json()

    run_virtually(main())


def test_a_reader_who_leaves_ends_the_call_by_handle() -> None:
    async def main() -> None:
        async with world({**ARGS}) as w:
            w.provider("aws").pace = 5.0
            call = call_by_handle(build_api_by_handle(w.service), request_of(*CHAT[:1], {**REQUEST, "stream": True}))
            await anext(call)
            await call.aclose()
            await asyncio.sleep(0.1)
            assert w.provider("aws").cancelled == 1

    run_virtually(main())
