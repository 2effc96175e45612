"""OpenAI chat completions to Bedrock's Converse and back. Pure; text chat with system prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.providers.base import Call, failed
from deployments.wire import (
    TEXT_FIELDS,
    Head,
    chunk,
    completion,
    dump,
    max_tokens_of,
    split_system,
    stops_of,
    unsupported,
    usage_of,
)

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


def to_converse(call: Call) -> dict[str, Any]:
    """Keyword arguments of `converse` and `converse_stream`. Raises `unsupported` naming the field."""
    body = call.body
    if (field := unsupported(body, TEXT_FIELDS)) is not None:
        raise failed("unsupported", f"Bedrock can't take '{field}' here.", param=field)
    temperature = body.get("temperature")
    if temperature is not None and temperature > 1:
        raise failed("unsupported", "Bedrock takes a temperature of 1 at most.", param="temperature")
    system, turns = split_system(body["messages"])
    if not turns:
        raise failed("unsupported", "Bedrock needs a message that is no system prompt.", param="messages")
    inference = {
        "maxTokens": max_tokens_of(body),
        "temperature": temperature,
        "topP": body.get("top_p"),
        "stopSequences": stops_of(body) or None,
    }
    arguments: dict[str, Any] = {
        "modelId": call.model,
        "messages": [{"role": role, "content": [{"text": text}]} for role, text in turns],
        "inferenceConfig": {k: v for k, v in inference.items() if v is not None},
    }
    if system:
        arguments["system"] = [{"text": text} for text in system]
    return arguments


def finish_of(reason: str) -> str:
    """OpenAI's finish reason. An answer that the model itself spoiled is an error."""
    if reason.startswith("malformed"):
        raise failed("server_error", f"the model stopped with {reason}", code=reason)
    return _FINISH.get(reason, "stop")


def from_converse(response: Mapping[str, Any], call: Call) -> tuple[bytes, dict[str, Any]]:
    """The completion's JSON body and its usage.

    boto3 gives a dict without `output` for a body that is no JSON at all: that is no answer.
    """
    message = (response.get("output") or {}).get("message")
    if not message or not response.get("stopReason"):
        raise failed("malformed", "the answer has no output or no stop reason", status=200)
    text = "".join(block.get("text", "") for block in message["content"])
    usage = usage_from(response.get("usage") or {})
    answer = completion(Head.new(call.name), text, finish_of(response["stopReason"]), usage)
    return dump(answer), usage


def usage_from(usage: Mapping[str, Any]) -> dict[str, Any]:
    # Converse counts cached tokens beside the input, OpenAI within it.
    cached = usage.get("cacheReadInputTokens") or 0
    prompt = usage.get("inputTokens", 0) + cached + (usage.get("cacheWriteInputTokens") or 0)
    return usage_of(prompt, usage.get("outputTokens", 0), cached=cached)


@dataclass(slots=True)
class StreamCodec:
    """Converse's events to frames. `finished` with messageStop, `usage` comes after it."""

    head: Head
    finished: bool = False
    usage: dict[str, Any] | None = None

    def frames(self, event: Mapping[str, Any]) -> tuple[bytes, bool]:
        """The frames of one event, and whether they hold content."""
        if "messageStart" in event:
            return chunk(self.head, {"role": "assistant", "content": ""}), False
        if "contentBlockDelta" in event:
            text = event["contentBlockDelta"]["delta"].get("text")
            return (chunk(self.head, {"content": text}), True) if text else (b"", False)
        if "messageStop" in event:
            self.finished = True
            return chunk(self.head, {}, finish_of(event["messageStop"]["stopReason"])), True
        if "metadata" in event:
            self.usage = usage_from(event["metadata"].get("usage") or {})
        return b"", False
