"""The events of an SSE stream, cut out of a body that comes in pieces of any size. Pure."""

from collections.abc import Iterator

from deployments.openai_api.chat import NATIVE_FRAME, dump
from deployments.openai_api.json_types import JsonDict, JsonObject, parse_leniently

MAX_EVENT = 64 * 1024 * 1024  # bytes: a longer event is no frame of an answer


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


def named_frame(kind: str, event: JsonObject, data: bytes) -> bytes:
    """Return the frame of an event that passes in its client's own words. `data` are the bytes that it came as."""
    line = dump(event) if b"\n" in data else data.strip()
    return b"%b%b\ndata: %b\n\n" % (NATIVE_FRAME, kind.encode(), line)


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


def has_event(data: bytes) -> bool:
    """Return whether an event says anything. `[DONE]` says nothing; some servers end other streams by it too."""
    return data.strip() not in (b"", b"[DONE]")


def objects(events: bytes) -> Iterator[JsonDict]:
    """Yield the JSON of each event that says anything."""
    return (parse_leniently(data) for data in payloads(events) if has_event(data))
