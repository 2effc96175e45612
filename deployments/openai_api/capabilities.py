"""Which fields of a chat request a kind of provider does not support, before any provider is asked. Pure.

An unsupported field is one of two classes. The answer depends on a `missing` field: a client that sent tools must not
get an answer without them. A `dropped` field is a hint: the answer is the same kind of answer without it, so it is left
out, and the answer's client is told. A field that we do not know counts as missing.

The providers' codecs refuse requests by the same function, so the plan and a provider can't disagree. It never judges
whether a request is valid. It is on the hot path.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.openai_api.json_types import JsonObject, JsonValue

Check = Callable[[JsonValue], bool | None]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The fields that a kind of provider does not support, by their paths: `tools`, `messages.2.content`.

    Attributes:
        missing: the answer depends on them.
        dropped: hints, which the provider's request leaves out.
    """

    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of provider supports of a chat request. Each row of `providers/kinds.py` holds one.

    Attributes:
        carries: the fields that it supports with any value.
        checks: by field, whether it supports a value: True, False, or None for a value that is left out.
        images: the media subtypes of images that its models can read.
        needs_turn: a request must have more than a system prompt.
    """

    carries: frozenset[str]
    checks: Mapping[str, Check]
    images: frozenset[str] = frozenset()
    needs_turn: bool = True


def find_unsupported(able: Capabilities | None, body: JsonObject) -> Unsupported:
    """Return the fields of a checked request that a kind of provider does not support.

    `able` are the kind's capabilities; None for a kind to which each field passes through.
    """
    if able is None:
        return _NOTHING
    missing: list[str] = []
    dropped: list[str] = []
    for name, value in body.items():
        if name not in able.carries and not _is_default(name, value):
            check = able.checks.get(name)
            supported = check(value) if check else (None if name in HINTS else False)
            if supported is None:
                dropped.append(name)
            elif not supported:
                missing.append(name)
    _check_messages(body["messages"], able, missing, dropped)
    return Unsupported(tuple(missing), tuple(dropped)) if missing or dropped else _NOTHING


HINTS = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "seed", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort"),
        *("presence_penalty", "frequency_penalty", "parallel_tool_calls"),
        # How a model samples is its own affair: not each has such a knob, and some servers have more than OpenAI.
        *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    }
)

_NOTHING = Unsupported()

_DEFAULTS: Mapping[str, tuple[JsonValue, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "function_call": ("none",),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "verbosity": ("medium",),
    "web_search_options": (),
}


def _is_default(name: str, value: JsonValue) -> bool:
    if value is None or value in _DEFAULTS.get(name, ()):
        return True
    return value in ([], {}) and name != "web_search_options"  # an empty object still demands a search


# One check for each field of which only some values are supported.


def _functions_only(tools: JsonValue) -> bool:
    return isinstance(tools, list) and all(isinstance(t, dict) and t.get("type") == "function" for t in tools)


def _known_choice(choice: JsonValue) -> bool:
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        some = isinstance(allowed, dict) and _functions_only(allowed.get("tools"))
        return (choice.get("type") == "function" and isinstance(choice.get("function"), dict)) or (
            choice.get("type") == "allowed_tools" and some
        )
    return choice in ("auto", "none", "required")


def is_json_schema(wanted: JsonValue) -> bool:
    """Return whether `response_format` has a schema."""
    schema = wanted.get("json_schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    return isinstance(schema, dict) and isinstance(schema.get("schema"), dict)


def is_any_json(wanted: JsonValue) -> bool:
    """Return whether `response_format` demands JSON, with or without a schema."""
    return is_json_schema(wanted) or (isinstance(wanted, dict) and wanted.get("type") == "json_object")


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


COMMON_FIELDS = frozenset({"model", "messages", "stream", "stream_options", "top_p", "stop"}) | {
    *("max_tokens", "max_completion_tokens")
}
TOOL_CHECKS: Mapping[str, Check] = {"tools": _functions_only, "tool_choice": _known_choice}


# Messages.

# Few and short parameters only: the regex engine keeps over a hundred bytes for each.
IMAGE = re.compile(r"data:image/([a-z.+-]{1,32})(?:;[^;,]{0,128}){0,8};base64,", re.IGNORECASE)

_KNOWN = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}


def is_blank(text: JsonValue) -> bool:
    """Return whether a model could read nothing in it."""
    return not text or not isinstance(text, str) or text.isspace()


def _check_messages(messages: JsonValue, able: Capabilities, missing: list[str], dropped: list[str]) -> None:
    has_turn = not able.needs_turn
    for index, message in enumerate(messages):
        role, content = message["role"], message.get("content")
        if role == "assistant":
            if (field := _foreign_field(message)) is not None:
                missing.append(f"messages.{index}.{field}")
        elif role == "function":
            missing.append(f"messages.{index}.role")
        elif len(message) > 2:
            dropped += [f"messages.{index}.{k}" for k, v in message.items() if k not in _KNOWN[role] and v is not None]
        if content.__class__ is list:
            _check_parts(index, role, content, able, missing, dropped)
        has_turn = has_turn or _is_turn(message)
    if not has_turn:
        missing.append("messages")


def _foreign_field(message: JsonObject) -> str | None:
    """Return a field of an earlier answer that only its own kind of provider can take back; None without one.

    Other fields that we do not know are an echo of the answer, and no demand.
    """
    for field in ("audio", "function_call"):
        if message.get(field):
            return field
    calls = message.get("tool_calls")
    return "tool_calls" if calls and not _are_functions(calls) else None


def _are_functions(calls: JsonValue) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, dict) and call.get("type", "function") == "function" for call in calls
    )


def _check_parts(
    index: int, role: str, parts: list[JsonValue], able: Capabilities, missing: list[str], dropped: list[str]
) -> None:
    for at, part in enumerate(parts):
        kind = part.get("type")
        if kind == "text" or (kind == "refusal" and role == "assistant"):
            continue
        if kind != "image_url" or role != "user" or not _can_read(able, url_of(part)):
            missing.append(f"messages.{index}.content")
            return
        image = part["image_url"]
        if isinstance(image, dict) and image.get("detail") not in (None, "auto"):
            dropped.append(f"messages.{index}.content.{at}.image_url.detail")


def url_of(part: JsonObject) -> str:
    """Return the URL of an image part; empty if it has none."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    return url if isinstance(url, str) else ""


def _can_read(able: Capabilities, url: str) -> bool:
    found = IMAGE.match(url) if able.images else None
    return found is not None and found.group(1).lower() in able.images


def _is_turn(message: JsonObject) -> bool:
    """Return whether it is a turn of the conversation that is not blank."""
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return False
    if content.__class__ is str and not is_blank(content):
        return True
    if role == "tool" or message.get("tool_calls") or (role == "assistant" and not is_blank(message.get("refusal"))):
        return True
    parts = content if isinstance(content, list) else []
    return any(p.get("type") == "image_url" or not is_blank(p.get("text") or p.get("refusal")) for p in parts)
