"""Gemini's generateContent on the wire: JSON and SSE."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}


class GeminiWire:
    stream_type = "text/event-stream"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return "streamGenerateContent" in path

    def whole(self, words: Sequence[str]) -> bytes:
        return json.dumps(self._response("".join(words), "STOP")).encode()

    def frames(self, words: Sequence[str]) -> list[bytes]:
        # Gemini has no opening frame, and its finish reason comes with the last words.
        bodies = [self._response(word, None) for word in words[:-1]] + [self._response(words[-1], "STOP")]
        return [b"data: " + json.dumps(body).encode() + b"\r\n\r\n" for body in bodies]

    def closing(self) -> int:
        return 1

    def error(self, status: int, code: str | None, message: str) -> bytes:
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
        names |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code}] if code else []
        error = {"code": status, "message": message, "status": names[status], "details": details}
        return json.dumps({"error": error}).encode()

    def in_band_error(self, code: str | None = None) -> bytes:
        status = {"RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503, "INVALID_ARGUMENT": 400}.get(code or "", 500)
        error = {"code": status, "message": "the engine fell over", "status": code or "INTERNAL"}
        return b"data: " + json.dumps({"error": error}).encode() + b"\r\n\r\n"

    def malformed(self) -> bytes:
        return b'data: {"candidates": [{"cont\r\n\r\n'

    def _response(self, text: str, finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": USAGE,
            "modelVersion": "gemini-upstream",
            "responseId": "r1",
        }
