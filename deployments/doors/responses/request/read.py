"""A request of the Responses API as a chat completion's. Pure.

Nothing is stored here, so what refers to a stored thing is refused by its name: half of a conversation must not pass
for all of it. Whatever else has no place in a chat completion is left out and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deployments.doors.door import Paths, in_clients_words
from deployments.doors.responses.request.choice import choice_of
from deployments.doors.responses.request.items import Items
from deployments.doors.responses.request.native import NativeRequest
from deployments.doors.responses.request.parts import PartReader
from deployments.doors.responses.request.schema import OFFERS, check, kind_of_item
from deployments.doors.responses.request.sizes import check_sizes
from deployments.doors.responses.request.tools import ToolTable
from deployments.errors import BadRequest
from deployments.openai_api.capabilities import HINTS
from deployments.openai_api.chat import Request, check_chat
from deployments.openai_api.found import says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue

_STATELESS = "Breakwater stores no responses: send the whole conversation in 'input'."
_REFUSED = {
    "previous_response_id": _STATELESS,
    "conversation": _STATELESS,
    "prompt": "Breakwater stores no prompts: send 'input' and 'instructions' instead.",
    "background": "Breakwater stores no responses, so none can be fetched later: wait for it, or take it as a stream.",
}
# A chat completion has them under the same name, or knows them as hints.
_SAME = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls"),
    *("user", "safety_identifier", "service_tier"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
_ENCRYPTED, _LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
# What says nothing here: it is what an answer is like anyway. Reasoning is told as a summary where there is any.
_USUAL: Mapping[str, tuple[JsonValue, ...]] = {
    "truncation": ("disabled",),
    "reasoning.summary": ("auto",),
    "reasoning.generate_summary": ("auto",),
    "reasoning.context": ("auto",),
    "reasoning.mode": ("standard",),
}
# `metadata` is for the answer, which repeats it. OpenAI's chat completions refuse it without `store`
# (QwenLM/qwen-code#243).
_READ = {"model", "input", "instructions", "stream", "tools", "tool_choice", "metadata", *_SAME, *_REFUSED} | {
    *("stream_options", "include", "max_output_tokens", "top_logprobs", "text", "reasoning"),
}
_NESTED = {"text": ("format", "verbosity"), "reasoning": ("effort",), "stream_options": ()}
_PATHS = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.json_schema": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
    "stream_options": "stream",
    "tool_choice.function": "tool_choice",
    "tool_choice.function.name": "tool_choice.name",
    "tool_choice.allowed_tools": "tool_choice",
}


@dataclass(frozen=True, slots=True)
class Read:
    """A request as it was read."""

    request: Request
    dropped: list[str]
    paths: Paths
    table: ToolTable


def read(body: JsonDict) -> Read:
    """Return the chat completion's request. Raises BadRequest in the client's words."""
    check_sizes(body)
    for name, why in _REFUSED.items():
        if says_something(body.get(name)):
            raise BadRequest(f"'{name}' is not supported: {why}", name, "unsupported_parameter")
    check(body)
    table = _table(body)
    tools, tool_paths = table.settle()
    items = Items(table, PartReader())
    if body.get("instructions"):
        items.say("system", body["instructions"], "instructions")
    items.read(_items(body["input"]))
    placed = items.placed()
    if not placed:
        why = "Invalid 'input': it holds nothing that a model can read."
        if isinstance(body["input"], str) or not body["input"]:
            raise BadRequest(why, "input")
        table.demands["input"], placed = why, [("input", {"role": "user", "content": ""})]
    chat: JsonDict = {"model": body["model"], "messages": [message for _, message in placed]}
    if tools:
        chat["tools"] = tools
    if (choice := choice_of(body.get("tool_choice"), table, offers=bool(tools))) is not None:
        chat["tool_choice"] = choice
    chat |= _fields(body)
    dropped = list(dict.fromkeys([*table.dropped, *items.parts.dropped, *_dropped(body)]))
    paths = Paths(_PATHS, [path for path, _ in placed], tool_paths, {"function": ""})
    native = NativeRequest(body, chat, items.parts.demands | table.demands, dropped, table.hosted)
    try:
        return Read(check_chat(chat, native=native), dropped, paths, table)
    except BadRequest as error:
        raise in_clients_words(error, paths) from None


def _items(given: JsonValue) -> list[JsonObject]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _table(body: JsonObject) -> ToolTable:
    table = ToolTable()
    table.declare(body.get("tools") or (), "tools")
    for at, item in enumerate(_items(body["input"])):
        if kind_of_item(item) in OFFERS:
            table.declare(item["tools"], f"input.{at}.tools")
    return table


def _fields(body: JsonObject) -> JsonDict:
    """Return the fields beside messages and tools."""
    others = (name for name in body if name in HINTS and name not in _READ and name != "store")
    fields = {name: body[name] for name in (*_SAME, *others) if body.get(name) is not None}
    if body.get("stream"):
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if (most := body.get("max_output_tokens")) is not None:
        fields["max_completion_tokens"] = most
    if _LOGPROBS in (body.get("include") or ()):
        fields |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    if (wanted := text.get("format")) is not None and wanted["type"] != "text":
        fields["response_format"] = _response_format(wanted)
    if (verbosity := text.get("verbosity")) is not None:
        fields["verbosity"] = verbosity
    if (effort := reasoning.get("effort")) is not None:
        fields["reasoning_effort"] = effort
    return fields


def _response_format(wanted: JsonObject) -> JsonDict:
    kind, rest = wanted["type"], {name: value for name, value in wanted.items() if name != "type"}
    if kind != "json_schema":
        return {"type": kind, **rest}
    return {"type": kind, "json_schema": {name: value for name, value in rest.items() if value is not None}}


def _dropped(body: JsonObject) -> list[str]:
    """Return what no target will see of the fields."""
    gone = [f"include.{at}" for at, name in enumerate(body.get("include") or ()) if name not in (_ENCRYPTED, _LOGPROBS)]
    if body.get("top_logprobs") and _LOGPROBS not in (body.get("include") or ()):
        gone.append("top_logprobs")  # it says how many, and not whether
    for holder, known in _NESTED.items():
        for name, value in (body.get(holder) or {}).items():
            if name not in known and _says(f"{holder}.{name}", value):
                gone.append(f"{holder}.{name}")
    for name, value in body.items():
        if name not in _READ and (name not in HINTS or name == "store") and _says(name, value):
            gone.append(name)
    return gone


def _says(path: str, value: JsonValue) -> bool:
    return says_something(value) and value not in _USUAL.get(path, ())
