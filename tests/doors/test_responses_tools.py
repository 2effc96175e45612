"""The tools of the Responses API as functions of a chat completion, and their calls back."""

from typing import Any

import pytest

from deployments.errors import BadRequest
from deployments.openai_api.json_types import JsonDict
from tests.doors.responses import call, frames, function, messages, opened, result, streamed, whole

GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch"'}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Edits files", "format": GRAMMAR}
TEAM = {"type": "namespace", "name": "team", "description": "Helpers", "tools": [function("close"), function("open")]}


def functions(tools: list[Any], given: Any = "Hi") -> list[JsonDict]:
    return [tool["function"] for tool in opened(given, tools=tools).request.body["tools"]]


def tool_call(name: str, arguments: str, key: str = "call_1") -> JsonDict:
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_function_keeps_all_that_a_chat_completion_knows_of_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tool = {"type": "function", "name": "f", "description": "d", "parameters": schema, "strict": True}
    (made,) = functions([tool])
    assert made == {"name": "f", "description": "d", "parameters": schema, "strict": True}
    assert made["parameters"] is schema
    assert functions([{"type": "function", "name": "f", "parameters": None, "strict": False}]) == [{"name": "f"}]


def test_fields_of_tools_that_nobody_reads_are_named() -> None:
    made = opened(tools=[function(defer_loading=True, output_schema={}), {**TEAM, "future": 1}])
    assert made.dropped == ["tools.0.defer_loading", "tools.1.future"]


# 11


@pytest.mark.parametrize(
    "kind", ["web_search", "tool_search", "image_generation", "mcp", "local_shell", "of_next_year"]
)
def test_a_tool_that_a_server_runs_is_left_out_and_named(kind: str) -> None:
    made = opened(tools=[{"type": kind}, function()], tool_choice="auto")
    assert [tool["function"]["name"] for tool in made.request.body["tools"]] == ["f"]
    assert made.dropped == ["tools.0"]
    alone = opened(tools=[{"type": kind}], tool_choice="auto")
    assert "tools" not in alone.request.body
    assert "tool_choice" not in alone.request.body


# 12


def test_functions_of_a_namespace_get_one_name_and_come_back_with_both() -> None:
    made = opened(tools=[TEAM])
    assert [t["function"]["name"] for t in made.request.body["tools"]] == ["team__close", "team__open"]
    assert "Helpers" in made.request.body["tools"][0]["function"]["description"]
    (item,) = whole({"content": None, "tool_calls": [tool_call("team__close", "{}")]}, "tool_calls", on=made)["output"]
    assert (item["type"], item["name"], item["namespace"]) == ("function_call", "close", "team")
    history = [call("a", "close", namespace="team"), result("a")]
    assert messages(history, tools=[TEAM])[0]["tool_calls"][0]["function"]["name"] == "team__close"


def test_a_call_of_a_tool_that_is_not_offered_any_more_keeps_its_name() -> None:
    first = messages([call("a", "close", namespace="team"), call("b", "gone"), result("a"), result("b")])[0]
    assert [one["function"]["name"] for one in first["tool_calls"]] == ["team__close", "gone"]


@pytest.mark.parametrize(
    "tools",
    [
        [TEAM, function("team__close")],
        [function("apply_patch"), PATCH],
        [{"type": "namespace", "name": "n" * 80, "tools": [function("a"), function("b")]}],
        [{"type": "namespace", "name": "a.b c", "tools": [function("é")]}],
        [
            {"type": "namespace", "name": "a", "tools": [function("b__c")]},
            {"type": "namespace", "name": "a__b", "tools": [function("c")]},
        ],
    ],
)
def test_names_are_legal_and_unique_and_each_call_finds_its_tool_again(tools: list[Any]) -> None:
    made = opened(tools=tools)
    names = [tool["function"]["name"] for tool in made.request.body["tools"]]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 and name.replace("_", "").replace("-", "").isascii() for name in names)
    calls = [tool_call(name, "{}", f"call_{at}") for at, name in enumerate(names)]
    found = whole({"content": None, "tool_calls": calls}, "tool_calls", on=made)["output"]
    again = messages([*found, *(result(f"call_{at}") for at in range(len(names)))], tools=tools)[0]["tool_calls"]
    assert [one["function"]["name"] for one in again] == names
    assert names == [tool["function"]["name"] for tool in opened(tools=tools).request.body["tools"]]


def test_a_function_that_has_the_very_name_that_we_would_make_keeps_it() -> None:
    long = {"type": "namespace", "name": "n" * 80, "tools": [function()]}
    (made,) = functions([long])
    names = [one["name"] for one in functions([long, function(made["name"])])]
    assert names[1] == made["name"] != names[0]


# 13


def test_a_custom_tool_is_a_function_of_one_text_and_its_grammar_is_told_but_not_kept() -> None:
    made = opened(tools=[PATCH])
    (tool,) = functions([PATCH])
    assert tool["parameters"]["required"] == ["input"]
    assert "Edits files" in tool["description"]
    assert GRAMMAR["definition"] in tool["description"]
    assert made.dropped == ["tools.0.format"]
    assert opened(tools=[{"type": "custom", "name": "c", "format": {"type": "text"}}]).dropped == []


def test_a_call_of_a_custom_tool_comes_back_with_its_bare_input_and_goes_there_again() -> None:
    made = opened(tools=[PATCH])
    message = {"content": None, "tool_calls": [tool_call("apply_patch", '{"input": "*** \\"x\\"\\n"}')]}
    (item,) = whole(message, "tool_calls", on=made)["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "apply_patch", '*** "x"\n')
    output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done"}
    first, second = messages([item, output], tools=[PATCH])
    assert first["tool_calls"][0]["function"] == {"name": "apply_patch", "arguments": '{"input":"*** \\"x\\"\\n"}'}
    assert (second["role"], second["content"]) == ("tool", "Done")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "a"}', "a"),
        (' {\n"input"\t:"a\\u00e9\\ud83d\\ude00\\/"} ', "aé😀/"),
        ('{"other": 1, "input": "a"}', "a"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"patch": "a"}', '{"patch": "a"}'),
        ('{"input": 7}', '{"input": 7}'),
        ("", ""),
        ('{"input": "cut o', "cut o"),
        ('{"input": "bad \\x end of it all", "more": 1}', "bad \\x end of it all"),
        ('{"input": "half \\ud83d of a pair here"}', "half \N{REPLACEMENT CHARACTER} of a pair here"),
        ('{"input": "half \\ude00 of a pair here"}', "half \N{REPLACEMENT CHARACTER} of a pair here"),
        ('{"input": "raw\nline"}', "raw\nline"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_input_of_a_custom_tool_is_the_same_however_its_arguments_come(
    arguments: str, text: str, size: int
) -> None:
    made = opened(tools=[PATCH], stream=True)
    pieces = [arguments[at : at + size] for at in range(0, len(arguments), size)]
    first = {"tool_calls": [{"index": 0, **tool_call("apply_patch", "")}]}
    deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    answer = streamed(frames(first, *deltas, finish="tool_calls"), on=made)
    assert answer.text("custom_tool_call_input") == text
    assert answer.of("custom_tool_call_input.done")[0]["input"] == text
    assert answer.done[0]["input"] == text


def test_tools_of_an_item_are_offered_as_well() -> None:
    given = [
        {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [TEAM, PATCH, {"type": "web_search"}]},
        {"role": "user", "content": "Hi"},
    ]
    made = opened(given)
    names = [tool["function"]["name"] for tool in made.request.body["tools"]]
    assert names == ["team__close", "team__open", "apply_patch"]
    assert made.paths.of("tools.1.function.parameters") == "input.0.tools.0.tools.1.parameters"
    assert made.dropped == ["input.0.tools.1.format", "input.0.tools.2"]


def test_a_tool_that_is_offered_again_is_taken_once_in_its_newest_form() -> None:
    newer = function("f", description="new")
    made = opened(
        [{"type": "additional_tools", "role": "developer", "tools": [newer]}, {"role": "user", "content": "Hi"}],
        tools=[function("f")],
    )
    assert [tool["function"].get("description") for tool in made.request.body["tools"]] == ["new"]
    assert made.dropped == ["tools.0"]
    assert opened(tools=[newer, newer]).dropped == []


# 44


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "function", "function": {"name": "apply_patch"}}),
        (
            {"type": "function", "name": "close", "namespace": "team"},
            {"type": "function", "function": {"name": "team__close"}},
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
)
def test_what_the_model_may_call_is_said_in_a_chat_completions_words_and_repeated_in_the_answer(
    choice: Any, made: Any
) -> None:
    request = opened(tools=[function(), PATCH, TEAM], tool_choice=choice, parallel_tool_calls=False)
    assert request.request.body["tool_choice"] == made
    answer = whole({"content": "x"}, on=request)
    assert (answer["tool_choice"], answer["parallel_tool_calls"]) == (choice, False)


def test_all_tools_of_a_namespace_can_be_allowed_and_the_rest_is_named() -> None:
    allowed = {"type": "allowed_tools", "tools": [{"type": "namespace", "name": "team"}, {"type": "web_search"}]}
    made = opened(tools=[function(), TEAM], tool_choice=allowed)
    named = made.request.body["tool_choice"]["allowed_tools"]["tools"]
    assert [one["function"]["name"] for one in named] == ["team__close", "team__open"]
    assert made.dropped == ["tool_choice.tools.1"]
    nobody = opened(tools=[function()], tool_choice={"type": "allowed_tools", "mode": "auto", "tools": []})
    assert nobody.request.body["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "web_search_preview"}, "tool_choice"),
        ({"type": "mcp", "server_label": "x"}, "tool_choice"),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}, "tool_choice.tools"),
    ],
)
def test_a_demand_for_a_tool_that_a_server_runs_is_one_that_no_other_can_meet(choice: Any, param: str) -> None:
    native = opened(tools=[function(), {"type": "web_search"}], tool_choice=choice).request.native
    assert native is not None
    assert native.hosted
    assert list(native.demands) == [param]


def test_a_demand_for_any_call_is_one_for_a_tool_that_a_server_runs_if_there_is_no_other() -> None:
    native = opened(tools=[{"type": "web_search"}], tool_choice="required").request.native
    assert native is not None
    assert list(native.demands) == ["tool_choice"]


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([function()], {"type": "function", "name": "gone"}, "tool_choice.name"),
        ([], "required", "tool_choice"),
    ],
)
def test_a_demand_for_a_tool_that_is_not_there_is_refused(tools: Any, choice: Any, param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        opened(tools=tools, tool_choice=choice)
    assert raised.value.param == param
