"""The events of one stream: each has the next number. Pure."""

from dataclasses import dataclass, field

from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonObject


@dataclass(slots=True)
class Events:
    """What is still to be sent. A delta costs one template and the JSON of its text."""

    _number: int = 0
    _frames: list[bytes] = field(default_factory=list)
    _echo: bytes = b"{}"

    def repeat(self, echo: JsonObject) -> None:
        """Keep what is the same in each event with the whole response: it is written once."""
        self._echo = dump(echo)

    def add(self, kind: str, fields: JsonObject) -> None:
        """Add `response.{kind}` with these fields."""
        self._add(kind, dump(fields)[1:])

    def add_response(self, kind: str, head: JsonObject) -> None:
        """Add an event with the whole response, whose head is not the same in each."""
        self._add(kind, b'"response":' + dump(head)[:-1] + b"," + self._echo[1:] + b"}")

    def _add(self, kind: str, rest: bytes) -> None:
        name = b"response." + kind.encode()
        self._frames.append(
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b\n\n' % (name, name, self._number, rest)
        )
        self._number += 1

    def delta(self, before: bytes, text: str, after: bytes) -> None:
        """Add a delta of a text, between the bytes of `template`."""
        self._frames.append(b"%b%b%b%d}\n\n" % (before, dump(text), after, self._number))
        self._number += 1

    def take(self) -> bytes:
        """Return what is to be sent now."""
        frames, self._frames = self._frames, []
        return b"".join(frames)


class NoEvents(Events):
    """Nothing is sent: for an answer that is told as a whole."""

    def repeat(self, echo: JsonObject) -> None: ...

    def add(self, kind: str, fields: JsonObject) -> None: ...

    def add_response(self, kind: str, head: JsonObject) -> None: ...

    def delta(self, before: bytes, text: str, after: bytes) -> None: ...


def template(kind: str, fields: JsonObject, *, logprobs: bool = False) -> tuple[bytes, bytes]:
    """Return the bytes before and behind the text of the deltas of one thing."""
    name = f"response.{kind}"
    start = dump({"type": name, **fields})[:-1]
    after = b',"logprobs":[]' if logprobs else b""
    return b"event: %b\ndata: %b" % (name.encode(), start + b',"delta":'), after + b',"sequence_number":'
