"""The shape of a stream's ordinary frames: all bytes but the text in them. Pure.

Nearly all frames of a stream are the same but for the text of one field. One of them is parsed, and cut where its texts
are. Frames of the same shape hold the same things, so they pass through unparsed: many are known by a few counts of
bytes. That can't be fooled. A shape begins at the frame's first brace and ends at its last, so it says at which depth
the text is; and JSON escapes each quote in a text, so a frame with as many bare quotes as its shape has nothing else
in it.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import orjson

from deployments.providers.openai.stream.content import choices_of, has_content

_TEXTS = re.compile(
    rb'"(content|reasoning_content|reasoning|thinking|refusal|arguments|text|data|transcript|obfuscation)"'
    rb'\s*:\s*"(?!")([^"\\]*(?:\\.[^"\\]*)*)"'
)
_MOST_TEXTS = 4
_NO_CONTENT = b"obfuscation"  # OpenAI's padding, of a random length


class Edits(NamedTuple):
    """How a frame became the client's: `insert` after its first brace, and each text replaced by another."""

    insert: bytes = b""
    texts: tuple[tuple[bytes, bytes], ...] = ()

    def of(self, data: bytes) -> bytes:
        for old, new in self.texts:
            data = data.replace(old, new, 1)
        return data[:7] + self.insert + data[7:] if self.insert else data  # after `data: {`


class Run(NamedTuple):
    """Frames of one shape, as they go to the client."""

    frames: bytes
    content: bool


@dataclass(slots=True)
class Shape:
    """
    Attributes:
        head: the frame's bytes before its first text.
        between: the bytes between its texts.
        end: the bytes after its last text.
        seam: `end` and `head`, which stand between the texts of two frames.
        quotes: the number of bare quotes in `between`.
        made: `head`, `end` and `seam` as the client gets them; `between` is the same for all.
        said: which text is the content, the first or the last; None if such a frame always holds content.
    """

    head: bytes
    between: tuple[bytes, ...]
    end: bytes
    seam: bytes
    quotes: int
    made: tuple[bytes, bytes, bytes]
    said: Literal["first", "last"] | None

    def take(self, run: bytes) -> Run | None:
        """Return the frames if all of them have this shape. `run` begins with `head`."""
        if not run.endswith(self.end):
            return None
        texts = run[len(self.head) : -len(self.end)].split(self.seam)
        bare = b"\n".join(texts)
        if bare.count(b"\n") != len(texts) - 1 or _quotes(bare) != self.quotes * len(texts):
            return None
        if any(bare.count(part) != len(texts) for part in self.between):
            return None
        head, end, seam = self.made
        return Run(head + seam.join(texts) + end, self._holds_content(texts, bare))

    def _holds_content(self, texts: list[bytes], bare: bytes) -> bool:
        if self.said is None:
            return True
        if not self.between:
            return len(bare) >= len(texts)
        if self.said == "first":
            return not all(text.startswith(self.between[0]) for text in texts)
        return not all(text.endswith(self.between[-1]) for text in texts)


def _quotes(data: bytes) -> int:
    """Return the number of bare quotes; -1 if a count can't tell, as where a text ends with a backslash."""
    if b"\\" not in data:
        return data.count(b'"')
    return -1 if b'\\\\"' in data else data.count(b'"') - data.count(b'\\"')


def shape_of(event: bytes, edits: Edits) -> Shape | None:
    """Return the shape of an event that holds content; None if there is no text to cut out.

    `edits` made the client's frame of it.
    """
    texts = list(_TEXTS.finditer(event))
    if not 1 <= len(texts) <= _MOST_TEXTS or not event.startswith(b"data: {"):
        return None
    cuts = [0, *(at for text in texts for at in text.span(2)), len(event)]
    parts = [event[a:b] for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    if not all(parts) or b"\\" in b"".join(parts[1:-1]):
        return None
    said: Literal["first", "last"] | None = None
    if not _holds_content(b"".join(parts)):
        spoken = [at for at, text in enumerate(texts) if text.group(1) != _NO_CONTENT]
        if len(spoken) != 1 or spoken[0] not in (0, len(texts) - 1):
            return None
        said = "first" if spoken[0] == 0 else "last"
    head, *between, end = parts
    made = edits.of(head), Edits(b"", edits.texts).of(end)
    if any(old in part for part in between for old, _ in edits.texts):
        return None
    return Shape(head, tuple(between), end, end + head, _quotes(b"".join(between)), (*made, made[1] + made[0]), said)


def _holds_content(event: bytes) -> bool:
    return any(has_content(choice.get("delta")) for choice in choices_of(orjson.loads(event[6:])))
