"""OpenAI's Responses API on the wire: JSON and typed events, and what it refuses."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.tool_use import Called, calls_to, pieces

USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}
# openai 3.54, `ResponseCreateParamsBase`; a field beyond them is an `unknown_parameter`.
KNOWN = frozenset(
    {
        *("input", "model", "instructions", "include", "max_output_tokens", "max_tool_calls", "metadata", "reasoning"),
        *("parallel_tool_calls", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "service_tier"),
        *("safety_identifier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools"),
        *("top_logprobs", "top_p", "truncation", "user"),
    }
)
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA-of-this-account"}


class ResponsesWire(OpenAIWire):
    """`reasons`: whether an answer begins with an encrypted item of reasoning."""

    reasons = True

    def _output(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [*([REASONING] if self.reasons else []), *map(dict, items)]

    def _response(self, status: str, output: Sequence[Any], **more: Any) -> dict[str, Any]:
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "model": "gpt-upstream-2026-01-01",
            "output": list(output),
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None,
            **more,
        }

    def _message(self, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}

    def _function_call(self, called: Called) -> dict[str, Any]:
        named = {"id": f"fc_{called.key}", "call_id": f"call_{called.key}", "name": called.name}
        return {"type": "function_call", **named, "arguments": json.dumps(called.arguments), "status": "completed"}

    def whole(self, words: Sequence[str]) -> bytes:
        output = self._output([self._message("".join(words))])
        return json.dumps(self._response("completed", output, usage=USAGE)).encode()

    def _said_and_called(self, calls: Sequence[Called], words: Sequence[str]) -> list[dict[str, Any]]:
        said = [self._message("".join(words))] if words else []
        return self._output([*said, *(self._function_call(called) for called in calls)])

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        return json.dumps(self._response("completed", self._said_and_called(calls, words), usage=USAGE)).encode()

    def frames(self, words: Sequence[str]) -> list[bytes]:
        events = self._events(self._output([self._message("".join(words))]), words)
        deltas = [at for at, event in enumerate(events) if b"output_text.delta" in event]
        return [b"".join(events[: deltas[0]]), *(events[at] for at in deltas), b"".join(events[deltas[-1] + 1 :])]

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        return self._events(self._said_and_called(calls, words), words)

    def _events(self, output: list[dict[str, Any]], words: Sequence[str]) -> list[bytes]:
        started = self._response("in_progress", [])
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.in_progress", "response": started},
        ]
        for at, item in enumerate(output):
            events += self._of_item(at, item, words)
        events.append({"type": "response.completed", "response": self._response("completed", output, usage=USAGE)})
        numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered]

    def _of_item(self, at: int, item: dict[str, Any], words: Sequence[str]) -> list[dict[str, Any]]:
        where = {"item_id": item["id"], "output_index": at}
        match item["type"]:
            case "message":
                opened = {**item, "status": "in_progress", "content": []}
                part, inside = item["content"][0], {**where, "content_index": 0}
                middle = [{"type": "response.content_part.added", **inside, "part": {**part, "text": ""}}]
                middle += [
                    {"type": "response.output_text.delta", **inside, "delta": word, "logprobs": []} for word in words
                ]
                middle.append({"type": "response.output_text.done", **inside, "text": part["text"], "logprobs": []})
                middle.append({"type": "response.content_part.done", **inside, "part": part})
            case "function_call":
                opened, name = {**item, "status": "in_progress", "arguments": ""}, "response.function_call_arguments"
                middle = [{"type": f"{name}.delta", **where, "delta": piece} for piece in pieces(item["arguments"])]
                middle.append({"type": f"{name}.done", **where, "name": item["name"], "arguments": item["arguments"]})
            case _:
                opened, middle = item, []
        added = {"type": "response.output_item.added", "output_index": at, "item": opened}
        return [added, *middle, {"type": "response.output_item.done", "output_index": at, "item": item}]

    def closing(self) -> int:
        return 1

    def in_band_error(self, code: str | None = None) -> bytes:
        error = {"code": code or "server_error", "message": "the engine fell over"}
        event = {"type": "response.failed", "sequence_number": 9, "response": self._response("failed", [], error=error)}
        return f"event: response.failed\ndata: {json.dumps(event)}\n\n".encode()

    def malformed(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type": "response.out\n\n'

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        if body.get("tool_choice") == "none" or body["input"][-1]["type"] == "function_call_output":
            return []
        return calls_to([(t["name"], t.get("parameters") or {}) for t in body.get("tools") or ()], len(body["input"]))

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        if not path.endswith("/v1/responses"):
            return f"no route {path}"
        if unknown := body.keys() - KNOWN:
            return f"Unknown parameter: '{min(unknown)}'."
        if body.get("store") is not False:
            return "the request would be stored"
        if body.get("max_output_tokens", 16) < 16:  # vectorize-io/hindsight#58
            return "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16"
        if any("function" in tool or "strict" not in tool for tool in body.get("tools") or ()):
            return "a tool of a chat completion"
        return _objection_to(body["input"])


def _objection_to(items: Sequence[Mapping[str, Any]]) -> str | None:
    open_ids: set[str] = set()
    for at, item in enumerate(items):
        match item["type"]:
            case "function_call":
                if len(item["call_id"]) > 64 or not isinstance(item["arguments"], str):  # decolua/9router#393
                    return f"Invalid 'input[{at}].call_id': string too long."
                open_ids.add(item["call_id"])
            case "function_call_output":
                if item["call_id"] not in open_ids:  # continuedev/continue#10092
                    return f"No tool call found for function call output with call_id {item['call_id']}."
                open_ids.remove(item["call_id"])
            case "reasoning":
                if "summary" not in item:  # newo-ether/Agora#141
                    return f"Input[{at}] missing required field `summary`"
                if not item.get("encrypted_content"):  # vercel/ai#7543
                    return f"Item with id '{item['id']}' not found. Items are not persisted when `store` is false."
                after = items[at + 1] if at + 1 < len(items) else {"type": None}
                if after["type"] not in ("reasoning", "function_call") and after.get("role") != "assistant":
                    # continuedev/continue#8933
                    return "Item of type 'reasoning' was provided without its required following item."
    return f"No tool output found for function call {min(open_ids)}." if open_ids else None  # RooCodeInc/Roo-Code#12248
