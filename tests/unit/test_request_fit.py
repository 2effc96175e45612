"""What becomes of a request that not every provider can take, from the config to the headers."""

from typing import Any

import httpx2
import pytest

from deployments.errors import BadRequest
from deployments.ingress.http import build_http_api
from deployments.openai_api.embeddings import check_embedding_request
from deployments.routing.request_fit import dropped_header, fit_request, unsupported_in_chat, unsupported_in_embedding
from tests.clock import run_virtually
from tests.unit.world import ARGS, REQUEST, Script, World, world

EMBEDDINGS = {
    **ARGS,
    "embeddings": {"vectors": {"dimensions": 512, "targets": {"aws": "amazon.titan-embed-text-v2:0", "openai": "x"}}},
}


def test_hints_are_left_out_and_named() -> None:
    fit = fit_request(unsupported_in_chat, "bedrock", {**REQUEST, "seed": 1, "user": "u"}, "hints")
    assert (fit.missing, fit.dropped) == ((), ("seed", "user"))


def test_with_none_a_hint_is_as_good_as_a_demand() -> None:
    fit = fit_request(unsupported_in_chat, "bedrock", {**REQUEST, "seed": 1}, "none")
    assert (fit.missing, fit.dropped) == (("seed",), ())


def test_with_all_whatever_is_no_part_of_a_message_is_left_out() -> None:
    body = {**REQUEST, "n": 3, "seed": 1, "parameter_of_tomorrow": 1}
    fit = fit_request(unsupported_in_chat, "bedrock", body, "all")
    assert (fit.missing, fit.dropped) == ((), ("n", "parameter_of_tomorrow", "seed"))
    assert fit.body == {**REQUEST, "seed": 1}, "the codec leaves out hints by itself"


def test_tools_go_with_what_speaks_of_them() -> None:
    custom = [{"type": "custom", "custom": {"name": "sh"}}]
    fit = fit_request(unsupported_in_chat, "bedrock", {**REQUEST, "tools": custom, "tool_choice": "required"}, "all")
    assert fit.body == REQUEST
    assert set(fit.dropped) == {"tools", "tool_choice"}


def test_a_message_is_never_left_out() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}
    assert fit_request(unsupported_in_chat, "local", body, "all").missing == ("messages.0.content",)


def test_an_image_by_url_is_as_good_as_one_that_is_there() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    assert fit_request(unsupported_in_chat, "bedrock", body, "none").missing == ()
    assert fit_request(unsupported_in_chat, "local", body, "none").missing == ("messages.0.content",)


def test_openai_gets_everything_as_it_is() -> None:
    body = {**REQUEST, "parameter_of_tomorrow": 1}
    assert fit_request(unsupported_in_chat, "openai", body, "none").body is body


def test_tokens_are_no_text_for_another_model() -> None:
    assert unsupported_in_embedding("openai", {"model": "m", "input": [1, 2]}).missing == ()
    assert unsupported_in_embedding("google", {"model": "m", "input": [1, 2]}).missing == ("input",)
    assert unsupported_in_embedding("google", {"model": "m", "input": "x", "user": "u"}).dropped == ("user",)


def test_what_is_to_be_embedded_is_never_left_out() -> None:
    tokens = {"model": "m", "input": [6234], "tomorrow": 1}
    fit = fit_request(unsupported_in_embedding, "google", tokens, "all")
    assert (fit.missing, fit.dropped, fit.body["input"]) == (("input",), ("tomorrow",), [6234])


def test_names_that_a_client_made_up_fit_into_a_header() -> None:
    assert dropped_header(("seed", "x\r\nset-cookie: a", "ä" * 900)) == "seed, ?, ?"
    assert dropped_header(("ä", "ė", "ж", "a.0._-Z")) == "?, ?, ?, a.0._-Z"
    assert dropped_header(tuple(f"f{n}" for n in range(100))).endswith("f15, and 84 more")


async def post(w: World, path: str = "chat/completions", headers: Any = None, **body: Any) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=build_http_api(w.service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        start = REQUEST if path == "chat/completions" else {}
        return await client.post(f"/v1/{path}", json={**start, **body}, headers=headers)


def through(test: Any, args: Any = ARGS, **scripts: Script) -> None:
    async def main() -> None:
        async with world(args, **scripts) as w:
            await test(w)

    run_virtually(main())


def test_who_can_not_do_it_is_not_asked_and_the_answer_says_what_was_left_out() -> None:
    async def test(w: World) -> None:
        response = await post(w, seed=1)
        assert response.headers["x-breakwater-provider"] == "aws"
        assert response.headers["x-breakwater-dropped"] == "seed"
        response = await post(w, n=2)
        assert response.headers["x-breakwater-provider"] == "openai"
        assert "x-breakwater-dropped" not in response.headers
        assert response.headers["x-breakwater-attempts"] == "1"

    through(test)


def test_a_header_moves_the_line() -> None:
    async def test(w: World) -> None:
        strict = await post(w, headers={"x-breakwater-drop-unsupported": "none"}, seed=1)
        assert strict.headers["x-breakwater-provider"] == "openai"
        lax = await post(w, headers={"x-breakwater-drop-unsupported": "all"}, n=2)
        assert lax.headers["x-breakwater-provider"] == "aws"
        assert lax.headers["x-breakwater-dropped"] == "n"
        wrong = await post(w, headers={"x-breakwater-drop-unsupported": "some"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-breakwater-drop-unsupported")

    through(test)


def test_the_config_moves_it_too() -> None:
    async def test(w: World) -> None:
        assert (await post(w, seed=1)).headers["x-breakwater-provider"] == "openai"

    through(test, {**ARGS, "drop_unsupported": "none"})


def test_if_nobody_can_the_client_is_told_what() -> None:
    async def test(w: World) -> None:
        response = await post(w, model="aws/haiku", n=2)
        error = response.json()["error"]
        assert (response.status_code, error["param"], error["code"]) == (400, "n", "unsupported_parameter")
        assert [a["outcome"] for a in error["attempts"]] == ["skipped: unsupported n"]
        assert response.headers["x-breakwater-attempts"] == "0"

    through(test)


def test_if_the_only_one_who_can_is_out_it_is_no_fault_of_the_client() -> None:
    async def test(w: World) -> None:
        await w.service.operations.command("isolate", "openai")
        await w.settle()
        response = await post(w, n=2)
        assert response.status_code == 503
        outcomes = {a["provider"]: a["outcome"] for a in response.json()["error"]["attempts"]}
        assert outcomes == {
            "aws": "skipped: unsupported n",
            "openai": "skipped: isolated",
            "local": "skipped: unsupported n",
        }

    through(test)


def test_embeddings_have_rows_of_their_own() -> None:
    async def test(w: World) -> None:
        response = await post(w, "embeddings", model="vectors", input="Hi")
        assert response.status_code == 200
        assert response.headers["x-breakwater-model"] == "amazon.titan-embed-text-v2:0"
        assert w.hop.last == {"verb": "embed", "dimensions": 512}
        assert "vectors" in w.service.models()

    through(test, EMBEDDINGS)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "default", "input": "Hi"}, 404, "model"),
        ({"model": "vectors"}, 400, "input"),
        ({"model": "vectors", "input": []}, 400, "input"),
        ({"model": "vectors", "input": ["a", ""]}, 400, "input"),
        ({"model": "vectors", "input": [[1], "a"]}, 400, "input"),
        ({"model": "vectors", "input": ["a"] * 2049}, 400, "input"),
        ({"model": "vectors", "input": "a", "dimensions": 100}, 400, "dimensions"),
        ({"model": "vectors", "input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"model": "aws/amazon.titan-embed-text-v1", "input": "a"}, 404, "model"),
    ],
)
def test_a_bad_request_for_embeddings_names_its_field(body: dict[str, Any], status: int, param: str) -> None:
    async def test(w: World) -> None:
        response = await post(w, "embeddings", **body)
        assert (response.status_code, response.json()["error"]["param"]) == (status, param)

    through(test, EMBEDDINGS)


@pytest.mark.parametrize("given", ["", [""], ["x", ""], [[]], [1, "x"], [[1], 2]])
def test_an_input_of_embeddings_that_says_nothing_is_the_requests_fault(given: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        check_embedding_request({"model": "m", "input": given})
    assert (caught.value.param, caught.value.code) == ("input", "invalid_value")


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic"])
@pytest.mark.parametrize("field", ["tool_calls", "refusal"])
def test_what_only_an_answer_may_have_makes_no_turn_of_a_users_message(kind: str, field: str) -> None:
    messages = [{"role": "user", field: [{"id": "a", "type": "function", "function": {"name": "f"}}]}]
    assert "messages" in unsupported_in_chat(kind, {"model": "row", "messages": messages}).missing
