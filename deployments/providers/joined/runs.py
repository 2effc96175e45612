"""Chunks of a chat that are the same but for the text in them: nearly all of a stream. Pure.

One of them is parsed. From those behind it that begin and end as it did only the text is taken, still as JSON has it,
and the texts of a run are decoded at once. That can't be fooled: a text in which each quotation mark is escaped is one
text, so all around it stands where it stood in the chunk that was parsed.
"""

import re

from deployments.openai_api.json_types import JsonDict, JsonValue, parse_leniently
from deployments.providers.openai.stream.shape import one_text

# The inside of a text in JSON. Half a pair of surrogates may be written as `\u`, and its other half in the next chunk:
# such texts are decoded each for itself.
_INSIDE = re.compile(rb'[^"\\\n]*(?:\\["\\/bfnrt][^"\\\n]*)*')
_PLAIN = re.compile(rb'[^"\\\n]*')
_SHORT = 20  # bytes of an `end`
_OF_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
_OF_DELTA = frozenset({"role", "content"})


class Runs:
    """The run that goes on at present, if one does."""

    __slots__ = ("_begin", "_between", "_end", "_message", "_says_first", "_texts")

    def __init__(self) -> None:
        self._message: JsonDict | None = None  # to which the texts belong
        self._texts: list[bytes] = []  # in JSON's own escapes
        self._begin = self._between = self._end = b""
        self._says_first = True  # or behind `_between`, where a chunk has a padding too

    def take(self, events: bytes, at: int = 0) -> tuple[int, bool]:
        """Take the texts of the events from `at` on that belong to the run.

        Return where those end, and whether any of them says something.
        """
        begin, end = self._begin, self._end
        if self._message is None or not events.startswith(begin, at):
            return at, False
        stop = events.find(b"\n\n", events.rfind(begin)) + 2
        pieces = _texts_in(events[at + len(begin) : stop], end, begin)
        around, said = len(begin) + len(end), False
        if not self._between and _PLAIN.fullmatch(whole := b"".join(pieces)):  # nearly all are
            self._texts += pieces
            return at + around * len(pieces) + len(whole), bool(whole)
        for piece in pieces:
            if (text := self._text_in(piece)) is None:
                break
            self._texts.append(text)
            at += around + len(piece)
            said = said or bool(text)
        return at, said

    def _text_in(self, piece: bytes) -> bytes | None:
        """Return the text of a chunk, of whose bytes this is what may differ; None if it has another form."""
        if self._between:
            texts = piece.split(self._between)
            if len(texts) != 2 or not all(map(_INSIDE.fullmatch, texts)):
                return None
            return texts[not self._says_first]
        return piece if _INSIDE.fullmatch(piece) else None

    def settle(self) -> None:
        """Add the texts to their message: something else follows."""
        if self._texts and self._message is not None:
            self._message["content"] += parse_leniently(b'"' + b"".join(self._texts) + b'"')
            self._texts = []

    def learn(self, event: bytes, chunk: JsonDict, message: JsonDict | None) -> None:
        """Begin a run with a chunk that was added to the message, if it says a text and nothing else.

        `event` are its bytes; none if they are not what it was parsed from.
        """
        self._message = None
        if message is None or not (_is_plain(chunk) and isinstance(message.get("content"), str)):
            return
        texts, says = one_text(event, "content") if event.startswith(b"data: {") else ([], None)
        if not texts:
            return
        self._begin, self._end, self._message = event[: texts[0][0]], event[texts[-1][1] :], message
        self._between = event[texts[0][1] : texts[1][0]] if len(texts) == 2 else b""
        self._says_first = says == "first"


def _texts_in(events: bytes, end: bytes, begin: bytes) -> list[bytes]:
    """Return what stands between `begin` and `end` in events that follow each other; the first has no `begin` here.

    Python looks for few bytes several times as fast as for many. So a part of `end` is looked for, and then it is seen
    whether all the rest is there.
    """
    between, part = end + begin, end[:_SHORT]
    first, *others = events.split(part)
    behind = len(between) - len(part)
    texts = [first, *[other[behind:] for other in others[:-1]]]
    if between.join(texts) + end == events:
        return texts
    texts = events.split(between)
    last = texts.pop()
    return [*texts, last[: -len(end)]] if last.endswith(end) else texts


def _is_plain(chunk: JsonDict) -> bool:
    """Return whether a chunk has one choice with a text, and says nothing that counts each time it is said."""
    choices: JsonValue = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or chunk.get("usage"):
        return False
    choice = choices[0]
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or not (choice.keys() <= _OF_CHOICE and delta.keys() <= _OF_DELTA):
        return False
    return isinstance(delta.get("content"), str) and not (choice.get("finish_reason") or choice.get("logprobs"))
