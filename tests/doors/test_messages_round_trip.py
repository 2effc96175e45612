"""Answers of real wires through the door and back: what a vendor has signed reaches the same vendor again."""

from typing import Any

import orjson

from deployments.openai_api.chat import DONE, Head, frames_to_chunks
from deployments.providers.anthropic.codec import StreamCodec as Anthropic
from deployments.providers.anthropic.codec import from_messages
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock.codec import StreamCodec as Bedrock
from deployments.providers.bedrock.codec import from_converse
from deployments.providers.bedrock.request import to_converse
from deployments.providers.google.codec import StreamCodec as Google
from deployments.providers.google.request import to_generate
from deployments.providers.openai.dialect import Dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.time_limits import TimeLimits
from tests.doors.anthropic_types import BODY, HEAD, MESSAGES, SERVED, encoded, events_in, folded, opened

TOOLS = [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}]
CLAUDE, GEMINI = "us.anthropic.claude-sonnet-4-6", "gemini-3-pro"


def next_call(answer: dict[str, Any], model: str) -> Call:
    """Return the call of the next turn, in which a client sends an answer back with a result of each call."""
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "found"}
        for block in answer["content"]
        if block["type"] == "tool_use"
    ]
    turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results or "And?"}]
    body = {**BODY, "tools": TOOLS, "messages": [*BODY["messages"], *turns]}
    request = MESSAGES.open(body)
    assert request.dropped == ()
    return Call(request.request.body, model, "row-a", TimeLimits())


def answer_of(codec: Bedrock | Google | Anthropic, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what Anthropic's SDK reads of a vendor's stream."""
    frames = [codec.frames(event)[0] for event in events]
    if isinstance(codec, Google):
        frames.append(codec.end())
    return folded(events_in(encoded(opened(tools=TOOLS).encoder(SERVED), [*frames, DONE])))


THOUGHT = [
    {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Look "}}}},
    {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "there."}}}},
    {"contentBlockDelta": {"delta": {"reasoningContent": {"signature": "sig-1"}}}},
    {"contentBlockStop": {}},
]
SIGNED = {"reasoningContent": {"reasoningText": {"text": "Look there.", "signature": "sig-1"}}}
USE = {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"at": "x"}}}
START = {"messageStart": {"role": "assistant"}}


def test_claudes_signature_before_a_call_goes_back_to_claude() -> None:
    events = [
        START,
        *THOUGHT,
        {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "tooluse_1", "name": "look"}}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"at":'}}}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": '"x"}'}}}},
        {"contentBlockStop": {}},
        {"messageStop": {"stopReason": "tool_use"}},
    ]
    answer = answer_of(Bedrock.of(HEAD), events)
    assert [block["type"] for block in answer["content"]] == ["thinking", "tool_use"]
    sent = to_converse(next_call(answer, CLAUDE))
    assert sent["messages"][1]["content"] == [SIGNED, USE]
    assert sent["messages"][2]["content"][0]["toolResult"]["toolUseId"] == "tooluse_1"


def test_claudes_signature_before_a_text_goes_back_to_claude_streamed_or_whole() -> None:
    text = {"contentBlockDelta": {"delta": {"text": "Hello."}}}
    streamed = answer_of(Bedrock.of(HEAD), [START, *THOUGHT, text, {"messageStop": {"stopReason": "end_turn"}}])
    message = {"role": "assistant", "content": [SIGNED, {"text": "Hello."}]}
    call = Call({**opened().request.body}, CLAUDE, "row-a", TimeLimits())
    body, _ = from_converse({"output": {"message": message}, "stopReason": "end_turn"}, call)
    for answer in (streamed, opened().whole(orjson.loads(body), SERVED)):
        assert to_converse(next_call(answer, CLAUDE))["messages"][1]["content"] == [SIGNED, {"text": "Hello."}]


def test_a_chat_is_told_once_what_claude_has_signed_before_a_text() -> None:
    codec, text = Bedrock.of(HEAD), {"contentBlockDelta": {"delta": {"text": "a"}}}
    events = [START, *THOUGHT, text, *THOUGHT, text, {"messageStop": {"stopReason": "end_turn"}}]
    deltas = [one["choices"][0]["delta"] for event in events for one in frames_to_chunks(codec.frames(event)[0])]
    told = [delta for delta in deltas if "extra_content" in delta]
    assert [(delta["content"], len(delta["extra_content"]["bedrock"]["reasoning"])) for delta in told] == [("a", 1)]


def test_geminis_signature_of_a_call_goes_back_to_gemini_and_to_nobody_else() -> None:
    parts = [
        {"functionCall": {"name": "look", "args": {"at": "x"}}, "thoughtSignature": "c2lnLTE="},
        {"functionCall": {"name": "look", "args": {"at": "y"}}},
    ]
    chunk = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": {}}
    answer = answer_of(Google(Head.new("row-a")), [chunk])
    assert [block["type"] for block in answer["content"]] == ["thinking", "tool_use", "tool_use"]
    sent = to_generate(next_call(answer, GEMINI))["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in sent] == ["c2lnLTE=", None]
    assert b"c2lnLTE" not in orjson.dumps(chat_body(next_call(answer, "gpt-5"), stream=False, dialect=Dialect()))
    assert b"c2lnLTE" not in orjson.dumps(to_converse(next_call(answer, CLAUDE)), default=repr)


A_THOUGHT = [
    {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Look there."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig-1"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hello."}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]


def test_what_anthropic_signs_goes_back_to_it_and_to_the_same_claude_of_bedrock() -> None:
    answer = answer_of(Anthropic.of(HEAD, "claude-sonnet-4-6"), A_THOUGHT)
    back = to_messages(next_call(answer, "claude-sonnet-4-6"))["messages"][1]["content"]
    assert back[0] == {"type": "thinking", "thinking": "Look there.", "signature": "sig-1"}
    assert to_converse(next_call(answer, CLAUDE))["messages"][1]["content"][0] == SIGNED
    other = to_converse(next_call(answer, "us.anthropic.claude-opus-4-6-v1"))["messages"][1]["content"]
    assert other == [{"text": "Hello."}]


def test_what_a_cache_has_written_is_told_by_its_lifetimes() -> None:
    written = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 20}
    counts = {"input_tokens": 7, "cache_creation_input_tokens": 20, "cache_creation": written, "output_tokens": 5}
    call = Call({**opened().request.body}, "claude-sonnet-4-6", "row-a", TimeLimits())
    message = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": counts}
    answer = opened().whole(orjson.loads(from_messages(message, call)[0]), SERVED)
    told = {name: answer["usage"][name] for name in ("input_tokens", "cache_creation_input_tokens", "cache_creation")}
    assert told == {"input_tokens": 7, "cache_creation_input_tokens": 20, "cache_creation": written}
