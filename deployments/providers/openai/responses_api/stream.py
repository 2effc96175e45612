"""The events of a stream of the Responses API as frames of a chat completion's. Pure.

An answer has begun with the first thing that a client would read, or that a hosted tool does: what comes before
(`response.created`, an item that opens) is no content, so that another target can still be asked. It is whole with
`response.completed` or `response.incomplete` alone.

A server may leave deltas out and tell things by `done` alone, or by the whole response at the end. Each thing is told
once, by whichever comes first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec import structs

from deployments.errors import failed
from deployments.openai_api.chat import Head, chunk
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.usage import with_tier
from deployments.providers.base import Call, End, end_of
from deployments.providers.openai.responses_api.endings import chat_usage, failure_of, finish_of
from deployments.providers.openai.responses_api.kept_items import kept_item
from deployments.providers.openai.responses_api.said import (
    CALL,
    annotation_of,
    arguments_in,
    call_head,
    logprobs_of,
    parts_of,
    thoughts_in,
)
from deployments.providers.translation.choice import arguments_delta, call_delta

MOST_ITEMS = 4096  # of one answer: each is remembered
KEEP_ALIVE = b": a hosted tool is at work\n\n"
_OWN = frozenset({"message", "reasoning", CALL})


@dataclass(slots=True)
class _Item:
    """An item so far: `told` is whether anything of it has gone out, `call` its number among the calls."""

    item: JsonObject
    call: int = -1
    told: bool = False
    done: bool = False
    parts: int = 0  # of a summary


@dataclass(slots=True)
class EventReader:
    """One stream.

    Attributes:
        finished: whether the response has ended well.
        model: its name, as the server gave it.
    """

    head: Head
    finished: bool = False
    usage: JsonDict | None = None
    model: JsonValue = None
    _items: dict[JsonValue, _Item] = field(default_factory=dict)
    _frames: list[bytes] = field(default_factory=list)
    _content: bool = False
    _begun: bool = False
    _said: bool = False  # has a text begun?
    _thought: bool = False
    _calls: int = 0
    _kept: int = 0
    _tier: JsonValue = None  # that has served the answer

    def read(self, event: JsonObject, _: bytes = b"") -> Iterator[tuple[bytes, bool]]:
        """Yield the frames of one event, and whether they hold content. Raises AttemptFailed."""
        if self.finished:
            return
        if (take := _TAKE.get(str(event.get("type")))) is not None:
            take(self, event)
        elif self._is_at_work(event):
            self._frames.append(KEEP_ALIVE)
            self._content = True
        frames, content = b"".join(self._frames), self._content
        self._frames, self._content = [], False
        yield frames, content

    def end(self, call: Call) -> End:
        ended = end_of(self.head, self.usage, call)
        return structs.replace(ended, usage=with_tier(self.usage, self._tier))

    def _tell(self, delta: JsonObject, logprobs: JsonObject | None = None) -> None:
        if not self._begun:
            self._begun = True
            self._frames.append(chunk(self.head, {"role": "assistant", "content": ""}))
        self._frames.append(chunk(self.head, delta, logprobs=logprobs))
        self._content = True

    def _item(self, event: JsonObject) -> _Item:
        """Return the item that an event is about. It opens with its first event, whatever that is."""
        at = event.get("output_index") or 0
        if (found := self._items.get(at)) is None:
            if len(self._items) >= MOST_ITEMS:
                raise failed("malformed", f"the stream has more than {MOST_ITEMS} items", status=200)
            found = self._items[at] = _Item({"type": _TYPES.get(str(event["type"]), "message")})
        return found

    def _is_at_work(self, event: JsonObject) -> bool:
        """Return whether an event tells of a hosted tool."""
        found = self._items.get(event.get("output_index"))
        return found is not None and found.item["type"] not in _OWN

    # Events of the response as a whole.

    def _created(self, event: JsonObject) -> None:
        self.model = event["response"].get("model")

    def _failed(self, event: JsonObject) -> None:
        response = event["response"]
        self.usage = chat_usage(response.get("usage")) or self.usage
        raise failure_of(response.get("error"))

    def _error(self, event: JsonObject) -> None:
        inner = event.get("error")
        raise failure_of(inner if isinstance(inner, dict) else event)

    def _completed(self, event: JsonObject) -> None:
        response = event["response"]
        self.model = response.get("model") or self.model
        self.usage, self._tier = chat_usage(response.get("usage")), response.get("service_tier")
        for at, item in enumerate(response.get("output") or ()):
            self._done({"type": "response.output_item.done", "output_index": at, "item": item})
        status = "incomplete" if event["type"] == "response.incomplete" else "completed"
        finish = finish_of({**response, "status": response.get("status") or status}, calls=self._calls)
        content = self._content
        if not self._begun:
            self._tell({})
        self._frames.append(chunk(self.head, {}, finish))
        self._content, self.finished = content, True

    # Events of items.

    def _added(self, event: JsonObject) -> None:
        found = self._item(event)
        found.item = item = event["item"]
        if item["type"] == CALL:
            self._begin_call(found)
        elif item["type"] not in _OWN:
            self._tell({})  # its work is paid, so its target is the one that answers

    def _begin_call(self, found: _Item) -> None:
        found.call, self._calls = self._calls, self._calls + 1
        self._tell(call_delta(found.call, call_head(found.item)))

    def _done(self, event: JsonObject) -> None:
        found, item = self._item(event), event["item"]
        if found.done:
            return
        found.done = True
        kind = item["type"]
        if kind == "message":
            self._done_message(found, item)
        elif kind == CALL:
            self._done_call(found, item)
        else:
            if kind == "reasoning" and not found.told and (thoughts := thoughts_in(item)):
                self._think(found, thoughts)
            content = self._content
            self._tell({"extra_content": kept_item(self._kept, self._calls, item, said=self._said)})
            self._kept += 1
            if kind == "reasoning":  # nobody can read it: an answer has not begun with it
                self._content = content

    def _done_message(self, found: _Item, item: JsonObject) -> None:
        for part in () if found.told else parts_of(item):
            if part.get("type") == "refusal":
                self._refuse(found, str(part.get("refusal") or ""))
            elif isinstance(text := part.get("text"), str):
                self._say(found, text, part.get("logprobs"))
                for told in part.get("annotations") or ():
                    self._annotate(told)

    def _done_call(self, found: _Item, item: JsonObject) -> None:
        if found.call < 0:
            found.item = item
            self._begin_call(found)
        if not found.told:
            self._tell(arguments_delta(found.call, arguments_in(item)))

    # Pieces of them.

    def _text(self, event: JsonObject) -> None:
        self._say(self._item(event), event["delta"], event.get("logprobs"))

    def _say(self, found: _Item, text: str, logprobs: JsonValue) -> None:
        if text:
            found.told = self._said = True
            self._tell({"content": text}, logprobs_of(logprobs))

    def _refusal(self, event: JsonObject) -> None:
        self._refuse(self._item(event), event["delta"])

    def _refuse(self, found: _Item, text: str) -> None:
        if text:
            found.told = self._said = True
            self._tell({"refusal": text})

    def _annotation(self, event: JsonObject) -> None:
        self._item(event).told = True
        self._annotate(event["annotation"])

    def _annotate(self, told: JsonValue) -> None:
        if (annotation := annotation_of(told)) is not None:
            self._tell({"annotations": [annotation]})

    def _part(self, event: JsonObject) -> None:
        found = self._item(event)
        found.parts += 1

    def _thoughts(self, event: JsonObject) -> None:
        self._think(self._item(event), event["delta"])

    def _think(self, found: _Item, text: str) -> None:
        """Tell a piece of the reasoning. A blank line stands between two parts, and between two items."""
        if not text:
            return
        between = "\n\n" if self._thought and (not found.told or found.parts > 1) else ""
        found.parts = min(found.parts, 1)
        found.told = self._thought = True
        self._tell({"reasoning_content": between + text})

    def _arguments(self, event: JsonObject) -> None:
        found, text = self._item(event), event["delta"]
        if found.call < 0:
            raise failed("malformed", "arguments of a call that has not begun", status=200)
        if text:
            found.told = True
            self._tell(arguments_delta(found.call, text))


_TYPES = {
    "response.reasoning_summary_part.added": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
}
_TAKE: Mapping[str, Callable[[EventReader, JsonObject], None]] = {
    "response.output_text.delta": EventReader._text,
    "response.function_call_arguments.delta": EventReader._arguments,
    "response.reasoning_summary_text.delta": EventReader._thoughts,
    "response.reasoning_text.delta": EventReader._thoughts,
    "response.reasoning_summary_part.added": EventReader._part,
    "response.refusal.delta": EventReader._refusal,
    "response.output_text.annotation.added": EventReader._annotation,
    "response.output_item.added": EventReader._added,
    "response.output_item.done": EventReader._done,
    "response.created": EventReader._created,
    "response.completed": EventReader._completed,
    "response.incomplete": EventReader._completed,
    "response.failed": EventReader._failed,
    "response.cancelled": EventReader._failed,
    "error": EventReader._error,
}
