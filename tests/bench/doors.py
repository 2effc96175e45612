"""What the doors of other APIs cost: a request that is read, an answer that is written, and each frame of a stream.

    uv run python -m tests.bench.doors

Prints microseconds, each the median of many batches, beside the parse of the same frame, which a door can't do without.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from deployments.doors.door import Door, Encoder, Opened, Served
from deployments.doors.messages.door import MESSAGES
from deployments.doors.responses.door import RESPONSES
from deployments.openai_api.chat import DONE, Head, chunk, completion, usage_chunk, usage_of

BATCHES, EACH = 41, 400
SERVED = Served("0123456789abcdef", 1_800_000_000)
HEAD = Head("chatcmpl-0123456789abcdef", 1_800_000_000, "row-a")
USAGE = usage_of(1200, 80, cached=1000)
SCHEMA = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "x" * 90} for n in range(8)}}

# A request of an agent has 24 tools and a long prompt: about 80 kB, as Claude Code's. Codex's has half of it.
_SYSTEM = "You are an agent. " * 2000
_MESSAGE = {"model": "row-a", "max_tokens": 32_000, "messages": [{"role": "user", "content": "Hi"}]}
_RESPONSE = {"model": "row-a", "input": "Hi"}
REQUESTS: Mapping[str, tuple[Door, dict[str, Any], dict[str, Any]]] = {
    "messages": (
        MESSAGES,
        _MESSAGE,
        {
            **_MESSAGE,
            "system": [{"type": "text", "text": _SYSTEM, "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": f"tool_{n}", "description": "y" * 400, "input_schema": SCHEMA} for n in range(24)],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "high"},
        },
    ),
    "responses": (
        RESPONSES,
        _RESPONSE,
        {
            **_RESPONSE,
            "input": [{"role": "developer", "content": _SYSTEM}, {"role": "user", "content": "Hi"}],
            "tools": [
                {
                    "type": "function",
                    "name": f"tool_{n}",
                    "description": "y" * 400,
                    "parameters": SCHEMA,
                    "strict": False,
                }
                for n in range(24)
            ],
            "reasoning": {"effort": "high", "summary": "auto"},
            "include": ["reasoning.encrypted_content"],
            "store": False,
        },
    ),
}


def microseconds(call: Callable[[], object], each: int = EACH) -> float:
    """Return what one call costs: the median of batches."""
    taken = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        for _ in range(each):
            call()
        taken.append((time.perf_counter() - began) / each)
    return statistics.median(taken) * 1e6


def frames_of(first: Mapping[str, Any], next_one: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the frames that open a block, and the one that is measured."""
    return chunk(HEAD, {"role": "assistant", "content": ""}) + chunk(HEAD, first), chunk(HEAD, next_one)


def _piece(**call: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **call}]}


CALL = _piece(id="call_1", type="function", function={"name": "tool_1", "arguments": "{"})
FRAMES = {
    "text": frames_of({"content": "Hel"}, {"content": "lo, wor"}),
    "thought": frames_of({"reasoning_content": "Hm"}, {"reasoning_content": " well"}),
    "arguments": frames_of(CALL, _piece(function={"arguments": '"a": "b'})),
}


def _event(kind: str, **data: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **data}))


# Of an answer that passes as it came: what opens it, and the frame that is measured.
_MESSAGE_START = {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
NATIVE = {
    "messages": (
        _event("message_start", message=_MESSAGE_START)
        + _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "lo, wor"}),
    ),
    "responses": (
        _event("response.created", sequence_number=0, response={"output": []}),
        _event("response.output_text.delta", sequence_number=1, item_id="i", output_index=0, delta="lo, wor"),
    ),
}
SHORT = b"".join([*FRAMES["text"], chunk(HEAD, {}, "stop"), usage_chunk(HEAD, USAGE), DONE])


def opened_stream(opened: Opened, begin: bytes, served: Served = SERVED) -> Encoder:
    encoder = opened.encoder(served)
    encoder.encode(begin)
    return encoder


def report(name: str) -> list[tuple[str, float]]:
    """Return what a door's parts cost."""
    door, short, long = REQUESTS[name]
    opened = door.open(short)
    answer = completion(HEAD, "Hello, world.", "stop", USAGE)
    rows = [
        ("a short request", microseconds(lambda: door.open(short))),
        (f"a request of {len(orjson.dumps(long)) // 1000} kB", microseconds(lambda: door.open(long), 40)),
        ("a whole answer", microseconds(lambda: opened.whole(answer, SERVED))),
        ("a whole stream of two frames", microseconds(lambda: opened.encoder(SERVED).encode(SHORT))),
    ]
    for kind, (begin, frame) in FRAMES.items():
        encode = opened_stream(opened, begin).encode
        parsed = microseconds(lambda frame=frame: orjson.loads(frame[6:]))  # type: ignore[misc]
        took = microseconds(lambda encode=encode, frame=frame: encode(frame))  # type: ignore[misc]
        rows += [(f"a frame of {kind}", took), (f"a frame of {kind}: its parse", parsed)]
    begin, frame = NATIVE[name]
    encode = opened_stream(opened, begin, replace(SERVED, native=True)).encode
    rows.append(("a frame of text as it came", microseconds(lambda: encode(frame))))
    return [*rows, ("the long request as it is", microseconds(lambda: native_body(door.open(long)), 40))]


def native_body(opened: Opened) -> object:
    """Return what a target gets that is asked by the same API; its time is beside that of the request alone."""
    native = opened.request.native
    assert native is not None
    return native.body(opened.request.body, native.extras())


def main() -> None:
    print("| door | what | µs |\n|---|---|---|")
    for name in REQUESTS:
        for what, took in report(name):
            print(f"| {name} | {what} | {took:.2f} |")


if __name__ == "__main__":
    main()
