"""What targets have refused of earlier requests: hints that the next requests leave out. No Ray.

A target that is not known refuses a field with a 400. If the field is a hint, the request is asked once more without
it, and the target's next requests leave it out from the beginning, for an hour: a name may mean another model by then.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from actors.breaker.outcomes import Outcome
from actors.breaker.plan import Target
from deployments.openai_api.capabilities import HINTS
from deployments.openai_api.json_types import JsonObject
from deployments.routing.nested_hints import NESTED, has_nested, without_nested

KEPT_SECONDS, MOST_TARGETS = 3600.0, 1024

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
    "parallel_tool_calls": ("parallel tool calls", "parallelToolCalls"),
    "seed": ("random_seed",),
}
# Words of plain English: only in quotes do they name a field.
_PROSE = frozenset({"user", "store", "metadata", "prediction", "seed", "verbosity"})


@dataclass(frozen=True, slots=True)
class _Refused:
    """`beside` are other hints, without which the field may be taken."""

    beside: frozenset[str]
    until: float


class Refusals:
    """The hints that each target refuses, as one replica has learned them. `now` is in seconds, monotonic."""

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._of: OrderedDict[Target, dict[str, _Refused]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._of)

    def note(self, target: Target, refusal: Outcome, body: JsonObject) -> tuple[str, ...]:
        """Remember the hints of this request that the target refused, and return them; empty if it named none."""
        named = hints_named(refusal, body)
        if not named:
            return ()
        gone, beside = ((named[-1],), frozenset(named[:-1])) if _exclude_each_other(named) else (named, frozenset())
        known = self._of.setdefault(target, {})
        for name in gone:
            known[name] = _Refused(beside, self._now() + KEPT_SECONDS)
        self._of.move_to_end(target)
        if len(self._of) > MOST_TARGETS:
            self._of.popitem(last=False)
        return gone

    def of(self, target: Target, body: JsonObject) -> tuple[str, ...]:
        """Return the hints of this request that the target is known to refuse."""
        known = self._of.get(target)
        if known is None:
            return ()
        now = self._now()
        return tuple(
            name
            for name, refused in known.items()
            if now < refused.until and _has(body, name) and all(b in body for b in refused.beside)
        )


def hints_named(refusal: Outcome, body: JsonObject) -> tuple[str, ...]:
    """Return the hints of the request that a refusal names, in the request's order of importance."""
    head = (refusal.param or "").partition(".")[0].partition("[")[0]
    named = tuple(name for name in _ORDER if body.get(name) is not None and (name == head or _names(refusal, name)))
    if named:
        return named
    text = f"{refusal.param or ''} {refusal.message}"
    return tuple(name for name, hint in NESTED.items() if hint.refused.search(text) and has_nested(body, name))


def _has(body: JsonObject, name: str) -> bool:
    return has_nested(body, name) if name in NESTED else body.get(name) is not None


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


def _names(refusal: Outcome, name: str) -> bool:
    if refusal.param is not None and refusal.param in HINTS and "both" not in refusal.message:
        # It names another field itself, and the text may only compare. A validator lists all that it refuses.
        return f"; {name}: " in refusal.message
    return _PATTERNS[name].search(refusal.message) is not None


def _pattern(name: str) -> re.Pattern[str]:
    spelled = "|".join(map(re.escape, (name, *_SPELLINGS.get(name, ()))))
    quoted = rf"[\"'`](?:{spelled})[\"'`]"
    return re.compile(quoted if name in _PROSE else rf"(?<![\w-])(?:{spelled})(?![\w-])", re.IGNORECASE)


_PATTERNS: Mapping[str, re.Pattern[str]] = {name: _pattern(name) for name in _ORDER}
