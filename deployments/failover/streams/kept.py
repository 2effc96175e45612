"""What a stream's client has had so far, and whether another provider may begin anew behind it. Pure.

Another provider may, as long as the client has had nothing of the answer itself: nothing, the role, or what the model
thought before it speaks. Nearly every stream says something with its first frame. So that is looked for in the bytes of
each batch until it is found, and from then on nothing is kept and nothing is looked for. If the stream breaks before
that, what was kept is parsed, and only what is known to be a thought counts as one.

Where another provider may go on with a text, frames are kept behind that too, as they are: they are parsed only if the
stream breaks. All that is kept of all streams has a bound: what is beyond it is not continued.
"""

import re

from deployments.failover.streams.delivered import text_of
from deployments.openai_api.chat import NATIVE_FRAME, frames_to_chunks
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.stream.content import choices_of, is_thought, read_keys

MOST_OF_ALL = 128 * 1024 * 1024  # bytes of frames of texts
MOST_FRAMES = 256 * 1024  # bytes of one stream; an answer that thought for longer is not begun anew

# A text or calls, as nearly all answers begin. What looks so inside a thought is found too: then none begins anew.
_SAID = re.compile(rb'"content"\s*:\s*(?:"[^"]|[\[{])|"tool_calls"\s*:\s*\[')


class KeptBytes:
    """How many bytes of frames are kept of all streams of a replica."""

    def __init__(self, most: int = MOST_OF_ALL):
        self.most, self.held = most, 0


class Kept:
    """The frames that went to a client, while they may be thoughts alone; of a text `most` signs more, if it may go on.

    `close` it once nothing more is asked of it.
    """

    __slots__ = ("_all", "_frames", "_head", "_most", "_signs", "_size", "_texts", "_thought", "open", "said")

    def __init__(self, most: int = 0, of_all: KeptBytes | None = None) -> None:
        self.open = True  # whether anything is kept
        self.said = False  # whether something of the answer itself was sent
        self._all = of_all or KeptBytes()
        self._most = most
        self._frames: list[bytes] = []
        self._size = 0  # bytes of the frames
        self._texts: list[str] = []  # of frames that are kept no more
        self._signs = 0
        self._head: tuple[str, int] | None = None
        self._thought = False  # whether there were more thoughts than are kept

    def add(self, frames: bytes) -> None:
        """Take frames that go to the client."""
        if not self.open:
            return
        self._frames.append(frames)
        self._size += len(frames)
        self._all.held += len(frames)
        if not self.said:
            if frames.startswith(NATIVE_FRAME):
                self.close()
                return
            self.said = _SAID.search(frames) is not None
        if (self.said and self._most == 0) or self._all.held > self._all.most:
            self.close()
        elif self._size > MOST_FRAMES:
            self._compact()

    def _compact(self) -> None:
        """Keep the text of the frames in their place, or nothing of thoughts: all that is needed of a long answer."""
        self._head = self.head()
        if not self.said:
            self._thought = True
            if self._most == 0:
                self.close()
        elif (text := text_of(self._frames)) is None or self._signs + len(text) > self._most:
            self.close()
        else:
            self._texts.append(text)
            self._signs += len(text)
        self._all.held -= self._size
        self._frames, self._size = [], 0

    def close(self) -> None:
        """Forget what was kept. Does nothing the second time."""
        self._all.held -= self._size
        self.open, self._frames, self._texts, self._size = False, [], [], 0

    def thoughts_alone(self) -> bool:
        """Return whether all that the client has had is thoughts, or nothing at all."""
        if not self.open or self.said or self._thought:
            return False
        return all(_is_thought(chunk) for chunk in frames_to_chunks(b"".join(self._frames)))

    def text(self, *, ended: bool = False) -> str | None:
        """Return the text that the client has had, if it has had nothing else of the answer; None if it has.

        `ended`: also of an answer that has ended.
        """
        last = text_of(self._frames, ended=ended) if self.open and self.said else None
        text = None if last is None else "".join((*self._texts, last))
        return text if text is not None and text.strip() and len(text) <= self._most else None

    def head(self) -> tuple[str, int] | None:
        """Return the id and the second of creation that the client knows the answer by; None if it knows none."""
        found = (head for frames in self._frames if (head := head_of(frames)) is not None)
        return self._head or next(found, None)


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
