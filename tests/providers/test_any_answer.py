"""Any answer of Converse or Gemini: openai's own client reads it, and it goes back in the next request unchanged."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from deployments.openai_api.chat import Head, frames_to_chunks
from deployments.providers.anthropic import codec as anthropic_codec
from deployments.providers.anthropic.codec import from_messages
from deployments.providers.anthropic.request import to_messages
from deployments.providers.base import Call
from deployments.providers.bedrock import codec as bedrock_codec
from deployments.providers.bedrock.codec import from_converse, to_converse
from deployments.providers.google import codec as google_codec
from deployments.providers.google.codec import from_generate, to_generate
from deployments.providers.time_limits import TimeLimits
from tests.fakes.tool_use import pieces
from tests.providers.any_request import names, objects, texts

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look_up", "Add-2", "f")]
MANY = settings(max_examples=50, deadline=None)
Message = dict[str, Any]


def call(messages: Sequence[Message] = (), **more: Any) -> Call:
    return Call({"model": "row", "messages": [*messages], "tools": TOOLS, **more}, "upstream", "row", TimeLimits())


def read_whole(body: bytes) -> tuple[Message, str]:
    """As openai's client reads it: the message to send back, and the finish reason."""
    choice = ChatCompletion.model_validate_json(body).choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def read_stream(codec: Any, events: Sequence[Any]) -> tuple[Message, str]:
    state = ChatCompletionStreamState()
    chunks = [chunk for event in events for chunk in frames_to_chunks(codec.frames(event)[0])]
    chunks += frames_to_chunks(getattr(codec, "tail", b""))
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    assert codec.finished
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    choice = state.get_final_completion().choices[0]
    return choice.message.model_dump(exclude_none=True), choice.finish_reason


def asked_again(message: Message) -> list[Message]:
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "42"} for c in message.get("tool_calls", ())]
    return [{"role": "user", "content": "Go."}, message, *(results or [{"role": "user", "content": "And?"}])]


spoken = texts.filter(lambda text: not text.isspace())  # blank text is no turn of a conversation

# Converse.

signatures = st.binary(min_size=1, max_size=8).map(lambda data: urlsafe_b64encode(data).decode())
thoughts = st.lists(
    st.fixed_dictionaries({"reasoningText": st.fixed_dictionaries({"text": texts, "signature": signatures})})
    | st.fixed_dictionaries({"redactedContent": st.binary(min_size=1, max_size=8)}),
    max_size=2,
)


@st.composite
def converse_content(draw: Any) -> list[dict[str, Any]]:
    """Reasoning, then a text, then calls that each may have reasoning of their own before them."""
    used = draw(st.lists(st.tuples(names, objects), max_size=3))
    said = draw(spoken | st.none()) if used else draw(spoken)
    blocks = [{"reasoningContent": thought} for thought in draw(thoughts)]
    blocks += [{"text": said}] if said else []
    for at, (name, arguments) in enumerate(used):
        blocks += [{"reasoningContent": thought} for thought in draw(thoughts)] if at else []
        blocks.append({"toolUse": {"toolUseId": f"tooluse_{at}", "name": name, "input": arguments}})
    return blocks


def converse_events(content: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield {"messageStart": {"role": "assistant"}}
    for at, block in enumerate(content):
        deltas: list[dict[str, Any]] = []
        match block:
            case {"text": text}:
                deltas = [{"text": piece} for piece in pieces(text)]
            case {"toolUse": use}:
                start = {"toolUseId": use["toolUseId"], "name": use["name"]}
                yield {"contentBlockStart": {"start": {"toolUse": start}, "contentBlockIndex": at}}
                # A call without arguments streams none.
                written = json.dumps(use["input"]) if use["input"] else ""
                deltas = [{"toolUse": {"input": piece}} for piece in ["", *pieces(written)]]
            case {"reasoningContent": {"reasoningText": thought}}:
                deltas = [{"reasoningContent": {"text": piece}} for piece in pieces(thought["text"])]
                deltas.append({"reasoningContent": {"signature": thought["signature"]}})
            case {"reasoningContent": redacted}:
                deltas = [{"reasoningContent": redacted}]
        for delta in deltas:
            yield {"contentBlockDelta": {"delta": delta, "contentBlockIndex": at}}
        yield {"contentBlockStop": {"contentBlockIndex": at}}
    yield {"messageStop": {"stopReason": "tool_use" if any("toolUse" in b for b in content) else "end_turn"}}


def answered_by_converse(content: list[dict[str, Any]], stream: bool) -> tuple[Message, str]:
    if stream:
        return read_stream(bedrock_codec.StreamCodec.of(Head.new("row")), [*converse_events(content)])
    stop = "tool_use" if any("toolUse" in b for b in content) else "end_turn"
    return read_whole(from_converse({"output": {"message": {"content": content}}, "stopReason": stop}, call())[0])


@pytest.mark.parametrize("stream", [False, True])
@MANY
@given(content=converse_content())
def test_an_answer_of_converse_goes_back_to_it_block_by_block(stream: bool, content: list[dict[str, Any]]) -> None:
    message, finish = answered_by_converse(content, stream)
    used = [block["toolUse"] for block in content if "toolUse" in block]
    assert finish == ("tool_calls" if used else "stop")
    called = [json.loads(made["function"]["arguments"]) for made in message.get("tool_calls", ())]
    assert called == [use["input"] for use in used]
    reasoned = [block.get("reasoningContent", {}).get("reasoningText", {}) for block in content]
    assert message.get("reasoning_content", "") == "".join(thought.get("text", "") for thought in reasoned)
    [_, back, _] = to_converse(call(asked_again(message)))["messages"]
    assert back["content"] == content


# Anthropic.


def as_anthropic(block: dict[str, Any]) -> dict[str, Any]:
    """The same block in Anthropic's words."""
    match block:
        case {"text": text}:
            return {"type": "text", "text": text}
        case {"toolUse": use}:
            return {"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]}
        case {"reasoningContent": {"reasoningText": thought}}:
            return {"type": "thinking", "thinking": thought["text"], "signature": thought["signature"]}
    return {"type": "redacted_thinking", "data": b64encode(block["reasoningContent"]["redactedContent"]).decode()}


def anthropic_events(content: Sequence[dict[str, Any]], reason: str) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}}
    for at, block in enumerate(content):
        deltas: list[dict[str, Any]] = []
        match block["type"]:
            case "text":
                begun = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            case "tool_use":
                begun = {**block, "input": {}}
                written = json.dumps(block["input"]) if block["input"] else ""
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(written)]]
            case "thinking":
                begun = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case _:
                begun = block
        yield {"type": "content_block_start", "index": at, "content_block": begun}
        yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


@pytest.mark.parametrize("stream", [False, True])
@MANY
@given(made=converse_content())
def test_an_answer_of_anthropic_goes_back_to_it_block_by_block(stream: bool, made: list[dict[str, Any]]) -> None:
    content = [as_anthropic(block) for block in made]
    used = [block for block in content if block["type"] == "tool_use"]
    reason = "tool_use" if used else "end_turn"
    if stream:
        codec = anthropic_codec.StreamCodec.of(Head.new("row"))
        message, finish = read_stream(codec, [*anthropic_events(content, reason)])
        assert codec.usage == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    else:
        message, finish = read_whole(from_messages({"content": content, "stop_reason": reason}, call())[0])
    assert finish == ("tool_calls" if used else "stop")
    called = [json.loads(each["function"]["arguments"]) for each in message.get("tool_calls", ())]
    assert called == [block["input"] for block in used]
    assert message.get("reasoning_content", "") == "".join(block.get("thinking", "") for block in content)
    [_, back, _] = to_messages(call(asked_again(message)))["messages"]
    assert back["content"] == content
    # And it is a history that Converse takes, without thoughts that another vendor has signed.
    [_, there, _] = to_converse(call(asked_again(message)))["messages"]
    assert there["content"] == [block for block in made if "reasoningContent" not in block]


# Gemini.


@st.composite
def gemini_parts(draw: Any) -> list[dict[str, Any]]:
    used = draw(st.lists(st.tuples(names, objects), max_size=3))
    parts: list[dict[str, Any]] = [{"text": t, "thought": True} for t in draw(st.lists(texts, max_size=1))]
    said = draw(spoken | st.none()) if used else draw(spoken)
    parts += [{"text": said}] if said else []
    parts += [{"functionCall": {"id": f"id{at}", "name": n, "args": a}} for at, (n, a) in enumerate(used)]
    signed = next((part for part in parts if "functionCall" in part), parts[-1])
    signed["thoughtSignature"] = draw(signatures)
    return parts


def answered_by_gemini(parts: list[dict[str, Any]], stream: bool) -> tuple[Message, str]:
    if not stream:
        candidate = {"content": {"parts": parts}, "finishReason": "STOP"}
        return read_whole(from_generate({"candidates": [candidate]}, call())[0])
    codec = google_codec.StreamCodec(Head.new("row"))
    events = [{"candidates": [{"content": {"parts": [part]}, "index": 0}]} for part in parts]
    events[-1]["candidates"][0]["finishReason"] = "STOP"
    return read_stream(codec, events)


@pytest.mark.parametrize("stream", [False, True])
@MANY
@given(parts=gemini_parts())
def test_an_answer_of_gemini_goes_back_to_it_part_by_part(stream: bool, parts: list[dict[str, Any]]) -> None:
    message, finish = answered_by_gemini(parts, stream)
    assert finish == ("tool_calls" if any("functionCall" in part for part in parts) else "stop")
    contents = to_generate(call(asked_again(message)))["contents"]
    back = [part for content in contents if content["role"] == "model" for part in content["parts"]]
    assert back == [part for part in parts if not part.get("thought")]


@pytest.mark.parametrize("stream", [False, True])
@MANY
@given(content=converse_content(), parts=gemini_parts())
def test_what_one_called_reaches_the_other_with_its_name_its_arguments_and_its_id(
    stream: bool, content: list[dict[str, Any]], parts: list[dict[str, Any]]
) -> None:
    message, _ = answered_by_converse(content, stream)
    contents = to_generate(call(asked_again(message)))["contents"]
    called = [part for part in contents[1]["parts"] if "functionCall" in part]
    used = [block["toolUse"] for block in content if "toolUse" in block]
    assert [p["functionCall"] for p in called] == [
        {"id": u["toolUseId"], "name": u["name"], "args": u["input"]} for u in used
    ]
    signatures = [p.get("thoughtSignature") for p in called]
    assert signatures == [b64encode(b"skip_thought_signature_validator").decode(), None, None][: len(called)]

    message, _ = answered_by_gemini(parts, stream)
    blocks = [b for m in to_converse(call(asked_again(message)))["messages"] for b in m["content"]]
    expected = [p["functionCall"] for p in parts if "functionCall" in p]
    assert [b["toolUse"] for b in blocks if "toolUse" in b] == [
        {"toolUseId": c["id"], "name": c["name"], "input": c["args"]} for c in expected
    ]
    assert not [b for b in blocks if "reasoningContent" in b]
