"""Groq's chat completions."""

from tests.fakes.vendors import Asked, Refusal, Rule, nodes_of

_MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "reasoning"})


def refuse(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """Return a refusal in Groq's shape, which leaves out what it does not know."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Refusal(status, {"error": {name: value for name, value in error.items() if value is not None}})


def unsupported(asked: Asked) -> Refusal | None:
    """Refuse `logprobs`, `top_logprobs` and `logit_bias`: Groq's page "OpenAI compatibility"."""
    for name in ("logprobs", "top_logprobs", "logit_bias"):
        if asked.body.get(name):
            return refuse(f"`{name}` is not supported with this model", name)
    return None


def several(asked: Asked) -> Refusal | None:
    """Refuse more than one choice: Groq's page "OpenAI compatibility"."""
    if (asked.body.get("n") or 1) == 1:
        return None
    return refuse("'n' : number must be at most 1")


def message_field(asked: Asked) -> Refusal | None:
    """Refuse a message's field: Groq's page "OpenAI compatibility" (`name`), tashfeenahmed/freellmapi#1070."""
    for at, message in enumerate(asked.body.get("messages", ())):
        for name in message:
            if name not in _MESSAGE_FIELDS:
                place, role = f"messages.{at}", message["role"]
                return refuse(
                    f"'{place}' : for 'role:{role}' the following must be satisfied"
                    f"[('{place}' : property '{name}' is unsupported)]"
                )
    return None


def json_with_tools(asked: Asked) -> Refusal | None:
    """Refuse JSON output beside tools: vercel/ai#16540."""
    wanted = (asked.body.get("response_format") or {}).get("type", "text")
    if wanted == "text" or not asked.body.get("tools"):
        return None
    return refuse("json mode cannot be combined with tool/function calling")


def schema_bounds(asked: Asked) -> Refusal | None:
    """Refuse bounds of arrays in an output schema: i-am-bee/beeai-framework#1215."""
    wanted = (asked.body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    for node in nodes_of(wanted):
        for name in ("minItems", "maxItems"):
            if isinstance(node.get("type"), str) and name in node:
                return refuse(
                    f"invalid schema for response format: response_format/json_schema: {name} is not supported"
                )
    return None


RULES: tuple[Rule, ...] = (unsupported, several, message_field, json_with_tools, schema_bounds)
