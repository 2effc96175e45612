"""The Responses API's door as its tests use it. The types of the openai SDK are the judge of all that it says."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from deployments.doors.door import Served
from deployments.doors.responses.door import OpenedResponse, ResponsesDoor
from deployments.openai_api.chat import DONE, Head, chunk, usage_chunk, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject

NOW = 1_800_000_000
SERVED = Served("00ff", NOW - 2)
HEAD = Head("chatcmpl-1", NOW, "row")
DOOR = ResponsesDoor(clock=lambda: float(NOW))
USAGE = usage_of(10, 5, cached=4, written=2, reasoning=3)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
# What Open Responses wants of each response (its schema `ResponseResource`).
REQUIRED = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
    *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
    *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage"),
    *("max_output_tokens", "max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier"),
    "prompt_cache_key",
}


def opened(given: Any = "Hi", **fields: Any) -> OpenedResponse:
    return DOOR.open({"model": "row", "input": given, **fields})


def messages(given: Any, **fields: Any) -> list[JsonDict]:
    """The messages of the chat completion that such an input becomes."""
    made: list[JsonDict] = opened(given, **fields).request.body["messages"]
    return made


def call(key: str, name: str = "f", arguments: str = "{}", **more: Any) -> JsonDict:
    return {"type": "function_call", "call_id": key, "name": name, "arguments": arguments, **more}


def result(key: str, output: Any = "ok") -> JsonDict:
    return {"type": "function_call_output", "call_id": key, "output": output}


def function(name: str = "f", **more: Any) -> JsonDict:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}


def completion(message: JsonObject, finish: str | None = "stop", **more: Any) -> JsonDict:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "created": NOW, "model": "row", "choices": [choice], "usage": USAGE, **more}


def whole(
    message: JsonObject, finish: str | None = "stop", *, on: OpenedResponse | None = None, **more: Any
) -> JsonDict:
    """The answer to a message of a chat completion; the SDK's types have taken it."""
    answer = (on or opened()).whole(completion(message, finish, **more), SERVED)
    check_response(answer)
    return answer


def check_response(answer: JsonObject) -> None:
    assert answer.keys() >= REQUIRED
    Response.model_validate_json(json.dumps(answer), strict=True)


def frames(*deltas: JsonObject, finish: str | None = "stop", usage: JsonObject | None = USAGE) -> list[bytes]:
    """The frames of a stream of a chat completion."""
    made = [chunk(HEAD, {"role": "assistant", "content": ""}), *(chunk(HEAD, delta) for delta in deltas)]
    if finish is not None:
        made.append(chunk(HEAD, {}, finish))
    return [*made, *([usage_chunk(HEAD, usage)] if usage is not None else []), DONE]


@dataclass(frozen=True)
class Streamed:
    """The events of a stream, each taken by the SDK's types and with its number and its name."""

    events: list[JsonDict]

    @property
    def kinds(self) -> list[str]:
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def response(self) -> JsonDict:
        answer: JsonDict = self.events[-1]["response"]
        return answer

    @property
    def done(self) -> list[JsonDict]:
        return [event["item"] for event in self.of("output_item.done")]

    def of(self, kind: str) -> list[JsonDict]:
        return [event for event in self.events if event["type"] == f"response.{kind}"]

    def text(self, kind: str) -> str:
        """The deltas of a kind, joined."""
        return "".join(event["delta"] for event in self.of(f"{kind}.delta"))


def streamed(stream: Iterable[bytes], *, on: OpenedResponse | None = None, served: Served = SERVED) -> Streamed:
    encoder = (on or opened(stream=True)).encoder(served)
    return read_events(b"".join(map(encoder.encode, stream)))


def read_events(data: bytes) -> Streamed:
    events = []
    for number, event in enumerate(data.split(b"\n\n")[:-1]):
        name, _, line = event.partition(b"\n")
        found = orjson.loads(line.removeprefix(b"data: "))
        _EVENT.validate_json(line.removeprefix(b"data: "), strict=True)
        assert name.decode() == f"event: {found['type']}"
        assert found["sequence_number"] == number
        if "response" in found:
            assert found["response"].keys() >= REQUIRED
        events.append(found)
    _check_order(events)
    return Streamed(events)


def _check_order(events: list[JsonDict]) -> None:
    """Items follow each other: what is told of an item stands between its `added` and its `done`."""
    open_at: int | None = None
    count, custom = 0, False
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert open_at is None
            assert event["output_index"] == count
            open_at, count = count, count + 1
            custom = event["item"]["type"] == "custom_tool_call"
        elif "output_index" in event:
            assert event["output_index"] == open_at
        if kind == "response.output_item.done":
            open_at = None
    # A call that broke off is not done, or a client would run it.
    if (
        events
        and events[-1]["type"] != "response.failed"
        and not (custom and events[-1]["type"].endswith("incomplete"))
    ):
        assert open_at is None
