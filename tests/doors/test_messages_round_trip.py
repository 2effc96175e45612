"""Answers of real wires through the door and back: what a vendor has signed reaches the same vendor again."""

from typing import Any

import orjson

from deployments.openai_api.chat import DONE, Head, frames_to_chunks
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


def answer_of(codec: Bedrock | Google, events: list[dict[str, Any]]) -> dict[str, Any]:
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
