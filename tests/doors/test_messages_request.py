"""What a request of the Messages API is as a chat's, and what is refused or named. Numbers: of bugs that others had."""

import copy
from typing import Any

import orjson
import pytest

from deployments.doors.envelope import Envelope, seal
from deployments.doors.messages.door import MESSAGES
from deployments.errors import BadRequest
from tests.doors.anthropic_types import BODY, chat, opened, streamed, whole

USER = {"role": "user", "content": "Hi"}
PNG = "iVBORw0KGgo="
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}
CHAT_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
MARK = {"type": "ephemeral", "ttl": "1h"}


def result(content: Any = "found", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


def talk(*messages: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return list(chat(messages=list(messages), **fields)["messages"])


def blocks(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def refusal(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        opened(**fields)
    assert f"'{raised.value.param}'" in str(raised.value)
    return raised.value


def demanded(param: str, **fields: Any) -> str:
    """Return the sentence by which a request is refused that no target of its row can take."""
    native = opened(**fields).request.native
    assert native is not None
    assert list(native.demands) == [param]
    assert f"'{param}'" in native.demands[param]
    return native.demands[param]


def test_the_plainest_request_is_the_plainest_chat() -> None:
    body = {"model": "row-a", "messages": [USER], "max_completion_tokens": 99}
    assert chat() == body
    assert opened().dropped == ()


def test_fields_of_the_same_meaning_are_carried() -> None:
    made = chat(stop_sequences=["END"], temperature=0.5, top_p=0.9, top_k=5, stream=True)
    assert made["stop"] == ["END"]
    assert (made["temperature"], made["top_p"], made["top_k"]) == (0.5, 0.9, 5)
    assert (made["stream"], made["stream_options"]) == (True, {"include_usage": True})


def test_a_system_prompt_keeps_its_marks_and_loses_claude_codes_billing_line() -> None:
    marked = text("You are Claude Code.", cache_control=MARK)
    system = [text("x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"), marked]
    made = opened(system=system)
    assert made.request.body["messages"][0] == {"role": "system", "content": [marked]}
    assert made.request.body["messages"][0]["content"][0] is marked
    assert made.dropped == ()
    assert chat(system=system[:1])["messages"] == [USER]
    assert chat(system="Be brief.")["messages"][0] == {"role": "system", "content": "Be brief."}
    assert chat(system=[text("Be brief.")])["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize("content", ["Agents.", [text("Agents.")]])
def test_a_system_prompt_may_stand_anywhere_and_first_of_all(content: Any) -> None:  # 29
    late = {"role": "system", "content": content}
    assert talk(late, USER)[0] == {"role": "system", "content": "Agents."}
    assert [message["role"] for message in talk(USER, late, blocks("assistant", text("a")), late)] == [
        *("user", "system", "assistant", "system")
    ]


def test_results_come_right_behind_their_calls_and_before_all_that_is_said() -> None:  # 30
    said = [text("Look."), result(), text("And?")]
    expected = [("assistant", None), ("tool", "found"), ("user", [said[0], said[2]])]
    made = talk(USER, blocks("assistant", CALL), blocks("user", *said))[1:]
    assert [(message["role"], message["content"]) for message in made] == expected
    late = talk(USER, blocks("assistant", CALL), {"role": "system", "content": "S"}, USER, blocks("user", result()))
    assert [message["role"] for message in late] == ["user", "assistant", "tool", "system", "user"]
    empty = talk(USER, blocks("assistant", CALL), USER, blocks("assistant"), blocks("user", result()))
    assert [message["role"] for message in empty] == ["user", "assistant", "tool", "user"]


def test_all_results_of_a_step_are_messages_in_a_row() -> None:  # 15, 16
    other = {**CALL, "id": "toolu_2"}
    both = blocks("user", result("one"), {**result("two"), "tool_use_id": "toolu_2"})
    made = talk(USER, blocks("assistant", CALL, other), both)
    assert [call["id"] for call in made[1]["tool_calls"]] == ["toolu_1", "toolu_2"]
    assert [(m["tool_call_id"], m["content"]) for m in made[2:]] == [("toolu_1", "one"), ("toolu_2", "two")]


def test_a_text_behind_a_call_is_put_before_it() -> None:  # 31
    made = talk(USER, blocks("assistant", text("a"), CALL, text("b")), blocks("user", result()))[1]
    assert made == {"role": "assistant", "content": [text("a"), text("b")], "tool_calls": [CHAT_CALL]}


@pytest.mark.parametrize("content", ["found", [text("found")]])
def test_a_result_is_a_text_or_texts(content: Any) -> None:  # 14
    made = talk(USER, blocks("assistant", CALL), blocks("user", result(content, cache_control=MARK)))[2]
    assert made == {"role": "tool", "tool_call_id": "toolu_1", "content": "found", "cache_control": MARK}


def test_a_result_that_is_an_error_says_so() -> None:
    def said(content: Any) -> Any:
        return talk(USER, blocks("assistant", CALL), blocks("user", result(content, is_error=True)))[2]["content"]

    made = talk(USER, blocks("assistant", CALL), blocks("user", result("gone", is_error=True)))[2]
    assert made == {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: gone", "is_error": True}
    assert said("no such file") == "Error: no such file"
    assert said("Error: gone") == "Error: gone"
    assert said([text("a", cache_control=MARK)]) == [text("Error: "), text("a", cache_control=MARK)]
    assert said("") == said(None) == "Error"


def test_an_image_of_a_result_follows_it_as_the_users() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    made = talk(USER, blocks("assistant", CALL), blocks("user", result([image]), text("And?")))[2:]
    assert [message["role"] for message in made] == ["tool", "user"]
    assert "follows" in made[0]["content"]
    kinds = [part["type"] for part in made[1]["content"]]
    assert kinds == ["text", "image_url", "text"]
    assert made[1]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert made[1]["content"][0]["text"] == "Of the result of toolu_1:"


def test_images_and_documents_have_their_parts() -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}, "cache_control": MARK}
    nested = {"type": "document", "source": {"type": "content", "content": [text("in"), linked]}}
    found = {"type": "search_result", "source": "s.example", "title": "S", "content": [text("hit")]}
    parts = talk(blocks("user", pdf, {**pdf, "title": "r.pdf"}, plain, linked, nested, found))[0]["content"]
    data = "data:application/pdf;base64,JVBERi0="
    assert [part["file"] for part in parts[:2]] == [
        {"filename": "document.pdf", "file_data": data},
        {"filename": "r.pdf", "file_data": data},
    ]
    assert parts[2] == text("T\n\nwords")
    image = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}, "cache_control": MARK}
    assert parts[3:] == [image, text("in"), image, text("S\ns.example\n\nhit")]


def test_a_mark_of_a_cache_arrives_wherever_it_stood() -> None:  # 33, 34
    call = {**CALL, "cache_control": MARK}
    tool = {"name": "look", "input_schema": {"type": "object"}, "cache_control": MARK}
    made = chat(messages=[USER, blocks("assistant", call), blocks("user", result(cache_control=MARK))], tools=[tool])
    assert [message.get("cache_control") for message in made["messages"]] == [None, MARK, MARK]
    assert made["tools"][0]["cache_control"] == MARK
    assert "cache_control" not in made["tools"][0]["function"]


def test_automatic_caching_marks_the_last_that_is_said() -> None:
    assert talk(USER, cache_control=MARK) == [{"role": "user", "content": [text("Hi", cache_control=MARK)]}]
    ended = talk(USER, blocks("assistant", CALL), blocks("user", result()), cache_control=MARK)
    assert ended[-1]["cache_control"] == MARK
    marked = blocks("user", text("a", cache_control={"type": "ephemeral"}))
    assert talk(marked, cache_control=MARK) == [marked]


def test_what_we_sealed_comes_back_to_the_message_and_its_calls() -> None:  # 17, 43
    extra, signed = (
        {"bedrock": {"reasoning": [{"text": "t", "signature": "s"}]}},
        {"google": {"thought_signature": "g"}},
    )
    thought = {"type": "thinking", "thinking": "Hm.", "signature": seal(Envelope(extra, {"toolu_1": signed}))}
    made = talk(USER, blocks("assistant", thought, text("a"), CALL), blocks("user", result()))[1]
    assert made["extra_content"] == extra
    assert made["reasoning_content"] == "Hm."
    assert made["tool_calls"] == [{**CHAT_CALL, "extra_content": signed}]
    assert made["content"] == "a"


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "Hm.", "signature": "bw1.damaged"},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "redacted_thinking", "data": "bw1.damaged"},
    ],
)
def test_thoughts_that_nobody_has_signed_are_named_and_never_sent(thought: dict[str, Any]) -> None:  # 17, 43
    made = opened(messages=[USER, blocks("assistant", thought, text("a")), USER])
    assert made.dropped == ("messages.1.content.0",)
    assert made.request.body["messages"][1] == {"role": "assistant", "content": "a"}
    alone = opened(messages=[USER, blocks("assistant", thought), USER])
    assert [message["role"] for message in alone.request.body["messages"]] == ["user", "user"]


def test_thoughts_that_anthropic_has_signed_go_with_what_they_led_to() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqoBCkgIARAB"}
    hidden = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
    kept = {"messages": {"reasoning": [{"text": "Hm.", "signature": "EqoBCkgIARAB"}]}}
    both = blocks("assistant", thought, text("a"), hidden, CALL)
    made = opened(messages=[USER, both, blocks("user", result())])
    assert made.dropped == ()
    message = made.request.body["messages"][1]
    assert (message["content"], message["extra_content"]) == ("a", kept)
    hidden_too = {"messages": {"reasoning": [{"redacted": "EmwKAhgBEgy3va3pzix"}]}}
    assert message["tool_calls"] == [{**CHAT_CALL, "extra_content": hidden_too}]
    alone = opened(messages=[USER, blocks("assistant", thought), USER])
    assert (alone.dropped, len(alone.request.body["messages"])) == (("messages.1.content",), 2)


def test_blocks_that_anthropics_servers_have_made_are_named_and_left_out() -> None:
    ran = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    made = opened(messages=[USER, blocks("assistant", ran, text("a")), USER])
    assert made.dropped == ("messages.1.content.0",)
    summary = {"type": "compaction", "content": "Until now: nothing."}
    assert talk(blocks("assistant", summary), USER)[0]["content"] == "Until now: nothing."


def test_a_tool_with_or_without_a_type_is_a_function() -> None:  # 32
    schema = {"type": "object", "properties": {}}
    bare = {"name": "a", "input_schema": schema, "description": "A."}
    made = chat(tools=[bare, {**bare, "name": "b", "type": "custom", "strict": True}])["tools"]
    function = {"name": "a", "parameters": schema, "description": "A."}
    assert made[0] == {"type": "function", "function": function}
    assert made[0]["function"]["parameters"] is schema
    assert made[1]["function"] == {**function, "name": "b", "strict": True}


TOOL = {"name": "look", "input_schema": {"type": "object"}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}


def test_a_tool_of_anthropics_servers_is_left_out_and_refuses_nothing() -> None:  # 11
    made = opened(tools=[TOOL, SEARCH, {"type": "tool_of_2030", "name": "x"}])
    assert [tool["function"]["name"] for tool in made.request.body["tools"]] == ["look"]
    assert made.dropped == ("tools.1", "tools.2")
    assert "tools" not in chat(tools=[SEARCH], tool_choice={"type": "auto"})


@pytest.mark.parametrize("kind", ["bash_20250124", "text_editor_20250728", "memory_20250818", "computer_20251124"])
def test_a_tool_that_only_claude_knows_is_demanded_by_its_name(kind: str) -> None:
    known = {"type": kind, "name": "bash"}
    assert kind in demanded("tools.1.type", tools=[TOOL, known])
    assert "tool_choice" not in chat(tools=[known], tool_choice={"type": "tool", "name": "bash"})


def test_a_choice_of_tools_is_carried_whole() -> None:  # 44
    def chosen(**choice: Any) -> tuple[Any, Any]:
        made = chat(tools=[TOOL], tool_choice=choice)
        return made["tool_choice"], made.get("parallel_tool_calls")

    assert chosen(type="auto") == ("auto", None)
    assert chosen(type="any", disable_parallel_tool_use=True) == ("required", False)
    assert chosen(type="none") == ("none", None)
    assert chosen(type="tool", name="look") == ({"type": "function", "function": {"name": "look"}}, None)


@pytest.mark.parametrize(
    ("choice", "tools", "param"),
    [
        ({"type": "tool", "name": "nobody"}, [TOOL], "tool_choice.name"),
        ({"type": "tool"}, [TOOL], "tool_choice.name"),
        ({"type": "any"}, [], "tool_choice"),
        ({"type": "some"}, [TOOL], "tool_choice.type"),
    ],
)
def test_a_choice_that_nobody_can_make_is_refused(choice: Any, tools: Any, param: str) -> None:
    assert refusal(tools=tools, tool_choice=choice).param == param


def test_a_choice_of_a_tool_that_is_left_out_says_whose_it_is() -> None:
    why = demanded("tool_choice.name", tools=[TOOL, SEARCH], tool_choice={"type": "tool", "name": "web_search"})
    assert "web_search is run by Anthropic's servers" in why
    assert demanded("tool_choice", tools=[SEARCH], tool_choice={"type": "any"})


def test_history_with_calls_needs_no_tools_in_the_request() -> None:  # 37
    assert "tools" not in chat(messages=[USER, blocks("assistant", CALL), blocks("user", result())])


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"output_config": {"effort": "xhigh"}}, "xhigh"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "between_tools"}}, "high"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "minimal"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, "none"),
    ],
)
def test_a_wish_to_think_arrives_as_an_effort(fields: dict[str, Any], effort: str) -> None:  # 36
    made = opened(**fields)
    assert made.request.body["reasoning_effort"] == effort
    assert ("thinking.budget_tokens" in made.dropped) is ("budget_tokens" in fields.get("thinking", {}))
    assert made.paths.of("reasoning_effort") in ("thinking", "output_config.effort")


@pytest.mark.parametrize("name", ["output_config", "output_format"])
def test_a_schema_of_the_answer_is_a_response_format(name: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    wanted = {"type": "json_schema", "schema": schema}
    made = opened(**{name: {"format": wanted} if name == "output_config" else wanted})
    held = made.request.body["response_format"]
    assert held["type"] == "json_schema"
    assert held["json_schema"]["schema"] is schema
    at = "output_config.format" if name == "output_config" else "output_format"
    assert made.paths.of("response_format.json_schema.schema") == f"{at}.schema"


def test_nothing_vanishes_without_a_word() -> None:
    tool = {**TOOL, "defer_loading": True, "input_examples": [{}], "allowed_callers": ["direct"]}
    made = opened(
        metadata={"user_id": '{"device_id":"d"}'},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        service_tier="standard_only",
        speed="fast",
        inference_geo="eu",
        client_metadata={"a": 1},
        thinking={"type": "adaptive", "shape": "round"},
        output_config={"effort": "low", "task_budget": 3},
        tools=[tool],
        tool_choice={"type": "auto", "more": 1},
        messages=[{**blocks("user", text("a", citations=[{"type": "char_location"}], more=1)), "name": "n"}],
    )
    assert sorted(made.dropped) == sorted(
        [
            *("metadata.user_id", "context_management", "service_tier", "speed", "inference_geo", "client_metadata"),
            *("thinking.shape", "output_config.task_budget", "tools.0.defer_loading", "tools.0.input_examples"),
            *("tool_choice.more", "messages.0.content.0.citations", "messages.0.content.0.more", "messages.0.name"),
        ]
    )
    assert b"device_id" not in orjson.dumps(made.request.body)
    quiet = {"service_tier": "auto", "speed": "standard", "container": None, "mcp_servers": [], "betas": []}
    assert opened(**quiet).dropped == ()


@pytest.mark.parametrize("name", ["container", "mcp_servers", "compaction"])
def test_state_that_is_not_kept_is_demanded_by_name(name: str) -> None:  # 19
    assert demanded(name, **{name: [{"id": "c"}]})


@pytest.mark.parametrize(
    ("block", "param"),
    [
        ({"type": "sound"}, "type"),
        ({"type": "container_upload", "file_id": "f"}, "type"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source"),
        ({"type": "document", "source": {"type": "url", "url": "https://x.example"}}, "source"),
    ],
)
def test_what_no_chat_can_hold_is_demanded_by_its_path(block: dict[str, Any], param: str) -> None:
    assert demanded(f"{AT}.{param}", **of(block))


def of(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [USER, {"role": role, "content": list(content)}]}


AT = "messages.1.content.0"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "system", "content": [CALL]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "messages"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"temperature": 3}, "temperature"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"stop_sequences": [7]}, "stop_sequences.0"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        (of({"type": "text"}), f"{AT}.text"),
        (of({"type": "text", "text": 7}), f"{AT}.text"),
        (of(CALL), f"{AT}.type"),
        (of({"type": "tool_result"}), f"{AT}.tool_use_id"),
        (of(result([{"type": "tool_use"}])), f"{AT}.content.0.type"),
        (of({"type": "image"}), f"{AT}.source"),
        (of({"type": "image", "source": {"type": "base64", "data": "x"}}), f"{AT}.source.media_type"),
        (of({"type": "image"}, role="assistant"), f"{AT}.type"),
        (of({"type": "tool_use", "id": "", "name": "a", "input": {}}, role="assistant"), f"{AT}.id"),
        (of({"type": "tool_use", "id": "a", "name": "a", "input": "x"}, role="assistant"), f"{AT}.input"),
    ],
)
def test_what_is_wrong_is_named_by_the_clients_own_path(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_paths_of_a_chat_are_the_clients_own() -> None:
    said = blocks("user", result(), text("And?"))
    made = opened(system="S", messages=[USER, blocks("assistant", CALL), said], tools=[SEARCH, TOOL])
    paths = made.paths
    assert [paths.of(f"messages.{at}.content") for at in range(5)] == [
        *("system", "messages.0", "messages.1", "messages.2.content.0", "messages.2")
    ]
    assert paths.of("tools.0.function.parameters.properties.a") == "tools.1.input_schema.properties.a"
    assert paths.of("tools.0.function.name") == "tools.1.name"
    assert paths.of("tools.0.cache_control") == "tools.1.cache_control"
    assert paths.of("max_completion_tokens") == "max_tokens"
    assert paths.of("stop") == "stop_sequences"


def test_the_clients_body_is_not_changed_and_nothing_of_it_copied() -> None:
    body = {
        **BODY,
        "system": [text("S", cache_control=MARK)],
        "tools": [TOOL, SEARCH],
        "cache_control": MARK,
        "messages": [USER, blocks("assistant", text("a"), CALL), blocks("user", result(is_error=True), text("b"))],
    }
    before = copy.deepcopy(body)
    made = MESSAGES.open(body)
    assert body == before
    assert made.request.body["tools"][0]["function"]["parameters"] is TOOL["input_schema"]


def test_too_many_blocks_inside_results_are_refused_before_they_are_read() -> None:
    error = refusal(messages=[USER, blocks("user", result([text("a")] * 9000))])
    assert (error.param, error.code) == ("messages", "array_above_max_length")
    document = {"type": "document", "source": {"type": "content", "content": [text("a")] * 9000}}
    assert refusal(messages=[USER, blocks("user", document)]).code == "array_above_max_length"
    assert refusal(messages=[USER] * 5000).param == "messages"


def test_a_request_for_a_count_has_no_limit_of_an_answer() -> None:
    body = {"model": "row-a", "messages": [USER], "tools": [TOOL]}
    assert MESSAGES.open_to_count(body).request.body["messages"] == [USER]
    assert MESSAGES.counted(17) == {"input_tokens": 17}


def test_an_answer_of_ours_is_a_turn_of_the_next_request() -> None:  # 18
    calls = [{**CHAT_CALL, "id": "call_1", "extra_content": {"google": {"thought_signature": "g"}}}]
    made = whole({"content": "a", "reasoning_content": "Hm.", "tool_calls": calls}, "tool_calls")
    found = {"type": "tool_result", "tool_use_id": "call_1", "content": "x"}
    again = opened(messages=[USER, {"role": "assistant", "content": made["content"]}, blocks("user", found)])
    assert again.dropped == ()
    sent = again.request.body["messages"][1]
    assert (sent["content"], sent["reasoning_content"], sent["tool_calls"]) == ("a", "Hm.", calls)
    assert streamed({"content": "a"})[-1]["type"] == "message_stop"
