"""An answer of a server that was asked by the Messages API too: its own message and events, under our names. Pure.

Each event goes on as it came. Only the one that begins a message is read, for its id and its model. From the event with
the stop reason on all wait until nothing can follow any more: a stream that breaks off ends with an error, and never
as a whole answer.
"""

from deployments.doors.door import Served
from deployments.doors.messages.answer.errors import body_of_frame
from deployments.doors.messages.answer.whole import head_of, stop_of, usage_of
from deployments.doors.native_answer import NativeStream, named_frame
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, parse_leniently

_START, _DELTA, _STOP = b"message_start", b"message_delta", b"message_stop"
_BLOCKS = b"event: content_block_"


def native_message(message: JsonObject, model: str, served: Served) -> JsonDict:
    """Return a whole answer, or the message that begins a stream, under the name that its client asked for.

    What servers of others leave out is filled in.
    """
    filled = {**stop_of(None, calls=False), "stop_reason": None, "content": []}
    made = {**head_of(served, model), **filled, **message, **head_of(served, model)}
    return {**made, "usage": _usage(message.get("usage"), served)}


def _usage(told: JsonValue, served: Served) -> JsonDict:
    given: JsonDict = told if isinstance(told, dict) else {}
    if given.get("input_tokens") is not None and given.get("output_tokens") is not None:
        return given
    return {**usage_of(None, served.estimate), **{name: one for name, one in given.items() if one is not None}}


class NativeEvents(NativeStream):
    """One stream. `model` is the name that the client asked for."""

    def __init__(self, served: Served, model: str):
        super().__init__(served.extra)
        self._served, self._model = served, model
        self._held: list[tuple[bytes, bytes]] = []  # from the stop reason on
        self._over = False

    def encode(self, frames: bytes) -> bytes:
        if frames.startswith(_BLOCKS) and not self._held and frames.find(b"\n\n") == len(frames) - 2:
            return frames  # one event of a block, which most batches are
        return super().encode(frames)

    def take(self, kind: bytes, data: bytes) -> None:
        if kind == _START:
            event = parse_leniently(data)
            data = dump({**event, "message": native_message(event["message"], self._model, self._served)})
        if kind == _DELTA or self._held:
            self._hold(kind, data)
        else:
            self.frames.append(named_frame(kind, data))

    def _hold(self, kind: bytes, data: bytes) -> None:
        """Keep an event back. Where the message goes on behind it, those before it are sent."""
        if kind == _DELTA or kind.startswith(b"content_block_"):
            self._release()
        if kind == _DELTA or self._held:
            self._held.append((kind, data))
        else:
            self.frames.append(named_frame(kind, data))

    def _release(self) -> None:
        self.frames += [named_frame(kind, data) for kind, data in self._held]
        self._held = []

    def fail(self, chunk: JsonObject) -> None:
        if not self._over:
            self._over = True
            self.frames.append(named_frame(b"error", dump(body_of_frame(chunk, self._served.id))))

    def conclude(self) -> None:
        if self._over:
            return
        self._over = True
        if self.told and self._held:
            kind, data = self._held[0]
            self._held[0] = (kind, dump({**parse_leniently(data), **self.told}))
        if all(kind != _STOP for kind, _ in self._held):
            self._held.append((_STOP, b'{"type":"message_stop"}'))
        self._release()
