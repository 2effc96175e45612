"""A request for a target that is asked by the Messages API too: the client's own, as far as it may go on. Pure.

Each field goes on as it came, and so does each block, but for thoughts in an envelope of ours: its vendor's adapter
alone knows what is in there, and Anthropic must never get the envelope. What its model does not take of a chat
(sampling, limits, efforts) is left out here as well.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployments.doors.envelope import is_sealed, unseal
from deployments.openai_api.chat import max_tokens_of
from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

OURS = "extra_content"  # of the body: what its adapter is told. As the type of a block: what an envelope held.
_BETA = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")
_MOST_BETAS = 32
_HEADER = "anthropic-beta"
# Fields that go on as they are, or as the chat has them. All others are hints.
_GONE = frozenset({"model", "stream", OURS})
_DEMANDED = frozenset({"messages", "system", "tools", "container", "mcp_servers", "compaction"})
_CHATS: Mapping[str, str] = {"stop_sequences": "stop", **{name: name for name in ("temperature", "top_p", "top_k")}}
_OF_CHAT = frozenset({"max_tokens", "tool_choice", "thinking", "output_config", "output_format", *_CHATS})
_NOT_EXTRA = _GONE | _DEMANDED | _OF_CHAT
# Of these fields some inner ones are in the chat, and the others are hints.
_HELD = {"thinking": frozenset({"type", "budget_tokens"}), "output_config": frozenset({"effort", "format"})}
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True)
class Betas:
    """What a client wants of Anthropic's that is not out yet: page "Beta headers". `odd`: some can't go on."""

    names: tuple[str, ...] = ()
    odd: bool = False


NO_BETAS = Betas()


def betas_in(headers: Iterable[tuple[str, str]]) -> Betas:
    """Return the betas that a request names. A header may be there several times, with several names each."""
    given = [one.strip() for name, value in headers if name == _HEADER for one in value.split(",")]
    if not given:
        return NO_BETAS
    names = dict.fromkeys(one for one in given if _BETA.fullmatch(one))
    odd = len(names) > _MOST_BETAS or any(one and one not in names for one in given)
    return Betas(tuple(names)[:_MOST_BETAS], odd)


@dataclass(slots=True)
class NativeRequest:
    """`_body` is the client's request, and `_chat` the chat that was made of it. See `chat.Native`."""

    _body: JsonObject
    _chat: JsonObject
    demands: Mapping[str, str]
    lost: Sequence[str]
    hosted: bool
    _betas: Betas
    api: str = "messages"

    def left_out(self) -> list[str]:
        unread = [
            f"messages.{at}.content.{inner}"
            for at, message in enumerate(self._body["messages"])
            for inner, block in _thoughts_in(message)
            if _is_unread(block)
        ]
        ours = [OURS] if says_something(self._body.get(OURS)) else []  # the word is taken
        return [*unread, *ours, *([_HEADER] if self._betas.odd else [])]

    def extras(self) -> JsonDict:
        found: JsonDict = {}
        for name, value in self._body.items():
            if name in _HELD and isinstance(value, dict):
                found |= {f"{name}.{inner}": one for inner, one in value.items() if inner not in _HELD[name]}
            elif name not in _NOT_EXTRA:
                found[name] = value
        betas = {name: True for name in self._betas.names if name not in self._body}
        return {name: value for name, value in found.items() if value is not None} | betas

    def body(self, chat: JsonObject, extras: JsonObject) -> JsonDict:
        made: JsonDict = {}
        for name, value in self._body.items():
            if name in _HELD and isinstance(value, dict):
                made |= self._held(name, value, chat, extras)
            elif name == "messages":
                made[name] = [_opened(message) for message in value]
            elif name == "max_tokens":
                made[name] = max_tokens_of(chat)
            elif name == "tool_choice":
                made[name] = self._choice(value, chat)
            elif name == "output_format" and "response_format" not in chat:
                continue
            elif name in _CHATS:
                made |= {name: chat[_CHATS[name]]} if _CHATS[name] in chat else {}
            elif name in extras or (name in _NOT_EXTRA and name not in _GONE):
                made[name] = value
        told = {"betas": [name for name in self._betas.names if name in extras and name not in self._body]}
        made[OURS] = told | {"effort": chat.get("reasoning_effort")}
        return {name: value for name, value in made.items() if value is not None}

    def _held(self, name: str, value: JsonObject, chat: JsonObject, extras: JsonObject) -> JsonDict:
        """Return a field with what of it is in the chat, and with its hints."""
        thinks, limit = "reasoning_effort" in chat, max_tokens_of(chat)
        if name == "thinking" and not thinks:
            return {}
        kept: JsonDict = {}
        for inner, one in value.items():
            if inner not in _HELD[name]:
                kept |= {inner: one} if f"{name}.{inner}" in extras else {}
            elif inner == "effort":
                kept |= {inner: self._effort(one, chat)} if thinks else {}
            elif inner == "format":
                kept |= {inner: one} if "response_format" in chat else {}
            elif inner == "budget_tokens" and limit != self._body["max_tokens"] and limit is not None:
                kept[inner] = min(one, limit - 1)  # Anthropic, Extended thinking: it must be below the limit
            else:
                kept[inner] = one
        return {name: kept} if kept or not value else {}

    def _effort(self, effort: JsonValue, chat: JsonObject) -> JsonValue:
        """Return the effort, or the nearest that the model was found to take."""
        wanted = chat["reasoning_effort"]
        return effort if wanted == self._chat.get("reasoning_effort") else wanted

    def _choice(self, choice: JsonValue, chat: JsonObject) -> JsonValue:
        refused = "parallel_tool_calls" in self._chat and "parallel_tool_calls" not in chat
        if not (refused and isinstance(choice, dict)):
            return choice
        return {name: value for name, value in choice.items() if name != "disable_parallel_tool_use"}


def _thoughts_in(message: JsonObject) -> Iterable[tuple[int, JsonObject]]:
    content = message["content"]
    if message["role"] != "assistant" or not isinstance(content, list):
        return ()
    return [(at, block) for at, block in enumerate(content) if block["type"] in _THOUGHTS or block["type"] == OURS]


def _proof_of(block: JsonObject) -> JsonValue:
    return block.get("data") if block["type"] == "redacted_thinking" else block.get("signature")


def _is_unread(block: JsonObject) -> bool:
    """Return whether nothing of thoughts goes on: nobody has signed them, or their envelope is damaged."""
    proof = _proof_of(block)
    if block["type"] == OURS:
        return True
    lost = not proof or (is_sealed(proof) and unseal(proof) is None)
    return lost and (says_something(block.get("thinking")) or says_something(block.get("data")))


def _opened(message: JsonObject) -> JsonObject:
    """Return a message as it goes on: the same object, unless it has thoughts that must not go on as they are."""
    changed = dict[int, JsonObject]()
    for at, block in _thoughts_in(message):
        proof = _proof_of(block)
        if not proof or is_sealed(proof) or block["type"] == OURS:
            envelope = unseal(proof)
            held = {} if envelope is None else {"message": envelope.message, "calls": envelope.calls}
            changed[at] = {"type": OURS, OURS: held}
    if not changed:
        return message
    return {**message, "content": [changed.get(at, block) for at, block in enumerate(message["content"])]}
