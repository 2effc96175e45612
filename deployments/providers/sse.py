"""The events of an SSE stream, and a scan of OpenAI-compatible events that pass through unparsed. Pure.

The scan works per batch, not per frame. Frames go to the client as the bytes they were, except for the model's name.
Content, finish reasons, errors inside the stream and usage are found by a search of the bytes. That is safe because
JSON escapes every quote inside a string: an unescaped `"finish_reason":"` can only be structure, whatever the model
wrote.
"""

import json
import re
from typing import NamedTuple

from deployments.openai_api.json_types import JsonDict, JsonValue

MAX_EVENT = 64 * 1024 * 1024  # bytes: a longer event is no frame of an answer

_CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal)"\s*:\s*"(?!")|"tool_calls"\s*:\s*\[\s*\{'
    rb'|"content"\s*:\s*\[\s*\{\s*"type"'  # content in parts, as some reasoning models send it
)
_TEXT = re.compile(rb'"content"\s*:\s*"(?!")')  # the most common: a search for one word is the fastest
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"(?!")')
_ERROR = re.compile(
    rb'^event: *error\b|"error"\s*:\s*\{|^data: *\{\s*"error"\s*:\s*"|"finish_reason"\s*:\s*"error"', re.MULTILINE
)
_MAY_FAIL = b"error"  # in every match of _ERROR
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DONE = re.compile(rb"^data: *\[DONE\]", re.MULTILINE)
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_BROKEN = re.compile(rb"^data:(?! *\{.*\} *$)(?! *\[DONE\])", re.MULTILINE)


class Batch(NamedTuple):
    frames: bytes = b""  # whole events, ready to go out
    content: bool = False
    finished: int = 0  # the number of finish reasons among the frames
    done: bool = False  # `[DONE]` has arrived; it is not among the frames
    error: JsonDict | None = None  # an error inside the stream, after the frames
    malformed: bool = False  # the event after the frames is not JSON


class SseEvents:
    """Split a body into events. It keeps the bytes of an event that is not yet whole."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._half = False  # was the last byte a CR, which may be half of a CRLF?

    @property
    def overlong(self) -> bool:
        return len(self._rest) > MAX_EVENT

    def feed(self, data: bytes) -> bytes:
        """Return the events that are whole now, if any. Their lines end with LF."""
        if self._half:
            data, self._half = b"\r" + data, False
        if b"\r" in data:
            self._half = data.endswith(b"\r")
            data = (data[:-1] if self._half else data).replace(b"\r\n", b"\n")
        if not self._rest and data.endswith(b"\n\n"):
            return data
        # Only the new bytes are searched: a frame of many megabytes arrives in thousands of pieces.
        known = len(self._rest)
        self._rest += data
        cut = self._rest.rfind(b"\n\n", max(0, known - 1))
        if cut < 0:
            return b""
        events = bytes(self._rest[: cut + 2])
        del self._rest[: cut + 2]
        return events

    def end(self) -> bytes:
        """Return the bytes after the last whole event."""
        return bytes(self._rest)


class SseScan:
    """Scan the events of a stream that pass through."""

    def __init__(self, name: str, *, keep_usage: bool):
        self._whole = SseEvents()
        self._name = b'"model":' + json.dumps(name).encode()
        self._model: bytes | None = None
        self._keep_usage = keep_usage
        self.ended: set[JsonValue] = set()  # the choices that have a finish reason
        self.usage: JsonDict | None = None

    @property
    def model(self) -> str | None:
        """The model's name as the provider gave it."""
        return None if self._model is None else self._model.partition(b":")[2].strip(b' \t"').decode(errors="replace")

    def feed(self, data: bytes) -> Batch:
        events = self._whole.feed(data)
        return self._events(events) if events else Batch(malformed=self._whole.overlong)

    def _events(self, events: bytes) -> Batch:
        # The slow searches are for what few events hold, so most batches skip them.
        plain = _plain(events)
        done = None if plain else _DONE.search(events)
        if done:
            events = events[: done.start()]
        error, malformed = None, False
        if _MAY_FAIL in events and (found := _ERROR.search(events)):
            events, spoiled = _cut(events, found.start())
            error = _error_of(spoiled)
        if not plain and (found := _BROKEN.search(events)):
            events, _ = _cut(events, found.start())
            error, malformed = None, True
        if _USAGE.search(events):
            events = self._take_usage(events)
        if finished := len(_FINISH.findall(events)):
            for event in events.split(b"\n\n"):
                if _FINISH.search(event):
                    ends = [c for c in _data_of(event).get("choices") or [] if isinstance(c, dict)]
                    self.ended |= {c.get("index", 0) for c in ends if c.get("finish_reason")}
        return Batch(
            frames=self._rename_model(events),
            content=(_TEXT.search(events) or _CONTENT.search(events)) is not None,
            finished=finished,
            done=done is not None,
            error=error,
            malformed=malformed,
        )

    def _take_usage(self, events: bytes) -> bytes:
        """Keep the usage, and drop a frame of usage alone unless the client wants it."""
        kept = []
        for event in events.split(b"\n\n"):
            if _USAGE.search(event):
                data = _data_of(event)
                self.usage = data.get("usage") or self.usage
                if not data.get("choices") and not self._keep_usage:
                    continue
            kept.append(event)
        return b"\n\n".join(kept)

    def _rename_model(self, events: bytes) -> bytes:
        if self._model is None:
            found = _MODEL.search(events)
            if found is None:
                return events
            self._model = found.group()
        return events.replace(self._model, self._name)


def _plain(events: bytes) -> bool:
    """Is each event one line, `data: {...}`? Then the only line ends are those between and after the events."""
    return (
        events.startswith(b"data: {")
        and events.endswith(b"}\n\n")
        and events.count(b"\n") == 2 * events.count(b"}\n\ndata: {") + 2
    )


_NO_DATA = (b":", b"event:", b"id:", b"retry:")


def payloads(events: bytes) -> list[bytes]:
    """Return the data of each event. A block that is no event is returned as it is: some errors are bare JSON."""
    found = []
    for event in events.split(b"\n\n"):
        if event.startswith(b"data:") and b"\n" not in event:
            found.append(event[5:])
        elif lines := [line for line in event.split(b"\n") if line and not line.startswith(_NO_DATA)]:
            data = [line[5:] for line in lines if line.startswith(b"data:")]
            found.append(b"\n".join(data or lines))
    return found


def _cut(events: bytes, at: int) -> tuple[bytes, bytes]:
    """Split before the event that holds the position."""
    start = events.rfind(b"\n\n", 0, at)
    start = start + 2 if start >= 0 else 0
    return events[:start], events[start:]


def _data_of(event: bytes) -> JsonDict:
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                data = json.loads(line[5:])
            except ValueError:
                return {}
            return data if isinstance(data, dict) else {}
    return {}


def _error_of(events: bytes) -> JsonDict:
    data = _data_of(events)
    error = data.get("error", data)
    return error if isinstance(error, dict) else {"message": str(error or "the stream ended with an error")}
