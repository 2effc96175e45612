"""The one text that each simulated request has, whoever says it, and what each provider says of it."""

import math
from collections.abc import Mapping
from typing import Any

from deployments.openai_api.chat import Head, chunk, usage_chunk
from tests.model.terms.terms import WORD_SECONDS, WORDS
from tests.model.truth import Asked

PROMPT_TOKENS = 7


def words_of(asked: Asked) -> list[str]:
    """The words of a request's text: no two are alike, so a word that comes twice, or too late, is seen."""
    count = max(6, min(WORDS, math.ceil(asked.length / WORD_SECONDS)))
    return [f"word{number}of{asked.number} " for number in range(count)]


def text_of(asked: Asked) -> str:
    return "".join(words_of(asked)).rstrip()


def begun_in(body: Mapping[str, Any]) -> str:
    """What the assistant has said, in a request for the rest of a text."""
    return "".join(m["content"] for m in body["messages"] if m["role"] == "assistant")


def left_of(asked: Asked, begun: str) -> list[str]:
    """The words that follow what was begun; the first one may have a blank before it."""
    full = text_of(asked)
    if not full.startswith(begun):
        raise ValueError(f"asked to go on with what nobody has said: {begun[-60:]!r}")
    rest = full[len(begun) :]
    lead = rest[: len(rest) - len(rest.lstrip())]
    words = [f"{word} " for word in rest.split()]
    return [f"{lead}{words[0]}", *words[1:]] if words else []


class Speaker:
    """One provider's stream: its head, a role, the words, and a usage that counts them."""

    def __init__(self, provider: str, row: str):
        self._head = Head(f"chatcmpl-{provider}", 1 + ord(provider[0]), row)
        self._said = 0

    def role(self) -> bytes:
        return chunk(self._head, {"role": "assistant", "content": ""})

    def says(self, word: str) -> bytes:
        self._said += 1
        return chunk(self._head, {"content": word})

    def finish(self) -> bytes:
        return chunk(self._head, {}, "stop")

    def end(self) -> dict[str, Any]:
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self._said,
            "total_tokens": PROMPT_TOKENS + self._said,
        }
        return {"usage": usage, "tail": usage_chunk(self._head, usage)}
