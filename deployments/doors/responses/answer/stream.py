"""A stream of a chat completion as the events of the Responses API. Pure: frames in, events out.

Items follow each other, and so do their events: an item that has ended has said all. What comes before it is told
before it (reasoning, then text, then calls, in the order in which the model has said them). A text that comes while
the arguments of a call are not whole waits for the end.

What only the answer's provider understands (`extra_content`) goes into the `encrypted_content` of a reasoning item. It
comes before the call that it belongs to; what comes at the end makes a last one.

A broken stream ends as `response.failed`. Texts that were open are closed as incomplete, but a call is not: clients run
the calls that are done, and half an input must not be run. Nor is a custom tool's input that a limit has cut off.

No `[DONE]` follows the last event. OpenAI sends none, and some clients fail over it (caozhiyuan/copilot-api#338).
"""

import time
from collections.abc import Callable, Mapping

from deployments.doors.door import Served
from deployments.doors.envelope import Envelope, absorb
from deployments.doors.responses.answer.calls import Call, Calls
from deployments.doors.responses.answer.contents import annotations_of, logprobs_of, pictures_of, pieces_of
from deployments.doors.responses.answer.errors import response_error, told_of
from deployments.doors.responses.answer.events import Events
from deployments.doors.responses.answer.output import (
    CustomCall,
    FunctionCall,
    Message,
    Picture,
    Place,
    Reasoning,
    State,
)
from deployments.doors.responses.answer.response import Status, echo_of, head_of, tier_of, usage_of
from deployments.doors.responses.request.tools import ToolTable
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently

Clock = Callable[[], float]  # seconds since 1970
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_OpenItem = Message | Reasoning | FunctionCall | CustomCall


class ResponseEncoder:
    """One answer. `take` may be given a whole message: it is a delta that says everything."""

    def __init__(
        self,
        body: JsonObject,
        table: ToolTable,
        served: Served,
        clock: Clock = time.time,
        events: Events | None = None,
    ):
        self.echo: JsonDict = {**echo_of(body), "id": f"resp_{served.id}", "created_at": served.created}
        self._model: JsonValue = body["model"]
        self._extra: JsonDict = dict(served.extra)
        self._table, self._id, self._clock = table, served.id, clock
        self._events = Events() if events is None else events
        self._calls = Calls(served.id)
        self._output: list[JsonDict] = []
        self._open: _OpenItem | None = None
        self._call: Call | None = None  # the one that is open
        self._key = ""  # of a delta that has one more piece of the open item
        self._say: Callable[[str], None] = _nobody  # who takes such a piece
        self._index: int | None = None  # of the call that is open
        self._held: list[JsonDict] = []  # deltas that came while a call was not whole
        self._kept: JsonDict = {}  # what no item holds yet, of the answer and of its calls
        self._kept_of_calls: JsonDict = {}
        self._finish: JsonValue = None
        self._usage: JsonValue = None
        self._tier = tier_of(None)
        self._begun = self._over = False

    def encode(self, frames: bytes) -> bytes:
        for event in frames.split(b"\n\n"):
            if event.startswith(b"data: {"):
                self._take_data(event[6:])
            elif event:
                self._take_event(event)
        return self._events.take()

    def _take_event(self, event: bytes) -> None:
        """Take an event in any other form: with a name, in several lines, or a comment."""
        lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines == [b"[DONE]"]:
            self.end()
        elif lines:
            self._take_data(b"\n".join(lines))

    def _take_data(self, data: bytes) -> None:
        try:
            chunk = parse_leniently(data)
        except ValueError:
            return
        if not self._over and isinstance(chunk, dict):
            self.take_chunk(chunk)

    def take_chunk(self, chunk: JsonDict) -> None:
        """Take a chunk, or a whole completion."""
        choices = chunk.get("choices")
        choice = choices[0] if choices and isinstance(choices, list) else None
        if not self._begun:
            self._begin(chunk)
        if isinstance(choice, dict):
            delta = choice.get("delta") or choice.get("message")
            if isinstance(delta, dict):
                self._take_delta(delta, choice.get("logprobs"))
            self._finish = choice.get("finish_reason") or self._finish
        else:
            self._take_rest(chunk)
        self._usage = chunk.get("usage") or self._usage

    def _take_rest(self, chunk: JsonDict) -> None:
        if "breakwater" in chunk:
            self._extra["breakwater"] = chunk["breakwater"]
        if chunk.get("error"):
            self._fail(chunk["error"])

    def _begin(self, chunk: JsonObject) -> None:
        self._begun = True
        if isinstance(model := chunk.get("model"), str) and model:
            self._model = model
        self._tier = tier_of(chunk.get("service_tier"))
        self.echo["model"] = self._model
        self._events.repeat(self.echo)
        for kind in ("created", "in_progress"):
            self._events.add_response(kind, head_of("in_progress", [], service_tier=self._tier))

    # What a delta holds, in the order in which it is told.

    def _take_delta(self, delta: JsonDict, logprobs: JsonValue) -> None:
        if len(delta) > 1:
            delta = {name: value for name, value in delta.items() if value and name != "role"}
        if len(delta) == 1 and not logprobs:
            # Nearly all deltas are one more piece of what is open.
            if (text := delta.get(self._key)) and text.__class__ is str:
                self._say(text)
                return
            if (calls := delta.get("tool_calls")) and self._index is not None and self._is_fed(calls):
                return
        self._take_more(delta, logprobs)
        if calls := delta.get("tool_calls"):
            self._take_calls(calls)

    def _take_more(self, delta: JsonDict, logprobs: JsonValue) -> None:
        if isinstance(extra := delta.get("extra_content"), dict) and extra:
            self._keep(Envelope(message=extra))
        said = {name: delta[name] for name in _SAID if delta.get(name)}
        if said and self._is_calling():
            self._held.append(said)
        elif said:
            self._tell(said, logprobs)

    def _tell(self, said: JsonDict, logprobs: JsonValue = None) -> None:
        pieces = pieces_of(said)
        if pieces.thoughts:
            self._reasoning().think(pieces.thoughts)
            self._key = "reasoning" if "reasoning" in said else "reasoning_content"  # of the next one, most likely
        if pieces.text and (told := logprobs_of(logprobs)):
            self._message().say_with_logprobs(pieces.text, told)
        elif pieces.text:
            self._message().say(pieces.text)
        if pieces.refusal:
            self._message().refuse(pieces.refusal)
        if found := annotations_of(said.get("annotations")):
            self._message().annotate(found)
        for picture in pictures_of(said.get("images")):
            self._close("completed")
            self._output.append(Picture(self._place("ig"), picture).close("completed"))

    def _keep(self, envelope: Envelope) -> None:
        """Keep what only the provider understands, in the reasoning that is open, or until the next item."""
        if isinstance(self._open, Reasoning):
            self._open.keep(envelope)
            return
        absorb(self._kept, envelope.message)
        self._kept_of_calls |= envelope.calls

    # Calls.

    def _is_fed(self, pieces: JsonValue) -> bool:
        """Feed the open call, if this is one more piece of its arguments and nothing else."""
        piece = pieces[0] if pieces.__class__ is list and len(pieces) == 1 else None
        if piece.__class__ is not dict or len(piece) != _BARE_PIECE or piece.get("index") != self._index:
            return False
        function = piece.get("function")
        text = function.get("arguments") if function.__class__ is dict and len(function) == 1 else None
        if text.__class__ is not str or not text or self._call is None:
            return False
        self._call.arguments.append(text)
        self._say(text)
        return True

    def _take_calls(self, pieces: JsonValue) -> None:
        for call in self._calls.take(pieces):
            if call.begun and call.extra:  # it came too late to stand before its call
                self._keep(Envelope(calls={call.id: call.extra}))
                call.extra = {}
            if call is self._call:
                self._feed(call)
            elif not call.begun:
                self._advance()

    def _advance(self) -> None:
        """Begin the calls that can begin: each but the last must be whole."""
        for call in self._calls.waiting():
            if not call.pieces or (self._call is not None and not self._call.is_whole):
                return
            self._begin_call(call)

    def _begin_call(self, call: Call) -> None:
        if call.extra:
            self._keep(Envelope(calls={call.id: call.extra}))
            call.extra = {}
        self._before_item()
        tool = self._table.tool_of(call.name)
        if tool.kind == "custom":
            self._open = CustomCall(self._place("ctc"), call.id, tool)
        else:
            self._open = FunctionCall(self._place("fc"), call.id, tool)
        call.begun, self._call = True, call
        self._index, self._say = call.index, self._open.feed
        self._feed(call)

    def _feed(self, call: Call) -> None:
        pieces, call.pieces = call.pieces, []
        for piece in pieces:
            self._say(piece)

    def _is_calling(self) -> bool:
        """Return whether a call is not whole."""
        return (self._call is not None and not self._call.is_whole) or bool(self._calls.waiting())

    # Items.

    def _message(self) -> Message:
        if not isinstance(self._open, Message):
            self._before_item()
            self._open = message = Message(self._place("msg"))
            self._key, self._say = "content", message.say
        return self._open

    def _reasoning(self) -> Reasoning:
        if isinstance(self._open, Reasoning):
            return self._open
        self._close("completed")
        self._open = reasoning = Reasoning(self._place("rs"))
        self._key, self._say = "reasoning_content", reasoning.think
        if self._kept or self._kept_of_calls:
            reasoning.keep(Envelope(self._kept, self._kept_of_calls))
            self._kept, self._kept_of_calls = {}, {}
        return reasoning

    def _before_item(self) -> None:
        """Close what is open, behind a reasoning item for what is still to be kept."""
        if self._kept or self._kept_of_calls:
            self._reasoning()
        self._close("completed")

    def _place(self, prefix: str) -> Place:
        at = len(self._output)
        return Place(f"{prefix}_{self._id}{at}", at, self._events)

    def _close(self, state: State) -> None:
        item, self._open = self._open, None
        self._key, self._say, self._index = "", _nobody, None
        if self._call is not None:
            self._call.over, self._call = True, None
        if item is not None and (done := item.close(state)) is not None:
            self._output.append(done)

    # Ends.

    def end(self) -> None:
        """End the answer, whole or cut off."""
        if self._over:
            return
        if not self._begun:
            self._begin({})
        reason = _INCOMPLETE.get(self._finish) if isinstance(self._finish, str) else None
        if reason is None or self._call is None or self._call.is_whole:
            self._tell_waiting()
        if not self._output and self._open is None:
            self._message()
        last, before = self._open, len(self._output)
        self._close("completed" if reason is None else "incomplete")
        if last is None or len(self._output) > before:  # nothing follows an item that is not done
            self._before_item()
        details = {"incomplete_details": None if reason is None else {"reason": reason}}
        self._conclude("completed" if reason is None else "incomplete", details)

    def _tell_waiting(self) -> None:
        for call in self._calls.waiting():
            self._begin_call(call)
        for said in self._held:
            self._tell(said)

    def _fail(self, error: JsonValue) -> None:
        if isinstance(self._open, Message | Reasoning):
            self._close("incomplete")
        if told := told_of(error):
            self._extra["breakwater"] = {**self._extra.get("breakwater", {}), **told}
        self._conclude("failed", {"error": response_error(error)})

    def _conclude(self, status: Status, told: Mapping[str, JsonValue]) -> None:
        self._over = True
        done = int(self._clock()) if status == "completed" else None
        told = {**told, "usage": usage_of(self._usage), "completed_at": done, "service_tier": self._tier}
        self.head = {**head_of(status, self._output, **told), **self._extra}
        self._events.add_response(status, self.head)


def _nobody(text: str) -> None:
    """Take no text: nothing is open."""


_BARE_PIECE = 2  # fields of a piece of a call: its index, and its function with arguments alone

# What a model has said, and which names that has.
_SAID = ("reasoning_content", "reasoning", "content", "refusal", "annotations", "images")
