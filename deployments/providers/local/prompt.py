"""Messages as a chat template can take them: one system text first, then turns of user and assistant.

Pure. Templates differ in all else: some know no tool role, some refuse a late system message or two
turns of one role. So tool calls and results are told in words, which also is what the bundled model
answers best to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.errors import failed
from deployments.openai_api.json_types import JsonObject
from deployments.openai_api.message_fields import IS_ERROR, as_error

_SYSTEM = "You are a helpful assistant."  # without one the small model drifts


def prompt_of(messages: Sequence[JsonObject], extra: str = "") -> list[dict[str, str]]:
    """Return the messages for the engine; `extra` is added to the system text."""
    system, turns, names = [], list[dict[str, str]](), dict[str, str]()
    for message in messages:
        role, text = message["role"], text_of_message(message)
        if role in ("system", "developer"):
            system.append(text)
            continue
        if role == "assistant":
            names |= {str(call.get("id")): _function(call)[0] for call in _calls(message)}
        if role in ("tool", "function"):
            name = message.get("name") or names.get(str(message.get("tool_call_id")))
            text = str(as_error(text)) if message.get(IS_ERROR) is True else text
            role, text = "user", f"The result of {name} is: {text}" if name else f"The result is: {text}"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{text}"
        else:
            turns.append({"role": role, "content": text})
    head = "\n\n".join([*(system or [_SYSTEM]), *([extra] if extra else [])])
    return [{"role": "system", "content": head}, *turns]


def text_of_message(message: JsonObject) -> str:
    """Return a message's text, with its tool calls in words."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    content = content or message.get("refusal")
    calls = ["I call {} with {}.".format(*_function(call)) for call in _calls(message)]
    return "\n".join([*([str(content)] if content else []), *calls])


def check_messages(messages: Sequence[JsonObject]) -> None:
    """Raise `unsupported` naming the first field that is not text."""
    for index, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list) and any(part.get("type") not in ("text", "refusal") for part in content):
            raise _cannot(f"messages.{index}.content")
        calls = message.get("tool_calls") or []
        if not isinstance(calls, list) or any(not _is_call(call) for call in calls):
            raise _cannot(f"messages.{index}.tool_calls")
        for name in ("function_call", "audio"):
            if message.get(name):
                raise _cannot(f"messages.{index}.{name}")


def _calls(message: JsonObject) -> list[JsonObject]:
    return list(message.get("tool_calls") or [])


def _function(call: JsonObject) -> tuple[str, str]:
    return str(call["function"].get("name")), str(call["function"].get("arguments"))


def _is_call(call: Any) -> bool:
    return isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)


def _cannot(param: str) -> Exception:
    return failed("unsupported", f"The local model can't take '{param}'.", param=param)
