"""The envelope in which a provider's own data travels through clients of other APIs. Pure.

Vendors sign their reasoning, and want the signatures back with the next turn. Here they are `extra_content` of a
message and of its calls. Clients of other APIs keep no field that they do not know, but each of those APIs has one
opaque field that all of them send back: `encrypted_content` of reasoning items, `signature` of thinking blocks.

The envelope is no secret and proves nothing. A client may send back whatever it likes, so it is checked like all that
clients send; the provider itself proves its signatures.
"""

import base64
import binascii
from dataclasses import dataclass, field

import orjson

from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

_MARK = "bw1."
LONGEST = 4 * 1024 * 1024  # characters: a signature has kilobytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """`extra_content` of a message, and of its calls by their ids."""

    message: JsonObject = field(default_factory=dict)
    calls: JsonObject = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.message or self.calls)


def seal(envelope: Envelope) -> str:
    """Return the envelope as a text."""
    data = dump({"message": envelope.message, "calls": envelope.calls})
    return _MARK + base64.b64encode(data).decode()


def unseal(text: JsonValue) -> Envelope | None:
    """Return the envelope in a text; None if it is none of ours, or damaged."""
    if not isinstance(text, str) or not text.startswith(_MARK) or len(text) > LONGEST:
        return None
    try:
        data = orjson.loads(base64.b64decode(text[len(_MARK) :], validate=True))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    message, calls = data.get("message"), data.get("calls")
    if not (isinstance(message, dict) and isinstance(calls, dict)):
        return None
    return Envelope(message, calls) if all(map(_is_extra, (message, *calls.values()))) else None


def _is_extra(value: JsonValue) -> bool:
    """Return whether it can be `extra_content`: an object for each kind of provider."""
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def merged(first: JsonDict, second: JsonObject) -> JsonDict:
    """Return both extras of one message. What repeats is taken from the second; lists are joined."""
    joined = dict(first)
    for kind, part in second.items():
        old = joined.get(kind)
        joined[kind] = _joined(old, part) if isinstance(old, dict) and isinstance(part, dict) else part
    return joined


def _joined(old: JsonObject, new: JsonObject) -> JsonDict:
    both: JsonDict = dict(old)
    for name, value in new.items():
        both[name] = [*both[name], *value] if isinstance(value, list) and isinstance(both.get(name), list) else value
    return both
