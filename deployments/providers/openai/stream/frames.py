"""One frame of a stream after the other, parsed: what it holds, and what must be changed for the client. Pure.

A frame that is right goes out as the bytes it was. What one stream must agree on is made so: each frame names the
client's model, all have one id, each tool call has an index, and each choice has one finish reason, at its end. So a
finish reason is held back until the stream's end, and so is the usage, which some servers send with every frame
(songquanpeng/one-api#1408).
"""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployments.openai_api.chat import dump, frame
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.openai.stream.chunks import ChunkReader
from deployments.providers.openai.stream.content import choices_of, index_of
from deployments.providers.openai.stream.shape import Edits, Read

_MODEL = b'"model"'
_MOST_EARLY = 64 * 1024  # bytes that wait for an id
_KEYS = {
    key: re.compile(rb'"' + key.encode() + rb'"\s*:\s*(?:"[^"\\]*(?:\\.[^"\\]*)*"|null)') for key in ("model", "id")
}


@dataclass(slots=True)
class FrameReader:
    """What is known of a stream.

    Attributes:
        name: the model that the client asked for.
        keep_usage: the client wants a frame of usage.
        model: the model's name as the provider gave it.
        chunks: what its chunks have told.
    """

    name: str
    keep_usage: bool
    model: str | None = None
    chunks: ChunkReader = field(default_factory=ChunkReader)
    _id: str | None = None
    _held: dict[int, bytes] = field(default_factory=dict)  # the frames of finish reasons, by choice
    _early: list[tuple[bytes, JsonDict, bool]] = field(default_factory=list)  # frames before there was an id
    _early_bytes: int = 0
    _sent: bool = False
    _usage_frame: bytes = b""  # the last that tells the usage and nothing else
    _known: Edits | None = None  # of the last frame
    _known_for: JsonValue = None  # the model that it had

    def read(self, event: bytes, data: JsonDict, choices: list[JsonDict], *, changed: bool = False) -> Read:
        """Return what an event holds, whose data this is. Raises AttemptFailed for an unknown finish.

        `changed`: the event's bytes are not what the client is to get.
        """
        held = self.chunks.read(data, choices)
        changed = held.changed or changed
        if held.account is not None:
            self._usage_frame = b""
        if held.usage_alone:
            return self._hold_usage(event, data, held.usage, changed=changed)
        begun = bool(held.keys)
        if held.ends:
            return self._end(event, data, held.ends, content=begun, changed=changed)
        made, edits = self._made(event, data, changed=changed, begun=begun)
        self._sent = self._sent or bool(made)
        return Read(made, begun, 0, edits, held.keys)

    @property
    def tail(self) -> bytes:
        """The frames that are still to be sent if the stream ends here."""
        early = self._flushed() if self._early else b""
        return early + b"".join(self._held.values()) + (self._usage_frame or self._late_usage())

    def end(self) -> bytes:
        """Return the tail, for the last time."""
        tail = self.tail
        self._held, self._usage_frame, self.keep_usage = {}, b"", False
        return tail

    def _late_usage(self) -> bytes:
        """Return a frame of usage for the client that wants one, if no frame had it where it belongs."""
        if self.chunks.usage is None or not self.keep_usage:
            return b""
        head = {"id": self._id, "object": "chat.completion.chunk", "created": int(time.time()), "model": self.name}
        return frame({**head, "choices": [], "usage": self.chunks.usage})

    def _hold_usage(self, event: bytes, data: JsonDict, usage: JsonDict | None, *, changed: bool) -> Read:
        """Keep a frame that tells the usage for the stream's end, where a client expects it, and once.

        The frames that waited for an id do not wait with it.
        """
        if not self.keep_usage:
            return Read()
        self._learn_id(data.get("id"), begun=True)
        before = self._flushed()
        self._sent = self._sent or bool(before)
        if usage is not None:
            changed = changed or usage is not data["usage"]
            self._usage_frame, _ = self._made(event, {**data, "usage": usage}, changed=changed, begun=True)
        return Read(before)

    def _end(self, event: bytes, data: JsonDict, ends: Sequence[JsonDict], *, content: bool, changed: bool) -> Read:
        """Hold the finish reasons back, and return the rest of the frame."""
        choices = choices_of(data)
        self._learn_id(data.get("id"), begun=True)
        before = self._flushed()
        if len(choices) == 1 and _says_nothing(choices[0].get("delta")):
            made, _ = self._made(event, data, changed=changed, begun=True)
            if self._sent or before:
                self._held[index_of(choices[0])], made = made, before
            self._sent = True  # a finish reason that is all there is goes out at once
            return Read(made, False, 1)
        for choice in ends:
            end = {"index": index_of(choice), "delta": {}, "finish_reason": choice["finish_reason"]}
            rest = {key: value for key, value in data.items() if key not in ("usage", "choices")}
            self._held[index_of(choice)], _ = self._made(b"", {**rest, "choices": [end]}, changed=True, begun=True)
            choice["finish_reason"] = None
        made, _ = self._made(event, data, changed=True, begun=True)
        self._sent = True
        return Read(before + made, content, len(ends))

    def _made(self, event: bytes, data: JsonDict, *, changed: bool, begun: bool) -> tuple[bytes, Edits | None]:
        """Return the frame as the client gets it, after those that waited for an id; and its edits, if they suffice.

        Frames wait only while the answer has not begun: then nothing is sent before its content anyway.
        """
        begun = begun or self._early_bytes > _MOST_EARLY
        if self._id is None and not self._learn_id(data.get("id"), begun=begun):
            self._early.append((event, data, changed))
            self._early_bytes += len(event)
            return b"", None
        if not self._early:
            return self._for_client(event, data, changed=changed)
        before = self._flushed()
        return before + self._for_client(event, data, changed=changed)[0], None

    def _learn_id(self, given: JsonValue, *, begun: bool) -> bool:
        """Keep the stream's id: the first that is given, or one of ours once the answer begins."""
        if self._id is not None:
            return True
        if isinstance(given, str) and given:
            self._id = given
        elif begun:
            self._id = f"chatcmpl-{secrets.token_hex(12)}"
        return self._id is not None

    def _flushed(self) -> bytes:
        early, self._early = self._early, []
        if early:
            self._learn_id(None, begun=True)
        return b"".join(self._for_client(*one[:2], changed=one[2])[0] for one in early)

    def _for_client(self, event: bytes, data: JsonDict, *, changed: bool) -> tuple[bytes, Edits | None]:
        model = data.get("model")
        if not self.model and isinstance(model, str):
            self.model = model
        if not changed:
            edits = self._known if self._is_known(event, data, model) else self._edits(event, data)
            if edits is not None:
                self._known, self._known_for = edits, model
                return edits.of(event), edits
        return frame({**data, "id": self._id, "model": self.name}), None

    def _is_known(self, event: bytes, data: JsonObject, model: JsonValue) -> bool:
        """Return whether the edits of the last frame are this frame's too: the quick way for nearly all."""
        known = self._known
        return (
            known is not None
            and len(known.texts) == 1
            and not known.insert
            and model == self._known_for
            and data.get("id") == self._id
            and event.count(_MODEL) == 1
            and known.texts[0][0] in event
            and b"\\u00" not in event
        )

    def _edits(self, event: bytes, data: JsonObject) -> Edits | None:
        """Return the edits that give the frame its id and its model; None if the search can't tell where they are."""
        texts: list[tuple[bytes, bytes]] = []
        insert = b""
        for key, wanted in (("id", self._id), ("model", self.name)):
            if data.get(key) == wanted:
                continue
            made = b'"' + key.encode() + b'":' + dump(wanted)
            if key not in data:
                insert += made + b","
                continue
            found = _KEYS[key].findall(event)
            # A key may be written with escapes, or be a deeper object's too.
            if len(found) != 1 or b"\\u00" in event or not isinstance(data[key], str | None):
                return None
            texts.append((found[0], made))
        if insert and not event.startswith(b"data: {"):
            return None
        return Edits(insert, tuple(texts))


def _says_nothing(delta: JsonValue) -> bool:
    """Return whether nothing is lost with the delta: not even what we do not know, as a signature of thoughts."""
    return not isinstance(delta, dict) or not any(value for key, value in delta.items() if key != "role")
