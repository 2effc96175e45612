"""A request in the form in which a server that speaks OpenAI's API takes it. Pure."""

from deployments.openai_api.embeddings import is_cut
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.base import Call


def chat_body(call: Call, *, stream: bool, strict: bool) -> JsonDict:
    body = {**call.body, "model": call.model, "stream": stream}
    if stream:
        # Usage is always requested: the stream's cost must be known. The client gets it if it asked.
        body["stream_options"] = {**(call.body.get("stream_options") or {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if strict:
        body["messages"] = [_of_openai(message) for message in body["messages"]]
    return body


def is_openai(host: str) -> bool:
    """Is it OpenAI itself? It refuses fields that a compatible server may have added, and wants back."""
    return host.endswith((".openai.com", ".openai.azure.com"))


_NOT_OPENAIS = frozenset({"reasoning_content", "extra_content"})


def _of_openai(message: JsonObject) -> JsonObject:
    """Return a message without the fields that another provider's answer added to it and to its calls."""
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else None  # OpenAI itself refuses anything but a list
    if not calls and _NOT_OPENAIS.isdisjoint(message):
        return message
    kept = _without(message)
    return {**kept, "tool_calls": [_without(call) for call in calls]} if calls else kept


def _without(value: JsonValue) -> JsonValue:
    return {k: v for k, v in value.items() if k not in _NOT_OPENAIS} if isinstance(value, dict) else value


def embedding_body(call: Call) -> JsonDict:
    body = {**call.body, "model": call.model, "encoding_format": call.body.get("encoding_format") or "float"}
    if body.get("dimensions") is None or not is_cut(call.model):
        body.pop("dimensions", None)  # other models refuse a parameter that they can't change
    return body
