"""OpenAI's chat completions on the wire: JSON and SSE."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.tool_use import Called, Result, Talk, calls_to, pieces, text_of
from tests.fakes.vectors import as_base64, vector

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class OpenAIWire:
    stream_type = "text/event-stream"
    begins_anew = True  # behind a last turn of the assistant's

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, words: Sequence[str]) -> bytes:
        return self._whole({"content": "".join(words)}, "stop")

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        said = {"content": "".join(words) or None, "tool_calls": [self._call(called) for called in calls]}
        return self._whole(said, "tool_calls")

    def _whole(self, said: Mapping[str, Any], finish: str) -> bytes:
        message = {"role": "assistant", "refusal": None, "annotations": [], **said}
        return json.dumps(
            {
                "id": "chatcmpl-upstream",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "gpt-upstream-2026-01-01",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
                "usage": USAGE,
                "service_tier": "default",
            }
        ).encode()

    def _call(self, called: Called) -> dict[str, Any]:
        function = {"name": called.name, "arguments": json.dumps(called.arguments)}
        return {"id": f"call_Upstream{called.key}", "type": "function", "function": function}

    def frames(self, words: Sequence[str]) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
        deltas += [{"content": word} for word in words]
        return self._frames(deltas, "stop", {**USAGE, "completion_tokens": len(words), "total_tokens": 7 + len(words)})

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "refusal": None}]
        deltas += [{"content": word} for word in words]
        for at, called in enumerate(calls):
            call = self._call(called)
            text, call["function"]["arguments"] = call["function"]["arguments"], ""
            deltas.append({"tool_calls": [{"index": at, **call}]})
            deltas += [{"tool_calls": [{"index": at, "function": {"arguments": piece}}]} for piece in pieces(text)]
        return self._frames(deltas, "tool_calls")

    def _frames(self, deltas: list[dict[str, Any]], finish: str, usage: Any = USAGE) -> list[bytes]:
        frames = [self._frame([{"index": 0, "delta": d, "logprobs": None, "finish_reason": None}]) for d in deltas]
        frames.append(self._frame([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}]))
        frames.append(self._frame([], usage=usage))
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
            "service_tier": "default",
            "choices": choices,
            **more,
        }
        return b"data: " + json.dumps(data).encode() + b"\n\n"

    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        if not path.endswith("/embeddings"):
            return None
        native = {"text-embedding-3-large": 3072, "text-embedding-3-small": 1536}.get(body["model"], 8)
        given = body["input"]
        texts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
        made = [vector(text, body.get("dimensions") or native) for text in texts]
        if body.get("encoding_format") == "base64":
            made = [as_base64(v) for v in made]  # type: ignore[misc]
        data = [{"object": "embedding", "index": at, "embedding": v} for at, v in enumerate(made)]
        usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return json.dumps(answer).encode(), {}

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        if body.get("tool_choice") == "none" or body["messages"][-1]["role"] == "tool":
            return []
        functions = [tool["function"] for tool in body.get("tools") or ()]
        return calls_to([(f["name"], f.get("parameters") or {}) for f in functions], len(body["messages"]))

    def talk(self, body: Mapping[str, Any]) -> Talk:
        messages = body["messages"]
        said = {
            message["tool_call_id"]: text_of(message["content"]) for message in messages if "tool_call_id" in message
        }
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        functions = [(call["id"], call["function"]) for call in calls if call["id"] in said]
        results = [Result(f["name"], json.loads(f["arguments"]), said[key]) for key, f in functions]
        return Talk(frozenset(tool["function"]["name"] for tool in body.get("tools") or ()), results)

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        """Each call must be answered by its id before anybody else speaks."""
        open_ids: set[str] = set()
        for index, message in enumerate(body["messages"]):
            if message["role"] == "tool":
                if message["tool_call_id"] not in open_ids:
                    return f"messages.{index}: a result for no call"
                open_ids.remove(message["tool_call_id"])
                continue
            if open_ids:
                return f"messages.{index}: {open_ids} did not have response messages"
            for call in message.get("tool_calls") or ():
                if len(call["id"]) > 40 or not isinstance(call["function"]["arguments"], str):
                    return f"messages.{index}: invalid tool call"
                open_ids.add(call["id"])
        return "a call without a result" if open_ids else None
