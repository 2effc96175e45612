"""OpenAI's chat completions: what it refuses whatever the model is, and what its models without reasoning refuse."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.fakes.vendors import Asked, Refusal, Rule, model_of, nodes_of

# openai-python, `CompletionCreateParamsBase`.
KNOWN = frozenset(
    {
        *("messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n", "parallel_tool_calls"),
        *("prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        *("reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store"),
        *("stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user"),
        *("verbosity", "web_search_options"),
    }
)
REASONING = re.compile(r"(?:gpt-[5-9]|o\d)(?!.*chat)")


def refuse(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Refusal:
    """Return a refusal in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Refusal(status, {"error": error})


def is_reasoning(asked: Asked) -> bool:
    return REASONING.match(model_of(asked)) is not None


def unknown_argument(asked: Asked) -> Refusal | None:
    """Refuse a field that OpenAI does not know: musistudio/claude-code-router#724, PsycherosAI/Psycheros#41."""
    unknown = [name for name in asked.body if name not in KNOWN]
    return refuse(f"Unrecognized request argument supplied: {unknown[0]}") if unknown else None


def stream_options_alone(asked: Asked) -> Refusal | None:
    """Refuse `stream_options` without `stream`: API reference, chat completions, `stream_options`."""
    if asked.body.get("stream_options") is None or asked.body.get("stream"):
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return refuse(message, "stream_options")


def tool_fields_alone(asked: Asked) -> Refusal | None:
    """Refuse fields of tools without tools, and an empty list of them: openai/swarm#30, camel-ai/camel#3706."""
    if asked.body.get("tools") == []:
        return refuse("Invalid 'tools': empty array. Expected an array with minimum length 1.", "tools", "empty_array")
    for name in ("tool_choice", "parallel_tool_calls"):
        if asked.body.get(name) is not None and not asked.body.get("tools"):
            return refuse(f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", name)
    return None


def json_unsaid(asked: Asked) -> Refusal | None:
    """Refuse JSON mode where no message says JSON: guide "Structured outputs", "JSON mode"."""
    wanted = asked.body.get("response_format") or {}
    if wanted.get("type") != "json_object" or "json" in json.dumps(asked.body["messages"]).lower():
        return None
    message = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    return refuse(message, "messages")


def logprobs_alone(asked: Asked) -> Refusal | None:
    """Refuse `top_logprobs` without `logprobs`: API reference, chat completions, `top_logprobs`."""
    if asked.body.get("top_logprobs") and not asked.body.get("logprobs"):
        return refuse("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
    return None


def _strict(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for at, tool in enumerate(body.get("tools") or ()):
        function = tool.get("function") or {}
        if function.get("strict"):
            yield f"tools[{at}].function.parameters", f"function '{function['name']}'", function.get("parameters")
    wanted = (body.get("response_format") or {}).get("json_schema") or {}
    if wanted.get("strict"):
        yield "response_format", f"response_format '{wanted.get('name')}'", wanted.get("schema")


def loose_schema(asked: Asked) -> Refusal | None:
    """Refuse a strict schema with open objects or optional properties: guide "Structured outputs"."""
    return loose_in(_strict(asked.body))


def loose_in(strict: Iterable[tuple[str, str, Any]]) -> Refusal | None:
    """Return the refusal of the first schema that is too loose; each has its path, what it is of, and itself."""
    for param, what, schema in strict:
        for node in nodes_of(schema):
            if node.get("type") != "object":
                continue
            lacking = set(node.get("properties") or {}) - set(node.get("required") or ())
            if node.get("additionalProperties") is not False:
                wrong = "'additionalProperties' is required to be supplied and to be false."
            elif lacking:
                wrong = (
                    "'required' is required to be supplied and to be an array including every key in properties. "
                    f"Missing '{min(lacking)}'."
                )
            else:
                continue
            return refuse(f"Invalid schema for {what}: In context=(), {wrong}", param, "invalid_function_parameters")
    return None


_MOST_TOKENS = {"gpt-4.1": 32768, "gpt-4o": 16384, "gpt-5": 128000}


def too_many_tokens(asked: Asked) -> Refusal | None:
    """Refuse more tokens than the model's highest output: the model's page, "Max output tokens"."""
    for name in ("max_tokens", "max_completion_tokens"):
        given = asked.body.get(name) or 0
        most = next((n for prefix, n in _MOST_TOKENS.items() if model_of(asked).startswith(prefix)), None)
        if most is not None and given > most:
            message = (
                f"max_tokens is too large: {given}. This model supports at most {most} completion tokens, "
                f"whereas you provided {given}."
            )
            return refuse(message, name, "invalid_value")
    return None


def too_many_stops(asked: Asked) -> Refusal | None:
    """Refuse more than four stop sequences: API reference, chat completions, `stop`."""
    stop = asked.body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        message = f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(stop)}."
        return refuse(message, "stop", "array_above_max_length")
    return None


def effort_without_reasoning(asked: Asked) -> Refusal | None:
    """Refuse an effort of a model that does not reason: PsycherosAI/Psycheros#41, umputun/tg-spam#304."""
    if asked.body.get("reasoning_effort") is None or is_reasoning(asked):
        return None
    return refuse("Unrecognized request argument supplied: reasoning_effort")


def verbosity_of_others(asked: Asked) -> Refusal | None:
    """Refuse a verbosity other than medium before GPT-5: google-deepmind/concordia#164, enricoros/big-AGI#947."""
    given = asked.body.get("verbosity")
    if given in (None, "medium") or is_reasoning(asked):
        return None
    message = (
        f"Unsupported value: 'verbosity' does not support '{given}' with this model. Supported values are: 'medium'."
    )
    return refuse(message, "verbosity", "unsupported_value")


def wrong_type(asked: Asked) -> Refusal | None:
    """Refuse null and objects where a text belongs: API reference, chat completions, `messages`."""
    for at, message in enumerate(asked.body.get("messages", ())):
        if "name" in message and message["name"] is None:
            param, got = f"messages[{at}].name", "null"
        elif any(not isinstance(call["function"]["arguments"], str) for call in message.get("tool_calls") or ()):
            param, got = f"messages[{at}].tool_calls[0].function.arguments", "an object"
        else:
            continue
        message = f"Invalid type for '{param}': expected a string, but got {got} instead."
        return refuse(message, param, "invalid_type")
    return None


TOKENS_PER_MINUTE = 30_000


def minute_limit(asked: Asked) -> Refusal | None:
    """Refuse what is more than a minute's tokens, with a 429: TheR1D/shell_gpt#653, vanna-ai/vanna-flask#11."""
    tokens = len(json.dumps(asked.body.get("messages", []))) // 4
    if tokens <= TOKENS_PER_MINUTE:
        return None
    message = (
        f"Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit {TOKENS_PER_MINUTE}, "
        f"Requested {tokens}. The input or output tokens must be reduced in order to run successfully."
    )
    error = {"message": message, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
    return Refusal(429, {"error": error})


RULES: tuple[Rule, ...] = (
    unknown_argument,
    stream_options_alone,
    tool_fields_alone,
    json_unsaid,
    logprobs_alone,
    loose_schema,
    too_many_tokens,
    too_many_stops,
    effort_without_reasoning,
    verbosity_of_others,
    wrong_type,
    minute_limit,
)
