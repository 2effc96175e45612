"""Marks by which a client says what a provider may keep of a prompt: `cache_control`, as Anthropic writes it. Pure.

A mark changes the price of an answer and not the answer, so one that has no place is a hint that is left out. Where it
has one depends on the model. Both the finder of unsupported fields and the codec ask here, so they say the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from deployments.openai_api.found import MARK, Mark
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

MOST_MARKS = 4  # of one request: Anthropic, Prompt caching; AWS, Prompt caching for faster model inference

LONGEST = "1h"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachePlaces:
    """Where a model takes marks: behind a text always.

    Attributes:
        tools: behind a tool.
        any_part: behind an image, a tool call and a tool's result.
        lifetimes: the values of `ttl` that it knows. Another is left out, and the model's own holds.
    """

    tools: bool = False
    any_part: bool = False
    lifetimes: frozenset[str] = frozenset()


def mark_in(thing: JsonObject) -> JsonObject | None:
    """Return the mark of a tool, a message or a part; None without one."""
    mark = thing.get(MARK)
    return mark if isinstance(mark, dict) else None


def lifetime_in(mark: JsonValue, places: CachePlaces | None) -> str | None:
    """Return the lifetime that a mark asks for, if the model knows it."""
    lifetime = mark.get("ttl") if isinstance(mark, dict) and places is not None else None
    return lifetime if isinstance(lifetime, str) and places is not None and lifetime in places.lifetimes else None


def falling(lifetimes: Iterable[str | None]) -> Iterator[str | None]:
    """Yield the lifetimes in the order of the wire, without those that rise.

    A longer one may not stand behind a shorter one: Anthropic, Prompt caching, mixing different TTLs;
    Portkey-AI/gateway#1762. The model's own is the shortest.
    """
    shorter = False
    for lifetime in lifetimes:
        yield None if shorter and lifetime == LONGEST else lifetime
        shorter = shorter or lifetime != LONGEST


def keep(marks: Sequence[T]) -> Sequence[T]:
    """Return the marks that are sent, in the order of the wire: the first, and the last of the others.

    The first covers what all conversations share, and the last ones cover this conversation.
    """
    return marks if len(marks) <= MOST_MARKS else [marks[0], *marks[1 - MOST_MARKS :]]


def settle(marks: Sequence[JsonDict]) -> set[int]:
    """Return by `id` which of the marks of a wire are sent, each an object of its own. Lifetimes that rise go."""
    kept = keep(marks)
    for mark, lifetime in zip(kept, falling([mark.get("ttl") for mark in kept]), strict=True):
        if lifetime is None:
            mark.pop("ttl", None)
    return set(map(id, kept))


def unkept(marks: Sequence[Mark], places: CachePlaces | None) -> list[str]:
    """Return the paths of the marks, and of the fields of marks, that a request for this model leaves out."""
    order = {"tool": 0}
    placed = [mark for mark in marks if _has_place(mark, places)]
    placed.sort(key=lambda mark: order.get(mark.place, 1 if mark.in_system else 2))
    kept = keep(placed)
    lifetimes = falling([lifetime_in(mark.value, places) for mark in kept])
    sent = {mark.path: lifetime for mark, lifetime in zip(kept, lifetimes, strict=True)}
    paths = [mark.path for mark in marks if mark.path not in sent]
    for mark in marks:
        if mark.path in sent and isinstance(mark.value, dict):
            names = [n for n, v in mark.value.items() if n not in ("type", "ttl") and v is not None]
            if mark.value.get("ttl") not in (None, sent[mark.path]):
                names.append("ttl")
            paths += [f"{mark.path}.{name}" for name in names]
    return paths


def _has_place(mark: Mark, places: CachePlaces | None) -> bool:
    if places is None or not isinstance(mark.value, dict):
        return False
    return mark.place == "text" or (places.tools if mark.place == "tool" else mark.place == "part" and places.any_part)
