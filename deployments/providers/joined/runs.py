"""Chunks of a chat that are the same but for the text in them: nearly all of a stream. Pure.

One of them is parsed. From those behind it that begin and end as it did only the text is taken, still as JSON has it,
and the texts of a run are decoded at once. That can't be fooled: a text without a quotation mark is one text, wherever
its bytes came from, so all around it stands where it stood in the chunk that was parsed.
"""

import re

from deployments.openai_api.json_types import JsonDict, JsonValue, parse_leniently

_CONTENT = b'"content"'
_TEXT = re.compile(rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')
_OF_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})
_OF_DELTA = frozenset({"role", "content"})


class Runs:
    """The run that goes on at present, if one does. `texts` are its texts in JSON's own escapes."""

    __slots__ = ("_begin", "_end", "message", "texts")

    def __init__(self) -> None:
        self._begin = self._end = b""
        self.message: JsonDict | None = None  # to which the texts belong
        self.texts: list[bytes] = []

    def take(self, payload: bytes) -> bool:
        """Take the text of a chunk that belongs to the run; return whether it does."""
        if self.message is None or not (payload.startswith(self._begin) and payload.endswith(self._end)):
            return False
        text = payload[len(self._begin) : len(payload) - len(self._end)]
        if len(self._begin) + len(self._end) > len(payload) or b'"' in text or b"\\" in text:
            return False
        self.texts.append(text)
        return True

    def settle(self) -> None:
        """Add the texts to their message: something else follows."""
        if self.texts and self.message is not None:
            self.message["content"] += parse_leniently(b'"' + b"".join(self.texts) + b'"')
            self.texts = []

    def learn(self, payload: bytes, chunk: JsonDict, message: JsonDict | None) -> None:
        """Begin a run with a chunk that was parsed and added to the message, if it says a text and nothing else."""
        self.message = None
        if message is None or not (_is_plain(chunk) and isinstance(message.get("content"), str)):
            return
        found = _TEXT.match(payload, payload.find(_CONTENT) + len(_CONTENT)) if payload.count(_CONTENT) == 1 else None
        if found is not None:
            self._begin, self._end, self.message = payload[: found.start(1)], payload[found.end(1) :], message


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
