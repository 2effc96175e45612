"""An OpenAI conversation as other providers want it: two sides that take turns. Pure.

System prompts are separate. Neighbouring messages of one side form one turn, results of tools belong to the user's
side, and blank text is left out. A conversation that the assistant opens gets an opening from the user. A result holds
the name of its function, which OpenAI leaves to the id of its call.

`extra_content` holds data that only the answer's own provider understands (a signature of its reasoning). A client
returns it with the message or the call that it belongs to.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.capabilities import IMAGE, Unsupported, is_blank, url_of
from deployments.openai_api.chat import text_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

OPENING = "(The conversation begins.)"

_NOTHING: JsonObject = {}


@dataclass(frozen=True, slots=True)
class Signed:
    """A text with its provider's `extra_content`. A plain text is a `str`."""

    text: str
    extra: JsonObject


@dataclass(frozen=True, slots=True)
class Image:
    subtype: str  # "png", "jpeg", ...
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: JsonDict
    extra: JsonObject = field(default_factory=dict)


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
    names: dict[str, str] = field(default_factory=dict)  # the name of the called function, by the id of the call
    ids: dict[str, str] = field(default_factory=dict)  # the client's id of a call, and the id that it has here

    def take(self, side: Literal["user", "assistant"], items: list[Item]) -> None:
        if not items:
            return
        if self.turns and self.turns[-1].side == side:
            self.turns[-1].items += items
            return
        if side == "assistant" and not self.turns:
            self.turns.append(Turn("user", [OPENING]))
        self.turns.append(Turn(side, items))


def refuse_unfit(unsupported: Unsupported, target: str) -> None:
    """Raise `unsupported` for the first field that the target does not support, if any."""
    if unsupported.missing:
        param = unsupported.missing[0]
        raise failed("unsupported", f"{target} does not support '{param}' in this request.", param=param)


def read(messages: Sequence[JsonObject]) -> Conversation:
    """Return the conversation of a request that `fit` has accepted. Raises `bad_request` that names the field."""
    talk = Conversation()
    for index, message in enumerate(messages):
        content = message.get("content")
        match message["role"]:
            case "user":
                talk.take("user", _parts(index, content))
            case "assistant":
                talk.take("assistant", _assistant_items(index, message, talk))
            case "tool":
                talk.take("user", [_result(index, message, talk)])
            case _:
                text = text_of(content)
                if not is_blank(text):
                    talk.system.append(text)
    return talk


def _parts(index: int, content: JsonValue) -> list[Item]:
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


def _assistant_items(index: int, message: JsonObject, talk: Conversation) -> list[Item]:
    items = _parts(index, message.get("content"))
    if not items and not is_blank(refusal := message.get("refusal")):
        items.append(str(refusal))
    extra = message.get("extra_content")
    if extra and isinstance(extra, dict) and items and isinstance(items[-1], str):
        items[-1] = Signed(items[-1], extra)
    for call in message.get("tool_calls") or ():
        made = _call(index, call)
        if made.id in talk.names:  # some servers count from 0 in each answer
            made = replace(made, id=f"{made.id}-{len(talk.names)}")
        talk.ids[call["id"]], talk.names[made.id] = made.id, made.name
        items.append(made)
    return items


def _call(index: int, call: JsonObject) -> ToolCall:
    try:
        key, name, arguments = call["id"], call["function"]["name"], call["function"].get("arguments")
        if not (isinstance(key, str) and key and isinstance(name, str) and name):
            raise _bad("A tool call needs an id and a function's name.", f"messages.{index}.tool_calls")
    except (KeyError, TypeError, AttributeError):
        raise _bad("A tool call needs an id and a function's name.", f"messages.{index}.tool_calls") from None
    extra = call.get("extra_content")
    return ToolCall(key, name, arguments_of(arguments), extra if isinstance(extra, dict) else _NOTHING)


def arguments_of(text: JsonValue) -> JsonDict:
    """Return a call's arguments as an object, which other providers want; anything else is wrapped in one."""
    if text is None or (isinstance(text, str) and is_blank(text)):
        return {}
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can't be encoded
    except (TypeError, ValueError, RecursionError):
        value = text  # broken JSON of the model, which must see its own text again
    return value if isinstance(value, dict) else {"arguments": value}


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _result(index: int, message: JsonObject, talk: Conversation) -> ToolResult:
    key = message.get("tool_call_id")
    if not isinstance(key, str) or key not in talk.ids:
        raise _bad(f"No tool call before this result has the id {key!r}.", f"messages.{index}.tool_call_id")
    return ToolResult(talk.ids[key], talk.names[talk.ids[key]], text_of(message.get("content")))


def signature_of(extra: JsonObject, provider: str, name: str) -> JsonValue:
    """Return a value of a provider's `extra_content`; None if the client did not return it."""
    kept = extra.get(provider)
    return kept.get(name) if isinstance(kept, dict) else None


# Which tools the model may call.


@dataclass(frozen=True, slots=True)
class Offer:
    functions: Sequence[JsonObject] = ()
    choice: str = "auto"  # auto | required | none
    only: str | None = None  # the one function that must be called

    @property
    def strict(self) -> bool:
        return any(function.get("strict") for function in self.functions)


NO_OFFER = Offer(choice="none")


def offer_of(body: JsonObject) -> Offer:
    """Return the tools that a request offers, and which of them it requires. Raises `bad_request` naming the field."""
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


def _function(tool: JsonObject) -> JsonObject:
    function = tool.get("function")
    return function if isinstance(function, dict) else _NOTHING


def _offered(name: JsonValue, functions: Sequence[JsonObject]) -> str:
    if any(f["name"] == name for f in functions):
        return str(name)
    raise _bad(f"'tool_choice' names the function {name!r}, which 'tools' does not offer.", "tool_choice")


def call_limit(body: JsonObject) -> int | None:
    """Return how many tool calls an answer may hold; None for any number.

    Neither Converse nor Gemini has a parameter for it, so the codec of the answer keeps the limit.
    """
    if not body.get("tools") or body.get("tool_choice") == "none":
        return 0
    return 1 if body.get("parallel_tool_calls") is False else None


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, param=param)
