"""A whole answer of the Messages API, and what its stream shares with it. Pure.

The completion may be that of a foreign server, so nothing is relied upon: what has an odd shape is left out, and no
answer is refused for it.
"""

import json
from collections.abc import Sequence

from deployments.doors.door import Served
from deployments.doors.envelope import Envelope, seal
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number
from deployments.openai_api.usage import LIFETIMES, account_of

UNSIGNED = seal(Envelope())  # of thoughts that no provider has signed: it says that they are ours
DIRECT = {"type": "direct"}  # who calls: the model itself
_NOTHING: JsonObject = {}
_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_STOPS = {"length": "max_tokens", "content_filter": "refusal"}


def message_of(
    completion: JsonObject, served: Served, model: str, *, shows_thoughts: bool = True, estimate: int = 0
) -> JsonDict:
    """Return the answer. `estimate` stands for the prompt's tokens if the provider has not counted them."""
    choice = object_in(completion.get("choices"))
    message = dict_of(choice.get("message"))
    calls = calls_of(message.get("tool_calls"), served)
    refusal = text_in(message.get("refusal"))
    thoughts = thoughts_in(message)
    text = text_in(message.get("content")) + refusal + images_in(message)
    content = _thinking(message, calls, thoughts if shows_thoughts else "", thought=bool(thoughts))
    if text:
        content.append({"type": "text", "text": text, "citations": None})
    content += [_tool_use(call) for call in calls]
    return {
        **head_of(served, model),
        "content": content,
        **stop_of(choice.get("finish_reason"), calls=bool(calls), refused=bool(refusal)),
        "usage": usage_of(completion.get("usage"), estimate),
        **served.extra,
    }


def head_of(served: Served, model: str) -> JsonDict:
    """Return what each answer begins with."""
    return {"id": f"msg_{served.id}", "type": "message", "role": "assistant", "model": model}


def stop_of(finish: JsonValue, *, calls: bool, refused: bool = False) -> JsonDict:
    """Return why the answer has ended. A call is to be run, whatever the provider has said of it."""
    reason = _STOPS.get(finish) if isinstance(finish, str) else None
    if reason is None:
        reason = "tool_use" if calls else "refusal" if refused else "end_turn"
    details = {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None
    return {"stop_reason": reason, "stop_sequence": None, "stop_details": details, "container": None}


def usage_of(usage: JsonValue, estimate: int = 0) -> JsonDict:
    """Return a chat's usage in Anthropic's counting: what a cache has read or written is no input there."""
    told = account_of(usage)
    counted = told or {"prompt_tokens": estimate, "completion_tokens": 0}
    prompt, done = _count(counted, "prompt_tokens"), _count(counted, "completion_tokens")
    cache, answer = dict_of(counted.get("prompt_tokens_details")), dict_of(counted.get("completion_tokens_details"))
    read, written = _count(cache, "cached_tokens"), _count(cache, "cache_write_tokens")
    thought = _count(answer, "reasoning_tokens")
    return {
        "input_tokens": max(0, prompt - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": _lifetimes(cache),
        "output_tokens": done,
        "output_tokens_details": {"thinking_tokens": thought} if thought else None,
        "server_tool_use": None,
        "service_tier": None,
        "inference_geo": None,
    }


def _lifetimes(cache: JsonObject) -> JsonDict | None:
    """Return the written tokens by how long they are kept, if the provider tells them."""
    told = dict_of(cache.get(LIFETIMES))
    return {name: _count(told, name) for name in _LIFETIMES} if told else None


def calls_of(calls: JsonValue, served: Served) -> list[JsonDict]:
    """Return the calls that have a function, each with an id of its own in this answer."""
    kept: list[JsonDict] = []
    ids = set[str]()
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("function"), dict):
            key = id_of(call.get("id"), served, len(kept), ids)
            kept.append({**call, "id": key})
    return kept


def id_of(given: JsonValue, served: Served, at: int, ids: set[str]) -> str:
    """Return a call's id, and remember it. One that has none, or that of another call, gets one of its own."""
    key = given if isinstance(given, str) and given and given not in ids else f"toolu_{served.id}_{at}"
    ids.add(key)
    return key


def name_in(call: JsonObject) -> str:
    """Return the name of a call's function."""
    name = dict_of(call.get("function")).get("name")
    return name if isinstance(name, str) else ""


def arguments_in(call: JsonObject) -> str:
    """Return the arguments of a call, or a piece of them, as text."""
    arguments = dict_of(call.get("function")).get("arguments")
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments)


def input_of(arguments: str) -> JsonDict:
    """Return a call's arguments as the object that they must be here; any other text is the one field of such."""
    if not arguments or arguments.isspace():
        return {}
    try:
        value = json.loads(arguments, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"arguments": arguments}


def text_in(content: JsonValue) -> str:
    """Return the text of a content, which some servers send in parts."""
    if content.__class__ is str:
        return str(content)
    parts = content if isinstance(content, list) else ()
    return "".join(text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str))


def thoughts_in(message: JsonObject) -> str:
    """Return what the model has thought, by either of its names, or as parts of the content (Mistral, Reasoning)."""
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thoughts, str):
        return thoughts
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return "".join(text_in(part.get("thinking")) for part in parts if isinstance(part, dict))


def images_in(message: JsonObject) -> str:
    """Return a line for each image: an answer of this API has no other place for one."""
    images = message.get("images")
    return "".join(map(_image_line, images)) if isinstance(images, list) else ""


def _image_line(image: JsonValue) -> str:
    url = dict_of(dict_of(image).get("image_url")).get("url")
    if not isinstance(url, str) or url.startswith("data:"):
        return "\n(An image was made, which the Messages API can't carry.)\n"
    return f"\n![image]({url})\n"


def dict_of(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else _NOTHING


def object_in(values: JsonValue) -> JsonObject:
    """Return the first of a list, if it is an object."""
    return dict_of(values[0]) if isinstance(values, list) and values else _NOTHING


def _thinking(message: JsonObject, calls: Sequence[JsonObject], text: str, *, thought: bool) -> list[JsonDict]:
    """Return the one block that holds the thoughts, and in its signature what the provider wants back."""
    extras = {call["id"]: extra for call in calls if (extra := dict_of(call.get("extra_content")))}
    envelope = Envelope(dict_of(message.get("extra_content")), extras)
    if not (thought or envelope):
        return []
    return [{"type": "thinking", "thinking": text, "signature": seal(envelope) if envelope else UNSIGNED}]


def _tool_use(call: JsonObject) -> JsonDict:
    made = {"type": "tool_use", "id": call["id"], "name": name_in(call), "input": input_of(arguments_in(call))}
    return {**made, "caller": DIRECT}


def _count(counts: JsonObject, name: str) -> int:
    return max(0, whole_number(counts.get(name)) or 0)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
