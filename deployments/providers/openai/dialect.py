"""How one server wants what every server of OpenAI's API can be told in some form. Pure.

Nothing here changes what is asked: only which word a limit has, whether instructions go as `developer` or `system`,
which ids calls have, and whether what we add by ourselves (a stream's usage, another provider's thoughts) may be sent.
What is known of a server's address or a model's family is known before; the rest is learned from a refusal, and the
request is sent once more.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from actors.breaker.outcomes import Outcome

MOST_MODELS = 1024  # whose dialects one adapter remembers; a client can name any number of models
MOST_LESSONS = 4  # calls of one request: a server names one fault at a time

Limit = Literal["as_sent", "max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    Attributes:
        limit: the field that holds the limit of an answer's tokens.
        developer: whether it knows the role `developer`. All know `system`.
        stream_usage: whether `stream_options` may be sent.
        reasoning: whether `reasoning_content` of earlier answers goes back.
        extra: whether `extra_content` of earlier answers goes back: Gemini's signatures.
        stop: whether it takes stop sequences. Where it does not, the answer is cut here (`stops.py`).
        effort_with_tools: whether it takes tools without being told not to think.
        seed: the field that holds the seed.
        longest_id: of a tool call's id. Mistral's have nine letters or digits, no more and no less.
    """

    limit: Limit = "as_sent"
    developer: bool = False
    stream_usage: bool = True
    reasoning: bool = False
    extra: bool = False
    stop: bool = True
    effort_with_tools: bool = True
    seed: str = "seed"
    longest_id: int | None = None


NINE = 9
_OPENAI_IDS = 40  # "string too long. Expected a string with maximum length 40"

# Families that read their own thoughts again, or demand them: DeepSeek, Kimi, MiniMax, GLM, Qwen, MiMo, gpt-oss.
_THINKING = re.compile(r"deepseek|kimi|moonshot|minimax|glm-|qwen|qwq|mimo|gpt-oss|magistral")
_MISTRAL = re.compile(r"mistral|mixtral|codestral|devstral|magistral|ministral|pixtral")
_REASONING_GPT = re.compile(r"(?:^|/)(?:o[134](?:-|$)|gpt-[5-9])")

_NO_STOP = re.compile(r"(?:^|/)(?:o3|o4-mini|gpt-5(?:-(?:mini|nano))?(?:-\d|$))")  # OpenAI's API reference, `stop`


def is_openai(host: str) -> bool:
    """Is it OpenAI itself? It refuses fields that a compatible server may have added, and wants back."""
    return host.endswith((".openai.com", ".openai.azure.com", ".services.ai.azure.com"))


def known_dialect(host: str, model: str) -> Dialect:
    """Return what is known of a server and a model that have not been asked yet."""
    name = model.lower()
    newer = _REASONING_GPT.search(name) is not None
    stop = _NO_STOP.search(name) is None
    if is_openai(host):
        limit: Limit = "max_completion_tokens" if newer else "as_sent"
        return Dialect(limit, developer=True, stop=stop, longest_id=_OPENAI_IDS)
    if host.endswith(".mistral.ai"):
        return Dialect("max_tokens", stream_usage=False, seed="random_seed", longest_id=NINE)
    return Dialect(
        "max_completion_tokens" if newer else "as_sent",
        developer=newer,
        reasoning=_THINKING.search(name) is not None,
        extra="gemini" in name,
        stop=stop,
        longest_id=NINE if _MISTRAL.search(name) else None,
    )


def lesson(dialect: Dialect, refusal: Outcome) -> Dialect | None:
    """Return the dialect that a refusal asks for; None if it asks for nothing that a dialect can change."""
    text = f"{refusal.param or ''} {refusal.message}"
    for pattern, change in _LESSONS:
        if pattern.search(text):
            learned = change(dialect)
            return None if learned == dialect else learned
    return None


def _lesson(pattern: str, **change: Any) -> tuple[re.Pattern[str], Callable[[Dialect], Dialect]]:
    return re.compile(pattern, re.IGNORECASE), lambda dialect: replace(dialect, **change)


_LESSONS = (
    _lesson(r"stream_options|include_usage", stream_usage=False),
    _lesson(r"use [`'\"]?max_completion_tokens", limit="max_completion_tokens"),
    _lesson(r"(?<!use ')(?<!use )(?<!or ')(?<!or )max_completion_tokens(?! is too large)", limit="max_tokens"),
    _lesson(r"\bdeveloper\b", developer=False),
    # BerriAI/litellm#34569: such models take tools here only with the effort none.
    _lesson(r"tools with reasoning_effort (?:is|are) not supported", effort_with_tools=False),
    _lesson(r"^stop |[`'\"]stop[`'\"]|(?:not supported|unsupported|unknown|unrecognized).{0,40}\bstop\b", stop=False),
    _lesson(
        r"reasoning_content.{0,80}(?:must be|missing|required|passed back)|missing.{0,20}reasoning_content",
        reasoning=True,
    ),
    _lesson(r"reasoning_content", reasoning=False),
    _lesson(r"thought_signature|extra_content.{0,40}(?:missing|required)", extra=True),
    _lesson(r"extra_content", extra=False),
    _lesson(r"tool.{0,3}call.{0,3}id.{0,120}length of 9|a-z, A-Z, 0-9, with a length of 9", longest_id=NINE),
    _lesson(r"tool_call.{0,80}(?:maximum length|string too long)", longest_id=_OPENAI_IDS),
)


class Dialects:
    """The dialects of one server's models: known at first, then learned."""

    def __init__(self, host: str):
        self._host = host
        self._of: OrderedDict[str, Dialect] = OrderedDict()

    def of(self, model: str) -> Dialect:
        found = self._of.get(model)
        if found is None:
            found = known_dialect(self._host, model)
            self.learn(model, found)
        return found

    def learn(self, model: str, dialect: Dialect) -> None:
        self._of[model] = dialect
        if len(self._of) > MOST_MODELS:
            self._of.popitem(last=False)
