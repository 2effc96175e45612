"""The first frames of a provider that goes on with a text: held back until it is proven that they follow it. Pure."""

from deployments.continuation.stitch import Stitch, Unverified
from deployments.openai_api.chat import frame, frames_to_chunks
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.stream.content import choices_of, is_thought, read_keys


class Opening:
    """`add` the frames until it returns some; those that follow go to the client as they are."""

    def __init__(self, stitch: Stitch):
        self._stitch = stitch

    def add(self, frames: bytes) -> bytes | None:
        """Return what the client gets of all frames so far; None if that is not known yet. Raises Unverified."""
        events = [event + b"\n\n" for event in frames.split(b"\n\n") if event]
        for at, event in enumerate(events):
            if not event.startswith(b"data: {"):
                continue
            [chunk] = frames_to_chunks(event)
            if (made := self._chunk(chunk)) is not None:
                return made + b"".join(events[at + 1 :])
        return None

    def _chunk(self, chunk: JsonDict) -> bytes | None:
        choices = choices_of(chunk)
        if not choices:
            return None
        choice = choices[0]
        delta = choice.get("delta") or {}
        read = [key for key in read_keys(delta) if not is_thought(key)]  # a thought has no place within a text
        text = delta.get("content") if "content" in read else ""
        if not isinstance(text, str):
            raise Unverified("what follows is no text")
        last = bool(choice.get("finish_reason"))
        if set(read) - {"content"}:
            if not self._stitch.may_call_now() or text.strip():
                raise Unverified("a call of a tool does not follow the text")
            return frame(chunk)
        if not text and not last:
            return None
        if (rest := self._stitch.add(text, last=last)) is None:
            return None
        kept = {**choice, "delta": {"content": rest} if rest else {}}
        return frame({**chunk, "choices": [kept]})
