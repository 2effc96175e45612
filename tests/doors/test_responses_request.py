"""A request of the Responses API becomes a chat completion's, and loses nothing without saying so."""

import copy
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from deployments.doors.envelope import Envelope, seal
from deployments.errors import BadRequest
from deployments.openai_api.sizes import MOST_MESSAGES
from tests.doors.responses import DOOR, call, function, messages, opened, result

PNG = "data:image/png;base64,iVBORw0KGgo="


def refused(given: Any = "Hi", **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        opened(given, **fields)
    return raised.value


def demands_of(given: Any = "Hi", **fields: Any) -> Mapping[str, str]:
    native = opened(given, **fields).request.native
    assert native is not None
    return native.demands


def test_a_text_is_what_the_user_says_and_instructions_come_first() -> None:
    assert messages("Hi") == [{"role": "user", "content": "Hi"}]
    assert messages("Hi", instructions="Be brief") == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hi"},
    ]


def test_messages_need_no_type_and_keep_their_roles_and_places() -> None:
    given = [
        {"role": "developer", "content": "a"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
        {"type": None, "role": "system", "content": "c"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "d", "annotations": [], "logprobs": []}]},
    ]
    assert [(m["role"], m["content"]) for m in messages(given)] == [
        ("developer", "a"),
        ("user", "b"),
        ("system", "c"),
        ("assistant", "d"),
    ]
    assert opened(given).dropped == []


def test_all_kinds_of_parts_have_their_place_in_a_chat_completion() -> None:
    parts = [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "input_image", "image_url": PNG, "detail": "low"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]


def test_an_earlier_refusal_is_a_refusal_still() -> None:
    given = [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "?"},
    ]
    assert messages(given)[0]["content"] == [{"type": "refusal", "refusal": "No."}]


# 15, 16


def test_neighbouring_calls_and_the_text_before_them_are_one_message_with_its_results_behind() -> None:
    given = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Let me see."},
        call("a"),
        call("b"),
        result("b", "2"),
        result("a", "1"),
    ]
    _user, assistant, *results = messages(given)
    assert assistant["content"] == "Let me see."
    assert [one["id"] for one in assistant["tool_calls"]] == ["a", "b"]
    assert [(one["role"], one["tool_call_id"], one["content"]) for one in results] == [
        ("tool", "b", "2"),
        ("tool", "a", "1"),
    ]


def test_calls_that_follow_a_result_are_a_message_of_their_own() -> None:
    roles = [m["role"] for m in messages([call("a"), result("a"), call("b"), result("b")])]
    assert roles == ["assistant", "tool", "assistant", "tool"]


# 30


@pytest.mark.parametrize("role", ["user", "developer", "system"])
def test_what_is_said_between_a_call_and_its_result_comes_behind_the_result(role: str) -> None:
    made = messages([call("a"), {"role": role, "content": "Wait"}, result("a")])
    assert [m["role"] for m in made] == ["assistant", "tool", role]


def test_a_result_that_comes_late_stands_behind_its_own_call() -> None:
    made = messages([call("a"), call("b"), result("a"), call("c"), result("c"), result("b")])
    assert [m.get("tool_call_id") or m["role"] for m in made] == ["assistant", "a", "b", "assistant", "c"]


def test_an_id_that_is_used_again_means_the_last_call_with_it() -> None:
    made = messages([call("0"), result("0", "x"), call("0"), result("0", "y")])
    assert [m.get("content") for m in made] == [None, "x", None, "y"]


def test_a_result_without_its_call_is_refused_by_its_place() -> None:
    error = refused([{"role": "user", "content": "Hi"}, result("gone")])
    assert error.param == "input.1.call_id"
    assert "gone" in str(error)


# 14


def test_a_result_in_parts_is_the_same_as_a_text() -> None:
    parts = [{"type": "input_text", "text": "ok"}]
    assert messages([call("a"), result("a", parts)]) == messages([call("a"), result("a", "ok")])
    two = messages([call("a"), result("a", [*parts, *parts])])[1]["content"]
    assert two == [{"type": "text", "text": "ok"}, {"type": "text", "text": "ok"}]
    assert messages([call("a"), result("a", [])])[1]["content"] == ""


def test_an_image_in_a_result_is_shown_by_the_user_behind_all_results_of_the_step() -> None:
    parts = [{"type": "input_text", "text": "Done"}, {"type": "input_image", "image_url": PNG}]
    made = messages([call("a"), call("b"), result("a", parts), result("b")])
    assert [m["role"] for m in made] == ["assistant", "tool", "tool", "user"]
    assert made[1]["content"] == "Done"
    assert made[3]["content"][1] == {"type": "image_url", "image_url": {"url": PNG}}
    assert "call a" in made[3]["content"][0]["text"]
    alone = messages([call("a"), result("a", parts[1:])])
    assert alone[1]["content"].startswith("(The result is no text.")


# 17, 43


def test_our_own_reasoning_goes_back_to_the_message_and_the_calls_that_it_belongs_to() -> None:
    sealed = seal(
        Envelope({"bedrock": {"reasoning": [{"signature": "s"}]}}, {"a": {"google": {"thought_signature": "t"}}})
    )
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]}
    made = opened([{**thought, "encrypted_content": sealed}, call("a"), result("a")])
    first = made.request.body["messages"][0]
    assert first["extra_content"] == {"bedrock": {"reasoning": [{"signature": "s"}]}}
    assert first["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "t"}}
    assert first["reasoning_content"] == "Hm"
    assert made.dropped == []


@pytest.mark.parametrize("content", ["gAAAAABforeign", "bw1.%%%", "bw1." + "A" * 40, None])
def test_reasoning_that_is_not_ours_is_left_out_and_named_and_never_becomes_a_text(content: str | None) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "SECRET"}]}
    made = opened(
        [{"role": "user", "content": "Hi"}, {**thought, "encrypted_content": content}, call("a"), result("a")]
    )
    assert "SECRET" not in orjson.dumps(made.request.body).decode()
    assert made.dropped == ["input.1"]


def test_reasoning_of_an_answer_that_is_not_there_is_named() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(Envelope())}
    made = opened([thought, {"role": "user", "content": "Hi"}])
    assert [m["role"] for m in made.request.body["messages"]] == ["user"]
    assert made.dropped == ["input.0"]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "local_shell_call", "id": "l", "call_id": "l", "action": {"type": "exec"}},
        {"type": "local_shell_call_output", "id": "l", "output": "x"},
        {"type": "apply_patch_call", "call_id": "p", "operation": {}},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "of_next_year", "anything": 1},
    ],
)
def test_what_a_server_ran_by_itself_is_left_out_and_named(item: dict[str, Any]) -> None:
    made = opened([{"role": "user", "content": "Hi"}, item])
    assert len(made.request.body["messages"]) == 1
    assert made.dropped == ["input.1"]


def test_an_item_that_is_stored_elsewhere_is_refused_by_name() -> None:
    error = refused([{"type": "item_reference", "id": "msg_1"}])
    assert (error.param, error.code) == ("input.0", "unsupported_parameter")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ([{"type": "compaction_trigger"}], "input.0"),
        ([{"role": "user", "content": [{"type": "video"}]}], "input.0.content.0.type"),
        ([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}], "input.0.content.0.file_id"),
        ([{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}], "input.0.content.0.file_url"),
    ],
)
def test_items_that_only_a_server_of_this_api_can_take_are_demands_by_name(given: Any, path: str) -> None:
    demands = demands_of(given)
    assert path in demands
    assert f"'{path}'" in demands[path]


# 19


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
    ],
)
def test_state_that_we_do_not_keep_is_refused_by_name(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert (error.status, error.param, error.code) == (400, name, "unsupported_parameter")
    assert name in str(error)


def test_state_that_nobody_asked_for_is_no_reason_to_refuse() -> None:
    assert (
        opened(previous_response_id=None, conversation=None, prompt=None, background=False, store=False).dropped == []
    )


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "invalid_value"),
        ({"input": 7}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": [{"role": "user"}]}, "input.0.content", "missing_required_parameter"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role", "invalid_value"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input.0.content.0.text", None),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.image_url", None),
        ({"input": [{"id": "x"}]}, "input.0.type", "missing_required_parameter"),
        ({"input": [7]}, "input.0", None),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "input.0.call_id", None),
        ({"input": [{"type": "function_call", "call_id": "", "name": "f", "arguments": ""}]}, "input.0.call_id", None),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": 1}]}, "input.0.output", None),
        ({"tools": [{"type": "function"}]}, "tools.0.name", "missing_required_parameter"),
        ({"tools": [{"name": "f"}]}, "tools.0.type", "missing_required_parameter"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]},
            "tools.0.tools.0.name",
            None,
        ),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", None),
        ({"max_output_tokens": 0}, "max_output_tokens", None),
        ({"temperature": 3}, "temperature", None),
        ({"model": ""}, "model", None),
        ({"metadata": {"a": 1}}, "metadata", None),
        ({"tool_choice": "sometimes"}, "tool_choice", None),
    ],
)
def test_a_wrong_field_is_named_by_the_clients_own_path(fields: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(BadRequest) as raised:
        DOOR.open({"model": "row", "input": "Hi", **fields})
    assert raised.value.param == param
    assert code in (None, raised.value.code)
    assert param in str(raised.value)


def test_a_missing_model_is_named() -> None:
    with pytest.raises(BadRequest) as raised:
        DOOR.open({"input": "Hi"})
    assert raised.value.param == "model"


def test_too_many_messages_are_too_much_input() -> None:
    error = refused([{"role": "user", "content": "x"}] * (MOST_MESSAGES + 1))
    assert (error.param, error.code) == ("input", "array_above_max_length")
    assert "'input'" in str(error)


NAMESPACE = {"type": "namespace", "name": "n", "tools": [function()] * 1024}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"type": "x"}] * 13_000}, "input"),
        ({"input": [{"role": "user", "content": [7] * 13_000}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": [7] * 13_000}]}, "input"),
        ({"input": [{"role": "user", **{str(at): 1 for at in range(50_000)}}]}, "input"),
        ({"input": [{"type": "additional_tools", "tools": [NAMESPACE] * 13}]}, "input"),
        ({"tools": [7] * 1025}, "tools"),
        ({"tools": [NAMESPACE]}, "tools"),
        ({str(at): 1 for at in range(300)}, None),
    ],
)
def test_what_has_too_many_parts_is_refused_before_any_of_them_is_looked_at(fields: Any, param: str | None) -> None:
    with pytest.raises(BadRequest) as raised:
        DOOR.open({"model": "row", "input": "Hi", **fields})
    assert (raised.value.param, raised.value.code) == (param, "array_above_max_length")


def test_fields_of_the_same_meaning_are_carried() -> None:
    schema = {"type": "object", "properties": {}}
    body = opened(
        stream=True,
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        parallel_tool_calls=False,
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        service_tier="flex",
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        top_logprobs=2,
        seed=3,
    )
    assert body.dropped == []
    assert {k: v for k, v in body.request.body.items() if k not in ("model", "messages")} == {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "parallel_tool_calls": False,
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
        "verbosity": "low",
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 2,
        "seed": 3,
    }
    assert body.request.body["response_format"]["json_schema"]["schema"] is schema


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"store": True}, ["store"]),
        ({"truncation": "auto"}, ["truncation"]),
        ({"truncation": "disabled"}, []),
        ({"include": ["file_search_call.results"]}, ["include.0"]),
        ({"top_logprobs": 3}, ["top_logprobs"]),
        ({"max_tool_calls": 3}, ["max_tool_calls"]),
        ({"client_metadata": {"a": "b"}}, ["client_metadata"]),
        ({"context_management": [{"type": "compaction"}]}, ["context_management"]),
        ({"moderation": {"model": "m"}, "access_programs": {}}, ["moderation"]),
        ({"stream_options": {"include_obfuscation": True}}, ["stream_options.include_obfuscation"]),
        ({"stream_options": {"include_obfuscation": False}}, []),
        ({"reasoning": {"summary": "detailed", "context": "all_turns"}}, ["reasoning.summary", "reasoning.context"]),
        ({"text": {"future": 1}}, ["text.future"]),
        ({"metadata": {"a": "b"}}, []),  # the answer repeats it
        ({"unknown": None, "empty": {}}, []),
    ],
)
def test_what_no_target_will_see_is_named_if_it_says_something(fields: dict[str, Any], dropped: list[str]) -> None:
    assert opened(**fields).dropped == dropped


def test_fields_of_items_that_nobody_reads_are_named() -> None:
    given = [
        {"role": "user", "content": "Hi", "id": "msg_1", "status": "completed", "phase": "commentary"},
        call("a", caller={"type": "direct"}, id="fc_1", status="completed"),
        {**result("a"), "id": "fco_1", "status": "completed"},
    ]
    assert opened(given).dropped == ["input.0.phase", "input.1.caller"]


def test_each_path_of_the_chat_completion_has_the_clients_name() -> None:
    paths = opened(
        [{"role": "user", "content": "Hi"}, call("a"), call("b"), result("a"), result("b")],
        instructions="x",
        tools=[{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": [function()]}],
    ).paths
    assert [paths.of(f"messages.{at}.content") for at in range(5)] == [
        "instructions",
        "input.0",
        "input.1",
        "input.3",
        "input.4",
    ]
    assert paths.of("tools.0.function.parameters") == "tools.1.tools.0.parameters"
    assert paths.of("max_completion_tokens") == "max_output_tokens"
    assert paths.of("response_format.json_schema.schema.properties.a") == "text.format.schema.properties.a"
    assert paths.of("response_format") == "text.format"
    assert paths.of("reasoning_effort") == "reasoning.effort"
    assert paths.of("temperature") == "temperature"


def test_a_request_that_only_wants_its_tokens_counted_is_read_too() -> None:
    counted = DOOR.open({"model": "row", "input": "Hi", "tools": [function()], "instructions": None})
    assert not counted.request.stream
    assert "stream_options" not in counted.request.body


def test_the_clients_body_is_left_as_it_was() -> None:
    body = {
        "model": "row",
        "input": [
            call("a", "n__f"),
            result("a", [{"type": "input_text", "text": "x"}]),
            {"role": "user", "content": "?"},
        ],
        "tools": [
            function(),
            {"type": "custom", "name": "c"},
            {"type": "namespace", "name": "n", "tools": [function()]},
        ],
        "text": {"format": {"type": "json_object"}},
    }
    before = copy.deepcopy(body)
    DOOR.open(body)
    assert body == before
