"""An SSE stream: its events, and of an OpenAI-compatible one that passes through what can be known without parsing it.

Pure, and per batch rather than per frame. The frames go to the client as the bytes they were, but
for the model's name. What must be known (has content come, the finish reason, an in-band error, the
usage) is searched as bytes. That is safe because JSON escapes every quote inside a string: an
unescaped `"finish_reason":"` can only be structure, whatever the model wrote.
"""

import json
import re
from typing import Any, NamedTuple

MAX_EVENT = 64 * 1024 * 1024  # bytes; a longer one is no frame of an answer

_CONTENT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal)"\s*:\s*"(?!")|"tool_calls"\s*:\s*\[\s*\{'
    rb'|"content"\s*:\s*\[\s*\{\s*"type"'  # in parts, as some who think aloud do
)
_TEXT = re.compile(rb'"content"\s*:\s*"(?!")')  # the commonest: a search for one word is the quickest
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"(?!")')
_ERROR = re.compile(
    rb'^event: *error\b|"error"\s*:\s*\{|^data: *\{\s*"error"\s*:\s*"|"finish_reason"\s*:\s*"error"', re.MULTILINE
)
_MAY_FAIL = b"error"  # in every match of it
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_DONE = re.compile(rb"^data: *\[DONE\]", re.MULTILINE)
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_BROKEN = re.compile(rb"^data:(?! *\{.*\} *$)(?! *\[DONE\])", re.MULTILINE)


class Batch(NamedTuple):
    frames: bytes = b""  # whole events, ready to go out
    content: bool = False
    finished: int = 0  # so many finish reasons were among them
    done: bool = False  # the terminal marker came; it is not among the frames
    error: dict[str, Any] | None = None  # an in-band error; it is not among the frames, which came before it
    malformed: bool = False  # what comes after the frames is no JSON


class SseEvents:
    """Feed it the body as it comes; it keeps what is not yet a whole event."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._half = False  # was the last byte a CR, maybe half of a CRLF?

    @property
    def overlong(self) -> bool:
        return len(self._rest) > MAX_EVENT

    def feed(self, data: bytes) -> bytes:
        """The events that are whole now, if any. Their lines end with LF."""
        if self._half:
            data, self._half = b"\r" + data, False
        if b"\r" in data:
            self._half = data.endswith(b"\r")
            data = (data[:-1] if self._half else data).replace(b"\r\n", b"\n")
        if not self._rest and data.endswith(b"\n\n"):
            return data
        # Only what is new is searched: a frame of many megabytes comes in thousands of pieces.
        known = len(self._rest)
        self._rest += data
        cut = self._rest.rfind(b"\n\n", max(0, known - 1))
        if cut < 0:
            return b""
        events = bytes(self._rest[: cut + 2])
        del self._rest[: cut + 2]
        return events

    def end(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._rest)


class SseScan:
    """What can be known of a stream's events that pass through."""

    def __init__(self, name: str, *, keep_usage: bool):
        self._whole = SseEvents()
        self._name = b'"model":' + json.dumps(name).encode()
        self._model: bytes | None = None
        self._keep_usage = keep_usage
        self.ended: set[Any] = set()  # the choices that came to their end
        self.usage: dict[str, Any] | None = None

    @property
    def model(self) -> str | None:
        """Who answers, in the provider's own words."""
        return None if self._model is None else self._model.partition(b":")[2].strip(b' \t"').decode(errors="replace")

    def feed(self, data: bytes) -> Batch:
        events = self._whole.feed(data)
        return self._events(events) if events else Batch(malformed=self._whole.overlong)

    def _events(self, events: bytes) -> Batch:
        # The long searches are for what few events hold: most need not be searched for it.
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
            frames=self._renamed(events),
            content=(_TEXT.search(events) or _CONTENT.search(events)) is not None,
            finished=finished,
            done=done is not None,
            error=error,
            malformed=malformed,
        )

    def _take_usage(self, events: bytes) -> bytes:
        """Remember the usage. A frame of usage alone goes on only to a client that asked for it."""
        kept = []
        for event in events.split(b"\n\n"):
            if _USAGE.search(event):
                data = _data_of(event)
                self.usage = data.get("usage") or self.usage
                if not data.get("choices") and not self._keep_usage:
                    continue
            kept.append(event)
        return b"\n\n".join(kept)

    def _renamed(self, events: bytes) -> bytes:
        if self._model is None:
            found = _MODEL.search(events)
            if found is None:
                return events
            self._model = found.group()
        return events.replace(self._model, self._name)


def _plain(events: bytes) -> bool:
    """Is each event one line, `data: {...}`? The only line ends are then those between them and at the end."""
    return (
        events.startswith(b"data: {")
        and events.endswith(b"}\n\n")
        and events.count(b"\n") == 2 * events.count(b"}\n\ndata: {") + 2
    )


_NO_DATA = (b":", b"event:", b"id:", b"retry:")


def payloads(events: bytes) -> list[bytes]:
    """The data of each event. A block that is no event at all is given as it is: some errors are bare JSON."""
    found = []
    for event in events.split(b"\n\n"):
        if event.startswith(b"data:") and b"\n" not in event:
            found.append(event[5:])
        elif lines := [line for line in event.split(b"\n") if line and not line.startswith(_NO_DATA)]:
            data = [line[5:] for line in lines if line.startswith(b"data:")]
            found.append(b"\n".join(data or lines))
    return found


def _cut(events: bytes, at: int) -> tuple[bytes, bytes]:
    """What comes before the event that holds a place, and the rest."""
    start = events.rfind(b"\n\n", 0, at)
    start = start + 2 if start >= 0 else 0
    return events[:start], events[start:]


def _data_of(event: bytes) -> dict[str, Any]:
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                data = json.loads(line[5:])
            except ValueError:
                return {}
            return data if isinstance(data, dict) else {}
    return {}


def _error_of(events: bytes) -> dict[str, Any]:
    data = _data_of(events)
    error = data.get("error", data)
    return error if isinstance(error, dict) else {"message": str(error or "the stream ended with an error")}
