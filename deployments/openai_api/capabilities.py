"""Which fields of a chat request a kind of provider does not support, before any provider is asked. Pure.

An unsupported field is one of two classes. The answer depends on a `missing` field: a client that sent tools must not
get an answer without them. A `dropped` field is a hint: the answer is the same kind of answer without it, so it is left
out, and the answer's client is told. A field that we do not know counts as missing.

The providers' codecs refuse requests by the same function, so the plan and a provider can't disagree. It never judges
whether a request is valid. It is on the hot path.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.openai_api.cache_marks import CachePlaces, unkept
from deployments.openai_api.found import MARK, Found
from deployments.openai_api.inner_fields import WITH_INNER, check_inner
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.openai_api.message_fields import check_messages

Check = Callable[[JsonValue], bool | None]


@dataclass(frozen=True, slots=True)
class Documents:
    """Which documents a model takes.

    Attributes:
        formats: as `images.format_of` names them.
        most: of one request; None if there is no limit that is known.
        most_bytes: of one document; None if there is no limit that is known.
        any_size: formats for which `most_bytes` does not hold.
    """

    formats: frozenset[str]
    most: int | None = None
    most_bytes: int | None = None
    any_size: frozenset[str] = frozenset()


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
        parts: kinds of parts beside text that it carries as they are, images by URL too.
        needs_turn: a request must have more than a system prompt.
        schema_fields: what it carries of `response_format.json_schema`. The name is a label that no answer shows.
        documents: which documents a model takes, by its id; None if the kind takes none.
        lacks: what else of a request a model does not take, by its id.
        caches: where a model takes marks of a prompt cache, by its id; None if the kind has no such marks.
    """

    carries: frozenset[str]
    checks: Mapping[str, Check]
    images: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    needs_turn: bool = True
    schema_fields: frozenset[str] = frozenset({"name", "schema", "strict"})
    caches: Callable[[str], CachePlaces | None] | None = None
    documents: Callable[[str], Documents] | None = None
    lacks: Callable[[JsonObject, str], Unsupported] | None = None


def find_unsupported(able: Capabilities | None, body: JsonObject, model: str = "") -> Unsupported:
    """Return the fields of a checked request that a kind of provider, or its model, does not support.

    `able` are the kind's capabilities; None for a kind to which each field passes through. Without a `model`, its id,
    what depends on the model counts as not supported.
    """
    if able is None:
        return _NOTHING
    found = Found()
    for name, value in body.items():
        if name not in able.carries and not _is_default(name, value):
            check = able.checks.get(name)
            supported = check(value) if check else (None if name in HINTS else False)
            if supported is None:
                found.dropped.append(name)
            elif not supported:
                found.missing.append(name)
    if able.lacks is not None:
        lacking = able.lacks(body, model)
        found.missing += lacking.missing
        found.dropped += lacking.dropped
    if not WITH_INNER.isdisjoint(body):
        check_inner(body, able.schema_fields, found)
    check_messages(body["messages"], able, found, model)
    if found.marks:
        found.dropped += unkept(found.marks, able.caches(model) if able.caches else None)
    if not (found.missing or found.dropped):
        return _NOTHING
    return Unsupported(tuple(found.missing), tuple(found.dropped))


HINTS = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "safety_identifier", "seed", "prediction", "verbosity"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", MARK),
        *("presence_penalty", "frequency_penalty", "parallel_tool_calls"),
        # How a model samples is its own affair: not each has such a knob, and some servers have more than OpenAI.
        *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
        *("repeat_penalty", "length_penalty", "top_a", "typical_p", "min_tokens", "random_seed"),
        # How much a model thinks: DeepSeek and GLM, Qwen, vLLM, OpenRouter, Ollama, Groq, Mistral, MiniMax.
        *("thinking", "enable_thinking", "thinking_budget", "chat_template_kwargs", "reasoning", "include_reasoning"),
        *("think", "reasoning_format", "prompt_mode", "reasoning_split"),
        # What a router or a server does beside the answer: OpenRouter, vLLM, Mistral, llama.cpp, Ollama.
        *("provider", "route", "models", "transforms", "plugins", "usage"),
        *("priority", "cache_salt", "safe_prompt", "cache_prompt", "keep_alive", "options", "session_id"),
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


def is_forced(choice: JsonValue) -> bool:
    """Return whether a `tool_choice` says that a tool must be called."""
    if not isinstance(choice, dict):
        return bool(choice == "required")
    allowed = choice.get("allowed_tools")
    return bool(choice.get("type") == "function" or (isinstance(allowed, dict) and allowed.get("mode") == "required"))


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
