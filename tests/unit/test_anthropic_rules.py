"""What Anthropic's fake refuses: each rule has its source, refuses what that says, and lets a plain request pass."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.breaker.outcomes import Verdict
from deployments.providers.anthropic.classify import refusal_of
from tests.fakes.vendors import Rule, anthropic, first_refusal
from tests.unit.test_vendor_rules import PNG, SOURCE

HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
HAIKU, SONNET_37, OPUS_46 = "claude-haiku-4-5-20251001", "claude-3-7-sonnet-20250219", "claude-opus-4-6"
OPUS_4, OPUS_48, SONNET_55 = "claude-opus-4-1-20250805", "claude-opus-4-8", "claude-sonnet-5-5"
EPHEMERAL, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
OBJECT = {"type": "object", "properties": {}}
TOOL = {"name": "f", "input_schema": OBJECT}
THOUGHT = {"type": "thinking", **anthropic.THOUGHT}
BUDGET = {"type": "enabled", "budget_tokens": 2048}


@dataclass(frozen=True)
class Request:
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)
    path: str = "/v1/messages"


def text(said: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def use(key: str = "a") -> dict[str, Any]:
    return {"type": "tool_use", "id": key, "name": "f", "input": {}}


def result(key: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": key, "content": [text("21")], **more}


def turns(*contents: Any) -> list[dict[str, Any]]:
    """Messages of the user and the assistant by turns, the user first."""
    return [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]


def asking(model: str = HAIKU, *contents: Any, **more: Any) -> Request:
    return Request({"model": model, "max_tokens": 4096, "messages": turns(*(contents or ([text()],))), **more})


def without(name: str) -> Request:
    return Request({key: value for key, value in asking().body.items() if key != name})


def source(media_type: str, data: bytes = b"x") -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}


def media(kind: str, **more: Any) -> Request:
    return asking(HAIKU, [{"type": kind, **more}, text()])


def forced(model: str = HAIKU, **more: Any) -> Request:
    return asking(model, tools=[TOOL], tool_choice={"type": "any"}, **more)


MARKED = text(cache_control=EPHEMERAL)
REFUSED: list[tuple[Rule, str, Request]] = [
    (anthropic.headers, "no key", Request(asking().body, {"anthropic-version": "2023-06-01"})),
    (anthropic.headers, "no version", Request(asking().body, {"x-api-key": "k"})),
    (
        anthropic.betas,
        "what is no beta",
        Request(asking().body, {**HEADERS, "anthropic-beta": "effort-2025-11-24, x-1"}),
    ),
    (anthropic.fields, "no limit", without("max_tokens")),
    (anthropic.fields, "what a beta opens", asking(context_management={"edits": []})),
    (anthropic.fields, "an unknown field", asking(reasoning_effort="low")),
    (anthropic.fields, "an unknown field of a block", asking(HAIKU, [text(extra=1)])),
    (anthropic.fields, "an unknown block", asking(HAIKU, [{"type": "image_url"}])),
    (anthropic.fields, "a block of another's", asking(HAIKU, [{"type": "input_audio"}])),
    (anthropic.fields, "more of its user", asking(metadata={"user_id": "u", "name": "x"})),
    (anthropic.fields, "a long name of its user", asking(metadata={"user_id": "u" * 257})),
    (anthropic.roles, "no messages", asking(messages=[])),
    (anthropic.roles, "a role of its own", asking(messages=[{"role": "tool", "content": "x"}])),
    (anthropic.roles, "the assistant first", asking(messages=[{"role": "assistant", "content": "x"}])),
    (anthropic.empty, "no content", asking(HAIKU, [], [text()], [text()])),
    (anthropic.empty, "an empty text", asking(HAIKU, [text("")])),
    (anthropic.empty, "a blank text", asking(HAIKU, [text(" \n")])),
    (anthropic.empty, "a blank system prompt", asking(system=[text(" ")])),
    (
        anthropic.empty,
        "a failure without a word",
        asking(HAIKU, [text()], [use()], [result(content=[], is_error=True)]),
    ),
    (anthropic.tool_turns, "no result", asking(HAIKU, [text()], [use()], [text()], tools=[TOOL])),
    (anthropic.tool_turns, "no turn after the call", asking(HAIKU, [text()], [use()], tools=[TOOL])),
    (
        anthropic.tool_turns,
        "a result behind a text",
        asking(HAIKU, [text()], [use()], [text(), result()], tools=[TOOL]),
    ),
    (anthropic.tool_turns, "a result of no call", asking(HAIKU, [result()], tools=[TOOL])),
    (anthropic.tool_turns, "two results", asking(HAIKU, [text()], [use()], [result(), result()], tools=[TOOL])),
    (anthropic.tool_turns, "an id twice", asking(HAIKU, [text()], [use(), use()], [result()], tools=[TOOL])),
    (anthropic.tool_turns, "an odd id", asking(HAIKU, [text()], [use("a:0")], [result("a:0")], tools=[TOOL])),
    (anthropic.tool_turns, "no tools", asking(HAIKU, [text()], [use()], [result()])),
    (anthropic.tools, "a name twice", asking(tools=[TOOL, TOOL])),
    (anthropic.tools, "a name with a dot", asking(tools=[{**TOOL, "name": "a.b"}])),
    (anthropic.tools, "another's field", asking(tools=[{**TOOL, "parameters": {}}])),
    (anthropic.tools, "a schema of no object", asking(tools=[{**TOOL, "input_schema": {"type": "string"}}])),
    (anthropic.tools, "a choice without tools", asking(tool_choice={"type": "auto"})),
    (anthropic.tools, "a choice of no tool", asking(tools=[TOOL], tool_choice={"type": "tool", "name": "g"})),
    (anthropic.thoughts, "no signature", asking(HAIKU, [text()], [{"type": "thinking", "thinking": "x"}, text()])),
    (anthropic.thoughts, "a foreign signature", asking(HAIKU, [text()], [{**THOUGHT, "signature": "x"}, text()])),
    (anthropic.thoughts, "a changed thought", asking(HAIKU, [text()], [{**THOUGHT, "thinking": "x"}, text()])),
    (anthropic.thoughts, "foreign data", asking(HAIKU, [text()], [{"type": "redacted_thinking", "data": "x"}, text()])),
    (anthropic.thoughts, "the user's", asking(HAIKU, [THOUGHT, text()])),
    (anthropic.thinking_and_top_k, "both", asking(SONNET_37, thinking=BUDGET, top_k=5)),
    (anthropic.top_k, "a new model", asking(OPUS_48, top_k=5)),
    (anthropic.marks, "five", asking(HAIKU, [MARKED] * 5)),
    (anthropic.marks, "another sort", asking(HAIKU, [text(cache_control={"type": "persistent"})])),
    (anthropic.marks, "an odd lifetime", asking(HAIKU, [text(cache_control={**EPHEMERAL, "ttl": "24h"})])),
    (anthropic.marks, "a lifetime that rises", asking(HAIKU, [text(cache_control=HOUR)], system=[MARKED])),
    (anthropic.media, "an image of another type", media("image", source=source("image/heic"))),
    (anthropic.media, "an image that is another", media("image", source=source("image/jpeg", base64.b64decode(PNG)))),
    (anthropic.media, "a document of another type", media("document", source=source("application/msword"))),
    (anthropic.media, "a long title", media("document", source=source("application/pdf"), title="x" * 501)),
    (
        anthropic.media,
        "a text of another type",
        media("document", source={"type": "text", "media_type": "text/csv", "data": "1"}),
    ),
    (anthropic.output, "an open object", asking(output_config={"format": {"type": "json_schema", "schema": OBJECT}})),
    (anthropic.output, "a name", asking(output_config={"format": {"type": "json_schema", "schema": {}, "name": "s"}})),
    (anthropic.output, "an open strict tool", asking(tools=[{**TOOL, "strict": True}])),
    (anthropic.output, "a union at the top", asking(tools=[{**TOOL, "input_schema": {**OBJECT, "anyOf": []}}])),
    (anthropic.model, "both samplings", asking(temperature=0.5, top_p=0.5)),
    (anthropic.model, "sampling of a new model", asking(OPUS_48, temperature=0.5)),
    (anthropic.model, "a high temperature", asking(temperature=1.5)),
    (anthropic.model, "temperature beside thoughts", asking(HAIKU, thinking=BUDGET, temperature=0.5)),
    (anthropic.model, "a forced tool beside thoughts", forced(HAIKU, thinking=BUDGET)),
    (anthropic.model, "a forced tool of a model that has none", forced(SONNET_55)),
    (anthropic.model, "a small budget", asking(SONNET_37, thinking={**BUDGET, "budget_tokens": 512})),
    (anthropic.model, "a budget without room", asking(SONNET_37, thinking={**BUDGET, "budget_tokens": 4096})),
    (anthropic.model, "a budget of an adaptive model", asking(OPUS_48, thinking=BUDGET)),
    (anthropic.model, "adaptive, of a model that is not", asking(HAIKU, thinking={"type": "adaptive"})),
    (anthropic.model, "an effort of a model that has none", asking(HAIKU, output_config={"effort": "low"})),
    (anthropic.model, "more than it gives", asking(OPUS_4, max_tokens=64_000)),
    (anthropic.model, "a blank stop", asking(stop_sequences=["\n"])),
    (anthropic.model, "a beginning of its answer", asking(OPUS_46, [text()], [text("It is")])),
    (anthropic.model, "a space at the end of it", asking(HAIKU, [text()], [text("It is ")])),
    (anthropic.model, "a beginning beside thoughts", asking(HAIKU, [text()], [text("It is")], thinking=BUDGET)),
    (
        anthropic.model,
        "a step without its thoughts",
        asking(HAIKU, [text()], [use()], [result()], tools=[TOOL], thinking=BUDGET),
    ),
    (anthropic.window, "a long prompt", asking(HAIKU, [text("x" * 900_000)])),
    (anthropic.window, "both together", asking(OPUS_4, [text("x" * 790_000)], max_tokens=32_000)),
]
TAKEN = [
    asking(),
    asking(HAIKU, "Hi", system="Be brief."),
    asking(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]),  # joined
    asking(HAIKU, [text()], [text("It is")]),
    asking(HAIKU, [text()], [THOUGHT, use()], [result(), text()], tools=[TOOL], thinking=BUDGET),
    asking(HAIKU, [text()], [{"type": "redacted_thinking", "data": anthropic.REDACTED}, text()], [text()]),
    asking(HAIKU, [text(cache_control=EPHEMERAL)], system=[text(cache_control=HOUR)]),
    asking(OPUS_46, thinking={"type": "adaptive"}, output_config={"effort": "max"}),
    media("image", source=source("image/png", base64.b64decode(PNG))),
    media("document", source=source("application/pdf"), title="a.pdf"),
    forced(),
]


@pytest.mark.parametrize("rule", anthropic.RULES, ids=lambda rule: rule.__name__)
def test_each_rule_has_its_source_and_a_request_that_it_refuses(rule: Rule) -> None:
    assert SOURCE.search(rule.__doc__ or "") or rule is anthropic.model, rule.__doc__
    assert rule in [refusing for refusing, _, _ in REFUSED]


@pytest.mark.parametrize(("rule", "what", "request_"), REFUSED, ids=lambda value: value if type(value) is str else "")
def test_a_rule_refuses_what_its_source_says_and_no_refusal_moves_a_circuit(
    rule: Rule, what: str, request_: Request
) -> None:
    refusal = rule(request_)
    assert refusal is not None, what
    assert refusal.body["type"] == "error"
    outcome = refusal_of(refusal.status, {}, refusal.raw, request_.body).outcome
    expected = Verdict.MISCONFIGURED if refusal.status == 401 else Verdict.REFUSED
    assert outcome.verdict == expected, outcome


@pytest.mark.parametrize("request_", TAKEN, ids=lambda request: str(request.body)[-60:])
def test_a_request_within_the_rules_is_taken(request_: Request) -> None:
    assert first_refusal(anthropic.RULES, request_) is None
