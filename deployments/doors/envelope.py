"""The envelope in which a provider's own data travels through clients of other APIs. Pure.

Vendors sign their reasoning, and want the signatures back with the next turn. Here they are `extra_content` of a
message and of its calls. Clients of other APIs keep no field that they do not know, but each of those APIs has one
opaque field that all of them send back: `encrypted_content` of reasoning items, `signature` of thinking blocks.

The envelope is no secret and proves nothing. A client may send back whatever it likes, so it is checked like all that
clients send; the provider itself proves its signatures.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field

import orjson

from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.strict_json.quick import check_depth

_MARK = "bw1."
LONGEST = 4 * 1024 * 1024  # characters: a signature has kilobytes
# A body may have so many values, and what is in an envelope is none of them. One for so many bytes is plenty: what
# vendors sign is long texts.
_FEW_VALUES, _BYTES_A_VALUE = 32, 32
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


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


def is_sealed(text: JsonValue) -> bool:
    """Return whether a text is an envelope of ours, damaged or not."""
    return isinstance(text, str) and text.startswith(_MARK)


def unseal(text: JsonValue) -> Envelope | None:
    """Return the envelope in a text; None if it is none of ours, or damaged."""
    if not isinstance(text, str) or not text.startswith(_MARK) or len(text) > LONGEST:
        return None
    try:
        sealed = base64.b64decode(text[len(_MARK) :], validate=True)
        if _values_in(sealed) > _FEW_VALUES + len(sealed) // _BYTES_A_VALUE:
            return None
        check_depth(data := orjson.loads(sealed))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    message, calls = data.get("message"), data.get("calls")
    if not (isinstance(message, dict) and isinstance(calls, dict)):
        return None
    return Envelope(message, calls) if all(map(_is_extra, (message, *calls.values()))) else None


def _values_in(data: bytes) -> int:
    """Return about how many values are in some JSON."""
    rest = _TEXTS.sub(b"", data)
    return sum(map(rest.count, (b",", b"{", b"[")))


def _is_extra(value: JsonValue) -> bool:
    """Return whether it can be `extra_content`: an object for each kind of provider."""
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def merged(first: JsonObject, second: JsonObject) -> JsonDict:
    """Return both extras of one message. What repeats is taken from the second; lists are joined."""
    joined: JsonDict = {}
    absorb(joined, first)
    absorb(joined, second)
    return joined


def absorb(own: JsonDict, more: JsonObject) -> None:
    """Put an extra into one that began empty: the same as `merged`, at the price of what is new."""
    for kind, part in more.items():
        if not isinstance(part, dict):
            own[kind] = part
            continue
        if not isinstance(held := own.get(kind), dict):
            held = own[kind] = {}
        for name, value in part.items():
            if not isinstance(value, list):
                held[name] = value
            elif isinstance(joined := held.get(name), list):
                joined += value
            else:
                held[name] = list(value)
