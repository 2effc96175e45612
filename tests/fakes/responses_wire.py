"""OpenAI's Responses API on the wire: JSON and typed events, and what it refuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import hosted_items
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.tool_use import Called, calls_to, pieces
from tests.fakes.vendors import first_refusal, openai_responses

USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}
REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA-of-this-account"}


class ResponsesWire(OpenAIWire):
    """`reasons`: whether an answer begins with an encrypted item of reasoning. `hosted`: the items that follow it.

    `annotations` are those of its text, and `ends` how it ends, as fields of the response. Ids of items are new in each
    answer, and those of calls name the reasoning that led to them.
    """

    def __init__(self) -> None:
        self.reasons = True
        self.hosted: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.ends: dict[str, Any] = {"status": "completed"}
        self._answers = 0

    def _output(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self._answers += 1
        return [
            *([{**REASONING, "id": f"rs_{self._answers}"}] if self.reasons else []),
            *({**item, "id": f"{item['id']}_{self._answers}"} for item in self.hosted),
            *({**item, "id": self._id(item["id"])} for item in items),
        ]

    def _id(self, key: str) -> str:
        return f"{key}_{self._answers}" + (f"_of_rs_{self._answers}" if self.reasons else "")

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
        part = {"type": "output_text", "text": text, "annotations": self.annotations, "logprobs": []}
        return {"id": "msg", "type": "message", "role": "assistant", "status": "completed", "content": [part]}

    def _function_call(self, called: Called) -> dict[str, Any]:
        named = {"id": f"fc_{called.key}", "call_id": f"call_{called.key}", "name": called.name}
        return {"type": "function_call", **named, "arguments": json.dumps(called.arguments), "status": "completed"}

    def whole(self, words: Sequence[str]) -> bytes:
        output = self._output([self._message("".join(words))])
        return json.dumps(self._response(output=output, usage=USAGE, **self.ends)).encode()

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
        last = self._response(output=output, usage=USAGE, **self.ends)
        events.append({"type": f"response.{last['status']}", "response": last})
        numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered]

    def _of_item(self, at: int, item: dict[str, Any], words: Sequence[str]) -> list[dict[str, Any]]:
        where = {"item_id": item["id"], "output_index": at}
        match item["type"]:
            case "message":
                opened = {**item, "status": "in_progress", "content": []}
                part, inside = item["content"][0], {**where, "content_index": 0}
                middle = [
                    {"type": "response.content_part.added", **inside, "part": {**part, "text": "", "annotations": []}}
                ]
                middle += [
                    {"type": "response.output_text.delta", **inside, "delta": word, "logprobs": []} for word in words
                ]
                middle += [
                    {
                        "type": "response.output_text.annotation.added",
                        **inside,
                        "annotation_index": number,
                        "annotation": one,
                    }
                    for number, one in enumerate(self.annotations)
                ]
                middle.append({"type": "response.output_text.done", **inside, "text": part["text"], "logprobs": []})
                middle.append({"type": "response.content_part.done", **inside, "part": part})
            case "function_call":
                opened, name = {**item, "status": "in_progress", "arguments": ""}, "response.function_call_arguments"
                middle = [{"type": f"{name}.delta", **where, "delta": piece} for piece in pieces(item["arguments"])]
                middle.append({"type": f"{name}.done", **where, "name": item["name"], "arguments": item["arguments"]})
            case _:
                opened, middle = hosted_items.opened(item), list(hosted_items.events_of(item, where))
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
        given = body["input"]
        if body.get("tool_choice") == "none" or (not isinstance(given, str) and "output" in given[-1]):
            return []
        functions = [tool for tool in body.get("tools") or () if tool["type"] == "function"]
        return calls_to([(tool["name"], tool.get("parameters") or {}) for tool in functions], len(given))

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        if not path.endswith("/v1/responses"):
            return f"no route {path}"
        if body.get("store") is not False:
            return "the request would be stored"
        found = first_refusal(openai_responses.RULES, Asked(path, body))
        return None if found is None else f"{found[0]}: {found[1].body['error']['message']}"


@dataclass(frozen=True)
class Asked:
    """A request as the rules take it."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
