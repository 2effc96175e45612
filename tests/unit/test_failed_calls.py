"""A result of a tool that says that the call has failed: each wire has its own word for it."""

from typing import Any

import pytest

from deployments.openai_api.capabilities import Unsupported, find_unsupported
from deployments.openai_api.chat import check_request
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.request import to_generate
from deployments.providers.kinds import KINDS
from deployments.providers.local.codec import to_engine
from deployments.providers.time_limits import TimeLimits
from deployments.routing.model_rows import ModelRows

CLAUDE, LLAMA = "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "meta.llama3-3-70b-instruct-v1:0"
NAMED = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


def talk(content: Any, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", **NAMED}]},
        {"role": "tool", "tool_call_id": "a", "content": content, **more},
    ]
    return {"model": "row", "messages": messages}


def call(content: Any, model: str = CLAUDE, **more: Any) -> Call:
    return Call(talk(content, **more), model, "row", TimeLimits())


def converse_result(asked: Call) -> Any:
    return to_converse(asked)["messages"][2]["content"][0]["toolResult"]


@pytest.mark.parametrize("model", [CLAUDE, "amazon.nova-pro-v1:0"])
def test_converse_has_a_status_for_it(model: str) -> None:
    made = converse_result(call("gone", model, is_error=True))
    assert (made["status"], made["content"]) == ("error", [{"text": "gone"}])
    for value in ({}, {"is_error": False}, {"is_error": None}):
        assert "status" not in converse_result(call("gone", model, **value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("gone", [{"text": "Error: gone"}]),
        ("error 7", [{"text": "error 7"}]),
        ("", [{"text": "Error"}]),
        (None, [{"text": "Error"}]),
        ([{"type": "text", "text": "gone"}], [{"text": "Error: gone"}]),
    ],
)
def test_a_model_of_bedrock_without_a_status_reads_it_in_the_text(content: Any, said: Any) -> None:
    assert converse_result(call(content, LLAMA, is_error=True)) == {"toolUseId": "a", "content": said}


def test_gemini_has_a_word_for_it() -> None:
    made = to_generate(call("gone", "gemini-3-pro", is_error=True))["contents"][2]["parts"][0]["functionResponse"]
    assert made["response"] == {"error": "gone"}


def test_the_local_model_reads_it_in_the_text() -> None:
    assert to_engine(call("gone", is_error=True))["messages"][-1]["content"] == "The result of f is: Error: gone"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("gone", "Error: gone"),
        ("Error: gone", "Error: gone"),
        ("", "Error"),
        (None, "Error"),
        ([{"type": "text", "text": "x"}], [{"type": "text", "text": "Error: "}, {"type": "text", "text": "x"}]),
        ([{"type": "text", "text": "Error: "}], [{"type": "text", "text": "Error: "}]),
    ],
)
def test_a_server_of_openais_api_reads_it_in_the_text_and_never_gets_our_own_field(content: Any, said: Any) -> None:
    rows = ModelRows({"row": ["other/llama"]}, {"other": "openai"})
    for value, expected in ((True, said), (False, content)):
        fit = next(iter(rows.fits(check_request(talk(content, is_error=value)))))[1]
        assert fit.body["messages"][2] == {"role": "tool", "tool_call_id": "a", "content": expected}
        assert (fit.dropped, fit.missing) == ((), ())


@pytest.mark.parametrize("text", ["gone", ""])
def test_anthropic_has_a_field_for_it_and_wants_a_text_beside_it(text: str) -> None:
    [result] = to_messages(call(text, CLAUDE, is_error=True))["messages"][2]["content"]
    said = {"type": "text", "text": text or "Error"}
    assert result == {"type": "tool_result", "tool_use_id": "a", "content": [said], "is_error": True}


@pytest.mark.parametrize("kind", ["bedrock", "google", "anthropic", "local"])
def test_it_is_carried_and_so_never_named(kind: str) -> None:
    assert find_unsupported(KINDS[kind].capabilities, talk("gone", is_error=True), CLAUDE) == Unsupported()


def test_of_two_results_of_one_call_one_that_failed_is_enough() -> None:
    body = talk("gone", is_error=True)
    body["messages"].append({"role": "tool", "tool_call_id": "a", "content": "21"})
    made = converse_result(Call(body, CLAUDE, "row", TimeLimits()))
    assert (made["status"], made["content"]) == ("error", [{"text": "gone\n\n21"}])
