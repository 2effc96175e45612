"""What a stream's client has had so far, and whether another provider may begin anew behind it. Pure.

Another provider may, as long as the client has had nothing of the answer itself: nothing, the role, or what the model
thought before it speaks. Nearly every stream says something with its first frame. So that is looked for in the bytes of
each batch until it is found, and from then on nothing is kept and nothing is looked for. If the stream breaks before
that, what was kept is parsed, and only what is known to be a thought counts as one.
"""

import re

from deployments.openai_api.chat import NATIVE_FRAME, frames_to_chunks
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.stream.content import choices_of, is_thought, read_keys

MOST_KEPT = 256 * 1024  # bytes of thoughts; an answer that thought for longer is not begun anew

# A text or calls, as nearly all answers begin. What looks so inside a thought is found too: then none begins anew.
_SAID = re.compile(rb'"content"\s*:\s*(?:"[^"]|[\[{])|"tool_calls"\s*:\s*\[')


class Kept:
    """The frames that went to a client, while they may be thoughts alone."""

    __slots__ = ("_frames", "_size", "open")

    def __init__(self) -> None:
        self.open = True  # whether another provider may still begin anew
        self._frames: list[bytes] = []
        self._size = 0

    def add(self, frames: bytes) -> None:
        """Take frames that go to the client. Not called any more once it is not open."""
        self._size += len(frames)
        if self._size > MOST_KEPT or frames.startswith(NATIVE_FRAME) or _SAID.search(frames):
            self.open, self._frames = False, []
        else:
            self._frames.append(frames)

    def thoughts_alone(self) -> bool:
        """Return whether all that the client has had is thoughts, or nothing at all."""
        return self.open and all(_is_thought(chunk) for chunk in frames_to_chunks(b"".join(self._frames)))

    def head(self) -> tuple[str, int] | None:
        """Return the id and the second of creation that the client knows the answer by; None if it knows none."""
        return head_of(b"".join(self._frames))


def head_of(frames: bytes) -> tuple[str, int] | None:
    """Return the id and the second of creation that the first of these frames has; None if none has them."""
    for chunk in frames_to_chunks(frames):
        if isinstance(chunk.get("id"), str) and isinstance(chunk.get("created"), int):
            return chunk["id"], chunk["created"]
    return None


def _is_thought(chunk: JsonDict) -> bool:
    if "error" in chunk:
        return False
    choices = choices_of(chunk)
    return all(
        not choice.get("finish_reason") and all(map(is_thought, read_keys(choice.get("delta")))) for choice in choices
    )
