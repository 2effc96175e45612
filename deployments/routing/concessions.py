"""What a request gives up where its target refuses a hint. Pure.

A refusal names what it refuses in its `param`, or else in its text. Only the server's own words count there
(`refusal_text.py`): an error may quote the client, or list what would be allowed.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from actors.breaker.outcomes import Outcome
from deployments.openai_api.capabilities import EFFORTS, HINTS
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.openai_api.refusal_text import LONGEST_TEXT, own_words, refuses_field, values_allowed
from deployments.routing.nested_hints import NESTED, has_nested, without_nested

# How vendors spell a field where they do not use OpenAI's name for it.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "top_p": ("topP",),
    "top_k": ("topK",),
    "presence_penalty": ("presencePenalty", "penalty"),
    "frequency_penalty": ("frequencyPenalty", "penalty"),
    "reasoning_effort": (
        "reasoning",
        "reasoningEffort",
        "effort",
        "thinking",
        "thinkingConfig",
        "thinkingBudget",
        "thinkingLevel",
    ),
    "verbosity": ("text.verbosity",),
    "parallel_tool_calls": ("parallel tool calls", "parallelToolCalls"),
    "seed": ("random_seed",),
}
# Words of plain English: only in quotes do they name a field.
_PROSE = frozenset(name for name in HINTS if name.isalpha()) - {"temperature"}
_SCALES: Mapping[str, tuple[str, ...]] = {"reasoning_effort": EFFORTS, "verbosity": ("low", "medium", "high")}
# The hints that each server of OpenAI's API has known from the beginning.
_OLD = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_LONGEST_VALUE = 256  # of a refused value that is remembered, as JSON


@dataclass(frozen=True, slots=True)
class Lesson:
    """One thing that a target refuses.

    Attributes:
        name: the hint.
        beside: other hints, without which it may be taken.
        value: the value that is refused, as JSON; None if each is.
        instead: the nearest value that the target takes; None if there is none.
    """

    name: str
    beside: frozenset[str] = frozenset()
    value: str | None = None
    instead: str | None = None

    def holds(self, body: JsonObject, in_json: dict[str, str]) -> bool:
        """Return whether the request has what is refused.

        `in_json` keeps the values that were compared, by hint: one may be long, and its lessons many.
        """
        if self.name in NESTED:
            return has_nested(body, self.name)
        given = body.get(self.name)
        if given is None or any(body.get(name) is None for name in self.beside):
            return False
        if self.value is None:
            return True
        if self.name not in in_json:
            in_json[self.name] = _as_json(given)
        return self.value == in_json[self.name]

    def apply(self, body: JsonObject) -> JsonObject:
        """Return the request as the target takes it."""
        return without(body, (self.name,)) if self.instead is None else {**body, self.name: self.instead}


@dataclass(frozen=True, slots=True)
class Concession:
    """A request after a refusal: the hints that it goes without, and what to remember once the target takes it.

    `of_field` says whether fields were refused whatever their values.
    """

    body: JsonObject
    dropped: tuple[str, ...]
    lessons: tuple[Lesson, ...]
    of_field: bool


def concede(refusal: Outcome, body: JsonObject, before: int = 0) -> Concession | None:
    """Return the request without what a refusal names; None if it names no hint.

    `before` is the number of earlier refusals of fields in the same attempt. A server may name one at a time: after
    one round each hint goes that OpenAI's own older API does not know, and after two each hint.
    """
    named = hints_named(refusal, body)
    if not named:
        return None
    of_field = refuses_field(refusal.message, refusal.code, refusal.type, body)
    gone, beside = ((named[-1],), frozenset(named[:-1])) if _exclude_each_other(named) else (named, frozenset())
    lessons = tuple(_lesson(name, refusal, body, beside, of_field or bool(beside)) for name in gone)
    for lesson in lessons:
        body = lesson.apply(body)
    dropped = tuple(lesson.name for lesson in lessons if lesson.instead is None)
    if of_field and before:
        more = tuple(name for name in _ORDER if body.get(name) is not None and (before > 1 or name not in _OLD))
        body, dropped = without(body, more), dropped + more
    return Concession(body, dropped, tuple(lesson for lesson in lessons if _is_kept(lesson, of_field)), of_field)


def concede_extra(refusal: Outcome, extras: JsonObject) -> Concession | None:
    """Return the same for what a target gets beside a chat, by its full path; None if the refusal names nothing of it.

    `body` is what is left of these extras. Each is refused whatever its value.
    """
    param = _param(refusal)
    names = _quoted(own_words(refusal.message, extras), extras) if param is None else _extra_at(param, extras)
    if not names:
        return None
    rest = {other: value for other, value in extras.items() if other not in names}
    return Concession(rest, names, tuple(map(Lesson, names)), of_field=False)


_LIST = re.compile(r"[\"'`][\w.-]+[\"'`](?:,? (?:and )?[\"'`][\w.-]+[\"'`])*")


def _quoted(words: str, extras: JsonObject) -> tuple[str, ...]:
    """Return the extras that stand in quotes in the first list that has any: one value, or several with commas."""
    for found in _LIST.finditer(words):
        if names := tuple(name for name in re.split(r"[\"'`, ]+", found.group()) if name in extras):
            return names
    return ()


def _extra_at(param: str, extras: JsonObject) -> tuple[str, ...]:
    """Return the extra in which a field stands. A path may also name the variant: `thinking.adaptive.display`."""
    parts = param.split(".")
    known = (param, f"{parts[0]}.{parts[-1]}", parts[0])
    return next(((name,) for name in known if name in extras), ())


def _lesson(name: str, refusal: Outcome, body: JsonObject, beside: frozenset[str], of_field: bool) -> Lesson:
    if of_field or name in NESTED:
        return Lesson(name, beside)
    return Lesson(name, value=_as_json(body[name]), instead=_nearest(name, body[name], values_allowed(refusal.message)))


def _is_kept(lesson: Lesson, of_field: bool) -> bool:
    if lesson.name in NESTED:
        return of_field
    return lesson.value is None or len(lesson.value) <= _LONGEST_VALUE


def _nearest(name: str, value: JsonValue, allowed: Collection[str]) -> str | None:
    scale = _SCALES.get(name, ())
    taken = [word for word in scale if word in allowed]
    if value not in scale or value in taken or not taken:
        return None
    at = scale.index(str(value))
    return min(taken, key=lambda word: abs(scale.index(word) - at))


def _as_json(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def hints_named(refusal: Outcome, body: JsonObject) -> tuple[str, ...]:
    """Return the hints of the request that a refusal names, in the request's order of importance."""
    given = [name for name in _ORDER if body.get(name) is not None]
    if (param := _param(refusal)) is None:
        words = own_words(refusal.message, body)
        named = tuple(name for name in given if _PATTERNS[name].search(words))
        return named or _nested(refusal.message, body)
    head = param.partition(".")[0].partition("[")[0]
    named = tuple(name for name in given if name == head or _is_listed(refusal, name)) or tuple(
        name for name in given if not {head, param}.isdisjoint(_SPELLINGS.get(name, ()))
    )
    if named and head in _EXCLUSIVE and "both" in refusal.message:
        named = tuple(name for name in given if name == head or _PATTERNS[name].search(refusal.message))
    return named or _nested(f"{param} {refusal.message}" if head in _PLACES else param, body)


def _param(refusal: Outcome) -> str | None:
    """Return the field that an error names. Some name the body as a whole, which says nothing."""
    return None if refusal.param in (None, "", "body", "None", "null") else refusal.param


def _is_listed(refusal: Outcome, name: str) -> bool:
    """Return whether a validator, which lists all that it refuses, names it."""
    return f"; {name}: " in refusal.message[:LONGEST_TEXT]


_PLACES = frozenset({"messages", "tools", "stream_options"})


def _nested(text: str, body: JsonObject) -> tuple[str, ...]:
    text = text[:LONGEST_TEXT]
    return tuple(name for name, hint in NESTED.items() if hint.refused.search(text) and has_nested(body, name))


def without(body: JsonObject, names: Collection[str]) -> JsonObject:
    """Return the request without these hints."""
    kept: JsonObject = {name: value for name, value in body.items() if name not in names}
    for name in names:
        if name in NESTED:
            kept = without_nested(kept, name)
    return kept


_ORDER = ("temperature", "top_p", "top_k", *sorted(HINTS - {"temperature", "top_p", "top_k"}))
_EXCLUSIVE = frozenset({"temperature", "top_p", "top_k"})


def _exclude_each_other(named: tuple[str, ...]) -> bool:
    return len(named) > 1 and _EXCLUSIVE.issuperset(named)


def _pattern(name: str) -> re.Pattern[str]:
    spelled = "|".join(map(re.escape, (name, *_SPELLINGS.get(name, ()))))
    quoted = rf"[\"'`](?:{spelled})[\"'`]"
    return re.compile(quoted if name in _PROSE else rf"(?<![\w-])(?:{spelled})(?![\w-])", re.IGNORECASE)


_PATTERNS: Mapping[str, re.Pattern[str]] = {name: _pattern(name) for name in _ORDER}
