"""An answer of the Messages API as a stream: a chat's frames to Anthropic's events. Pure.

Anthropic's clients append a block when it starts and find it by its number, so blocks stand one behind the other and
never overlap. A chat may send the pieces of two calls in turns. So what comes while a call is not whole waits for it.

    message_start
    (content_block_start, content_block_delta..., content_block_stop)...   index 0, 1, 2...
    message_delta, message_stop       or: error, and nothing after it

What a provider wants back of its thoughts is the signature of a thinking block, which is sent when the block ends. If
none is open, there is one without a text, before the call or the text that it belongs to.

It is on the hot path: a frame of text costs one parse of the frame and one of its text.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from deployments.doors.door import Served
from deployments.doors.envelope import Envelope, absorb, seal
from deployments.doors.messages.answer.arguments import Arguments
from deployments.doors.messages.answer.errors import body_of_frame
from deployments.doors.messages.answer.whole import (
    DIRECT,
    UNSIGNED,
    arguments_in,
    dict_of,
    head_of,
    id_of,
    images_in,
    name_in,
    object_in,
    stop_of,
    text_in,
    thoughts_in,
    usage_of,
)
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently, whole_number

_TEXT, _THINKING, _CALL = "text", "thinking", "tool_use"
_DELTAS: Mapping[str, tuple[str, str]] = {
    _TEXT: ("text_delta", "text"),
    _THINKING: ("thinking_delta", "thinking"),
    _CALL: ("input_json_delta", "partial_json"),
}
_END = b"}}\n\n"
# Of a message's usage: what counts from its start to its end.
_CUMULATIVE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
_DETAILS = ("output_tokens_details", "cache_creation")


@dataclass(slots=True)
class _Block:
    """A block that is open, or that waits for another to end: then its pieces are kept."""

    kind: str
    pieces: list[str] = field(default_factory=list)
    id: str = ""
    name: str = ""
    extra: JsonObject = field(default_factory=dict)
    arguments: Arguments = field(default_factory=Arguments)
    is_closed: bool = False

    @property
    def is_held(self) -> bool:
        """Whether nothing may begin yet behind it."""
        return self.kind is _CALL and not self.arguments.is_whole

    def start(self) -> JsonDict:
        if self.kind is _TEXT:
            return {"type": _TEXT, "text": "", "citations": None}
        if self.kind is _THINKING:
            return {"type": _THINKING, "thinking": "", "signature": ""}
        return {"type": _CALL, "id": self.id, "name": self.name, "input": {}, "caller": DIRECT}


class MessageStream:
    """The encoder of one answer: see `doors.door.Encoder`."""

    def __init__(self, served: Served, model: str, *, shows_thoughts: bool = True, estimate: int = 0):
        self._served = served
        self._model = model
        self._shows_thoughts = shows_thoughts
        self._estimate = estimate
        self._fields = {_TEXT: "content", _THINKING: "reasoning_content" if shows_thoughts else ""}
        self._out: list[bytes] = []
        self._begun = self._over = False
        self._index = -1
        self._open: _Block | None = None
        self._kind = ""  # of the open block
        self._prefix = b""  # of its deltas
        self._field = ""  # of a chat's delta, if that goes on in the open block as it is
        self._waiting: deque[_Block] = deque()
        self._calls: dict[int, _Block] = {}
        self._ids: set[str] = set()
        self._extra: JsonDict = {}  # of the message, not yet sent
        self._late: JsonDict = {}  # of calls that had begun before it came
        self._finish: JsonValue = None
        self._refused = False
        self._usage: JsonValue = None
        self._told: JsonDict = {}

    def encode(self, frames: bytes) -> bytes:
        """Return the events for some whole frames of a chat's stream."""
        for event in frames.split(b"\n\n"):
            if event and not self._over:
                self._take_event(event[6:] if event.startswith(b"data: ") else _payload(event))
        events = b"".join(self._out)
        self._out.clear()
        return events

    def _take_event(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._end()
            return
        try:
            chunk = parse_leniently(payload)
        except ValueError:
            return
        if isinstance(chunk, dict):
            self._take(chunk)

    def _take(self, chunk: JsonObject) -> None:
        choice = object_in(chunk.get("choices"))
        if not choice and chunk.get("error"):
            self._over = True
            self._send("error", body_of_frame(chunk, self._served.id))
            return
        if not self._begun:
            self._begin()
        delta = choice.get("delta")
        if delta.__class__ is dict and delta:
            text = delta.get(self._field)
            if text and text.__class__ is str and len(delta) == 1:
                self._out.append(self._prefix + dump(text) + _END)
            else:
                self._take_delta(delta)
        if usage := chunk.get("usage"):
            self._usage = usage
        if told := chunk.get("breakwater"):
            self._told = {"breakwater": told}
        if finish := choice.get("finish_reason"):
            self._finish = finish
            self._settle()

    def _take_delta(self, delta: JsonObject) -> None:
        if extra := dict_of(delta.get("extra_content")):
            absorb(self._extra, extra)
        if len(delta) > 1 or "tool_calls" not in delta:
            self._say(_THINKING, thoughts_in(delta))
            self._say(_TEXT, text_in(delta.get("content")))
        if refusal := delta.get("refusal"):
            self._refused = True
            self._say(_TEXT, text_in(refusal))
        calls = delta.get("tool_calls")
        for piece in calls if isinstance(calls, list) else ():
            if isinstance(piece, dict):
                self._take_call(piece)
        if "images" in delta:
            self._say(_TEXT, images_in(delta))

    def _say(self, kind: str, text: str) -> None:
        """Send a text in a block of its kind, or keep it until the open call is whole."""
        if not text:
            return
        if not self._may_begin():
            if self._waiting and self._waiting[-1].kind is kind:
                self._waiting[-1].pieces.append(text)
            else:
                self._waiting.append(_Block(kind, [text]))
            return
        if self._kind is not kind:
            self._switch(_Block(kind))
        self._send_piece(text)

    def _may_begin(self) -> bool:
        return not (self._waiting or (self._open is not None and self._open.is_held))

    def _take_call(self, piece: JsonObject) -> None:
        extra, key = dict_of(piece.get("extra_content")), self._key_of(piece)
        block = self._calls.get(key)
        if block is None:
            block = self._calls[key] = self._begin_call(piece, extra)
        elif extra:
            absorb(self._late.setdefault(block.id, {}), extra)
        text = arguments_in(piece)
        if block is self._open:
            self._send_piece(text)
            if self._waiting:
                self._advance()
        elif not block.is_closed:
            block.pieces.append(text)

    def _key_of(self, piece: JsonObject) -> int:
        """Return which call it belongs to. Without an index, a new id begins another."""
        index, key = whole_number(piece.get("index")), piece.get("id")
        if index is not None:
            return index
        is_new = not self._calls or (isinstance(key, str) and key and key not in self._ids)
        return len(self._calls) if is_new else len(self._calls) - 1

    def _begin_call(self, piece: JsonObject, extra: JsonObject) -> _Block:
        key = id_of(piece.get("id"), self._served, len(self._calls), self._ids)
        block = _Block(_CALL, id=key, name=name_in(piece), extra=extra)
        if self._may_begin():
            self._switch(block)
        else:
            self._waiting.append(block)
        return block

    def _advance(self) -> None:
        """Send what has waited, as far as no call holds it up."""
        while self._waiting and not (self._open is not None and self._open.is_held):
            self._switch(self._waiting.popleft())

    def _settle(self) -> None:
        """Send what is left, whole or not, and end the last block.

        A text must be the last block: of an answer that ends with thoughts, Claude Code 2.1.197 shows nothing. So what
        is told behind a text is not sent. No vendor demands it back: they do for calls.
        """
        while self._waiting:
            self._switch(self._waiting.popleft())
        if (self._extra or self._late) and self._kind is _CALL:
            self._switch(_Block(_THINKING))
        self._close(self._late)
        self._late = {}

    def _switch(self, block: _Block) -> None:
        """End the open block and start another. What a provider wants back is in a thinking block before it."""
        extras: JsonDict = {block.id: block.extra} if block.extra else {}
        if (extras or self._extra) and _THINKING not in (block.kind, self._kind):
            self._close({})
            self._start(_Block(_THINKING))
        self._close(extras)
        self._start(block)

    def _start(self, block: _Block) -> None:
        self._index += 1
        self._open, self._kind, self._field = block, block.kind, self._fields.get(block.kind, "")
        kind, name = _DELTAS[block.kind]
        self._prefix = _delta_prefix(self._index, kind, name)
        self._send("content_block_start", {"index": self._index, "content_block": block.start()})
        for piece in block.pieces:
            self._send_piece(piece)

    def _send_piece(self, text: str) -> None:
        if self._kind is _CALL and self._open is not None:
            text = self._open.arguments.take(text)
        if text and (self._kind is not _THINKING or self._shows_thoughts):
            self._out.append(self._prefix + dump(text) + _END)

    def _close(self, extras: JsonDict) -> None:
        """End the open block. `extras` are those of calls, for the signature of thoughts."""
        if (block := self._open) is None:
            return
        if block.kind is _THINKING:
            envelope = Envelope(self._extra, extras)
            self._extra = {}
            signature = seal(envelope) if envelope else UNSIGNED
            prefix = _delta_prefix(self._index, "signature_delta", "signature")
            self._out.append(prefix + dump(signature) + _END)
        elif block.kind is _CALL and (rest := block.arguments.rest()):
            self._out.append(self._prefix + dump(rest) + _END)
        self._send("content_block_stop", {"index": self._index})
        self._open, self._kind, self._field = None, "", ""
        block.is_closed = True

    def _begin(self) -> None:
        self._begun = True
        usage = usage_of(None, self._estimate)
        started = stop_of(None, calls=False) | {"stop_reason": None}
        message = {**head_of(self._served, self._model), "content": [], **started, "usage": usage}
        self._send("message_start", {"message": message})

    def _end(self) -> None:
        if not self._begun:
            self._begin()
        self._settle()
        self._over = True
        stop = stop_of(self._finish, calls=bool(self._calls), refused=self._refused)
        usage = usage_of(self._usage, self._estimate)
        told = {name: usage[name] for name in _CUMULATIVE} | {name: usage[name] for name in _DETAILS if usage[name]}
        self._send("message_delta", {"delta": stop, "usage": told, **self._served.extra, **self._told})
        self._send("message_stop", {})

    def _send(self, event: str, data: JsonDict) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (event.encode(), dump({"type": event, **data})))


def _delta_prefix(index: int, kind: str, name: str) -> bytes:
    """Return what stands before the text of a delta."""
    data = orjson.dumps({"type": "content_block_delta", "index": index, "delta": {"type": kind, name: ""}})
    return b"event: content_block_delta\ndata: " + data[: -len(b'""}}')]


def _payload(event: bytes) -> bytes:
    """Return the data of an event in which other lines stand too, or none."""
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
