"""How one server wants what every server of OpenAI's API can be told in some form. Pure.

Nothing here changes what is asked: only which word a limit has, whether instructions go as `developer` or `system`,
which ids calls have, and whether what we add by ourselves (a stream's usage, another provider's thoughts) may be sent.
What is known of a server's address or a model's family is known before. The rest is learned from a refusal: the request
is sent once more in other words, and if it is taken so, they are remembered for an hour.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any, Literal

from actors.breaker.outcomes import Outcome
from deployments.newest import Newest
from deployments.openai_api.cache_marks import Marks, takes_breakpoints
from deployments.openai_api.json_types import JsonValue
from deployments.openai_api.refusal_text import LONGEST_TEXT, own_words, refuses_field

MOST_MODELS = 1024  # whose dialects one adapter remembers; a client can name any number of models
KEPT_SECONDS = 3600.0  # that a lesson is remembered

Limit = Literal["as_sent", "max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    Attributes:
        limit: the field that holds the limit of an answer's tokens.
        developer: whether it knows the role `developer`. All know `system`.
        stream_usage: whether `stream_options` may be sent.
        reasoning: whether `reasoning_content` of earlier answers goes back.
        details: whether `reasoning` and `reasoning_details` of earlier answers go back: OpenRouter's.
        extra: whether `extra_content` of earlier answers goes back: Gemini's signatures.
        stop: whether it takes stop sequences. Where it does not, the answer is cut here (`stops.py`).
        effort_with_tools: whether it takes tools without being told not to think.
        seed: the field that holds the seed.
        cache_key: whether `prompt_cache_key` may be added, by which OpenAI sends alike prompts to one server.
        marks: what becomes of `cache_control` (`breakpoints.py`).
        longest_id: of a tool call's id. Mistral's have nine letters or digits, no more and no less.
    """

    limit: Limit = "as_sent"
    developer: bool = False
    stream_usage: bool = True
    reasoning: bool = False
    details: bool = False
    extra: bool = False
    stop: bool = True
    effort_with_tools: bool = True
    seed: str = "seed"
    cache_key: bool = False
    marks: Marks = "as_sent"
    longest_id: int | None = None


NINE = 9
_OPENAI_IDS = 40  # "string too long. Expected a string with maximum length 40"

# Families that read their own thoughts again, or demand them: DeepSeek, Kimi, MiniMax, GLM, Qwen, MiMo, gpt-oss.
_THINKING = re.compile(r"deepseek|kimi|moonshot|minimax|glm-|qwen|qwq|mimo|gpt-oss|magistral")
_MISTRAL = re.compile(r"mistral|mixtral|codestral|devstral|magistral|ministral|pixtral")
_REASONING_GPT = re.compile(r"(?:^|/)(?:o[134](?:-|$)|gpt-[5-9])")

_NO_STOP = re.compile(r"(?:^|/)(?:o3|o4-mini|gpt-5(?:-(?:mini|nano))?(?:-\d|$))")  # OpenAI's API reference, `stop`


_OPENAI_MODEL = re.compile(r"(?:^|/)(?:o[134](?:-|$)|(?:chatgpt|gpt)-(?!oss))")


def is_openai(host: str, model: str = "") -> bool:
    """Is it OpenAI itself? It refuses fields that a compatible server may have added, and wants back.

    Azure's host of all makers' models is OpenAI for OpenAI's models alone (Microsoft, Foundry Models endpoints).
    """
    if host.endswith(".services.ai.azure.com"):
        return _OPENAI_MODEL.search(model.lower()) is not None
    return host.endswith((".openai.com", ".openai.azure.com"))


def known_dialect(host: str, model: str) -> Dialect:
    """Return what is known of a server and a model that have not been asked yet."""
    name = model.lower()
    newer = _REASONING_GPT.search(name) is not None
    stop = _NO_STOP.search(name) is None
    if is_openai(host, model):
        limit: Limit = "max_completion_tokens" if newer else "as_sent"
        marks: Marks = "breakpoints" if takes_breakpoints(model) else "none"
        return Dialect(limit, developer=True, stop=stop, cache_key=True, marks=marks, longest_id=_OPENAI_IDS)
    if host.endswith(".mistral.ai"):
        return Dialect("max_tokens", stream_usage=False, seed="random_seed", longest_id=NINE)
    return Dialect(
        "max_completion_tokens" if newer else "as_sent",
        developer=newer,
        reasoning=_THINKING.search(name) is not None,
        details=host.endswith("openrouter.ai"),  # OpenRouter, Reasoning tokens: preserving reasoning
        extra="gemini" in name,
        stop=stop,
        longest_id=NINE if _MISTRAL.search(name) else None,
    )


@dataclass(frozen=True, slots=True)
class _Lesson:
    """How a dialect changes after a refusal.

    Attributes:
        param: of a refusal that teaches it.
        text: in a refusal that teaches it, where it names no other field of the request.
        of_field: whether the field itself must be refused: of a refused value nothing is learned.
        places: whether the places inside the request count that the text names.
        change: what changes, as attributes of a dialect.
    """

    param: re.Pattern[str] | None
    text: re.Pattern[str]
    of_field: bool
    places: bool
    change: Mapping[str, Any]

    def holds(self, refusal: Outcome, words: str, asked: JsonValue) -> bool:
        param = refusal.param or ""
        if self.of_field and not refuses_field(refusal.message, refusal.code, refusal.type, asked):
            return False
        if self.param is not None and self.param.match(param):
            return True
        text = refusal.message[:LONGEST_TEXT] if self.places else words
        return not _names_other(param) and self.text.search(f"{param} {text}") is not None


# A limit names its other word beside itself, and faults in messages and calls are told by their places.
_WITH_TEXT = re.compile(r"messages|tools|max_tokens|max_completion_tokens|reasoning_effort|body$")


def _names_other(param: str) -> bool:
    return bool(param) and _WITH_TEXT.match(param) is None


def lesson(
    dialect: Dialect, refusal: Outcome, asked: JsonValue = None, settled: Collection[str] = ()
) -> Dialect | None:
    """Return the dialect that a refusal asks for; None if it asks for nothing that a dialect can change.

    `asked` is the request, which an error may quote. `settled` are attributes that a refusal of the same request has
    changed before: they are not changed back.
    """
    words = own_words(refusal.message, asked)
    for known in _LESSONS:
        if known.holds(refusal, words, asked):
            learned = replace(dialect, **known.change)
            return None if learned == dialect or not known.change.keys().isdisjoint(settled) else learned
    return None


def changed_in(before: Dialect, after: Dialect) -> frozenset[str]:
    """Return the attributes in which two dialects differ."""
    return frozenset(f.name for f in fields(Dialect) if getattr(before, f.name) != getattr(after, f.name))


_NUMBERED = re.compile(r"\S*\d\S*")


def gist(refusal: Outcome) -> tuple[str | None, str]:
    """Return what a refusal says, without words that have a figure: gateways put an id of each call into it."""
    return refusal.param, _NUMBERED.sub("", refusal.message[:LONGEST_TEXT])


def _lesson(
    text: str, param: str | None = None, *, of_field: bool = False, places: bool = False, **change: Any
) -> _Lesson:
    named = re.compile(rf"(?:{param})\b") if param else None
    return _Lesson(named, re.compile(text, re.IGNORECASE), of_field, places, change)


_LESSONS = (
    _lesson(r"stream_options|include_usage", "stream_options", of_field=True, stream_usage=False),
    _lesson(r"prompt_cache_key", "prompt_cache_key", of_field=True, cache_key=False),
    _lesson(r"use [`'\"]?max_completion_tokens", limit="max_completion_tokens"),
    _lesson(
        r"(?<!use ')(?<!use )(?<!or ')(?<!or )max_completion_tokens",
        "max_completion_tokens",
        of_field=True,
        limit="max_tokens",
    ),
    _lesson(r"\bdeveloper\b", developer=False),
    # BerriAI/litellm#34569: such models take tools here only with the effort none.
    _lesson(r"tools with reasoning_effort (?:is|are) not supported", effort_with_tools=False),
    _lesson(
        r"[`'\"]stop[`'\"]|(?:not supported|unsupported|unknown|unrecognized).{0,40}\bstop\b",
        "stop",
        of_field=True,
        stop=False,
    ),
    _lesson(
        r"reasoning_content.{0,80}(?:must be|missing|required|passed back)|missing.{0,20}reasoning_content",
        reasoning=True,
    ),
    _lesson(r"reasoning_content", reasoning=False),
    _lesson(r"thought_signature|extra_content.{0,40}(?:missing|required)", extra=True),
    _lesson(r"extra_content", extra=False),
    _lesson(r"tool.{0,3}call.{0,3}id.{0,120}length of 9|a-z, A-Z, 0-9, with a length of 9", longest_id=NINE),
    _lesson(r"tool_call.{0,80}(?:maximum length|string too long)", places=True, longest_id=_OPENAI_IDS),
    _lesson(r"prompt_cache_breakpoint", places=True, marks="none"),  # of OpenAI's models at who has not its newest API
)


class Dialects:
    """The dialects of one server's models: known at first, then learned. `now` is in seconds, monotonic.

    What was learned is forgotten after an hour: a name may mean another model by then.
    """

    def __init__(self, host: str, now: Callable[[], float] = time.monotonic):
        self._host, self._now = host, now
        self._known = lru_cache(maxsize=MOST_MODELS)(partial(known_dialect, host))
        self._learned = Newest[str, tuple[Dialect, float]](MOST_MODELS)

    def of(self, model: str) -> Dialect:
        found = self._learned.get(model)
        if found is None or found[1] <= self._now():
            return self._known(model)
        return found[0]

    def learn(self, model: str, dialect: Dialect) -> None:
        """Remember the dialect in which the model's server has just taken a request."""
        self._learned[model] = dialect, self._now() + KEPT_SECONDS
