"""An effort reaches each version of Claude in the words that it takes, and never where thinking is refused."""

from typing import Any

import pytest

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import Head
from deployments.openai_api.json_types import parse_leniently
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import StreamCodec, from_converse
from deployments.providers.bedrock.request import to_converse
from deployments.providers.claude.thinking import ThinkingModel, thinking_model
from deployments.providers.time_limits import TimeLimits

SONNET_45 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS_45, OPUS_46, OPUS_47 = (f"us.anthropic.claude-opus-4-{n}-v1:0" for n in ("5-20251101", "6", "7"))
SONNET_55, OPUS_55 = "us.anthropic.claude-sonnet-5-5", "us.anthropic.claude-opus-5-5-v1:0"
SONNET_5, FABLE = "global.anthropic.claude-sonnet-5", "anthropic.claude-fable-5-1"
HI = {"role": "user", "content": "Hi"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED = {"extra_content": {"bedrock": {"reasoning": [{"text": "Hm.", "signature": "c2ln"}]}}}
SHOWN = {"type": "adaptive", "display": "summarized"}


def asked(model: str, *more: Any, **fields: Any) -> dict[str, Any]:
    return to_converse(Call({"messages": [HI, *more], **fields}, model, "row", TimeLimits()))


def thinks(model: str, *more: Any, **fields: Any) -> tuple[Any, Any]:
    made = asked(model, *more, **fields)
    extra = made.get("additionalModelRequestFields", {})
    return extra.get("thinking"), made.get("outputConfig", {}).get("effort")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("anthropic.claude-3-5-haiku-20241022-v1:0", None),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", ThinkingModel()),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", ThinkingModel()),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", ThinkingModel()),
        (SONNET_45, ThinkingModel()),
        (OPUS_45, ThinkingModel(takes_effort=True)),
        ("anthropic.claude-sonnet-4-6", ThinkingModel(adaptive=True, takes_effort=True)),
        (OPUS_47, ThinkingModel(adaptive=True, takes_effort=True, hides=True)),
        (SONNET_5, ThinkingModel(adaptive=True, takes_effort=True, hides=True, off="disabled")),
        ("anthropic.claude-haiku-5-5", ThinkingModel(adaptive=True, takes_effort=True, hides=True, off="disabled")),
        (SONNET_55, ThinkingModel(adaptive=True, takes_effort=True, hides=True, off="between_tools")),
        (OPUS_55, ThinkingModel(adaptive=True, takes_effort=True, hides=True, always=True)),
        (FABLE, ThinkingModel(adaptive=True, takes_effort=True, hides=True, always=True)),
        ("anthropic.claude-mythos-preview", ThinkingModel(adaptive=True, takes_effort=True, hides=True, always=True)),
        ("openai.gpt-oss-120b-1:0", None),
    ],
)
def test_each_version_of_claude_is_told_to_think_in_its_own_way(model: str, expected: ThinkingModel | None) -> None:
    assert thinking_model(model) == expected


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent"),
    [
        (SONNET_45, "minimal", {"type": "enabled", "budget_tokens": 1024}, None),
        (SONNET_45, "max", {"type": "enabled", "budget_tokens": 31_999}, None),
        (OPUS_45, "medium", {"type": "enabled", "budget_tokens": 8192}, "medium"),
        (OPUS_46, "low", {"type": "adaptive"}, "low"),
        (OPUS_47, "xhigh", SHOWN, "xhigh"),
        (SONNET_5, "minimal", SHOWN, "low"),
        ("openai.gpt-oss-120b-1:0", "minimal", None, "low"),
        ("openai.gpt-oss-120b-1:0", "high", None, "high"),
        (SONNET_45, "none", None, None),
        (OPUS_47, "none", None, None),
        ("global.anthropic.claude-opus-5", "none", {"type": "disabled"}, None),
        (SONNET_5, "none", {"type": "disabled"}, None),
        (SONNET_55, "none", {"type": "between_tools"}, None),
        (OPUS_55, "none", None, "low"),
        (FABLE, "none", None, "low"),
        (SONNET_5, None, None, None),
        (OPUS_47, None, None, None),
    ],
)
def test_an_effort_makes_claude_think(model: str, effort: str | None, thinking: Any, sent: str | None) -> None:
    assert thinks(model, reasoning_effort=effort) == (thinking, sent)


@pytest.mark.parametrize(("most", "budget"), [(100_000, 16_384), (10_000, 5000), (2048, 1024), (2047, None)])
def test_a_budget_leaves_half_of_the_tokens_for_the_answer(most: int, budget: int | None) -> None:
    expected = None if budget is None else {"type": "enabled", "budget_tokens": budget}
    assert thinks(SONNET_45, reasoning_effort="high", max_completion_tokens=most)[0] == expected


@pytest.mark.parametrize(
    ("model", "thinking", "sent"),
    [
        (SONNET_45, None, None),
        (OPUS_45, None, "high"),
        (OPUS_47, None, "high"),
        (SONNET_5, {"type": "disabled"}, "high"),
        ("anthropic.claude-fable-5", None, "high"),
    ],
)
def test_where_a_tool_must_be_called_claude_does_not_think(model: str, thinking: Any, sent: str | None) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "f"}}):
        made = thinks(model, reasoning_effort="max", tools=TOOLS, tool_choice=choice)
        assert made == (thinking, sent)
    assert thinks(SONNET_5, tools=TOOLS, tool_choice="required") == ({"type": "disabled"}, None)
    assert thinks(SONNET_5, tools=TOOLS, tool_choice="auto") == (None, None)


@pytest.mark.parametrize("model", [OPUS_55, SONNET_55, FABLE])
def test_a_model_that_refuses_a_forced_tool_is_not_asked_for_one(model: str) -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": TOOLS}}
    for choice in ("required", {"type": "function", "function": {"name": "f"}}, allowed):
        with pytest.raises(AttemptFailed) as caught:
            asked(model, tools=TOOLS, tool_choice=choice)
        assert (caught.value.outcome.kind, caught.value.outcome.param) == ("unsupported", "tool_choice")
    asked(model, tools=TOOLS, tool_choice="auto")
    asked("anthropic.claude-haiku-5-5", tools=TOOLS, tool_choice="required")


@pytest.mark.parametrize(("extra", "budget"), [({}, None), (SIGNED, 16_384)])
def test_a_step_goes_on_with_a_budget_only_behind_its_own_thoughts(extra: Any, budget: int | None) -> None:
    step = [{"role": "assistant", "tool_calls": [{**CALL, **extra}]}]
    step.append({"role": "tool", "tool_call_id": "a", "content": "1"})
    expected = None if budget is None else {"type": "enabled", "budget_tokens": budget}
    assert thinks(SONNET_45, *step, reasoning_effort="high", tools=TOOLS)[0] == expected
    assert thinks(OPUS_46, *step, reasoning_effort="high", tools=TOOLS)[0] == {"type": "adaptive"}
    assert thinks(SONNET_45, *step, {"role": "assistant", "content": "So"}, HI, reasoning_effort="low")[0] is not None


def test_an_answer_that_has_begun_is_not_thought_about() -> None:
    assert thinks(SONNET_45, {"role": "assistant", "content": "It is"}, reasoning_effort="high") == (None, None)


def reasoning(word: str) -> dict[str, Any]:
    return {"reasoningContent": {"reasoningText": {"text": word, "signature": f"{word}-signed"}}}


USE = {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}
REDACTED = {"reasoningContent": {"redactedContent": "AAEC"}}
TURNS = [
    [reasoning("A"), {"text": "Well."}],
    [reasoning("A"), USE],
    [reasoning("A"), {"text": "Well."}, USE],
    [reasoning("A"), {"text": "Well."}, reasoning("B"), USE],
    [
        reasoning("A"),
        REDACTED,
        {"text": "Well."},
        REDACTED,
        USE,
        reasoning("B"),
        {"toolUse": {**USE["toolUse"], "toolUseId": "b"}},
    ],
    [reasoning(""), USE],
]


def whole(content: list[Any], asked: Call) -> dict[str, Any]:
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    message: dict[str, Any] = parse_leniently(from_converse(answer, asked)[0])["choices"][0]["message"]
    return message


def deltas_of(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the deltas of a block: the signature comes behind the thoughts."""
    if "text" in block:
        return [{"text": piece} for piece in block["text"]]
    if "reasoningContent" not in block:
        return []
    thought = block["reasoningContent"].get("reasoningText")
    pieces = [{k: v} for k, v in thought.items() if v] if thought else [block["reasoningContent"]]
    return [{"reasoningContent": piece} for piece in pieces]


def streamed(content: list[Any]) -> list[dict[str, Any]]:
    """Return the deltas of a chat that Converse's events for an answer become."""
    codec, data = StreamCodec.of(Head.new("row")), b""
    for block in content:
        if "toolUse" in block:
            data += codec.frames({"contentBlockStart": {"start": {"toolUse": block["toolUse"]}}})[0]
        for delta in deltas_of(block):
            data += codec.frames({"contentBlockDelta": {"delta": delta}})[0]
        data += codec.frames({"contentBlockStop": {}})[0]
    data += codec.frames({"messageStop": {"stopReason": "end_turn"}})[0]
    return [parse_leniently(line[6:])["choices"][0]["delta"] for line in data.split(b"\n\n") if line]


def joined(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a client makes of a stream."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": []}
    for delta in deltas:
        message["content"] += delta.get("content") or ""
        if extra := delta.get("extra_content"):
            assert "extra_content" not in message, "no client can join two lists of objects"
            message["extra_content"] = extra
        for piece in delta.get("tool_calls") or ():
            if "id" in piece:
                message["tool_calls"].append({k: v for k, v in piece.items() if k != "index"})
            else:
                message["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return message


def sent_back(message: dict[str, Any]) -> list[Any]:
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "1"} for c in message.get("tool_calls") or ()]
    call = Call({"messages": [HI, message, *results, HI]}, SONNET_45, "row", TimeLimits())
    blocks: list[Any] = to_converse(call)["messages"][1]["content"]
    return [REDACTED if "redactedContent" in block.get("reasoningContent", {}) else block for block in blocks]


@pytest.mark.parametrize("content", TURNS)
def test_what_claude_has_thought_and_said_goes_back_in_its_own_order(content: list[Any]) -> None:
    given = Call({"messages": [HI], "tools": TOOLS}, SONNET_45, "row", TimeLimits())
    assert sent_back(whole(content, given)) == content
    assert sent_back(joined(streamed(content))) == content


@pytest.mark.parametrize("content", TURNS)
def test_the_signature_reaches_the_client_with_the_text_or_the_call_that_follows(content: list[Any]) -> None:
    spoken = next(d for d in streamed(content) if d.get("content") or d.get("tool_calls"))
    extra = spoken.get("extra_content") or spoken["tool_calls"][0]["extra_content"]
    assert extra["bedrock"]["reasoning"][0]["signature"].endswith("-signed")
