"""OpenAI's chat completions on the wire: JSON and SSE."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class OpenAIWire:
    stream_type = "text/event-stream"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, words: Sequence[str]) -> bytes:
        message = {"role": "assistant", "content": "".join(words), "refusal": None, "annotations": []}
        return json.dumps(
            {
                "id": "chatcmpl-upstream",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "gpt-upstream-2026-01-01",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": USAGE,
                "service_tier": "default",
            }
        ).encode()

    def frames(self, words: Sequence[str]) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": word} for word in words]
        frames = [self._frame([{"index": 0, "delta": d, "logprobs": None, "finish_reason": None}]) for d in deltas]
        frames.append(self._frame([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]))
        frames.append(self._frame([], usage=USAGE))
        return [*frames, b"data: [DONE]\n\n"]

    def closing(self) -> int:
        return 3

    def error(self, status: int, code: str | None, message: str) -> bytes:
        error = {"message": message, "type": "upstream_error", "param": None, "code": code}
        return json.dumps({"error": error}).encode()

    def in_band_error(self, code: str | None = None) -> bytes:
        error = {"message": "the engine fell over", "type": "server_error", "code": code}
        return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"

    def malformed(self) -> bytes:
        return b'data: {"id": "chatcmpl-upstream", "choices": [{"ind\n\n'

    def _frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        data = {
            "id": "chatcmpl-upstream",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": "gpt-upstream-2026-01-01",
            "choices": choices,
            **more,
        }
        return b"data: " + json.dumps(data).encode() + b"\n\n"
