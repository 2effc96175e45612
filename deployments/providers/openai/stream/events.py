"""The scan of a stream of OpenAI's format: event after event, each read unless it belongs to a run that is known. Pure.

What becomes of the events is its reader's affair: they pass through (frames.py), or are joined (joining.py).
"""

from typing import Protocol

from msgspec import Struct, structs

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import DONE
from deployments.openai_api.json_types import JsonDict, parse_leniently
from deployments.openai_api.usage import with_tier
from deployments.providers.openai.stream.chunks import ChunkReader
from deployments.providers.openai.stream.content import choices_of
from deployments.providers.openai.stream.failures import error_event, failure_in
from deployments.providers.openai.stream.shape import Read, Run
from deployments.providers.sse import SseEvents

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # a stream may begin with it (WHATWG HTML, "Parsing an event stream")


class Batch(Struct, frozen=True):
    frames: bytes = b""  # whole events, ready to go out
    content: bool = False
    finished: int = 0  # the number of finish reasons that have come
    done: bool = False  # `[DONE]` has arrived; it is not among the frames
    error: AttemptFailed | None = None  # an error inside the stream, after the frames
    malformed: bool = False  # the event after the frames is not JSON


class Reader(Protocol):
    """Reads one event after the other, whose data is parsed, and has these choices."""

    model: str | None
    chunks: ChunkReader

    def read(self, event: bytes, data: JsonDict, choices: list[JsonDict], *, changed: bool = False) -> Read: ...

    @property
    def tail(self) -> bytes: ...

    def end(self) -> bytes: ...


class EventScan:
    """Scan the events of a stream, each read by `reader` unless it belongs to a run that is known without that."""

    def __init__(self, reader: Reader):
        self._whole = SseEvents()
        self._reader = reader

    @property
    def ended(self) -> set[int]:
        """The choices that have a finish reason."""
        return self._reader.chunks.ended

    @property
    def usage(self) -> JsonDict | None:
        return with_tier(self._reader.chunks.usage, self._reader.chunks.tier)

    @property
    def model(self) -> str | None:
        """The model's name as the provider gave it."""
        return self._reader.model

    @property
    def tail(self) -> bytes:
        """The frames that are still to be sent if the stream ends here."""
        return self._reader.tail

    def feed(self, data: bytes) -> Batch:
        events = self._whole.feed(data)
        return self._events(events) if events else Batch(malformed=self._whole.overlong)

    def end(self) -> Batch:
        """Return what was left when the body ended: a last event may have no blank line after it."""
        rest = self._whole.end().strip(b"\n")
        batch = self._events(rest + b"\n\n") if rest else Batch()
        if batch.error is not None:
            return batch
        return structs.replace(batch, frames=batch.frames + self._reader.end(), malformed=False)

    def _events(self, events: bytes) -> Batch:
        out: list[bytes] = []  # `list[bytes]()` takes ten times as long
        content, finished, at, runs = False, 0, 0, True
        while at < len(events):
            run, end = self._run(events, at) if runs else (None, at)
            if run is not None:
                out.append(run.frames)
                content, at = content or run.content, end
                continue
            runs = end == at  # a mixture of shapes is read frame by frame
            end = events.find(b"\n\n", at) + 2
            try:
                read = self._event(events[at:end])
            except AttemptFailed as error:
                return Batch(b"".join(out), content, finished, error=error)
            except ValueError:
                return Batch(b"".join(out), content, finished, malformed=True)
            if read is None:
                out.append(self._reader.end())
                return Batch(b"".join(out), content, finished, done=True)
            out.append(read.frames)
            content, finished, at = content or read.content, finished + read.finished, end
        return Batch(b"".join(out), content, finished)

    def _run(self, events: bytes, at: int) -> tuple[Run | None, int]:
        """Return the frames of a known form that follow, if there are any.

        The other is their end; without them, where a run was looked for: it is not where `at` is if that was in vain.
        """
        return None, at

    def _event(self, event: bytes) -> Read | None:
        """Return what an event holds; None for `[DONE]`. Raises ValueError if it is no JSON object."""
        if event.startswith(b"data: {") and event.count(b"\n") == 2:
            read = self._read(event, _object(event[6:]))
            self._learn(event, read)
            return read
        if event == DONE:
            return None
        name, data, bare = _fields(event)
        if name == b"error":
            raise error_event(parse_leniently(data or bare))
        if data.strip() == b"[DONE]":
            return None
        if data.strip():
            self._forget()
            found = _object(data)
            # Behind this all events have one form, so that no reader of them needs another.
            return self._read(b"data: " + data.strip() + b"\n\n", found, changed=b"\n" in data.strip())
        if bare:  # some servers answer with a body that is no stream
            return self._bare(_object(bare))
        return Read(b"" if b"data:" in event else event)

    def _bare(self, body: JsonDict) -> Read:
        """Return what a body of JSON holds: a whole answer, where the server knows nothing of streams, or an error."""
        if any("message" in choice for choice in choices_of(body)):
            return self._read(b"", body, changed=True)
        raise failure_in(body, ()) or ValueError("a body of JSON")

    def _read(self, event: bytes, data: JsonDict, *, changed: bool = False) -> Read:
        choices = choices_of(data)
        if (failure := failure_in(data, choices)) is not None:
            raise failure
        return self._reader.read(event, data, choices, changed=changed)

    def _learn(self, event: bytes, read: Read) -> None:
        """Take it that events as this one may follow."""

    def _forget(self) -> None:
        """Take it that other events follow."""


def _fields(event: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the event's name, its data, and what is no field but JSON."""
    name, data, bare = b"", list[bytes](), list[bytes]()
    for line in event.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.strip()
        elif line and key not in (b"", b"id", b"retry"):
            bare.append(line)
    whole = b"\n".join(bare)
    return name, b"\n".join(data), whole if whole.lstrip().startswith((b"{", b"[")) else b""


def _object(data: bytes) -> JsonDict:
    found = parse_leniently(data)
    found = found[0] if isinstance(found, list) and len(found) == 1 else found  # Gemini's errors come so
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 (of one kind with what is no JSON)
    return found
