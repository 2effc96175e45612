"""A request of the Responses API: made of a chat's. Pure.

Nothing is stored at the server: the next turn may be another provider's, which has no part in it.
"""

from deployments.openai_api.cache_marks import is_marked, takes_breakpoints, with_breakpoints, without_marks
from deployments.openai_api.chat import max_tokens_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.providers.base import Call
from deployments.providers.openai.responses_api.history import input_of
from deployments.providers.openai.responses_api.terms import ENCRYPTED, Terms

_LOGPROBS = "message.output_text.logprobs"
LEAST_TOKENS = 16  # vectorize-io/hindsight#58: "Expected a value >= 16, but got 10 instead"


def responses_body(call: Call, terms: Terms, *, stream: bool) -> JsonDict:
    """Return the request's body. A field without a value is as good as none."""
    body = _translated(call.body, terms, call.model)
    body |= {"model": call.model, "store": False, "stream": stream}
    if terms.encrypted:
        body["include"] = list(dict.fromkeys((*body.get("include", ()), ENCRYPTED)))
    return body


# Fields with one name in both APIs.
_SAME = (
    *("temperature", "top_p", "user", "metadata", "service_tier", "safety_identifier", "parallel_tool_calls"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
# What is an object's field here, by its name in a chat.
_INNER = {"reasoning_effort": ("reasoning", "effort"), "verbosity": ("text", "verbosity")}


def _translated(chat: JsonObject, terms: Terms, model: str) -> JsonDict:
    messages = chat["messages"]
    if any(map(is_marked, messages)):
        messages = with_breakpoints(messages, "breakpoints" if takes_breakpoints(model) else "none")
    body: JsonDict = {"input": input_of(messages, reasoning=terms.earlier)}
    _set_common(body, chat)
    if chat.get("logprobs"):
        body |= {"include": [_LOGPROBS], "top_logprobs": chat.get("top_logprobs") or 0}
    if (wanted := chat.get("response_format")) is not None:
        body.setdefault("text", {})["format"] = _format(wanted)
    if tools := chat.get("tools"):
        body["tools"] = [_tool(tool["function"]) for tool in without_marks(tools)]
        if (choice := chat.get("tool_choice")) is not None:
            body["tool_choice"] = _choice(choice)
    else:
        body.pop("parallel_tool_calls", None)
    return body


def _set_common(body: JsonDict, chat: JsonObject) -> None:
    body |= {name: chat[name] for name in _SAME if chat.get(name) not in (None, {})}
    if (most := max_tokens_of(chat)) is not None:
        body["max_output_tokens"] = max(most, LEAST_TOKENS)
    for name, (holder, inner) in _INNER.items():
        if (value := chat.get(name)) is not None:
            body.setdefault(holder, {})[inner] = value


def _format(wanted: JsonObject) -> JsonDict:
    """Return the form of an answer: what a chat has one object deeper stands flat here."""
    inner = wanted.get("json_schema")
    given: JsonDict = {"type": wanted["type"], **(inner if isinstance(inner, dict) else {})}
    return {name: value for name, value in given.items() if value is not None}


def _tool(function: JsonObject) -> JsonDict:
    """Return a function: it is strict here unless it says otherwise (OpenAI, "Migrate to the Responses API")."""
    given = {name: value for name, value in function.items() if value is not None}
    return {"parameters": None, **given, "type": "function", "strict": bool(function.get("strict"))}


def _choice(choice: JsonValue) -> JsonValue:
    if not isinstance(choice, dict):
        return choice
    if choice["type"] == "allowed_tools":
        allowed = choice["allowed_tools"]
        return {"type": "allowed_tools", "mode": allowed["mode"], "tools": [_choice(tool) for tool in allowed["tools"]]}
    return {"type": "function", "name": choice["function"]["name"]}
