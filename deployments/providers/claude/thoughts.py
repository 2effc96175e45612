"""Thoughts that Claude has signed, as clients bring them back in `extra_content`. Pure.

A signature goes back to the kind of provider that told it. It also holds on the other platforms that serve the same
model (Anthropic, Extended thinking: signatures are compatible across platforms). Redacted thoughts are not said to be,
and thoughts are taken whole or not at all. From 5.1 on thoughts are bound to what stood before them, and some to an
account (Anthropic, Preserved thinking): they stay where they were told.
"""

import re
from functools import lru_cache

from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.claude.thinking import version_in
from deployments.providers.translation.conversation import signature_of

_BOUND = (5, 1)
# Anthropic, Extended thinking; Preserved thinking: thoughts that are refused. Any platform may pass its words on.
REFUSED_THOUGHTS = (
    r"invalid `?signature`? in `?thinking|bound to a different conversation",
    r"`?(?:redacted_)?thinking`? blocks .{0,80}(?:cannot|can't|can not) be modified",
)
_REFUSED = re.compile("|".join(REFUSED_THOUGHTS), re.IGNORECASE)
_AS_TOLD = "messages"  # in `extra_content`, of thoughts as clients of Anthropic's API got them: see `doors/messages`


@lru_cache(maxsize=1024)
def signer_of(model: str) -> str | None:
    """Return the name of a model whose signatures hold wherever it is served; None if there is no such."""
    if (found := version_in(model)) is None or found[1] >= _BOUND:
        return None
    family, (major, minor) = found
    return f"{family}-{major}.{minor}"


def thoughts_for(kind: str, model: str, extra: JsonObject) -> list[JsonObject]:
    """Return the signed thoughts of an `extra_content` that a model takes: its kind's own, or those of its twin.

    Each is `{text, signature}` or `{redacted}`. What a client has spoiled is left out.
    """
    own = _blocks(signature_of(extra, kind, "reasoning"))
    if own or (signer := signer_of(model)) is None:
        return own
    for other in extra:
        blocks = _blocks(signature_of(extra, other, "reasoning"))
        is_theirs = other == _AS_TOLD or signature_of(extra, other, "signer") == signer
        if blocks and is_theirs and not any("redacted" in b for b in blocks):
            return blocks
    return []


def refuses_thoughts(message: str) -> bool:
    """Return whether an error is about thoughts of earlier answers: they are no part of what was said."""
    return _REFUSED.search(message) is not None


def without_signed(body: JsonObject) -> JsonObject:
    """Return a chat without what its earlier answers have signed; the same object if there is nothing."""
    messages = [_bare(message) for message in body["messages"]]
    return (
        body if all(a is b for a, b in zip(messages, body["messages"], strict=True)) else {**body, "messages": messages}
    )


def _bare(message: JsonObject) -> JsonObject:
    calls = message.get("tool_calls")
    held = [message, *(calls if isinstance(calls, list) else ())]
    if not any("extra_content" in one for one in held):
        return message
    bare, *others = ({name: value for name, value in one.items() if name != "extra_content"} for one in held)
    return {**bare, "tool_calls": others} if isinstance(calls, list) else bare


def signed_block(kept: JsonObject) -> JsonDict:
    """Return kept thoughts as a block of Anthropic's API."""
    if "redacted" in kept:
        return {"type": "redacted_thinking", "data": kept["redacted"]}
    return {"type": "thinking", "thinking": kept["text"], "signature": kept["signature"]}


def _blocks(kept: object) -> list[JsonObject]:
    found: list[JsonObject] = []
    for block in kept if isinstance(kept, list) else ():
        match block:
            case {"text": str(), "signature": str()} | {"redacted": str()}:
                found.append(block)
    return found
