"""An answer of a server that was asked by the Responses API too: its own response and events, under our names. Pure.

Each event goes on as it came, but for its number, and for what a response says of itself: its id here, and the model
that the client asked for. The last one waits until nothing can follow it any more. A stream that breaks off ends as
`response.failed`, with the items that were done.
"""

from deployments.doors.door import Served
from deployments.doors.responses.answer.errors import response_error, told_of
from deployments.doors.responses.answer.response import echo_of, head_of, usage_of
from deployments.openai_api.chat import NATIVE_FRAME, dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FORCED: JsonObject = {"store": False, "background": False, "previous_response_id": None}


class NativeResponses:
    """Puts our names into the responses of one answer, and fills in what a server has left out."""

    def __init__(self, body: JsonObject, served: Served):
        self._body, self._model = body, body["model"]
        self._names: JsonDict = {"id": f"resp_{served.id}", "model": self._model, **_FORCED}
        self._created, self.extra = served.created, dict(served.extra)

    def named(self, response: JsonObject) -> JsonDict:
        """Return a response as its client reads it."""
        told = {**response, **self._names, **self.extra}
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
    return NativeResponses(body, served).named(response)


class NativeEncoder:
    """One stream."""

    def __init__(self, body: JsonObject, served: Served):
        self._responses = NativeResponses(body, served)
        self._number = 0
        self._last: JsonDict = {}  # the response as it was told last
        self._done: list[JsonDict] = []
        self._end: JsonDict | None = None  # the event that ends the answer, as far as anybody knows
        self._over = False
        self._frames: list[bytes] = []

    def encode(self, frames: bytes) -> bytes:
        for event in frames.split(b"\n\n"):
            if event.startswith(NATIVE_FRAME):
                self._take(event.partition(b"\ndata: ")[2])
            elif event == b"data: [DONE]":
                self._conclude()
            elif event.startswith(b"data: {"):
                self._take_chunk(parse_leniently(event[6:]))
        told, self._frames = self._frames, []
        return b"".join(told)

    def _take(self, data: bytes) -> None:
        event = parse_leniently(data)
        kind = event["type"]
        if kind in _ENDS:
            self._end = event
            return
        if kind == "response.output_item.done":
            self._done.append(event["item"])
        if "response" in event:
            self._last = event["response"] = self._responses.named(event["response"])
            self._tell(event)
        elif event.get("sequence_number") == self._number:
            self._send(kind, data)
        else:
            self._tell(event)

    def _tell(self, event: JsonDict) -> None:
        self._send(event["type"], dump({**event, "sequence_number": self._number}))

    def _send(self, kind: str, data: bytes) -> None:
        self._frames.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))
        self._number += 1

    def _take_chunk(self, chunk: JsonValue) -> None:
        """Take what stands between the answer's own events: an explanation, or the error of a stream that broke off."""
        if not isinstance(chunk, dict):
            return
        if isinstance(told := chunk.get("breakwater"), dict):
            self._responses.extra["breakwater"] = told
        if error := chunk.get("error"):
            self._fail(error)

    def _fail(self, error: JsonValue) -> None:
        """End as failed: in the server's own words, if it has said that its response failed."""
        if told := told_of(error):
            self._responses.extra["breakwater"] = {**self._responses.extra.get("breakwater", {}), **told}
        if self._end is None or self._end["type"] != "response.failed":
            response = {**self._last, "status": "failed", "output": self._done, "error": response_error(error)}
            self._end = {"type": "response.failed", "response": response}
        self._conclude()

    def _conclude(self) -> None:
        if self._over or self._end is None:
            return
        self._over = True
        self._end["response"] = self._responses.named(self._end["response"])
        self._tell(self._end)
