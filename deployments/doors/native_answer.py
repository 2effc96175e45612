"""An answer in the client's own words, as an ingress gets it: the API's frames, and what Breakwater tells of it. Pure.

The frames are the API's events. Among them stand an explanation and the error of a stream that broke off, as chunks of
a chat, and `[DONE]` behind the last one.
"""

from abc import ABC, abstractmethod

from deployments.openai_api.chat import NATIVE_FRAME
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently


class NativeStream(ABC):
    """Reads one stream. Each API says what becomes of its events, and how an answer ends.

    Attributes:
        frames: what its client gets next.
        told: more fields of the answer, as `breakwater` where its caller wants an explanation.
    """

    def __init__(self, told: JsonObject) -> None:
        self.frames: list[bytes] = []
        self.told: JsonDict = dict(told)

    def encode(self, frames: bytes) -> bytes:
        """Return the API's frames for some whole frames of an answer: see `doors.door.Encoder`."""
        for event in frames.split(b"\n\n"):
            if event.startswith(NATIVE_FRAME):
                kind, _, data = event[len(NATIVE_FRAME) :].partition(b"\ndata: ")
                self.take(kind, data)
            elif event == b"data: [DONE]":
                self.conclude()
            elif event.startswith(b"data: {"):
                self._take_chunk(parse_leniently(event[6:]))
        made, self.frames = self.frames, []
        return b"".join(made)

    def _take_chunk(self, chunk: JsonValue) -> None:
        if not isinstance(chunk, dict):
            return
        if isinstance(told := chunk.get("breakwater"), dict):
            self.told["breakwater"] = told
        if chunk.get("error"):
            self.fail(chunk)

    @abstractmethod
    def take(self, kind: bytes, data: bytes) -> None:
        """Take one event of the API: its name, and its JSON."""

    @abstractmethod
    def fail(self, chunk: JsonObject) -> None:
        """End the answer as one that broke off. `chunk` has the `error`."""

    @abstractmethod
    def conclude(self) -> None:
        """End the answer as its own events say."""


def named_frame(kind: bytes, data: bytes) -> bytes:
    """Return an event's frame."""
    return b"%b%b\ndata: %b\n\n" % (NATIVE_FRAME, kind, data)
