"""The shape of a stream's ordinary frames: all bytes but the text in them. Pure.

Nearly all frames of a stream are the same but for the text of one field. One of them is parsed, and cut where its texts
are. Frames of the same shape hold the same things, so they pass through unparsed: many are known by a few counts of
bytes. That can't be fooled. A shape begins at the frame's first brace and ends at its last, so it says at which depth
the text is; and JSON escapes each quote in a text, so a frame with as many bare quotes as its shape has nothing else
in it.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import orjson
from msgspec import Struct

from deployments.providers.openai.stream.content import choices_of, has_content

_STRING = rb'\s*:\s*"(?!")([^"\\]*(?:\\.[^"\\]*)*)"'
_VALUE = re.compile(_STRING)
_PADDING = re.compile(b'"obfuscation"' + _STRING)  # OpenAI's, of a random length
_TEXTS = re.compile(
    b'"(?:content|reasoning_content|reasoning|thinking|refusal|arguments|text|data|transcript)"' + _STRING
)
_MOST_TEXTS = 4


class Edits(NamedTuple):
    """How a frame became the client's: `insert` after its first brace, and each text replaced by another."""

    insert: bytes = b""
    texts: tuple[tuple[bytes, bytes], ...] = ()

    def of(self, data: bytes) -> bytes:
        for old, new in self.texts:
            data = data.replace(old, new, 1)
        return data[:7] + self.insert + data[7:] if self.insert else data  # after `data: {`


class Read(Struct, frozen=True):
    """What one event holds, as it goes to the client."""

    frames: bytes = b""
    content: bool = False
    finished: int = 0  # the number of finish reasons in it
    edits: Edits | None = None  # None if it was not by edits that the frame became the client's
    keys: Sequence[str] = ()  # of the deltas, with what a client would read


Said = Literal["first", "last"] | None


class Run(Struct, frozen=True):
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
        plain: there is one text alone.
        said: which text is the content, the first or the last; None if such a frame always holds content.
    """

    head: bytes
    between: tuple[bytes, ...]
    end: bytes
    seam: bytes
    quotes: int
    made: tuple[bytes, bytes, bytes]
    plain: bool
    said: Said

    def take(self, run: bytes) -> Run | None:
        """Return the frames if all of them have this shape. `run` begins with `head`."""
        if not run.endswith(self.end):
            return None
        text = run[len(self.head) : -len(self.end)]
        head, end, seam = self.made
        if self.plain and text and b'"' not in text and b"\n" not in text:
            return Run(head + text + end, True)
        texts = text.split(self.seam)
        many = len(texts)
        bare = b"\n".join(texts) if many > 1 else text
        if bare.count(b"\n") != many - 1 or _quotes(bare) != self.quotes * many:
            return None
        for part in self.between:
            if bare.count(part) != many:
                return None
        content = self._holds_content(texts, bare)
        return Run(head + seam.join(texts) + end if many > 1 else head + text + end, content)

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


def shape_of(event: bytes, edits: Edits, keys: Sequence[str]) -> Shape | None:
    """Return the shape of an event that holds content; None if there is no text to cut out.

    `edits` made the client's frame of it, and `keys` are those of its deltas with what a client would read.
    """
    if not event.startswith(b"data: {"):
        return None
    texts, said = one_text(event, keys[0]) if len(keys) == 1 else ([], None)
    if not texts:
        texts, said = _any_texts(event)
    if not texts:
        return None
    cuts = [0, *(at for text in texts for at in text), len(event)]
    head, *between, end = [event[a:b] for a, b in itertools.pairwise(cuts)][::2]
    if any(b"\\" in part or any(old in part for old, _ in edits.texts) for part in between):
        return None
    made = edits.of(head), Edits(b"", edits.texts).of(end)
    quotes = b"".join(between).count(b'"')
    return Shape(head, tuple(between), end, end + head, quotes, (*made, made[1] + made[0]), not between, said)


Texts = list[tuple[int, int]]  # where they begin and end


def one_text(event: bytes, key: str) -> tuple[Texts, Said]:
    """Return the text of the delta's only key, and of the padding; none if the search can't tell which is the key's."""
    word, found = b'"%b"' % key.encode(), None
    if b"\\u00" not in event and event.count(word) == 1:
        found = _VALUE.match(event, event.find(word) + len(word))
    if found is None:
        return [], None
    padding = _PADDING.search(event) if event.count(b'"obfuscation"') == 1 else None
    if padding is None:
        return [found.span(1)], "first"
    both = sorted([found.span(1), padding.span(1)])
    return both, "first" if both[0] == found.span(1) else "last"


def _any_texts(event: bytes) -> tuple[Texts, Said]:
    """Return the texts that may be cut out. Which of them is the content is found by leaving all of them out."""
    texts = [text.span(1) for text in _TEXTS.finditer(event)]
    if not 1 <= len(texts) <= _MOST_TEXTS:
        return [], None
    cuts = [0, *(at for text in texts for at in text), len(event)]
    rest = _holds_content(b"".join([event[a:b] for a, b in itertools.pairwise(cuts)][::2]))
    if rest:
        return texts, None
    return (texts, "first") if len(texts) == 1 and rest is not None else ([], None)


def _holds_content(event: bytes) -> bool | None:
    """Return whether a frame holds content; None for what only a lenient parser reads, as NaN."""
    try:
        data = orjson.loads(event[6:])
    except ValueError:
        return None
    return any(has_content(choice.get("delta")) for choice in choices_of(data))
