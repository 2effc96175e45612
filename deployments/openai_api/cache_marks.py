"""Marks by which a client says what a provider may keep of a prompt: `cache_control`, as Anthropic writes it. Pure.

A mark changes the price of an answer and not the answer, so one that has no place is a hint that is left out. Where it
has one depends on the model. Both the finder of unsupported fields and the codec ask here, so they say the same.

OpenAI's own models have another word: GPT-5.6 and later take breakpoints (openai SDK, `PromptCacheBreakpoint` and
`PromptCacheOptions`) on a part of anybody but the assistant, up to four, without a lifetime that a mark could say.
Tools have none. Earlier models cache by themselves, and refuse both words.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

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
        answers: behind a text of the assistant's.
        lifetimes: the values of `ttl` that it knows. Another is left out, and the model's own holds.
    """

    tools: bool = False
    any_part: bool = False
    answers: bool = True
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
    places_of = {"text": True, "answer": places.answers, "tool": places.tools, "part": places.any_part}
    return places_of.get(mark.place, False)


Marks = Literal["as_sent", "breakpoints", "none"]

BREAKPOINT = "prompt_cache_breakpoint"
_HERE = {"mode": "explicit"}

# OpenAI, Prompt caching, prompt cache breakpoints: GPT-5.6 and later. Before, all is automatic, and a mark is refused.
_OPENAI_MODEL = re.compile(r"(?:^|/)(?:o[134](?:-|$)|(?:chatgpt|gpt)-(?!oss))")
_BREAKPOINTS = re.compile(r"(?:^|/)gpt-(?:5\.(?:[6-9]|\d\d)|[6-9]|\d\d)(?!\d)")


@lru_cache(maxsize=1024)
def takes_breakpoints(model: str) -> bool | None:
    """Return whether a model of OpenAI's takes breakpoints of a prompt cache; None if it is not OpenAI's."""
    name = model.lower()
    return _BREAKPOINTS.search(name) is not None if _OPENAI_MODEL.search(name) else None


def with_breakpoints(messages: Sequence[JsonObject], marks: Marks) -> list[JsonObject]:
    """Return the messages with breakpoints in the places of marks, or with neither. Lifetimes of marks are not said."""
    ours = list[JsonDict]()  # the parts that have got one here; a client may have set others itself
    made = [_breakpoints_in(message, marks, ours) if is_marked(message) else message for message in messages]
    kept = set(map(id, keep(ours)))
    for part in ours:
        if id(part) not in kept:
            del part[BREAKPOINT]
    return made


def is_marked(thing: JsonObject) -> bool:
    """Return whether a message, or a part of it, has a mark."""
    content = thing.get("content")
    return MARK in thing or (content.__class__ is list and any(isinstance(p, dict) and MARK in p for p in content))


def _breakpoints_in(message: JsonObject, marks: Marks, ours: list[JsonDict]) -> JsonObject:
    has_place = marks == "breakpoints" and message["role"] != "assistant"
    made, content = {name: value for name, value in message.items() if name != MARK}, message.get("content")
    whole = has_place and isinstance(message.get(MARK), dict)
    if whole and isinstance(content, str) and content.strip():
        content = [{"type": "text", "text": content}]
    if isinstance(content, list):
        last = len(content) - 1 if whole else None
        parts = [_part(part, ours, has_place=has_place, ends=at == last) for at, part in enumerate(content)]
        made["content"] = parts
    return made


def _part(part: JsonValue, ours: list[JsonDict], *, has_place: bool, ends: bool) -> JsonValue:
    """Return a part of a message without its mark. `ends`: the message's own mark is behind it."""
    if not isinstance(part, dict) or not (ends or MARK in part):
        return part
    made = {name: value for name, value in part.items() if name != MARK}
    if ends or (has_place and isinstance(part[MARK], dict)):
        made[BREAKPOINT] = _HERE
        ours.append(made)
    return made


def without_marks(tools: JsonValue) -> JsonValue:
    """Return the tools without marks, which have no place there."""
    if not isinstance(tools, list):
        return tools
    return [_without_mark(tool) if isinstance(tool, dict) else tool for tool in tools]


def _without_mark(tool: JsonObject) -> JsonObject:
    made = tool if MARK not in tool else {name: value for name, value in tool.items() if name != MARK}
    function = made.get("function")
    if not isinstance(function, dict) or MARK not in function:
        return made
    return {**made, "function": {name: value for name, value in function.items() if name != MARK}}


_PLAIN = {"type": "ephemeral"}


def with_kept_marks(body: JsonObject, model: str) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the request with the marks that the model takes, and the paths of what is left out of them.

    The same object is returned if nothing is. Marks for a model that is not OpenAI's are its server's affair.
    """
    if (has_places := takes_breakpoints(model)) is None or not _has_marks(body):
        return body, ()
    marks = list(_marks_in(body))
    placed = [path for path, _, placed in marks if placed and has_places]
    kept = set(keep(placed))
    named = [path for path, _, _ in marks if path not in kept]
    named += [f"{path}.ttl" for path, mark, _ in marks if path in kept and mark.get("ttl") is not None]
    if not named:
        return body, ()
    made: JsonDict = {**body, "messages": [_kept(m, f"messages.{at}", kept) for at, m in enumerate(body["messages"])]}
    if isinstance(tools := body.get("tools"), list):
        made["tools"] = [_kept_in_tool(tool) for tool in tools]
    return made, tuple(named)


def _has_marks(body: JsonObject) -> bool:
    tools = body.get("tools")
    return any(map(is_marked, body["messages"])) or (isinstance(tools, list) and any(map(_of_tool, tools)))


def _of_tool(tool: JsonValue) -> list[str]:
    """Return where a tool has a mark, as the ends of paths."""
    if not isinstance(tool, dict):
        return []
    function = tool.get("function")
    inner = [f"function.{MARK}"] if isinstance(function, dict) and MARK in function else []
    return [MARK, *inner] if MARK in tool else inner


def _marks_in(body: JsonObject) -> Iterator[tuple[str, JsonObject, bool]]:
    """Yield the path of each mark, what it says, and whether a breakpoint could be there."""
    tools = body.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        yield from ((f"tools.{at}.{end}", {}, False) for end in _of_tool(tool))
    for at, message in enumerate(body["messages"]):
        placed, content = message["role"] != "assistant", message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and MARK in part:
                yield _mark(f"messages.{at}.content.{index}", part[MARK], placed=placed)
        if MARK in message:
            yield _mark(f"messages.{at}", message[MARK], placed=placed and bool(content))


def _mark(path: str, mark: JsonValue, *, placed: bool) -> tuple[str, JsonObject, bool]:
    is_mark = isinstance(mark, dict)
    return f"{path}.{MARK}", mark if is_mark else {}, placed and is_mark


def _kept(thing: JsonValue, path: str, kept: set[str]) -> JsonValue:
    """Return a message or a part with the marks that are kept, which say nothing but that they are there."""
    if not isinstance(thing, dict):
        return thing
    made = {name: value for name, value in thing.items() if name != MARK}
    if MARK in thing and f"{path}.{MARK}" in kept:
        made[MARK] = _PLAIN
    if isinstance(content := thing.get("content"), list):
        made["content"] = [_kept(part, f"{path}.content.{at}", kept) for at, part in enumerate(content)]
    return made


def _kept_in_tool(tool: JsonValue) -> JsonValue:
    if not _of_tool(tool):
        return tool
    made = {name: value for name, value in tool.items() if name != MARK}
    if isinstance(function := tool.get("function"), dict):
        made["function"] = {name: value for name, value in function.items() if name != MARK}
    return made
