"""Marks of a prompt cache at OpenAI's own models, and those that `cache: auto` sets: what is sent and what is named."""

import copy
from typing import Any, get_type_hints

import pytest
from openai.types.chat import (
    ChatCompletionContentPartImageParam,
    ChatCompletionContentPartTextParam,
)
from openai.types.responses import ResponseInputImageParam, ResponseInputTextParam

from deployments.openai_api.cache_marks import takes_breakpoints
from deployments.providers.base import Call
from deployments.providers.caching.automatic import with_marks
from deployments.providers.kinds import KINDS
from deployments.providers.openai.dialect import known_dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.openai.responses_api.request import responses_body
from deployments.providers.openai.responses_api.terms import KnownTerms
from deployments.providers.time_limits import TimeLimits
from deployments.routing.model_rows import ModelRows

MARK = {"type": "ephemeral"}
HERE = {"mode": "explicit"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def asked(*messages: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"model": "row", "messages": list(messages), **body}


MARKED = asked(
    {"role": "system", "content": "Rules.", "cache_control": MARK},
    {"role": "user", "content": [{**IMAGE, "cache_control": MARK}, text("Hi")]},
    {"role": "assistant", "content": [text("Yes?", cache_control=MARK)]},
    {"role": "user", "content": [text("Go on.", cache_control={**MARK, "ttl": "1h"})]},
    tools=[{**TOOL, "cache_control": MARK}],
)


def sent(body: dict[str, Any], model: str, host: str = "api.openai.com") -> dict[str, Any]:
    return chat_body(Call(body, model, "row", TimeLimits()), stream=False, dialect=known_dialect(host, model))


def by_responses(body: dict[str, Any], model: str) -> dict[str, Any]:
    return responses_body(Call(body, model, "row", TimeLimits()), KnownTerms().of(model), stream=False)


def keys_in(value: Any) -> list[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [*(value if isinstance(value, dict) else ()), *(key for one in inner for key in keys_in(one))]


def fit(body: dict[str, Any], model: str, kind: str = "openai") -> Any:
    return ModelRows({"row": [f"p/{model}"]}, {"p": kind})._fit(f"p/{model}", body, "hints")


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-5.6", True),
        ("gpt-5.6-sol", True),
        ("openai/gpt-5.10-mini", True),
        ("gpt-6", True),
        ("gpt-5.5", False),
        ("gpt-5", False),
        ("gpt-4.1", False),
        ("o3", False),
        ("gpt-oss-120b", None),
        ("claude-sonnet-4-5", None),
    ],
)
def test_models_from_gpt_5_6_on_take_breakpoints(model: str, known: bool | None) -> None:
    assert takes_breakpoints(model) is known


def test_a_mark_becomes_a_breakpoint_where_openai_has_one_and_the_others_are_named() -> None:
    before = copy.deepcopy(MARKED)
    found = fit(MARKED, "gpt-5.6")
    assert set(found.dropped) == {
        "tools.0.cache_control",
        "messages.2.content.0.cache_control",
        "messages.3.content.0.cache_control.ttl",
    }
    body = sent(found.body, "gpt-5.6")
    assert body["messages"] == [
        {"role": "system", "content": [text("Rules.", prompt_cache_breakpoint=HERE)]},
        {"role": "user", "content": [{**IMAGE, "prompt_cache_breakpoint": HERE}, text("Hi")]},
        {"role": "assistant", "content": [text("Yes?")]},
        {"role": "user", "content": [text("Go on.", prompt_cache_breakpoint=HERE)]},
    ]
    assert body["tools"] == [TOOL]
    assert before == MARKED
    for part, kind in ((body["messages"][0]["content"][0], "text"), (body["messages"][1]["content"][0], "image")):
        params = {"text": ChatCompletionContentPartTextParam, "image": ChatCompletionContentPartImageParam}
        assert part.keys() <= get_type_hints(params[kind]).keys()


def test_before_gpt_5_6_each_mark_is_left_out_and_named() -> None:
    found = fit(MARKED, "gpt-5.5")
    assert set(found.dropped) == {
        "tools.0.cache_control",
        "messages.0.cache_control",
        "messages.1.content.0.cache_control",
        "messages.2.content.0.cache_control",
        "messages.3.content.0.cache_control",
    }
    for body in (found.body, sent(MARKED, "gpt-5.5")):
        assert not {"cache_control", "prompt_cache_breakpoint"} & set(keys_in(body))


def test_a_server_that_is_not_openais_gets_marks_as_they_are() -> None:
    found = fit(MARKED, "qwen3")
    assert (found.dropped, found.body) == ((), MARKED)
    assert sent(MARKED, "qwen3", "vllm.internal")["messages"] == MARKED["messages"]


def test_a_client_that_must_lose_nothing_is_told_that_a_mark_has_no_place() -> None:
    rows = ModelRows({"row": ["p/gpt-5.5"]}, {"p": "openai"})
    assert "messages.0.cache_control" in rows._fit("p/gpt-5.5", MARKED, "none").missing


def test_of_more_than_four_marks_the_first_and_the_last_three_become_breakpoints() -> None:
    body = asked(*({"role": "user", "content": [text(str(n), cache_control=MARK)]} for n in range(6)))
    found = fit(body, "gpt-5.6")
    assert found.dropped == ("messages.1.content.0.cache_control", "messages.2.content.0.cache_control")
    for made in (sent(found.body, "gpt-5.6"), sent(body, "gpt-5.6")):
        marked = [at for at, m in enumerate(made["messages"]) if "prompt_cache_breakpoint" in m["content"][0]]
        assert marked == [0, 3, 4, 5]


def test_breakpoints_of_the_clients_own_stay_as_they_are() -> None:
    own = [{"role": "user", "content": [text(str(n), prompt_cache_breakpoint=HERE)]} for n in range(5)]
    body = asked(*own, {"role": "user", "content": "x", "cache_control": MARK})
    assert sent(body, "gpt-5.6")["messages"][:5] == own


def test_by_responses_a_mark_becomes_a_breakpoint_of_an_input() -> None:
    found = fit(MARKED, "gpt-5.6", "openai_responses")
    assert set(found.dropped) == {
        "tools.0.cache_control",
        "messages.2.content.0.cache_control",
        "messages.3.content.0.cache_control.ttl",
    }
    body = by_responses(found.body, "gpt-5.6")
    system, image, answer, last = (item["content"] for item in body["input"])
    assert system == [{"type": "input_text", "text": "Rules.", "prompt_cache_breakpoint": HERE}]
    assert image[0]["prompt_cache_breakpoint"] == HERE
    assert answer == [{"type": "output_text", "text": "Yes?"}]
    assert last[0]["prompt_cache_breakpoint"] == HERE
    assert system[0].keys() <= get_type_hints(ResponseInputTextParam).keys()
    assert image[0].keys() <= get_type_hints(ResponseInputImageParam).keys()
    older = fit(MARKED, "gpt-5.5", "openai_responses")
    assert len([name for name in older.dropped if name.endswith("cache_control")]) == 5
    assert not {"cache_control", "prompt_cache_breakpoint"} & set(keys_in(by_responses(older.body, "gpt-5.5")))


HISTORY = asked(
    {"role": "system", "content": "Rules."},
    {"role": "developer", "content": "More rules."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Go on."},
    tools=[TOOL],
)


def marked_in(body: Any) -> list[int]:
    return [at for at, message in enumerate(body["messages"]) if "cache_control" in message]


def test_one_mark_stands_behind_tools_and_system_and_one_behind_what_the_user_said_last() -> None:
    before = copy.deepcopy(HISTORY)
    assert marked_in(with_marks(HISTORY, 2)) == [1, 4]
    assert marked_in(with_marks(HISTORY, 1)) == [1]
    assert with_marks(HISTORY, 0) is HISTORY
    assert before == HISTORY
    begun = asked(*HISTORY["messages"], {"role": "assistant", "content": "As I"})
    assert marked_in(with_marks(begun, 2)) == [1, 4]


def test_without_instructions_the_last_tool_has_the_first_mark() -> None:
    made = with_marks(asked({"role": "user", "content": "Hi"}, tools=[TOOL, TOOL]), 2)
    assert ["cache_control" in tool for tool in made["tools"]] == [False, True]
    assert marked_in(made) == [0]


@pytest.mark.parametrize(
    "own",
    [
        {"role": "user", "content": "Hi", "cache_control": MARK},
        {"role": "user", "content": [text("Hi", cache_control=MARK)]},
    ],
)
def test_a_clients_own_marks_win(own: dict[str, Any]) -> None:
    body = asked({"role": "system", "content": "Rules."}, own)
    assert with_marks(body, 2) is body
    tool = {**TOOL, "function": {**TOOL["function"], "cache_control": MARK}}
    body = asked({"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi"}, tools=[tool])
    assert with_marks(body, 2) is body


@pytest.mark.parametrize(
    ("kind", "model", "most"),
    [
        ("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", 2),
        ("bedrock", "amazon.nova-pro-v1:0", 2),
        ("bedrock", "meta.llama3-70b-instruct-v1:0", 0),
        ("anthropic", "claude-haiku-4-5", 2),
        ("openai", "gpt-5.6", 1),
        ("openai", "gpt-5.5", 0),
        ("openai", "anthropic/claude-sonnet-4.5", 2),
        ("openai", "qwen3", 0),
        ("openai_responses", "gpt-5.6", 1),
        ("google", "gemini-2.5-pro", 0),
        ("local", "smollm2-135m", 0),
    ],
)
def test_marks_are_set_for_models_that_are_known_to_have_a_use_for_them(kind: str, model: str, most: int) -> None:
    assert KINDS[kind].marks(model) == most
