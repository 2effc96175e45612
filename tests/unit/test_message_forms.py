"""Messages go to each server of OpenAI's API without what another server had put into them."""

from typing import Any

import pytest

from deployments.errors import BadRequest
from deployments.openai_api.chat import check_request
from deployments.routing.message_forms import with_result_ids, without_foreign
from deployments.routing.model_rows import ModelRows
from deployments.routing.request_fit import RequestFit

HI = {"role": "user", "content": "Hi"}
ECHO: dict[str, Any] = {
    "thinking_blocks": [{"type": "thinking"}],
    "provider_specific_fields": {"a": 1},
    "finish_reason": "stop",
    "annotations": [{"type": "url_citation"}],
}


def request(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "row", "messages": [HI, *messages]}


def called(*keys: str) -> dict[str, Any]:
    calls = [{"id": key, "type": "function", "function": {"name": "f", "arguments": "{}"}} for key in keys]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def fit(body: dict[str, Any], drop: Any = None) -> RequestFit:
    rows = ModelRows({"row": ["other/llama"]}, {"other": "openai"})
    asked = check_request(body)
    asked = type(asked)(asked.body, drop)
    return next(iter(rows.fits(asked)))[1]


def test_a_call_in_a_message_without_a_content_is_read_too() -> None:
    said = called("a")
    del said["content"]
    foreign = {**said, "tool_calls": [{**said["tool_calls"][0], "caller": "x"}]}
    found = fit(request(foreign, {"role": "tool", "tool_call_id": "a", "content": "1"}))
    assert (found.body["messages"][1], found.dropped) == (said, ("messages.1.tool_calls.0.caller",))


def test_what_another_server_put_into_its_answer_is_left_out_and_named() -> None:
    found = fit(request({"role": "assistant", "content": "4", **ECHO}, HI))
    assert found.body["messages"][1] == {"role": "assistant", "content": "4"}
    assert found.dropped == tuple(f"messages.1.{name}" for name in ECHO)
    assert fit(request({"role": "assistant", "content": "4", **ECHO}, HI), "none").missing == found.dropped


def test_it_is_left_out_of_calls_too() -> None:
    said = called("a")
    said["tool_calls"][0]["provider_specific_fields"] = {"signature": "x"}
    found = fit(request(said, {"role": "tool", "tool_call_id": "a", "content": "1"}))
    assert found.body["messages"][1] == called("a")
    assert found.dropped == ("messages.1.tool_calls.0.provider_specific_fields",)


def test_what_says_nothing_is_left_out_without_being_named() -> None:
    body, named = without_foreign(request({**HI, "finish_reason": None, "annotations": []}), "llama")
    assert (body["messages"], named) == ([HI, HI], ())


@pytest.mark.parametrize(
    ("model", "name", "goes"),
    [
        ("deepseek-chat", "prefix", True),
        ("mistral-large", "prefix", True),
        ("Qwen/Qwen3-32B", "partial", True),
        ("Qwen/Qwen3-32B", "prefix", False),
        ("gpt-5.4-mini", "prefix", False),
    ],
)
def test_an_own_field_goes_to_the_family_that_is_known_to_want_it(model: str, name: str, goes: bool) -> None:
    body, named = without_foreign(request({"role": "assistant", "content": "So", name: True}), model)
    assert (body["messages"][1].get(name), named) == ((True, ()) if goes else (None, (f"messages.1.{name}",)))


def test_a_request_in_openais_own_form_is_not_touched() -> None:
    body = request(called("a"), {"role": "tool", "tool_call_id": "a", "content": "1"}, {**HI, "name": "ann"})
    assert without_foreign(body, "llama")[0] is body
    assert with_result_ids(body) is body


def test_a_result_without_an_id_answers_the_first_call_that_waits() -> None:
    bare = {"role": "tool", "content": "1"}
    body = request(called("a", "b", "c"), bare, {**bare, "tool_call_id": "a"}, {**bare, "tool_call_id": None})
    ids = [message.get("tool_call_id") for message in with_result_ids(body)["messages"][2:]]
    assert ids == ["b", "a", "c"]
    assert fit(body).body["messages"][2]["tool_call_id"] == "b"


def test_a_result_without_an_id_finds_its_call_where_each_answer_counts_its_ids_from_0() -> None:
    bare = {"role": "tool", "content": "1"}
    named = {**bare, "tool_call_id": "0"}
    body = request(called("0"), named, called("0", "1"), bare, {**bare, "tool_call_id": "1"}, called("0"), bare)
    ids = [message.get("tool_call_id") for message in with_result_ids(body)["messages"] if message["role"] == "tool"]
    assert ids == ["0", "0", "1", "0"]
    body = request(called("0"), bare, called("0", "0"), named, bare)
    ids = [message.get("tool_call_id") for message in with_result_ids(body)["messages"] if message["role"] == "tool"]
    assert ids == ["0", "0", "0"]


@pytest.mark.parametrize("messages", [[], [called("a"), {"role": "tool", "tool_call_id": "a", "content": "1"}]])
def test_a_result_that_no_call_waits_for_is_refused_by_its_name(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(BadRequest, match="No call before it waits") as caught:
        fit(request(*messages, {"role": "tool", "content": "1"}))
    assert caught.value.param == f"messages.{len(messages) + 1}.tool_call_id"
