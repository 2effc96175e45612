"""The messages of a request as every server of OpenAI's API takes them. Pure.

Clients send earlier answers back with all that another server had put into them. What OpenAI's own API does not know in
a message is left out and named, unless the model is known to want it. A result of a tool names its call: where it does
not, it gets the id of the first call before it that has no result.

It is on the hot path: a message of a role and a content costs one comparison.
"""

import re
from collections.abc import Iterator

from deployments.errors import BadRequest
from deployments.openai_api.found import MARK, says_something
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.message_fields import IS_ERROR, as_error

_ANY = frozenset({"role", "content", "name", MARK})
# OpenAI, API reference, create chat completion. The adapter decides which thoughts of earlier answers go back.
_KNOWN = {
    "system": _ANY,
    "developer": _ANY,
    "user": _ANY,
    "tool": _ANY | {"tool_call_id"},
    "function": _ANY,
    "assistant": _ANY
    | {"tool_calls", "function_call", "refusal", "audio"}
    | {"reasoning_content", "reasoning", "reasoning_details", "extra_content"},
}
_CALL = frozenset({"id", "type", "function", "custom", "extra_content", "index", MARK})
# An answer that the client began: Mistral, Chat completion; DeepSeek, Chat prefix; Moonshot and Alibaba, Partial mode.
_WANTED: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    (re.compile(r"deepseek|mistral|codestral|devstral|magistral|ministral"), frozenset({"prefix"})),
    (re.compile(r"kimi|moonshot|qwen"), frozenset({"partial"})),
)
_NOTHING = frozenset[str]()


def without_foreign(body: JsonObject, model: str) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the request without fields of messages that are not OpenAI's, and their paths.

    What says nothing is not named. The same object is returned if there are none.
    """
    messages, kept, named = body["messages"], dict[int, JsonDict](), list[str]()
    wanted: frozenset[str] | None = None
    for at, message in enumerate(messages):
        if len(message) <= 2 and "content" in message:
            continue
        known = _KNOWN[message["role"]]
        if message.keys() <= known and not _has_foreign_call(message):
            continue
        if IS_ERROR in message and message["role"] == "tool":
            message = _said_in_words(message)
        wanted = _wanted(model) if wanted is None else wanted
        kept[at] = _without(message, known | wanted, f"messages.{at}", named)
        if _has_foreign_call(message):
            calls = enumerate(message["tool_calls"])
            kept[at]["tool_calls"] = [_without(c, _CALL, f"messages.{at}.tool_calls.{i}", named) for i, c in calls]
    if not kept:
        return body, ()
    return {**body, "messages": [kept.get(at, message) for at, message in enumerate(messages)]}, tuple(named)


def _said_in_words(result: JsonObject) -> JsonObject:
    """Return a result of a tool whose text says that the call has failed, if it has."""
    told = {name: value for name, value in result.items() if name != IS_ERROR}
    return {**told, "content": as_error(result.get("content"))} if result[IS_ERROR] is True else told


def _wanted(model: str) -> frozenset[str]:
    return _NOTHING.union(*(names for models, names in _WANTED if models.search(model.lower())))


def _has_foreign_call(message: JsonObject) -> bool:
    calls = message.get("tool_calls")
    return bool(calls) and isinstance(calls, list) and any(isinstance(c, dict) and not c.keys() <= _CALL for c in calls)


def _without(thing: JsonValue, known: frozenset[str], path: str, named: list[str]) -> JsonDict:
    if not isinstance(thing, dict):
        return thing  # type: ignore[no-any-return]
    named += [f"{path}.{name}" for name, value in thing.items() if name not in known and says_something(value)]
    return {name: value for name, value in thing.items() if name in known}


def with_result_ids(body: JsonDict) -> JsonDict:
    """Return the request in which each result of a tool names a call. Raises BadRequest if one can't.

    The same object is returned if all do.
    """
    messages = body["messages"]
    if all(message["role"] != "tool" or _has_id(message) for message in messages):
        return body
    answered = _answered(messages)
    waiting, kept = list[str](), list[JsonValue]()
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            waiting += [key for index, key in enumerate(_call_ids(message)) if (at, index) not in answered]
        elif message["role"] == "tool" and not _has_id(message):
            if not waiting:
                param = f"messages.{at}.tool_call_id"
                raise BadRequest(f"Missing required parameter: '{param}'. No call before it waits for a result.", param)
            message = {**message, "tool_call_id": waiting.pop(0)}
        kept.append(message)
    return {**body, "messages": kept}


def _answered(messages: list[JsonObject]) -> set[tuple[int, int]]:
    """Return the places of the calls that a result names: some servers count their ids from 0 in each answer.

    A result belongs to the first call of its id without a result, in the last message that has one.
    """
    answered, waiting = set[tuple[int, int]](), dict[str, list[tuple[int, int]]]()
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            for index, key in reversed([*enumerate(_call_ids(message))]):
                waiting.setdefault(key, []).append((at, index))
        elif message["role"] == "tool" and (places := waiting.get(str(message.get("tool_call_id")))):
            answered.add(places.pop())
    return answered


def _has_id(message: JsonObject) -> bool:
    return message.get("tool_call_id") is not None


def _call_ids(message: JsonObject) -> Iterator[str]:
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(key := call.get("id"), str):
            yield key
