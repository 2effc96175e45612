"""OpenAI chat completions to Gemini's generate_content and back. Pure; text chat with system prompts.

Answers are read in the API's own JSON shape (camelCase), which outlives the SDK's types.
"""

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

_FIELDS = TEXT_FIELDS | {"seed", "presence_penalty", "frequency_penalty"}

_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
_SPOILED = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "OTHER", "UNEXPECTED_TOOL_CALL"})


def to_generate(call: Call) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """`contents` and `config` of generate_content. Raises `unsupported` naming the field."""
    body = call.body
    if (field := unsupported(body, _FIELDS)) is not None:
        raise failed("unsupported", f"Google can't take '{field}' here.", param=field)
    system, turns = split_system(body["messages"])
    if not turns:
        raise failed("unsupported", "Google needs a message that is no system prompt.", param="messages")
    contents = [{"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]} for role, text in turns]
    config = {
        "system_instruction": "\n\n".join(system) or None,
        "max_output_tokens": max_tokens_of(body),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "stop_sequences": stops_of(body) or None,
        "seed": body.get("seed"),
        "presence_penalty": body.get("presence_penalty"),
        "frequency_penalty": body.get("frequency_penalty"),
    }
    return contents, {k: v for k, v in config.items() if v is not None}


def finish_of(reason: str) -> str:
    """OpenAI's finish reason. SAFETY and its many kin are content filters."""
    if reason in _SPOILED:
        raise failed("server_error", f"the model stopped with {reason}", code=reason)
    return _FINISH.get(reason, "content_filter")


def usage_from(usage: Mapping[str, Any]) -> dict[str, Any]:
    # Gemini counts thoughts beside the candidates, OpenAI within the completion.
    thoughts = usage.get("thoughtsTokenCount") or 0
    done = (usage.get("candidatesTokenCount") or 0) + thoughts
    cached = usage.get("cachedContentTokenCount")
    return usage_of(usage.get("promptTokenCount") or 0, done, cached=cached, reasoning=thoughts)


def from_generate(response: Mapping[str, Any], call: Call) -> tuple[bytes, dict[str, Any]]:
    """The completion's JSON body and its usage. A blocked prompt is an answer: the model's refusal."""
    text, finish = read(response)
    if finish is None:
        raise failed("malformed", "the answer has no candidate with a finish reason", status=200)
    usage = usage_from(response.get("usageMetadata") or {})
    return dump(completion(Head.new(call.name), text, finish, usage)), usage


def read(response: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text and the finish reason of one response or chunk. Thoughts are not the answer's text."""
    if (response.get("promptFeedback") or {}).get("blockReason"):
        return "", "content_filter"
    candidates = response.get("candidates") or []
    if not candidates:
        return "", None
    parts = (candidates[0].get("content") or {}).get("parts") or []
    text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    reason = candidates[0].get("finishReason")
    return text, finish_of(reason) if reason else None


@dataclass(slots=True)
class StreamCodec:
    """Gemini's chunks to frames. Usage is cumulative: the last one counts."""

    head: Head
    started: bool = False
    finished: bool = False
    usage: dict[str, Any] | None = None

    def frames(self, response: Mapping[str, Any]) -> tuple[bytes, bool]:
        """The frames of one chunk, and whether they hold content."""
        if usage := response.get("usageMetadata"):
            self.usage = usage_from(usage)
        text, finish = read(response)
        data = b"" if self.started else chunk(self.head, {"role": "assistant", "content": ""})
        self.started = True
        if text:
            data += chunk(self.head, {"content": text})
        if finish:
            self.finished = True
            data += chunk(self.head, {}, finish)
        return data, bool(text or finish)
