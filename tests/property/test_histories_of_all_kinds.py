"""A conversation that each kind of provider has carried on in turn is accepted by each of them.

The answers are the vendors' own, read by our codecs, and the requests are judged by the strict fakes of the vendors.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from deployments.openai_api.chat import check_request
from deployments.openai_api.json_types import parse_leniently
from deployments.providers.anthropic.codec import from_messages
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import from_converse, to_converse
from deployments.providers.google.codec import from_generate, to_generate
from deployments.providers.http.request_body import dump_with_bytes
from deployments.providers.local.codec import to_engine
from deployments.providers.openai.dialect import Dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.time_limits import TimeLimits
from deployments.routing.model_rows import ModelRows
from tests.fakes import bedrock_wire, gemini_wire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.vendors import anthropic, bedrock, bedrock_claude, compatible, first_refusal, gemini, openai
from tests.providers.anthropic_params import misfit
from tests.providers.any_request import file_part

Message = dict[str, Any]
KINDS = {"aws": "bedrock", "claude": "anthropic", "google": "google", "openai": "openai", "local": "local"}
CLAUDES = (
    *("3-7-sonnet-20250219", "sonnet-4-5-20250929", "opus-4-5-20251101", "opus-4-6", "opus-4-8", "sonnet-5"),
    "opus-5-5",
)
TARGETS = (
    *(f"aws/us.anthropic.claude-{name}-v1:0" for name in CLAUDES),
    *(f"claude/claude-{name}" for name in CLAUDES),
    *("google/gemini-2.5-pro", "google/gemini-3-pro", "openai/gpt-4.1", "local/qwen"),
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
OFFER = {"model": "row", "messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]}
FIRST = Call(OFFER, "any", "row", TimeLimits())
SIGNATURE = base64.b64encode(gemini_wire.SIGNATURE).decode()


@dataclass(frozen=True)
class Asked:
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


def of_bedrock(turn: int, draw: Any) -> Message:
    thoughts: list[Any] = [
        {"reasoningContent": {"reasoningText": bedrock_wire.THOUGHT}},
        {"reasoningContent": {"redactedContent": "AAEC"}},
    ]
    content: list[Any] = draw(st.lists(st.sampled_from(thoughts), max_size=2))
    calls = draw(st.integers(0, 2))
    if not calls or draw(st.booleans()):
        content = [*content, {"text": "Well."}]
    for at in range(calls):
        content = [*content, *draw(st.lists(st.sampled_from(thoughts), max_size=1))]
        content.append({"toolUse": {"toolUseId": f"tooluse_{turn}-{at}", "name": "f", "input": {}}})
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    models = ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-opus-4-8-v1:0", "any"]
    return message_in(from_converse(answer, structs.replace(FIRST, model=draw(st.sampled_from(models))))[0])


def of_anthropic(turn: int, draw: Any) -> Message:
    thoughts: list[Any] = [
        {"type": "thinking", **anthropic.THOUGHT},
        {"type": "redacted_thinking", "data": anthropic.REDACTED},
    ]
    content: list[Any] = draw(st.lists(st.sampled_from(thoughts), max_size=2))
    calls = draw(st.integers(0, 2))
    if not calls or draw(st.booleans()):
        content = [*content, {"type": "text", "text": "Well."}]
    for at in range(calls):
        content = [*content, *draw(st.lists(st.sampled_from(thoughts), max_size=1))]
        content.append({"type": "tool_use", "id": f"toolu_{turn}-{at}", "name": "f", "input": {}})
    answer = {"type": "message", "content": content, "stop_reason": "end_turn"}
    call = structs.replace(FIRST, model=draw(st.sampled_from(["claude-sonnet-4-5-20250929", "claude-opus-4-8", "any"])))
    return message_in(from_messages(answer, call)[0])


def of_google(turn: int, draw: Any) -> Message:
    signed = {"thoughtSignature": SIGNATURE}
    parts: list[Any] = draw(st.lists(st.just({"text": "Hm.", "thought": True}), max_size=1))
    calls = draw(st.integers(0, 2))
    if not calls or draw(st.booleans()):
        parts = [*parts, {"text": "Well.", **draw(st.sampled_from([{}, signed]))}]
    for at in range(calls):  # Gemini signs the first call of a step
        parts.append({"functionCall": {"name": "f", "args": {}, "id": f"g{turn}{at}"}, **({} if at else signed)})
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    return message_in(from_generate(answer, FIRST)[0])


def of_openai(turn: int, draw: Any) -> Message:
    calls = [
        {"id": f"call_{turn}{at}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for at in range(draw(st.integers(0, 2)))
    ]
    texts: Any = st.none() | st.just("Well.") if calls else st.just("Well.")
    more = {"refusal": st.none(), "annotations": st.just([]), "reasoning_content": st.just("Hm."), "audio": st.none()}
    said = draw(st.fixed_dictionaries({"content": texts}, optional=more))
    return {"role": "assistant", **said, **({"tool_calls": calls} if calls else {})}


def of_local(turn: int, draw: Any) -> Message:
    call = {"id": f"call_{turn}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"content": None, "tool_calls": [call]} if draw(st.booleans()) else {"content": "Well."}
    return {"role": "assistant", "refusal": None, **said}


def message_in(body: bytes) -> Message:
    message: Message = parse_leniently(body)["choices"][0]["message"]
    return message


ANSWERS = (of_bedrock, of_anthropic, of_google, of_openai, of_local)
FILE = {"role": "user", "content": [{"type": "text", "text": "Read it."}, file_part("a.pdf", "application/pdf")]}
FAILED = st.fixed_dictionaries({}, optional={"is_error": st.booleans()})


@st.composite
def histories(draw: Any) -> list[Message]:
    """A conversation that ends with the user, or with the results of a step that goes on."""
    messages: list[Message] = []
    for turn, answer in enumerate(draw(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=5))):
        if not messages or messages[-1]["role"] == "assistant":
            messages.append(draw(st.sampled_from([{"role": "user", "content": "Go on."}, FILE])))
        made = answer(turn, draw)
        messages.append(made)
        for call in made.get("tool_calls") or ():
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": "21", **draw(FAILED)})
    if messages[-1]["role"] == "assistant":
        messages.append({"role": "user", "content": "Go on."})
    return messages


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_effort": st.sampled_from(["none", "low", "high"]),
        "temperature": st.just(0.2),
        "top_p": st.just(0.5),
        "max_completion_tokens": st.sampled_from([500, 4000, 60_000]),
        "tool_choice": st.sampled_from(["auto", "required", "none"]),
    },
)


def objection(target: str, call: Call) -> Any:
    """Return why the vendor of a target would refuse a call; None if it would not."""
    provider, model = target.split("/")
    if provider == "aws":
        made = to_converse(call)
        refusal = first_refusal((*bedrock.RULES, *bedrock_claude.RULES), Asked(f"/model/{model}/converse", made, {}))
        return refusal or bedrock_wire.objection(made)
    if provider == "claude":
        made = json.loads(dump_with_bytes(to_messages(call)))
        assert misfit(made) is None
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
        return first_refusal(anthropic.RULES, Asked("/v1/messages", made, headers))
    if provider == "google":
        made = to_generate(call)
        refusal = first_refusal(gemini.RULES, Asked(f"/models/{model}:generateContent", made, {}))
        return refusal or gemini_wire.objection(made["contents"], signs="gemini-2" not in model)
    if provider == "openai":
        made = chat_body(call, stream=False, dialect=Dialect())
        rules = (*openai.RULES, *compatible.STRICT)
        refusal = first_refusal(rules, Asked("/v1/chat/completions", made, {}))
        return refusal or OpenAIWire().objection("/v1/chat/completions", made) or unknown_fields(made)
    to_engine(call)
    return None


def unknown_fields(body: Mapping[str, Any]) -> str | None:
    """Return the fields that only another provider or we ourselves put into a message."""
    known = {"role", "content", "tool_calls", "tool_call_id"}
    found = [name for message in body["messages"] for name in message if name not in known]
    inner = [n for m in body["messages"] for c in m.get("tool_calls") or () for n in c if n == "extra_content"]
    return ", ".join(found + inner) or None


@settings(max_examples=150, deadline=None)
@given(histories(), FIELDS)
def test_a_history_of_all_kinds_in_turn_is_accepted_by_each(messages: list[Message], fields: dict[str, Any]) -> None:
    rows = ModelRows({"row": list(TARGETS)}, KINDS)
    asked = check_request({"model": "row", "messages": messages, "tools": [TOOL], **fields})
    for target, fit in rows.fits(asked):
        assert fit.bug is None
        if fit.missing == ("tool_choice",):
            assert fields["tool_choice"] == "required"
            assert "opus-5-5" in target
            continue
        if fit.missing:
            assert FILE in messages
            assert target.startswith("local")
            continue
        call = Call(fit.body, target.partition("/")[2], "row", TimeLimits())
        assert objection(target, call) is None, (target, json.dumps(fit.body))
