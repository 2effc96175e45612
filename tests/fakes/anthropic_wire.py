"""Anthropic's Messages on the wire: JSON and named events, and what it refuses."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.tool_use import Called, Result, Talk, calls_to, pieces, text_of
from tests.fakes.vendors import anthropic, first_refusal

THOUGHT = anthropic.THOUGHT
USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": None,
    "server_tool_use": None,
    "service_tier": "standard",
    "inference_geo": None,
}
# Anthropic, API errors.
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
Block = dict[str, Any]


def event(kind: str, **data: Any) -> bytes:
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


@dataclass(frozen=True)
class _Asked:
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class AnthropicWire:
    stream_type = "text/event-stream; charset=utf-8"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    def message(self, content: Sequence[Block], reason: str | None, usage: Mapping[str, Any] = USAGE) -> Block:
        return {
            "id": "msg_01Upstream",
            "type": "message",
            "role": "assistant",
            "model": "claude-upstream-20260101",
            "content": list(content),
            "stop_reason": reason,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": dict(usage),
        }

    def whole(self, words: Sequence[str]) -> bytes:
        return json.dumps(self.message([self._text("".join(words))], "end_turn")).encode()

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        said = [self._text("".join(words))] if words else []
        content = [{"type": "thinking", **THOUGHT}, *said, *map(self._use, calls)]
        return json.dumps(self.message(content, "tool_use")).encode()

    def _text(self, text: str) -> Block:
        return {"type": "text", "text": text, "citations": None}

    def _use(self, called: Called) -> Block:
        named = {"id": f"toolu_Up{called.key}", "name": called.name, "input": dict(called.arguments)}
        return {"type": "tool_use", **named, "caller": {"type": "direct"}}

    def frames(self, words: Sequence[str]) -> list[bytes]:
        said = [{"type": "text_delta", "text": word} for word in words]
        opening = self._start() + self._block_start(0, self._text("")) + event("ping")
        return [opening, *(self._delta(0, delta) for delta in said), *self._ending(event(_STOP, index=0), "end_turn")]

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        thought = [
            {"type": "thinking_delta", "thinking": THOUGHT["thinking"]},
            {"type": "signature_delta", "signature": THOUGHT["signature"]},
        ]
        blocks: list[tuple[Block, list[Block]]] = [({"type": "thinking", "thinking": "", "signature": ""}, thought)]
        if words:
            blocks.append((self._text(""), [{"type": "text_delta", "text": word} for word in words]))
        for called in calls:
            texts = pieces(json.dumps(called.arguments)) if called.arguments else [""]
            inputs = [{"type": "input_json_delta", "partial_json": piece} for piece in texts]
            blocks.append(({**self._use(called), "input": {}}, inputs))
        frames = [self._start(), event("ping")]
        for at, (block, deltas) in enumerate(blocks):
            frames += [self._block_start(at, block), *(self._delta(at, delta) for delta in deltas)]
            frames.append(event(_STOP, index=at))
        return [*frames, *self._ending(b"", "tool_use")]

    def _start(self) -> bytes:
        return event("message_start", message=self.message([], None, {**USAGE, "output_tokens": 1}))

    def _block_start(self, at: int, block: Block) -> bytes:
        return event("content_block_start", index=at, content_block=block)

    def _delta(self, at: int, delta: Block) -> bytes:
        return event("content_block_delta", index=at, delta=delta)

    def _ending(self, before: bytes, reason: str) -> list[bytes]:
        usage = {name: USAGE[name] for name in ("input_tokens", "cache_read_input_tokens", "output_tokens")}
        delta = {"stop_reason": reason, "stop_sequence": None, "stop_details": None, "container": None}
        return [before + event("message_delta", delta=delta, usage=usage), event("message_stop")]

    def closing(self) -> int:
        return 2

    def error(self, status: int, code: str | None, message: str) -> bytes:
        error: Block = {"type": TYPES.get(status, "api_error"), "message": message}
        if code is not None:
            error["details"] = {"error_code": code}
        return json.dumps({"type": "error", "error": error, "request_id": "req_011Fake"}).encode()

    def error_headers(self, status: int, code: str | None) -> dict[str, str]:
        return {"request-id": "req_011Fake"}

    def in_band_error(self, code: str | None = None) -> bytes:
        return event("error", error={"type": code or "api_error", "message": "the engine fell over"})

    def malformed(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_de\n\n'

    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        return None

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        last = _blocks(next(m for m in reversed(body["messages"]) if m["role"] != "system"))
        if (body.get("tool_choice") or {}).get("type") == "none" or last[-1]["type"] == "tool_result":
            return []
        return calls_to(
            [(t["name"], t["input_schema"]) for t in body.get("tools") or () if "input_schema" in t],
            len(body["messages"]),
        )

    def talk(self, body: Mapping[str, Any]) -> Talk:
        blocks = [block for message in body["messages"] for block in _blocks(message)]
        results = [block for block in blocks if block["type"] == "tool_result"]
        said = {result["tool_use_id"]: text_of(result.get("content", "")) for result in results}
        uses = [block for block in blocks if block["type"] == "tool_use"]
        done = [Result(use["name"], use["input"], said[use["id"]]) for use in uses if use["id"] in said]
        return Talk(frozenset(tool["name"] for tool in body.get("tools") or ()), done)

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        if on_vertex := re.search(r"/publishers/anthropic/models/([^/]+):(?:stream)?[rR]awPredict$", path):
            own = {name: value for name, value in body.items() if name != "anthropic_version"}
            return objection({"model": on_vertex[1], **own})
        if not path.endswith("/v1/messages"):
            return f"no route {path}"
        return objection(body)


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def objection(body: Mapping[str, Any]) -> str | None:
    """Return why Anthropic would refuse a request; None if it would not."""
    asked = _Asked("/v1/messages", body, {"anthropic-beta": ",".join(anthropic.BETAS)})
    found = first_refusal(anthropic.OF_BODIES, asked)
    return None if found is None else f"{found[0]}: {found[1].body['error']['message']}"


_STOP = "content_block_stop"
