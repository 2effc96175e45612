"""Anthropic's own types as the oracle: what its SDK would read of an answer, of events and of errors."""

from typing import Any

import orjson
from anthropic._models import BaseModel
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from deployments.doors.door import Encoder, Served
from deployments.doors.envelope import Envelope, merged, unseal
from deployments.doors.messages.door import MESSAGES
from deployments.doors.messages.request.read import MessagesRequest
from deployments.openai_api.chat import DONE, Head, chunk, frame, usage_chunk, usage_of

MESSAGE: TypeAdapter[Any] = TypeAdapter(Message)
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ERROR: TypeAdapter[Any] = TypeAdapter(ErrorResponse)

SERVED = Served("0123abcd", 1_800_000_000)
HEAD = Head("chatcmpl-1", 1_800_000_000, "row-a")
BODY: dict[str, Any] = {"model": "row-a", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
USAGE = usage_of(120, 30, cached=40, written=10, reasoning=5)


def opened(**fields: Any) -> MessagesRequest:
    return MESSAGES.open({**BODY, **fields})


def chat(**fields: Any) -> dict[str, Any]:
    """Return the chat body of a request."""
    return opened(**fields).request.body


def completion(message: dict[str, Any], finish: str = "stop", usage: Any = USAGE) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "up", "choices": [choice], "usage": usage}


def whole(message: dict[str, Any], finish: str = "stop", usage: Any = USAGE, **fields: Any) -> dict[str, Any]:
    """Return a whole answer, which the SDK's type must take strictly."""
    made = opened(**fields).whole(completion(message, finish, usage), SERVED)
    MESSAGE.validate_json(orjson.dumps(made), strict=True)
    return made


def events_in(data: bytes) -> list[dict[str, Any]]:
    """Return events, each of which has its name in a line and is what the SDK's types take strictly.

    A `ping` is passed over, as the SDK does (anthropic 2.14, `_streaming.py`).
    """
    events = []
    for block in data.split(b"\n\n")[:-1]:
        name, line = block.split(b"\n")
        event = orjson.loads(line.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        if event["type"] == "ping":
            continue
        (ERROR if event["type"] == "error" else EVENT).validate_json(line.removeprefix(b"data: "), strict=True)
        events.append(event)
    return events


def deltas(*parts: dict[str, Any], finish: str = "stop", usage: Any = USAGE) -> list[bytes]:
    """Return the frames of a chat's stream with these deltas."""
    frames = [chunk(HEAD, part) for part in ({"role": "assistant", "content": ""}, *parts)]
    return [*frames, chunk(HEAD, {}, finish), *([usage_chunk(HEAD, usage)] if usage else []), DONE]


def call_delta(index: int, arguments: str, key: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a piece of a call. One with an id begins it."""
    begun = {"id": key, "type": "function"} if key else {}
    function = {"name": f"do_{key}", "arguments": arguments} if key else {"arguments": arguments}
    return {"tool_calls": [{"index": index, **begun, "function": function, **more}]}


def streamed(*parts: dict[str, Any], finish: str = "stop", usage: Any = USAGE, **fields: Any) -> list[dict[str, Any]]:
    """Return the events for a stream, in an order that has been checked."""
    encoder = opened(**fields).encoder(SERVED)
    events = events_in(encoded(encoder, deltas(*parts, finish=finish, usage=usage)))
    check_order(events)
    return events


def encoded(encoder: Encoder, frames: list[bytes]) -> bytes:
    return b"".join(map(encoder.encode, frames))


def check_order(events: list[dict[str, Any]]) -> None:
    """One message, whose blocks stand one behind the other, and whose deltas fit their blocks."""
    kinds = [event["type"] for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("message_start") == kinds.count("message_delta") == kinds.count("message_stop") == 1
    index, block = -1, None
    fits = {
        "text": ("text_delta",),
        "thinking": ("thinking_delta", "signature_delta"),
        "tool_use": ("input_json_delta",),
    }
    signed = False
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert block is None
            index, block, signed = index + 1, event["content_block"]["type"], False
        assert event["index"] == index
        if event["type"] == "content_block_delta":
            assert event["delta"]["type"] in fits[str(block)]
            assert not signed
            signed = event["delta"]["type"] == "signature_delta"
        elif event["type"] == "content_block_stop":
            assert signed is (block == "thinking")
            block = None
    assert block is None


def folded(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that the SDK makes of events."""
    snapshot, buffers = None, dict[int, bytes]()
    for event in events:
        typed = EVENT.validate_json(orjson.dumps(event))
        assert isinstance(typed, BaseModel)
        snapshot = accumulate_event(event=typed, current_snapshot=snapshot, json_bufs=buffers)  # type: ignore[arg-type]
    assert snapshot is not None
    return snapshot.to_dict()


def said(message: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer says, however its blocks are cut: its texts, thoughts, calls, and what is sealed in it."""
    blocks = message["content"]
    envelope: dict[str, Any] = {"message": {}, "calls": {}}
    for block in blocks:
        if block["type"] == "thinking":
            found = unseal(block["signature"])
            assert isinstance(found, Envelope)
            envelope["message"] = merged(envelope["message"], found.message)
            envelope["calls"] |= found.calls
    return {
        "text": "".join(block["text"] for block in blocks if block["type"] == "text"),
        "thinking": "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        "calls": [(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"],
        "envelope": envelope,
        "end": (message["stop_reason"], message["stop_sequence"]),
        "id": message["id"],
    }


def error_frame(**error: Any) -> bytes:
    return frame({"error": {"message": "The stream broke off.", "type": "server_error", **error}})
