"""Whole answers of the Messages API: Anthropic's own types take each of them. Numbers: of bugs that others had."""

from dataclasses import replace
from typing import Any

import pytest

from deployments.doors.door import Served
from deployments.openai_api.chat import usage_of
from tests.doors.anthropic_types import MESSAGE, SERVED, completion, opened, said, streamed, whole


def call(key: Any = "call_1", arguments: Any = '{"at":"x"}', **more: Any) -> dict[str, Any]:
    return {"id": key, "type": "function", "function": {"name": "look", "arguments": arguments}, **more}


def inputs(*calls: Any) -> list[Any]:
    return [block["input"] for block in whole({"tool_calls": list(calls)}, "tool_calls")["content"]]


def test_a_text_is_a_text_block_with_all_that_strict_clients_want() -> None:
    made = whole({"content": "Hello."})
    assert made["content"] == [{"type": "text", "text": "Hello.", "citations": None}]
    assert (made["id"], made["model"]) == ("msg_0123abcd", "row-a")
    assert {"stop_sequence", "stop_details", "container"} <= made.keys()
    assert made["stop_reason"] == "end_turn"


def test_usage_counts_what_a_cache_has_read_and_written_beside_the_input() -> None:  # 27, 33
    usage = whole({"content": "a"})["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (70, 30)
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (40, 10)
    assert usage["output_tokens_details"] == {"thinking_tokens": 5}
    plain = whole({"content": "a"}, usage=usage_of(7, 3))["usage"]
    assert (plain["input_tokens"], plain["cache_read_input_tokens"], plain["cache_creation_input_tokens"]) == (7, 0, 0)


def test_usage_tells_how_long_a_cache_keeps_what_it_has_written() -> None:
    lifetimes = {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}
    kept = usage_of(120, 30, written=10, lifetimes=lifetimes)
    assert whole({"content": "a"}, usage=kept)["usage"]["cache_creation"] == lifetimes
    assert streamed({"content": "a"}, usage=kept)[-2]["usage"]["cache_creation"] == lifetimes
    assert whole({"content": "a"}, usage=usage_of(120, 30, written=10))["usage"]["cache_creation"] is None
    kept["prompt_tokens_details"]["cache_creation_token_details"] = {"ephemeral_1h_input_tokens": "six"}
    assert set(whole({"content": "a"}, usage=kept)["usage"]["cache_creation"].values()) == {0}


def test_an_answer_without_an_account_has_the_estimate_of_its_prompt() -> None:
    served = replace(SERVED, estimate=17)
    assert opened().whole(completion({"content": "a"}, usage=None), served)["usage"]["input_tokens"] == 17


@pytest.mark.parametrize(
    ("finish", "calls", "reason"),
    [
        ("stop", [], "end_turn"),
        ("stop", [call()], "tool_use"),
        ("tool_calls", [call()], "tool_use"),
        ("length", [], "max_tokens"),
        ("length", [call()], "max_tokens"),
        ("content_filter", [], "refusal"),
        ("odd", [], "end_turn"),
        (None, [call()], "tool_use"),
        ({}, [], "end_turn"),
    ],
)
def test_why_an_answer_ended_is_told_in_anthropics_words(finish: Any, calls: Any, reason: str) -> None:
    assert whole({"content": "a", "tool_calls": calls}, finish)["stop_reason"] == reason


def test_a_refusal_is_read_as_one() -> None:
    made = whole({"content": None, "refusal": "I can't."})
    assert (made["stop_reason"], made["content"][0]["text"]) == ("refusal", "I can't.")
    assert made["stop_details"]["type"] == "refusal"


def test_thoughts_are_the_first_block_and_never_its_text() -> None:  # 17, 27
    made = whole({"content": "a", "reasoning_content": "Hm."})
    assert [block["type"] for block in made["content"]] == ["thinking", "text"]
    assert made["content"][0]["thinking"] == "Hm."
    assert said(made)["envelope"] == {"message": {}, "calls": {}}
    assert whole({"content": "a", "reasoning": "Hm."})["content"][0]["thinking"] == "Hm."
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "a"}]
    assert said(whole({"content": parts}))["thinking"] == "Hm."
    assert said(whole({"content": parts}))["text"] == "a"


def test_thoughts_that_a_client_does_not_want_to_read_are_sealed_alone() -> None:
    hidden = {"type": "adaptive", "display": "omitted"}
    extra = {"bedrock": {"reasoning": [{"text": "Hm.", "signature": "s"}]}}
    made = whole({"content": "a", "reasoning_content": "Hm.", "extra_content": extra}, thinking=hidden)
    assert made["content"][0]["thinking"] == ""
    assert said(made)["envelope"]["message"] == extra


def test_what_a_provider_wants_back_is_in_one_signature() -> None:
    signed = {"google": {"thought_signature": "g"}}
    made = whole({"content": None, "extra_content": signed, "tool_calls": [call(extra_content=signed)]})
    assert [block["type"] for block in made["content"]] == ["thinking", "tool_use"]
    assert said(made)["envelope"] == {"message": signed, "calls": {"call_1": signed}}


def test_arguments_are_an_object_whatever_the_model_wrote() -> None:  # 4
    assert inputs(call()) == [{"at": "x"}]
    assert inputs(call("a", ""), call("b", None), call("c", "null"), call("d", " ")) == [{}, {}, {}, {}]
    assert inputs(call("a", '{"at":'), call("b", "[1]"), call("c", '{"a": NaN}')) == [
        {"arguments": '{"at":'},
        {"arguments": "[1]"},
        {"arguments": '{"a": NaN}'},
    ]
    assert inputs(call("a", {"at": 1}), call("b", "[" * 100_000)) == [{"at": 1}, {"arguments": "[" * 100_000}]


def test_each_call_has_an_id_of_its_own() -> None:  # 1
    blocks = whole({"tool_calls": [call("0"), call("0"), call(None), call("")]})["content"]
    ids = [block["id"] for block in blocks]
    assert ids[0] == "0"
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": [7]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": 7, "tool_calls": 7, "images": 7, "extra_content": []}}], "usage": []},
        {"choices": [{"message": {"content": [7, {"text": 7}], "tool_calls": [7, {"function": None}]}}], "usage": {}},
        {"choices": [{"message": {"tool_calls": [{"function": {"name": 7, "arguments": 7}}]}}], "usage": {"a": 1}},
        {"choices": [{"message": {"extra_content": {"k": "\ud800"}, "images": [7, {"image_url": 7}]}}]},
    ],
)
def test_an_odd_answer_is_still_an_answer(odd: dict[str, Any]) -> None:
    made = opened().whole(odd, SERVED)
    MESSAGE.validate_python(made, strict=True)


def test_an_image_that_has_no_place_is_named() -> None:
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    linked = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    text = whole({"content": "See:", "images": [data, linked]})["content"][0]["text"]
    assert "AAAA" not in text
    assert "can't carry" in text
    assert "![image](https://a.example/b.png)" in text


def test_an_explanation_is_a_field_beside_the_answer() -> None:
    made = opened().whole(completion({"content": "a"}), Served("1", 0, {"breakwater": {"provider": "aws"}}))
    assert made["breakwater"] == {"provider": "aws"}
