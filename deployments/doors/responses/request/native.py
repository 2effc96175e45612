"""A request for a target that is asked by the Responses API too: the client's own, as far as it may go on. Pure.

What its model does not take of a chat (sampling, limits, efforts) is left out here as well. An envelope of ours is
opened: its vendor's adapter alone knows what is in there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.doors.envelope import is_sealed, unseal
from deployments.doors.responses.request.schema import kind_of_item
from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

OPENED = "extra_content"  # the type of an item that stands for an envelope
_LOGPROBS = "message.output_text.logprobs"
# What a request demands, and what stands in its chat by another name.
_OWN = frozenset({"input", "instructions", "tools", "tool_choice", "include", "reasoning", "text", "max_output_tokens"})
# What its server is told by its adapter, and what was refused.
_GONE = frozenset({"model", "store", "stream", "background", "previous_response_id", "conversation", "prompt"})
# Fields of a chat alone.
_CHATS = frozenset({"messages", "max_completion_tokens", "response_format", "logprobs", "stream_options"}) | {
    *("reasoning_effort", "verbosity"),
}
_NOT_THE_SAME = _OWN | _GONE | _CHATS
_HELD = {"reasoning": frozenset({"effort"}), "text": frozenset({"format", "verbosity"})}
_INSIDE = {"reasoning_effort": ("reasoning", "effort"), "verbosity": ("text", "verbosity")}


@dataclass(slots=True)
class NativeRequest:
    """`_body` is the client's request, and `_chat` the chat that was made of it. See `chat.Native`."""

    _body: JsonObject
    _chat: JsonObject
    demands: Mapping[str, str]
    lost: Sequence[str]
    hosted: bool
    api: str = "responses"

    def left_out(self) -> list[str]:
        items, body = self._body["input"], self._body
        unread = [f"input.{at}" for at, item in enumerate(_list(items)) if _is_unread(item)]
        stored = ["store"] if body.get("store") is True else []
        padded = not body.get("stream") and says_something(body.get("stream_options"))
        return [*unread, *stored, *(["stream_options"] if padded else [])]

    def extras(self) -> JsonDict:
        found: JsonDict = {}
        for name, value in self._body.items():
            if name in _HELD and isinstance(value, dict):
                found |= {f"{name}.{inner}": one for inner, one in value.items() if inner not in _HELD[name]}
            elif name == "stream_options":
                found |= {name: value} if self._body.get("stream") else {}
            elif not (name in _OWN or name in _GONE or name in self._chat):
                found[name] = value
        return {name: value for name, value in found.items() if value is not None}

    def body(self, chat: JsonObject, extras: JsonObject) -> JsonDict:
        body, given = self._body, self._body["input"]
        made: JsonDict = {"input": given if isinstance(given, str) else [_opened(item) for item in given]}
        made |= {name: body[name] for name in ("instructions", "tools", "tool_choice") if body.get(name) is not None}
        made |= {name: chat[name] for name in body if name in chat and name not in _NOT_THE_SAME}
        for name, value in extras.items():
            _put(made, name.partition(".") if name.partition(".")[0] in _HELD else (name, "", ""), value)
        for name, (holder, inner) in _INSIDE.items():
            if name in chat:
                _put(made, (holder, ".", inner), chat[name])
        if "response_format" in chat:
            _put(made, ("text", ".", "format"), body["text"]["format"])
        if (most := chat.get("max_completion_tokens")) is not None:
            made["max_output_tokens"] = most
        if include := [one for one in body.get("include") or () if one != _LOGPROBS or chat.get("logprobs")]:
            made["include"] = include
        return made


def _put(made: JsonDict, place: tuple[str, str, str], value: JsonValue) -> None:
    holder, _, inner = place
    if inner:
        made.setdefault(holder, {})[inner] = value
    else:
        made[holder] = value


def _list(items: JsonValue) -> Sequence[JsonObject]:
    return items if isinstance(items, list) else ()


def _opened(item: JsonObject) -> JsonObject:
    """Return an item as it goes on. Where nothing of reasoning can, an empty envelope stands for it.

    OpenAI refuses a `status` where its types have none, and SDKs write one into what they send back
    (BerriAI/litellm#13420).
    """
    kind = kind_of_item(item)
    if kind == "custom_tool_call":
        return {name: value for name, value in item.items() if name != "status"}
    if kind != "reasoning":
        return item
    sealed = item.get("encrypted_content")
    if sealed and not is_sealed(sealed):
        return {name: value for name, value in item.items() if name != "status" and value is not None}
    envelope = unseal(sealed)
    return {"type": OPENED, OPENED: {} if envelope is None else envelope.message}


def _is_unread(item: JsonObject) -> bool:
    """Return whether it is reasoning of which nothing goes on: its content is not there, or in a damaged envelope.

    Without it a server would look for the item among what it has stored.
    """
    if kind_of_item(item) != "reasoning":
        return False
    sealed = item.get("encrypted_content")
    return not sealed or (is_sealed(sealed) and unseal(sealed) is None)
