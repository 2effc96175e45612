"""A request in the form in which a server that speaks OpenAI's API takes it. Pure."""

import hashlib
import re

from deployments.openai_api.cache_marks import is_marked, with_breakpoints, without_marks
from deployments.openai_api.chat import stops_of
from deployments.openai_api.embeddings import is_cut
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.base import Call
from deployments.providers.openai.dialect import NINE, Dialect


def chat_body(call: Call, *, stream: bool, dialect: Dialect) -> JsonDict:
    """Return the body. It asks for what the client asks for: a field without a value is as good as none."""
    body = {k: v for k, v in call.body.items() if v is not None}
    body |= {"model": call.model, "stream": stream}
    if stream and dialect.stream_usage:
        # Usage is always requested: the stream's cost must be known. The client gets it if it asked.
        body["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if call.cache_key is not None and dialect.cache_key:
        body.setdefault("prompt_cache_key", call.cache_key)
    _without_empty(body)
    if not dialect.stop:
        body.pop("stop", None)
    if not dialect.effort_with_tools and "tools" in body:
        body.setdefault("reasoning_effort", "none")
    if dialect.seed != "seed" and "seed" in body:
        body[dialect.seed] = body.pop("seed")
    _name_limit(body, dialect)
    if dialect.marks != "as_sent" and any(map(is_marked, body["messages"])):
        body["messages"] = with_breakpoints(body["messages"], dialect.marks)
    if dialect.marks != "as_sent" and "tools" in body:
        body["tools"] = without_marks(body["tools"])
    said = (_message(message, dialect) for message in body["messages"])
    body["messages"] = [message for message in said if message is not None]
    return body


def _without_empty(body: JsonDict) -> None:
    """Leave out what says nothing, and what means nothing where no tool is offered: servers refuse it."""
    for name in ("tools", "functions", "logit_bias", "metadata"):
        if body.get(name) in ([], {}):
            del body[name]
    if isinstance(body.get("stop"), list) and "" in body["stop"]:
        body["stop"] = stops_of(body)
    if not body.get("stop", True):
        del body["stop"]
    if "tools" not in body:
        body.pop("parallel_tool_calls", None)
        if body.get("tool_choice") in ("auto", "none"):
            del body["tool_choice"]


def _name_limit(body: JsonDict, dialect: Dialect) -> None:
    if dialect.limit == "as_sent":
        return
    other = "max_tokens" if dialect.limit == "max_completion_tokens" else "max_completion_tokens"
    if (value := body.pop(other, None)) is not None:
        body.setdefault(dialect.limit, value)


# Of an earlier answer, as it comes back. Without a value they say nothing, and strict servers refuse them.
_ECHOES = frozenset({"refusal", "audio", "function_call", "reasoning_content", "extra_content"}) | {
    *("reasoning", "reasoning_details", "annotations", "tool_calls")
}


def _message(message: JsonObject, dialect: Dialect) -> JsonObject | None:
    """Return a message without what another provider's answer added to it and to its calls; None if nothing is left."""
    role = message["role"]
    if len(message) > 2 and None in message.values():
        message = {k: v for k, v in message.items() if v is not None or k == "content"}
    if role == "developer" and not dialect.developer:
        return {**message, "role": "system"}
    if role == "tool" and dialect.longest_id is not None:
        return {**message, "tool_call_id": _id(message.get("tool_call_id"), dialect.longest_id)}
    if role != "assistant":
        return message
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else None  # OpenAI itself refuses anything but a list
    if message.get("content") is not None and _ECHOES.isdisjoint(message):
        return message
    kept = {k: v for k, v in message.items() if k == "content" or _may_go(k, v, dialect)}
    if calls:
        return {**kept, "tool_calls": [_call(call, dialect) for call in calls]}
    if kept.get("content") is None and _SAID.isdisjoint(kept):
        # Nothing is left of an answer that was thoughts alone. Mistral refuses an empty text ("Assistant message must
        # have either content or tool_calls"), others a turn without a text.
        return None if dialect.longest_id == NINE else {**kept, "content": ""}
    return kept


_SAID = frozenset({"refusal", "audio", "function_call"})


def _may_go(name: str, value: JsonValue, dialect: Dialect) -> bool:
    if name == "reasoning_content":
        return bool(value) and dialect.reasoning
    if name == "extra_content":
        return bool(value) and dialect.extra
    if name in ("reasoning", "reasoning_details"):
        return bool(value) and dialect.details
    return bool(value) or name not in _ECHOES


def _call(call: JsonValue, dialect: Dialect) -> JsonValue:
    if not isinstance(call, dict):
        return call
    gone = _OF_STREAMS if dialect.extra else _OF_OTHERS
    kept = call if gone.isdisjoint(call) else {k: v for k, v in call.items() if k not in gone}
    if dialect.longest_id is not None:
        kept = {**kept, "id": _id(call.get("id"), dialect.longest_id)}
    return kept


_OF_STREAMS = frozenset({"index"})  # a call's place among the pieces of a stream, which strict servers refuse
_OF_OTHERS = _OF_STREAMS | {"extra_content"}
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


def _id(key: JsonValue, longest: int) -> JsonValue:
    """Return the id as this server takes it: the same for a call and its result."""
    if not isinstance(key, str) or (_NINE.fullmatch(key) if longest == NINE else len(key) <= longest):
        return key
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()[:longest]


def embedding_body(call: Call) -> JsonDict:
    body = {**call.body, "model": call.model, "encoding_format": call.body.get("encoding_format") or "float"}
    if body.get("dimensions") is None or not is_cut(call.model):
        body.pop("dimensions", None)  # other models refuse a parameter that they can't change
    return body
