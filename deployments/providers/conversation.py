"""An OpenAI conversation as the other wires want it: two sides that take turns. Pure.

System prompts stand apart. Neighbours of one side are one turn, results of tools belong to the
user's side, blank text is left out, and a conversation that the assistant opened gets an opening
from the user. A result knows the name of its function, which OpenAI leaves to its id.

`extra_content` is where an answer keeps what only its own provider understands (a signature of its
reasoning); a client sends it back with the message or the call that it came with.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.capabilities import IMAGE, Fit, is_blank, url_of
from deployments.openai_api.chat import text_of

OPENING = "(The conversation begins.)"

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Signed:
    """A text with what its provider keeps beside it. A plain text is a `str`."""

    text: str
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    subtype: str  # "png", "jpeg", ...
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    id: str
    name: str
    text: str


Item = str | Signed | Image | ToolCall | ToolResult


@dataclass(slots=True)
class Turn:
    side: Literal["user", "assistant"]
    items: list[Item]


@dataclass(slots=True)
class Conversation:
    system: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of the functions that were called, by the call's id
    ids: dict[str, str] = field(default_factory=dict)  # what the client calls a call, and what it is called here

    def take(self, side: Literal["user", "assistant"], items: list[Item]) -> None:
        if not items:
            return
        if self.turns and self.turns[-1].side == side:
            self.turns[-1].items += items
            return
        if side == "assistant" and not self.turns:
            self.turns.append(Turn("user", [OPENING]))
        self.turns.append(Turn(side, items))


def refuse_unfit(fit: Fit, target: str) -> None:
    """Raise `unsupported` that names the first field that the target can't do."""
    if fit.missing:
        param = fit.missing[0]
        raise failed("unsupported", f"{target} can't take '{param}' here.", param=param)


def read(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """The conversation of a request that `fit` has passed. Raises `bad_request` that names the field."""
    talk = Conversation()
    for index, message in enumerate(messages):
        content = message.get("content")
        match message["role"]:
            case "user":
                talk.take("user", _parts(index, content))
            case "assistant":
                talk.take("assistant", _said(index, message, talk))
            case "tool":
                talk.take("user", [_result(index, message, talk)])
            case _:
                text = text_of(content)
                if not is_blank(text):
                    talk.system.append(text)
    return talk


def _parts(index: int, content: Any) -> list[Item]:
    if content.__class__ is str or not content:
        return [] if is_blank(content) else [content]
    items: list[Item] = []
    for part in content:
        if part["type"] == "image_url":
            items.append(_image(index, url_of(part)))
        elif not is_blank(text := part.get("text") or part.get("refusal")):
            items.append(str(text))
    return items


def _image(index: int, url: str) -> Image:
    found = IMAGE.match(url)
    try:
        data = base64.b64decode(url[found.end() :], validate=True) if found else b""
    except ValueError:
        data = b""
    if not found or not data:
        raise _bad("The image is not valid base64.", f"messages.{index}.content")
    subtype = found.group(1).lower()
    return Image("jpeg" if subtype == "jpg" else subtype, data)


def _said(index: int, message: Mapping[str, Any], talk: Conversation) -> list[Item]:
    items = _parts(index, message.get("content"))
    if not items and not is_blank(refusal := message.get("refusal")):
        items.append(str(refusal))
    extra = message.get("extra_content")
    if extra and isinstance(extra, dict) and items and isinstance(items[-1], str):
        items[-1] = Signed(items[-1], extra)
    for call in message.get("tool_calls") or ():
        made = _call(index, call)
        if made.id in talk.names:  # a server that counts from 0 in each answer
            made = replace(made, id=f"{made.id}-{len(talk.names)}")
        talk.ids[call["id"]], talk.names[made.id] = made.id, made.name
        items.append(made)
    return items


def _call(index: int, call: Mapping[str, Any]) -> ToolCall:
    try:
        key, name, arguments = call["id"], call["function"]["name"], call["function"].get("arguments")
        if not (isinstance(key, str) and key and isinstance(name, str) and name):
            raise _bad("A tool call needs an id and a function's name.", f"messages.{index}.tool_calls")
    except (KeyError, TypeError, AttributeError):
        raise _bad("A tool call needs an id and a function's name.", f"messages.{index}.tool_calls") from None
    extra = call.get("extra_content")
    return ToolCall(key, name, arguments_of(arguments), extra if isinstance(extra, dict) else _NOTHING)


def arguments_of(text: Any) -> dict[str, Any]:
    """A call's arguments as the object that the other wires want. What is no object is kept inside one."""
    if text is None or (isinstance(text, str) and is_blank(text)):
        return {}
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a pair can't be sent on
    except (TypeError, ValueError, RecursionError):
        value = text  # a model's own broken JSON: it must see what it wrote
    return value if isinstance(value, dict) else {"arguments": value}


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _result(index: int, message: Mapping[str, Any], talk: Conversation) -> ToolResult:
    key = message.get("tool_call_id")
    if not isinstance(key, str) or key not in talk.ids:
        raise _bad(f"No tool call before it has the id {key!r}.", f"messages.{index}.tool_call_id")
    return ToolResult(talk.ids[key], talk.names[talk.ids[key]], text_of(message.get("content")))


def signature_of(extra: Mapping[str, Any], provider: str, name: str) -> Any:
    """What a provider kept beside its answer, if the client brought it back."""
    kept = extra.get(provider)
    return kept.get(name) if isinstance(kept, dict) else None


# What may be called.


@dataclass(frozen=True, slots=True)
class Offer:
    functions: Sequence[Mapping[str, Any]] = ()
    choice: str = "auto"  # auto | required | none
    only: str | None = None  # the one function that must be called

    @property
    def strict(self) -> bool:
        return any(function.get("strict") for function in self.functions)


NO_OFFER = Offer(choice="none")


def offer_of(body: Mapping[str, Any]) -> Offer:
    """The tools that a request offers, and how freely. Raises `bad_request` that names the field."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise _bad("'tool_choice' needs 'tools'.", "tool_choice")
        return NO_OFFER
    functions = [_function(tool) for tool in tools]
    if not all(isinstance(f.get("name"), str) and f["name"] for f in functions):
        raise _bad("Each tool needs a function with a name.", "tools")
    if not choice or not isinstance(choice, dict):
        return Offer(functions, choice or "auto")
    if choice["type"] == "function":
        return Offer(functions, "required", _offered(choice["function"].get("name"), functions))
    allowed = choice["allowed_tools"]
    named = [_function(tool).get("name") for tool in allowed.get("tools") or ()]
    kept = [f for f in functions if f["name"] in named]
    if not kept:
        raise _bad("'tool_choice' allows no function that 'tools' offers.", "tool_choice")
    return Offer(kept, "required" if allowed.get("mode") == "required" else "auto")


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, dict) else _NOTHING


def _offered(name: Any, functions: Sequence[Mapping[str, Any]]) -> str:
    if any(f["name"] == name for f in functions):
        return str(name)
    raise _bad(f"'tool_choice' names the function {name!r}, which 'tools' does not offer.", "tool_choice")


def call_limit(body: Mapping[str, Any]) -> int | None:
    """How many calls an answer may hold; None for any number.

    Neither wire can be told to make one call at most, so whoever reads an answer keeps to this.
    """
    if not body.get("tools") or body.get("tool_choice") == "none":
        return 0
    return 1 if body.get("parallel_tool_calls") is False else None


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, param=param)
