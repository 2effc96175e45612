"""Gemini's generateContent on the wire: JSON and SSE."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.tool_use import Called, Result, Talk, calls_to
from tests.fakes.vectors import vector

SIGNATURE = b"\xfb\xff\xfe signed by gemini"  # in base64 its two alphabets differ
UNSIGNED = b"skip_thought_signature_validator"
USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}

MOST_IN_A_BATCH = 100


class GeminiWire:
    stream_type = "text/event-stream"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return "streamGenerateContent" in path

    def whole(self, words: Sequence[str]) -> bytes:
        return json.dumps(self._response([{"text": "".join(words)}], "STOP")).encode()

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        said = [{"text": "".join(words)}] if words else []
        return json.dumps(self._response([*said, *self._parts(calls)], "STOP")).encode()

    def _parts(self, calls: Sequence[Called]) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"functionCall": {"name": c.name, "args": c.arguments}} for c in calls]
        parts[0]["thoughtSignature"] = base64.b64encode(SIGNATURE).decode()
        return parts

    def frames(self, words: Sequence[str]) -> list[bytes]:
        # Gemini has no opening frame, and its finish reason comes with the last words.
        return self._frames([[{"text": word}] for word in words])

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        said = [{"text": word} for word in words]
        return self._frames([[part] for part in [*said, *self._parts(calls)]])  # each call whole

    def _frames(self, said: list[list[dict[str, Any]]]) -> list[bytes]:
        bodies = [self._response(parts, None) for parts in said[:-1]] + [self._response(said[-1], "STOP")]
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

    def _response(self, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": USAGE,
            "modelVersion": "gemini-upstream",
            "responseId": "r1",
        }

    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        if "mbedContent" not in path:
            return None
        asked = body.get("requests") or [body]
        if len(asked) > MOST_IN_A_BATCH:
            return None
        made = [
            # Not of length one: only Gemini's longest vectors are.
            [2 * x for x in vector(r["content"]["parts"][0]["text"], r.get("outputDimensionality") or 3072)]
            for r in asked
        ]
        return json.dumps({"embeddings": [{"values": values} for values in made]}).encode(), {}

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        mode = (body.get("toolConfig") or {}).get("functionCallingConfig", {}).get("mode")
        if mode == "NONE" or "functionResponse" in body["contents"][-1]["parts"][-1]:
            return []
        declared = [f for tool in body.get("tools") or () for f in tool["functionDeclarations"]]
        return calls_to([(f["name"], _schema(f)) for f in declared], len(body["contents"]))

    def talk(self, body: Mapping[str, Any]) -> Talk:
        parts = [part for content in body["contents"] for part in content["parts"]]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        said = {result["id"]: json.dumps(result["response"], ensure_ascii=False) for result in results}
        calls = [part["functionCall"] for part in parts if "functionCall" in part]
        done = [Result(call["name"], call["args"], said[call["id"]]) for call in calls if call["id"] in said]
        declared = [f for tool in body.get("tools") or () for f in tool["functionDeclarations"]]
        return Talk(frozenset(f["name"] for f in declared), done)

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        if len(body.get("requests") or ()) > MOST_IN_A_BATCH:
            return "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch"
        return objection(body["contents"], signs="/gemini-2" not in path) if "contents" in body else None


def _schema(declaration: Mapping[str, Any]) -> Mapping[str, Any]:
    # Google's JSON takes a field in either spelling, and its SDK writes either.
    return declaration.get("parametersJsonSchema") or declaration.get("parameters_json_schema") or {}


def objection(contents: Sequence[Mapping[str, Any]], *, signs: bool = True) -> str | None:
    """What Gemini would call an INVALID_ARGUMENT, beyond what the SDK checks. Only Gemini 3 `signs` its calls."""
    if not contents or contents[0]["role"] != "user":
        return "the conversation must begin with the user"
    waiting: list[tuple[str, str]] = []
    for at, content in enumerate(contents):
        if not content["parts"]:
            return f"contents.{at} has no parts"
        given = [p["functionResponse"] for p in content["parts"] if "functionResponse" in p]
        if given and any("inlineData" in p for p in content["parts"]):
            return f"contents.{at}: inline data beside a function response"  # vellum-ai/vellum-assistant#1901
        if any(not isinstance(r["response"], dict) or _has_ref(r["response"]) for r in given):
            return f"contents.{at}: a response that is no object, or that refers"  # NousResearch/hermes-agent#93014
        if any(p["inlineData"]["mimeType"] not in _IN_RESULTS for r in given for p in r.get("parts", ())):
            return f"contents.{at}: a function response with media of another type"  # Google, Function calling
        if sorted((r["name"], r["id"]) for r in given) != sorted(waiting):
            return f"contents.{at}: function responses {given} where calls {waiting} wait"
        calls = [p for p in content["parts"] if "functionCall" in p]
        if signs and calls and not _is_signed(calls[0]):
            return f"contents.{at}: function call is missing a thought_signature"
        waiting = [(p["functionCall"]["name"], p["functionCall"]["id"]) for p in calls]
    return f"function calls {waiting} without a response" if waiting else None


_IN_RESULTS = frozenset({"image/png", "image/jpeg", "image/webp"})  # no PDF: QwenLM/qwen-code#2028


def _has_ref(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(map(_has_ref, value.values()))
    return isinstance(value, list) and any(map(_has_ref, value))


def _is_signed(part: Mapping[str, Any]) -> bool:
    signature = part.get("thoughtSignature", "").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(signature) in (SIGNATURE, UNSIGNED)
