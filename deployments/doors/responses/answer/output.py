"""The items of an answer while they are open: each adds its own events, from `added` to `done`. Pure.

An item is whole in each event: clients throw away the deltas of one that lacks its empty lists
(QuantumNous/new-api#7087).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from deployments.doors.envelope import Envelope, absorb, seal
from deployments.doors.responses.answer.custom_input import CustomInput
from deployments.doors.responses.answer.events import Events, template
from deployments.doors.responses.request.tools import Tool
from deployments.openai_api.json_types import JsonDict, JsonObject

State = Literal["in_progress", "completed", "incomplete"]


@dataclass(slots=True)
class Place:
    """Where an item stands: its id, its index among the items, and the events to which it adds its own."""

    id: str
    index: int
    events: Events

    def add(self, kind: str, **fields: object) -> None:
        self.events.add(kind, {"item_id": self.id, "output_index": self.index, **fields})

    def item(self, kind: str, item: JsonObject) -> None:
        self.events.add(f"output_item.{kind}", {"output_index": self.index, "item": item})

    def template(self, kind: str, *, logprobs: bool = False, **where: int) -> tuple[bytes, bytes]:
        return template(kind, {"item_id": self.id, "output_index": self.index, **where}, logprobs=logprobs)


@dataclass(slots=True)
class _Part:
    """A text or a refusal."""

    kind: Literal["output_text", "refusal"]
    template: tuple[bytes, bytes]
    texts: list[str] = field(default_factory=list)
    logprobs: list[JsonDict] = field(default_factory=list)
    annotations: list[JsonDict] = field(default_factory=list)

    @property
    def whole(self) -> JsonDict:
        text = "".join(self.texts)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": self.annotations, "logprobs": self.logprobs}


class Message:
    """A message of the assistant. Its parts follow each other."""

    def __init__(self, place: Place):
        self._place = place
        self._done: list[JsonDict] = []
        self._part: _Part | None = None
        place.item("added", self._item("in_progress"))

    def _item(self, state: State) -> JsonDict:
        item = {"id": self._place.id, "type": "message", "role": "assistant", "status": state}
        return {**item, "content": list(self._done)}

    def say(self, text: str) -> None:
        part = self._part
        if part is None or part.kind != "output_text":
            part = self._begin("output_text")
        part.texts.append(text)
        self._place.events.delta(part.template[0], text, part.template[1])

    def say_with_logprobs(self, text: str, logprobs: Sequence[JsonDict]) -> None:
        part = self._of("output_text")
        part.texts.append(text)
        part.logprobs += logprobs
        self._place.add("output_text.delta", content_index=len(self._done), delta=text, logprobs=_short(logprobs))

    def refuse(self, text: str) -> None:
        part = self._of("refusal")
        part.texts.append(text)
        self._place.events.delta(part.template[0], text, part.template[1])

    def annotate(self, annotations: Sequence[JsonDict]) -> None:
        part = self._of("output_text")
        for annotation in annotations:
            at = len(part.annotations)
            part.annotations.append(annotation)
            where = {"content_index": len(self._done), "annotation_index": at}
            self._place.add("output_text.annotation.added", **where, annotation=annotation)

    def _of(self, kind: Literal["output_text", "refusal"]) -> _Part:
        return self._part if self._part is not None and self._part.kind == kind else self._begin(kind)

    def _begin(self, kind: Literal["output_text", "refusal"]) -> _Part:
        self._end_part()
        at = len(self._done)
        texts = self._place.template(f"{kind}.delta", logprobs=kind == "output_text", content_index=at)
        self._part = part = _Part(kind, texts)
        self._place.add("content_part.added", content_index=at, part=part.whole)
        return part

    def _end_part(self) -> None:
        if (part := self._part) is None:
            return
        at, whole, self._part = len(self._done), part.whole, None
        if part.kind == "refusal":
            self._place.add("refusal.done", content_index=at, refusal=whole["refusal"])
        else:
            logprobs = _short(part.logprobs)
            self._place.add("output_text.done", content_index=at, text=whole["text"], logprobs=logprobs)
        self._place.add("content_part.done", content_index=at, part=whole)
        self._done.append(whole)

    def close(self, state: State) -> JsonDict:
        if self._part is None and not self._done:
            self._begin("output_text")
        self._end_part()
        item = self._item(state)
        self._place.item("done", item)
        return item


def _short(logprobs: Sequence[JsonObject]) -> list[JsonDict]:
    """Return log probabilities as events have them: without the bytes, and with the bare alternatives."""
    return [
        {
            "token": one["token"],
            "logprob": one["logprob"],
            "top_logprobs": [{"token": top["token"], "logprob": top["logprob"]} for top in one["top_logprobs"]],
        }
        for one in logprobs
    ]


class Reasoning:
    """Reasoning that can be shown, and in `encrypted_content` what only its provider can read.

    The envelope is always there, also an empty one: it tells our own reasoning from that of others when it comes back.
    """

    def __init__(self, place: Place):
        self._place = place
        self._texts: list[str] = []
        self._message: JsonDict = {}
        self._calls: JsonDict = {}
        self._template = place.template("reasoning_summary_text.delta", summary_index=0)
        place.item("added", {"id": place.id, "type": "reasoning", "status": "in_progress", "summary": []})

    def think(self, text: str) -> None:
        if not self._texts:
            part = {"type": "summary_text", "text": ""}
            self._place.add("reasoning_summary_part.added", summary_index=0, part=part)
        self._texts.append(text)
        self._place.events.delta(self._template[0], text, self._template[1])

    def keep(self, envelope: Envelope) -> None:
        absorb(self._message, envelope.message)
        self._calls |= envelope.calls

    def close(self, state: State) -> JsonDict:
        summary = []
        if self._texts:
            text = "".join(self._texts)
            summary = [{"type": "summary_text", "text": text}]
            self._place.add("reasoning_summary_text.done", summary_index=0, text=text)
            self._place.add("reasoning_summary_part.done", summary_index=0, part=summary[0])
        item = {"id": self._place.id, "type": "reasoning", "status": state, "summary": summary}
        item["encrypted_content"] = seal(Envelope(self._message, self._calls))
        self._place.item("done", item)
        return item


class FunctionCall:
    def __init__(self, place: Place, call_id: str, tool: Tool):
        self._place = place
        self._pieces: list[str] = []
        self._template = place.template("function_call_arguments.delta")
        named = {"name": tool.name} if tool.namespace is None else {"name": tool.name, "namespace": tool.namespace}
        self._item: JsonDict = {"id": place.id, "type": "function_call", "call_id": call_id, **named}
        self._name = tool.name
        place.item("added", {**self._item, "arguments": "", "status": "in_progress"})

    def feed(self, piece: str) -> None:
        self._pieces.append(piece)
        self._place.events.delta(self._template[0], piece, self._template[1])

    def close(self, state: State) -> JsonDict:
        """A call without arguments has an empty object of them, unless it broke off."""
        if state == "completed" and not "".join(self._pieces).strip():
            self.feed("{}")
        arguments = "".join(self._pieces)
        self._place.add("function_call_arguments.done", name=self._name, arguments=arguments)
        item = {**self._item, "arguments": arguments, "status": state}
        self._place.item("done", item)
        return item


class CustomCall:
    """A call of a custom tool. If its answer was cut in the midst of its input, it is never done.

    Codex runs a call that is done, whatever its state says, and half a script must not be run.
    """

    def __init__(self, place: Place, call_id: str, tool: Tool):
        self._place = place
        self._input = CustomInput()
        self._template = place.template("custom_tool_call_input.delta")
        named = {"name": tool.name} if tool.namespace is None else {"name": tool.name, "namespace": tool.namespace}
        self._item: JsonDict = {"id": place.id, "type": "custom_tool_call", "call_id": call_id, **named}
        place.item("added", {**self._item, "input": "", "status": "in_progress"})

    def feed(self, piece: str) -> None:
        self._tell(self._input.feed(piece))

    def _tell(self, text: str) -> None:
        if text:
            self._place.events.delta(self._template[0], text, self._template[1])

    def close(self, state: State) -> JsonDict | None:
        if state == "incomplete" and not self._input.is_whole:
            return None
        self._tell(self._input.end())
        text = "".join(self._input.text)
        self._place.add("custom_tool_call_input.done", input=text)
        item = {**self._item, "input": text, "status": state}
        self._place.item("done", item)
        return item


class Picture:
    """A picture that the model has made."""

    def __init__(self, place: Place, made: JsonObject):
        self._place, self._made = place, made
        self._item: JsonDict = {"id": place.id, "type": "image_generation_call"}
        place.item("added", {**self._item, "status": "in_progress", "result": None})

    def close(self, state: State) -> JsonDict:
        item = {**self._item, "status": "completed", **self._made}
        self._place.item("done", item)
        return item
