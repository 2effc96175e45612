"""An answer of a server that was asked by the Responses API too: its own response and events, under our names. Pure.

Each event goes on as it came, but for its number, and for what a response says of itself: its id here, and the model
that the client asked for. The last one waits until nothing can follow it any more. A stream that breaks off ends as
`response.failed`, with the items that were done.
"""

from deployments.doors.door import Served
from deployments.doors.native_answer import NativeStream, named_frame
from deployments.doors.responses.answer.errors import response_error, told_of
from deployments.doors.responses.answer.response import echo_of, head_of, usage_of
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FORCED: JsonObject = {"store": False, "background": False, "previous_response_id": None}


class NativeResponses:
    """Puts our names into the responses of one answer, and fills in what a server has left out."""

    def __init__(self, body: JsonObject, served: Served):
        self._body, self._model = body, body["model"]
        self._names: JsonDict = {"id": f"resp_{served.id}", "model": self._model, **_FORCED}
        self._created = served.created

    def named(self, response: JsonObject, more: JsonObject) -> JsonDict:
        """Return a response as its client reads it, with more fields of ours."""
        told = {**response, **self._names, **more}
        told["usage"] = _usage(response.get("usage"))
        if told.keys() >= _REQUIRED:
            return told
        return {**echo_of(self._body), **head_of("in_progress", []), "created_at": self._created, **told}


# Open Responses wants each of these fields (its schema `ResponseResource`); some servers leave some of them out.
_REQUIRED = frozenset(
    {
        *("object", "created_at", "completed_at", "status", "incomplete_details", "instructions", "output", "error"),
        *("tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p", "temperature", "reasoning"),
        *("presence_penalty", "frequency_penalty", "top_logprobs", "max_output_tokens", "max_tool_calls", "metadata"),
        *("service_tier", "safety_identifier", "prompt_cache_key", "user"),
    }
)


def _usage(told: JsonValue) -> JsonDict | None:
    """Return the usage with each count that clients look for."""
    if not isinstance(told, dict) or (counted := usage_of(told)) is None:
        return None
    details = {
        name: {**counted[name], **(own if isinstance(own := told.get(name), dict) else {})}
        for name in ("input_tokens_details", "output_tokens_details")
    }
    return {**counted, **told, **details}


def native_response(response: JsonObject, body: JsonObject, served: Served) -> JsonDict:
    """Return a whole answer. `body` is the client's request."""
    return NativeResponses(body, served).named(response, served.extra)


class NativeEncoder(NativeStream):
    """One stream."""

    def __init__(self, body: JsonObject, served: Served):
        super().__init__(served.extra)
        self._responses = NativeResponses(body, served)
        self._number = 0
        self._last: JsonDict = {}  # the response as it was told last
        self._done: list[JsonDict] = []
        self._end: JsonDict | None = None  # the event that ends the answer, as far as anybody knows
        self._over = False

    def take(self, _: bytes, data: bytes) -> None:
        event = parse_leniently(data)
        kind = event["type"]
        if kind in _ENDS:
            self._end = event
            return
        if kind == "response.output_item.done":
            self._done.append(event["item"])
        if "response" in event:
            self._last = event["response"] = self._responses.named(event["response"], self.told)
            self._tell(event)
        elif event.get("sequence_number") == self._number:
            self._send(kind, data)
        else:
            self._tell(event)

    def _tell(self, event: JsonDict) -> None:
        self._send(event["type"], dump({**event, "sequence_number": self._number}))

    def _send(self, kind: str, data: bytes) -> None:
        self.frames.append(named_frame(kind.encode(), data))
        self._number += 1

    def fail(self, chunk: JsonObject) -> None:
        """End as failed: in the server's own words, if it has said that its response failed."""
        error = chunk["error"]
        if told := told_of(error):
            self.told["breakwater"] = {**self.told.get("breakwater", {}), **told}
        if self._end is None or self._end["type"] != "response.failed":
            response = {**self._last, "status": "failed", "output": self._done, "error": response_error(error)}
            self._end = {"type": "response.failed", "response": response}
        self.conclude()

    def conclude(self) -> None:
        if self._over or self._end is None:
            return
        self._over = True
        self._end["response"] = self._responses.named(self._end["response"], self.told)
        self._tell(self._end)
