"""What each kind of provider makes of a request, said before anybody is asked. Pure, and on the hot path.

There are three classes of fields. What a kind carries is not mentioned. What the answer depends on
and the kind can't do is `missing`: whoever asked for tools must not get an answer without them. The
rest are hints: an answer without them is still the answer that was asked for, so they are `dropped`,
and that is said. A field that nobody knows yet counts as one that the answer depends on.

The codecs refuse by this same word, so plan and provider can't disagree. It judges what a kind can
do, never whether a request is well made.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fit:
    """Names are the request's own: `tools`, `messages.2.content`."""

    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind of provider can do with a chat request: a row of `providers/kinds.py` holds one."""

    carries: frozenset[str]
    checks: Mapping[str, Callable[[Any], bool | None]]
    images: frozenset[str] = frozenset()  # the types it can see
    needs_turn: bool = True  # a system prompt alone is no request


def fit(able: Capabilities | None, body: Mapping[str, Any]) -> Fit:
    """Return what a kind of provider can't do with a checked request, and what it leaves out.

    `able` are the kind's capabilities; None for a kind to which each field passes through.
    """
    if able is None:
        return _WHOLE
    missing: list[str] = []
    dropped: list[str] = []
    for name, value in body.items():
        if name not in able.carries and not _asks_nothing(name, value):
            check = able.checks.get(name)
            # A check says False for what can't be done, None for what is left out.
            verdict = check(value) if check else (None if name in HINTS else False)
            if verdict is None:
                dropped.append(name)
            elif not verdict:
                missing.append(name)
    _judge_messages(body["messages"], able, missing, dropped)
    return Fit(tuple(missing), tuple(dropped)) if missing or dropped else _WHOLE


HINTS = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "seed", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort"),
        *("presence_penalty", "frequency_penalty", "parallel_tool_calls"),
    }
)

_WHOLE = Fit()

_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
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


def _asks_nothing(name: str, value: Any) -> bool:
    if value is None or value in _DEFAULTS.get(name, ()):
        return True
    return value in ([], {}) and name != "web_search_options"  # empty, it still asks for a search


# One check per field that can be done for some values only.


def _functions_only(tools: Any) -> bool:
    return isinstance(tools, list) and all(isinstance(t, dict) and t.get("type") == "function" for t in tools)


def _known_choice(choice: Any) -> bool:
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        some = isinstance(allowed, dict) and _functions_only(allowed.get("tools"))
        return (choice.get("type") == "function" and isinstance(choice.get("function"), dict)) or (
            choice.get("type") == "allowed_tools" and some
        )
    return choice in ("auto", "none", "required")


def is_json_schema(wanted: Any) -> bool:
    """Does `response_format` name a schema?"""
    schema = wanted.get("json_schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    return isinstance(schema, dict) and isinstance(schema.get("schema"), dict)


def is_any_json(wanted: Any) -> bool:
    return is_json_schema(wanted) or (isinstance(wanted, dict) and wanted.get("type") == "json_object")


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


COMMON_FIELDS = frozenset({"model", "messages", "stream", "stream_options", "top_p", "stop"}) | {
    *("max_tokens", "max_completion_tokens")
}
TOOL_CHECKS: Mapping[str, Callable[[Any], bool | None]] = {"tools": _functions_only, "tool_choice": _known_choice}


# Messages.

# The parameters are few and short: what the engine must remember of each is a hundred bytes and more.
IMAGE = re.compile(r"data:image/([a-z.+-]{1,32})(?:;[^;,]{0,128}){0,8};base64,", re.IGNORECASE)

_KNOWN = {
    "system": frozenset({"role", "content"}),
    "developer": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}


def is_blank(text: Any) -> bool:
    """Is there nothing that a model could read?"""
    return not text or not isinstance(text, str) or text.isspace()


def _judge_messages(messages: Any, able: Capabilities, missing: list[str], dropped: list[str]) -> None:
    spoken = not able.needs_turn
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
            _judge_parts(index, role, content, able, missing, dropped)
        spoken = spoken or _speaks(message)
    if not spoken:
        missing.append("messages")


def _foreign_field(message: Mapping[str, Any]) -> str | None:
    """What an earlier answer held that only its own kind can take back. Other extras are an echo, no demand."""
    for field in ("audio", "function_call"):
        if message.get(field):
            return field
    calls = message.get("tool_calls")
    return "tool_calls" if calls and not _are_functions(calls) else None


def _are_functions(calls: Any) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, dict) and call.get("type", "function") == "function" for call in calls
    )


def _judge_parts(
    index: int, role: str, parts: list[Any], able: Capabilities, missing: list[str], dropped: list[str]
) -> None:
    for at, part in enumerate(parts):
        kind = part.get("type")
        if kind == "text" or (kind == "refusal" and role == "assistant"):
            continue
        if kind != "image_url" or role != "user" or not _sees(able, url_of(part)):
            missing.append(f"messages.{index}.content")
            return
        picture = part["image_url"]
        if isinstance(picture, dict) and picture.get("detail") not in (None, "auto"):
            dropped.append(f"messages.{index}.content.{at}.image_url.detail")


def url_of(part: Mapping[str, Any]) -> str:
    picture = part.get("image_url")
    url = picture.get("url") if isinstance(picture, dict) else picture
    return url if isinstance(url, str) else ""


def _sees(able: Capabilities, url: str) -> bool:
    found = IMAGE.match(url) if able.images else None
    return found is not None and found.group(1).lower() in able.images


def _speaks(message: Mapping[str, Any]) -> bool:
    """Is it a turn of the conversation that is not blank?"""
    role, content = message["role"], message.get("content")
    if role in ("system", "developer"):
        return False
    if content.__class__ is str and not is_blank(content):
        return True
    if role == "tool" or message.get("tool_calls") or (role == "assistant" and not is_blank(message.get("refusal"))):
        return True
    parts = content if isinstance(content, list) else []
    return any(p.get("type") == "image_url" or not is_blank(p.get("text") or p.get("refusal")) for p in parts)
