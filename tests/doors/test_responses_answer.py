"""A chat completion's answer as a response object: whatever it holds, the SDK's types take it."""

import re
from typing import Any

import pytest

from deployments.doors.door import Served
from deployments.doors.envelope import Envelope, unseal
from deployments.errors import BadRequest, DeadlineExceeded, LimitReached
from deployments.openai_api.json_types import JsonDict
from tests.doors.responses import (
    DOOR,
    NOW,
    SERVED,
    check_response,
    completion,
    function,
    messages,
    opened,
    result,
    whole,
)


def tool_call(key: str | None = "call_1", name: str = "f", arguments: Any = "{}", **more: Any) -> JsonDict:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def test_a_text_is_a_message_and_the_response_is_completed() -> None:
    answer = whole({"content": "Hello"})
    (item,) = answer["output"]
    assert item["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert (item["role"], item["status"], answer["status"]) == ("assistant", "completed", "completed")
    assert (answer["id"], answer["created_at"], answer["completed_at"]) == ("resp_00ff", NOW - 2, NOW)
    assert (answer["object"], answer["model"], answer["incomplete_details"]) == ("response", "row", None)


# 27


def test_usage_has_both_details_and_its_input_includes_what_was_cached() -> None:
    assert whole({"content": "x"})["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 15,
    }


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "many"}, 7, {"prompt_tokens": 3, "completion_tokens": 0}]
)
def test_a_usage_of_any_shape_is_no_error(usage: Any) -> None:
    answer = opened().whole({**completion({"content": "x"}), "usage": usage}, SERVED)
    check_response(answer)


@pytest.mark.parametrize(
    ("told", "tier"), [("flex", "flex"), (None, "default"), ("of_next_year", "default"), (7, "default")]
)
def test_the_tier_is_the_one_that_the_provider_told(told: Any, tier: str) -> None:
    assert whole({"content": "x"}, service_tier=told)["service_tier"] == tier


def test_the_request_is_repeated_and_what_was_not_said_has_its_default() -> None:
    answer = whole({"content": "x"})
    assert {name: answer[name] for name in ("truncation", "text", "reasoning", "tools", "metadata", "tool_choice")} == {
        "truncation": "disabled",
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": None, "summary": None},
        "tools": [],
        "metadata": {},
        "tool_choice": "auto",
    }
    asked = opened(
        instructions="i",
        tools=[function(), {"type": "web_search"}],
        metadata={"a": "b"},
        store=True,
        truncation="auto",
        temperature=0.5,
        max_output_tokens=7,
        reasoning={"effort": "low"},
        prompt_cache_key="k",
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    )
    answer = whole({"content": "x"}, on=asked)
    assert (answer["instructions"], answer["metadata"], answer["temperature"]) == ("i", {"a": "b"}, 0.5)
    assert (answer["max_output_tokens"], answer["prompt_cache_key"]) == (7, "k")
    assert answer["reasoning"] == {"effort": "low", "summary": None}
    schema = {"type": "json_schema", "name": "n", "description": None, "schema": {"type": "object"}, "strict": False}
    assert answer["text"] == {"format": schema, "verbosity": "low"}
    assert [tool["name"] for tool in answer["tools"]] == ["f"]  # nobody has offered the search to the model
    assert (answer["store"], answer["truncation"]) == (False, "disabled")  # as it was, whatever was asked for


# 1


def test_each_call_has_its_own_place_and_ids() -> None:
    answer = whole({"content": None, "tool_calls": [tool_call("a"), tool_call("b")]}, "tool_calls")
    assert [item["type"] for item in answer["output"]] == ["function_call", "function_call"]
    assert [item["call_id"] for item in answer["output"]] == ["a", "b"]
    assert len({item["id"] for item in answer["output"]}) == 2
    assert answer["status"] == "completed"


def test_reasoning_comes_before_the_text_and_the_calls_behind_it() -> None:
    message = {"tool_calls": [tool_call()], "content": "Hello", "reasoning_content": "Hm"}
    output = whole(message, "tool_calls")["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm"}]


# 26


def test_what_only_the_provider_can_read_travels_in_the_reasoning_before_its_call() -> None:
    message = {
        "content": "Hello",
        "extra_content": {"bedrock": {"reasoning": [{"signature": "s"}]}},
        "tool_calls": [tool_call("a", extra_content={"google": {"thought_signature": "t"}})],
    }
    output = whole(message, "tool_calls")["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "reasoning", "function_call"]
    assert [item["summary"] for item in output if item["type"] == "reasoning"] == [[], []]
    assert unseal(output[0]["encrypted_content"]) == Envelope({"bedrock": {"reasoning": [{"signature": "s"}]}})
    assert unseal(output[2]["encrypted_content"]) == Envelope(calls={"a": {"google": {"thought_signature": "t"}}})
    first = messages([*output, result("a")])[0]
    assert first["extra_content"] == message["extra_content"]
    assert first["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "t"}}


# 20


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_is_incomplete_and_so_is_its_last_item(finish: str, reason: str) -> None:
    answer = whole({"content": "x", "reasoning_content": "Hm"}, finish)
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert [item["status"] for item in answer["output"]] == ["completed", "incomplete"]
    assert answer["completed_at"] is None


def test_a_call_that_was_cut_keeps_what_came_of_its_arguments() -> None:
    answer = whole({"content": None, "tool_calls": [tool_call(arguments='{"a": ')]}, "length")
    assert (answer["output"][0]["arguments"], answer["output"][0]["status"]) == ('{"a": ', "incomplete")


# 4


@pytest.mark.parametrize("arguments", ["", " ", None, {}])
def test_a_call_without_arguments_has_an_empty_object_of_them(arguments: Any) -> None:
    (item,) = whole({"content": None, "tool_calls": [tool_call(arguments=arguments)]}, "tool_calls")["output"]
    assert item["arguments"].strip() == "{}"


def test_a_refusal_is_a_part_of_the_message() -> None:
    (item,) = whole({"content": None, "refusal": "No."})["output"]
    assert item["content"] == [{"type": "refusal", "refusal": "No."}]


def test_log_probabilities_and_citations_stand_with_their_text() -> None:
    token = {"token": "é", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "e", "logprob": -1}]}
    citation = {"start_index": 0, "end_index": 1, "url": "https://example.com", "title": "Example"}
    made = completion({"content": "é", "annotations": [{"type": "url_citation", "url_citation": citation}, "odd"]})
    made["choices"][0]["logprobs"] = {"content": [token]}
    answer = opened().whole(made, SERVED)
    check_response(answer)
    (part,) = answer["output"][0]["content"]
    assert part["annotations"] == [{"type": "url_citation", **citation}]
    assert part["logprobs"] == [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
        }
    ]


def test_a_picture_is_an_item_of_its_own() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    answer = whole({"content": "Here", "images": [image, {"type": "image_url", "image_url": {"url": "https://x"}}, 7]})
    message, picture = answer["output"]
    assert message["content"][0]["text"] == "Here"
    assert (picture["type"], picture["result"], picture["output_format"]) == (
        "image_generation_call",
        "iVBORw0KGgo=",
        "png",
    )


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"content": None},
        {"content": 7},
        {"content": ["odd", {"type": "text", "text": None}]},
        {"content": "x", "tool_calls": "none"},
        {"content": "x", "tool_calls": [None, {}, {"function": None}, {"function": {"name": 7, "arguments": 7}}]},
        {"content": "x", "reasoning_content": 7, "extra_content": "odd", "images": 7, "annotations": {}},
        {"content": "x", "extra_content": {"google": 7}},
        {"content": "x", "images": {"a": 1}},
    ],
)
@pytest.mark.parametrize("finish", ["stop", None, "of_next_year", 7])
def test_an_answer_of_an_odd_shape_is_no_error(message: Any, finish: Any) -> None:
    assert whole(message, finish)["status"] == "completed"


@pytest.mark.parametrize(
    "answer", [{}, {"choices": []}, {"choices": None}, {"choices": [7]}, {"choices": [{"message": 7}]}]
)
def test_an_answer_without_a_message_is_an_empty_message(answer: Any) -> None:
    made = opened().whole(answer, SERVED)
    check_response(made)
    assert [item["type"] for item in made["output"]] == ["message"]


def test_parts_of_a_content_are_read_as_what_they_are() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    output = whole({"content": [thinking, {"type": "text", "text": "Hello"}]})["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[0]["summary"][0]["text"] == "Hm"
    assert output[1]["content"][0]["text"] == "Hello"


# 18


def test_all_that_an_answer_holds_is_taken_as_input_of_the_next_turn() -> None:
    message = {
        "content": "Hello",
        "refusal": "No.",
        "reasoning_content": "Hm",
        "tool_calls": [tool_call("a"), tool_call("b", "unknown")],
    }
    output = whole(message, "tool_calls")["output"]
    made = opened([{"role": "user", "content": "Hi"}, *output, result("a"), result("b")])
    assert made.dropped == []
    assert [m["role"] for m in made.request.body["messages"]] == ["user", "assistant", "tool", "tool"]
    assert made.request.body["messages"][1]["reasoning_content"] == "Hm"


def test_an_explanation_stands_in_the_response() -> None:
    made = opened().whole(completion({"content": "x"}), Served("1", NOW, {"breakwater": {"explained": {}}}))
    assert made["breakwater"] == {"explained": {}}


def test_ids_differ_from_response_to_response() -> None:
    made = [opened().whole(completion({"content": "x"}), Served(key, NOW))["output"][0]["id"] for key in ("aa", "bb")]
    assert len(set(made)) == 2
    assert all(re.fullmatch(r"msg_[0-9a-f]+", one) for one in made)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BadRequest("No.", "input.0"), {"type": "invalid_request_error", "param": "input.0", "code": "invalid_value"}),
        (LimitReached("Later.", 429, "budget", 3.0), {"type": "rate_limit_error", "param": None, "code": "budget"}),
        (DeadlineExceeded("Late."), {"type": "timeout_error", "code": "deadline_exceeded", "attempts": []}),
    ],
)
def test_an_error_has_openais_own_envelope(error: Any, told: JsonDict) -> None:
    body = DOOR.error(error)
    assert body.keys() == {"error"}
    assert body["error"].items() >= {"message": str(error), **told}.items()
