"""What is refused, what is left out, and what is nothing to speak of, for each kind of provider."""

from typing import Any

import pytest

from deployments.openai_api.capabilities import Unsupported, find_unsupported
from deployments.providers.kinds import KINDS as ROWS

KINDS = ("openai", "bedrock", "google", "anthropic", "local")
CLAUDES = ("bedrock", "anthropic")
TOOLS = [{"type": "function", "function": {"name": "f"}}]
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cGl4ZWxz"}}
GIF = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,cGl4ZWxz"}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


def ask(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "row", "messages": [{"role": "user", "content": "Hi"}, *messages], **fields}


def unsupported(kind: str, body: dict[str, Any]) -> Unsupported:
    return find_unsupported(ROWS[kind].capabilities, body)


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [*parts]}


# The request, and who can't do it, under which name.
DEMANDS = [
    (ask(tools=TOOLS, tool_choice="required"), {}),
    (ask(tools=[{"type": "custom", "custom": {"name": "sh"}}]), dict.fromkeys(KINDS[1:], "tools")),
    (ask(tools=TOOLS, tool_choice={"type": "custom"}), dict.fromkeys(KINDS[1:], "tool_choice")),
    (ask(user(PNG)), {"local": "messages.1.content"}),
    (ask(user(GIF)), {"google": "messages.1.content", "local": "messages.1.content"}),
    (ask(user(LINK)), dict.fromkeys(KINDS[1:], "messages.1.content")),
    (ask(user({"type": "input_audio"})), dict.fromkeys(KINDS[1:], "messages.1.content")),
    (ask({"role": "system", "content": [PNG]}), dict.fromkeys(KINDS[1:], "messages.1.content")),
    (ask({"role": "function", "name": "f", "content": "1"}), dict.fromkeys(KINDS[1:], "messages.1.role")),
    (
        ask({"role": "assistant", "function_call": {}, "audio": {"id": "a"}}),
        dict.fromkeys(KINDS[1:], "messages.1.audio"),
    ),
    (ask(response_format={"type": "json_object"}), dict.fromkeys(CLAUDES, "response_format")),
    (ask(response_format=SCHEMA), {}),
    (ask(response_format={"type": "grammar"}), dict.fromkeys(KINDS[1:], "response_format")),
    (ask(logprobs=True), dict.fromkeys(CLAUDES, "logprobs")),
    (ask(logprobs=False, top_logprobs=0), {}),
    (ask(n=1), {}),
    (ask(n=2), dict.fromkeys((*CLAUDES, "local"), "n")),
    (ask(n=9), dict.fromkeys(KINDS[1:], "n")),
    (ask(reasoning_effort="of tomorrow"), dict.fromkeys((*CLAUDES, "google"), "reasoning_effort")),
    (ask(modalities=["text"], logit_bias={}, parameter_of_tomorrow=None), {}),
    (ask(logit_bias={"1": 5}), dict.fromkeys(KINDS[1:], "logit_bias")),
    (ask(web_search_options={}), dict.fromkeys(KINDS[1:], "web_search_options")),
    (ask(parameter_of_tomorrow=0), dict.fromkeys(KINDS[1:], "parameter_of_tomorrow")),
    ({"model": "row", "messages": [{"role": "system", "content": "Hi"}]}, dict.fromkeys(KINDS[1:4], "messages")),
    ({"model": "row", "messages": [{"role": "user", "content": " "}]}, dict.fromkeys(KINDS[1:4], "messages")),
]


@pytest.mark.parametrize(("body", "refused"), DEMANDS, ids=[str(at) for at in range(len(DEMANDS))])
def test_what_an_answer_depends_on_is_missing_by_its_name(body: dict[str, Any], refused: dict[str, str]) -> None:
    assert {kind: unsupported(kind, body).missing for kind in KINDS if unsupported(kind, body).missing} == {
        kind: (name,) for kind, name in refused.items()
    }


EVERY_HINT = {
    **{"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "safety_identifier": "s"},
    **{"prompt_cache_key": "k", "prediction": {"type": "content"}, "verbosity": "low", "seed": 1},
    **{"presence_penalty": 1, "frequency_penalty": 1, "parallel_tool_calls": False, "reasoning_effort": "none"},
}


def test_hints_are_dropped_where_there_is_no_place_for_them() -> None:
    dropped = {kind: set(EVERY_HINT) - set(unsupported(kind, ask(**EVERY_HINT)).dropped) for kind in KINDS}
    sampling = {"seed", "presence_penalty", "frequency_penalty"}
    assert dropped == {
        "openai": set(EVERY_HINT),
        "bedrock": {"parallel_tool_calls", "service_tier"},
        "google": {*sampling, "parallel_tool_calls", "reasoning_effort"},
        "anthropic": {"parallel_tool_calls", "user", "safety_identifier"},
        "local": sampling,
    }
    assert all(unsupported(kind, ask(**EVERY_HINT)).missing == () for kind in KINDS)


def test_hints_in_a_message_are_named_with_their_place() -> None:
    named = {"role": "user", "content": "Hi", "name": "Ann"}
    closely = user({"type": "image_url", "image_url": {**PNG["image_url"], "detail": "high"}})  # type: ignore[dict-item]
    assert unsupported("bedrock", ask(named, closely)) == Unsupported(
        dropped=("messages.1.name", "messages.2.content.0.image_url.detail")
    )


def test_what_an_answer_echoes_is_no_demand() -> None:
    echoed = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "reasoning": "x", "audio": None}
    assert all(unsupported(kind, ask(echoed)) == Unsupported() for kind in KINDS)


def test_a_field_at_its_default_is_not_named() -> None:
    defaults = {
        "n": 1,
        "seed": None,
        "store": False,
        "presence_penalty": 0.0,
        "parallel_tool_calls": True,
        "user": None,
    }
    assert all(unsupported(kind, ask(**defaults, service_tier="auto")) == Unsupported() for kind in KINDS)
