"""An OpenAI conversation as other providers want it: two sides that take turns. Pure.

System prompts are separate. Neighbouring messages of one side form one turn, results of tools belong to the user's
side, and blank text is left out. A conversation that the assistant opens gets an opening from the user. A result holds
the name of its function, which OpenAI leaves to the id of its call.

Other vendors want one result for each call, in the turn after it, before all else that the user says there (Anthropic,
Handle tool calls; Google, Function calling). Histories of agents are not always so: a run was stopped, a submission was
sent again, an id is used for every call. So results are put where their calls are, in the order of the calls:

- Two results of one call become one, which holds both; the same twice counts once. Others keep the first
  (NousResearch/hermes-agent#58327) or the last (router-for-me/CLIProxyAPI#4998), and lose the other.
- A call without a result gets one that says so. OpenAI itself refuses such a history.

`extra_content` holds data that only the answer's own provider understands (a signature of its reasoning). A client
returns it with the message or the call that it belongs to.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.cache_marks import mark_in
from deployments.openai_api.capabilities import Unsupported
from deployments.openai_api.images import data_of, file_name_of, file_url_of, format_of, type_of, url_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.message_fields import IS_ERROR, is_blank

OPENING = "(The conversation begins.)"
NO_RESULT = "(This call has no result.)"

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
class Document:
    form: str  # "pdf", "txt", ...
    name: str  # as the client has called it; it may be empty
    data: bytes


Media = Image | Document


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: JsonDict
    extra: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CachePoint:
    """A mark of a prompt cache, behind what it covers."""

    mark: JsonObject


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A result: texts, images and documents in their order. No two texts are neighbours."""

    id: str
    name: str
    parts: tuple[str | Media, ...]
    point: CachePoint | None = None
    is_error: bool = False

    @property
    def text(self) -> str:
        """Return its text without all else."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def media(self) -> list[Media]:
        return [part for part in self.parts if not isinstance(part, str)]


Item = str | Signed | Media | ToolCall | ToolResult | CachePoint


@dataclass(slots=True)
class Turn:
    side: Literal["user", "assistant"]
    items: list[Item]


@dataclass(slots=True)
class Conversation:
    """The system prompts, each in the pieces that its marks of a cache make, and the turns."""

    system: list[list[Item]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # the name of the called function, by the id of the call
    ids: dict[str, list[str]] = field(default_factory=dict)  # a client's id, and the ids that its last calls have here
    results: dict[str, ToolResult] = field(default_factory=dict)  # by the id of the call

    def take(self, side: Literal["user", "assistant"], items: list[Item]) -> None:
        if not items:
            return
        if self.turns and self.turns[-1].side == side:
            self.turns[-1].items += items
            return
        if side == "assistant" and not self.turns:
            self.turns.append(Turn("user", [OPENING]))
        self.turns.append(Turn(side, items))

    def take_result(self, result: ToolResult) -> None:
        """Note a result. It ends the turn of its call."""
        before = self.results.get(result.id)
        if before is not None:
            parts = result.parts
            if before.parts != parts:
                parts = _joined([*before.parts, "\n\n", *parts])
            failed_once = result.is_error or before.is_error
            result = replace(result, parts=parts, point=result.point or before.point, is_error=failed_once)
        self.results[result.id] = result
        if (last := self.turns[-1]).side == "assistant" and any(
            isinstance(item, ToolCall) and item.id == result.id for item in last.items
        ):
            self.turns.append(Turn("user", []))

    def place_results(self) -> None:
        """Put a result of each call at the head of the turn after it."""
        for at in range(len(self.turns) - 1, -1, -1):
            turn = self.turns[at]
            calls = [item for item in turn.items if isinstance(item, ToolCall)]
            if turn.side == "user" or not calls:
                continue
            if at + 1 == len(self.turns):
                self.turns.append(Turn("user", []))
            given = [self.results.get(c.id) or ToolResult(c.id, c.name, (NO_RESULT,)) for c in calls]
            self.turns[at + 1].items[:0] = given


def refuse_unfit(unsupported: Unsupported, target: str) -> None:
    """Raise `unsupported` for the first field that the target does not support, if any."""
    if unsupported.missing:
        param = unsupported.missing[0]
        raise failed("unsupported", f"{target} does not support '{param}' in this request.", param=param)


def read(messages: Sequence[JsonObject]) -> Conversation:
    """Return the conversation of a request that `fit` has accepted. Raises `bad_request` that names the field."""
    talk = Conversation()
    for index, message in enumerate(messages):
        match message["role"]:
            case "user":
                talk.take("user", _marked(_parts(index, message.get("content")), message))
            case "assistant":
                talk.take("assistant", _marked(_assistant_items(index, message, talk), message))
            case "tool":
                talk.take_result(_result(index, message, talk))
            case _:
                talk.system += _system(message)
    if talk.names:
        talk.place_results()
    return talk


def _marked(items: list[Item], thing: JsonObject) -> list[Item]:
    """Return the items with a message's own mark behind them."""
    mark = mark_in(thing)
    return items if mark is None or not items else [*items, CachePoint(mark)]


def _system(message: JsonObject) -> list[list[Item]]:
    content = message.get("content")
    parts = [{"text": content}] if isinstance(content, str) else content or ()
    pieces: list[Item] = [""]
    for part in parts:
        text = str(part.get("text") or "")
        pieces[-1] = f"{pieces[-1]}{text}"
        if (mark := mark_in(part)) is not None and not is_blank(text):
            pieces += [CachePoint(mark), ""]
    if (mark := mark_in(message)) is not None:
        pieces.append(CachePoint(mark))
    kept = [piece for piece in pieces if not isinstance(piece, str) or not is_blank(piece)]
    return [kept] if any(isinstance(piece, str) for piece in kept) else []


def _parts(index: int, content: JsonValue) -> list[Item]:
    if content.__class__ is str or not content:
        return [] if is_blank(content) else [content]
    items: list[Item] = []
    for part in content:
        if part["type"] in _MEDIA:
            items.append(_MEDIA[part["type"]](index, part))
        elif not is_blank(text := part.get("text") or part.get("refusal")):
            items.append(str(text))
        else:
            continue
        if (mark := mark_in(part)) is not None:
            items.append(CachePoint(mark))
    return items


def _image(index: int, part: JsonObject) -> Image:
    url = url_of(part)
    try:
        return Image(type_of(url) or "", data_of(url))
    except ValueError:
        raise _bad("The image is not valid base64.", f"messages.{index}.content") from None


def _document(index: int, part: JsonObject) -> Document:
    try:
        return Document(format_of(part) or "", file_name_of(part), data_of(file_url_of(part)))
    except ValueError:
        raise _bad("The file is not valid base64.", f"messages.{index}.content") from None


_MEDIA: Mapping[str, Callable[[int, JsonObject], Media]] = {"image_url": _image, "file": _document}


def _assistant_items(index: int, message: JsonObject, talk: Conversation) -> list[Item]:
    items = _parts(index, message.get("content"))
    if not is_blank(refusal := message.get("refusal")):
        items.append(str(refusal))
    extra = message.get("extra_content")
    last = next((at for at in range(len(items) - 1, -1, -1) if isinstance(items[at], str)), None)
    if extra and isinstance(extra, dict) and last is not None:
        items[last] = Signed(str(items[last]), extra)
    ids: dict[str, list[str]] = {}
    for call in message.get("tool_calls") or ():
        made = _call(index, call)
        key = made.id
        if key in talk.names:  # some servers count from 0 in each answer
            made = replace(made, id=f"{key}-{len(talk.names)}")
        ids.setdefault(key, []).append(made.id)
        talk.names[made.id] = made.name
        items.append(made)
    talk.ids |= ids
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
    key, content = message.get("tool_call_id"), message.get("content")
    if not isinstance(key, str) or key not in talk.ids:
        raise _bad(f"No tool call before this result has the id {key!r}.", f"messages.{index}.tool_call_id")
    # One message may have several calls of one id: their results come in the order of the calls.
    made = next((one for one in talk.ids[key] if one not in talk.results), talk.ids[key][-1])
    parts: list[str | Media] = [content] if isinstance(content, str) else []
    mark = mark_in(message)
    for part in content if isinstance(content, list) else ():
        read = _MEDIA.get(part["type"])
        parts.append(read(index, part) if read else str(part.get("text") or ""))
        mark = mark_in(part) or mark
    point = None if mark is None else CachePoint(mark)
    return ToolResult(made, talk.names[made], _joined(parts), point, message.get(IS_ERROR) is True)


def _joined(parts: Sequence[str | Media]) -> tuple[str | Media, ...]:
    """Return the parts with neighbouring texts as one, and without blank ones."""
    joined: list[str | Media] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(before := joined[-1], str):
            joined[-1] = before + part
        else:
            joined.append(part)
    return tuple(part for part in joined if not isinstance(part, str) or not is_blank(part))


def signature_of(extra: JsonObject, provider: str, name: str) -> JsonValue:
    """Return a value of a provider's `extra_content`; None if the client did not return it."""
    kept = extra.get(provider)
    return kept.get(name) if isinstance(kept, dict) else None


def _bad(message: str, param: str) -> AttemptFailed:
    return failed("bad_request", message, status=400, param=param)
