"""The codec from Anthropic's Messages to OpenAI chat completions: the answer, whole and streamed. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, dump, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number
from deployments.openai_api.usage import has_counts, with_tier
from deployments.providers.anthropic.classify import in_band
from deployments.providers.base import Call
from deployments.providers.claude.thoughts import signer_of
from deployments.providers.translation.blocks import NOTHING, Batch, BlockAnswer, BlockStream, Reasoning, finish_in
from deployments.providers.translation.offer import call_limit

# All of the SDK's type `StopReason`. `pause_turn` is told of tools that Anthropic's servers run, which no request of
# ours offers: such an answer is not whole, and can be continued, as one that came to its limit.
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_NO_COUNTS: JsonObject = {}


def from_messages(message: JsonObject, call: Call) -> tuple[bytes, JsonDict | None]:
    """Return the completion's JSON body and its usage. Raises AttemptFailed, also for an error under status 200."""
    if message.get("type") == "error":
        raise in_band(message)
    if not message.get("stop_reason"):
        raise failed("malformed", "the provider's answer has no stop reason", status=200)
    usage = usage_from(message.get("usage") or _NO_COUNTS)
    answer = BlockAnswer(_reasoning_of(call.model), call_limit(call.body))
    for block in message["content"]:
        match block["type"]:
            case "text":
                answer.text(block["text"])
            case "tool_use":
                answer.call(block["id"], block["name"], block.get("input"))
            case "thinking" | "redacted_thinking":
                _think(answer.reasoning, block)
                answer.reasoning.close()
    finish = finish_in(_FINISH, message["stop_reason"], calls=len(answer.calls))
    return answer.completion(call.name, finish, usage), usage


def usage_from(usage: JsonObject) -> JsonDict | None:
    """Return OpenAI's usage; None if no tokens are told.

    Anthropic counts what its cache has read or written beside the input, OpenAI within it. What was written for how
    long decides its price, so it is told too.
    """
    told = [usage.get(name) for name in _INPUTS]
    if not has_counts(told):
        return None
    fresh, cached, written, completion = (whole_number(figure) or 0 for figure in told)
    thought = whole_number((usage.get("output_tokens_details") or _NO_COUNTS).get("thinking_tokens"))
    lifetimes = usage.get("cache_creation")
    parts = {"cached": cached, "written": written, "reasoning": thought}
    made = usage_of(fresh + cached + written, completion, **parts, lifetimes=_counts_in(lifetimes) if written else None)
    return with_tier(made, usage.get("service_tier"))


def _counts_in(lifetimes: JsonValue) -> dict[str, int] | None:
    counts = lifetimes if isinstance(lifetimes, dict) else _NO_COUNTS
    known = {name: whole_number(counts.get(name)) or 0 for name in _LIFETIMES}
    return known if has_counts(counts.values()) else None


_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_INPUTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


@dataclass(slots=True)
class Counts:
    """The usage that a stream has told so far. It is cumulative: the last word on each count holds."""

    usage: JsonDict | None = None
    _told: JsonDict = field(default_factory=dict)

    def add(self, usage: JsonValue) -> None:
        if isinstance(usage, dict):
            self._told |= {name: count for name, count in usage.items() if count is not None}
            self.usage = usage_from(self._told) or self.usage


def _reasoning_of(model: str) -> Reasoning:
    return Reasoning("anthropic", signer_of(model))


def _think(reasoning: Reasoning, block: JsonObject) -> None:
    """Keep a whole block of thoughts. One without a text to show may have a signature all the same."""
    if text := block.get("thinking"):
        reasoning.say(text)
    if signature := block.get("signature"):
        reasoning.sign(signature)
    if data := block.get("data"):
        reasoning.redact(data.encode())


@dataclass(slots=True)
class StreamCodec:
    """Events to frames.

    Attributes:
        finished: the stop reason has come.
        model: its name, as the server gave it.
    """

    blocks: BlockStream
    finished: bool = False
    model: JsonValue = None
    _told: Counts = field(default_factory=Counts)

    @property
    def usage(self) -> JsonDict | None:
        return self._told.usage

    @classmethod
    def of(cls, head: Head, model: str = "", limit: int | None = None) -> "StreamCodec":
        """Return the codec of a model's stream. `limit` is how many calls it may hold."""
        return cls(BlockStream(head, _reasoning_of(model), limit))

    def frames(self, event: JsonObject, _: bytes = b"") -> Batch:
        """Return the frames of one event, and whether they hold content. Raises AttemptFailed for an error."""
        if (take := _TAKE.get(event["type"])) is None:
            return NOTHING  # `ping`, and events of tomorrow: Anthropic, Streaming messages
        return take(self, event)

    def _start(self, event: JsonObject) -> Batch:
        message = event["message"]
        self.model = message.get("model")
        self._told.add(message.get("usage"))
        return self.blocks.begin()

    def _block_start(self, event: JsonObject) -> Batch:
        block = event["content_block"]
        match block["type"]:
            case "text":
                return self.blocks.text(block.get("text") or "")
            case "tool_use":
                begun, given = self.blocks.call(block["id"], block["name"]), block.get("input")
                return begun if not given else _joined(begun, self.blocks.arguments(dump(given).decode()))
            case "thinking" | "redacted_thinking":
                if signature := block.get("signature"):
                    self.blocks.reasoning.sign(signature)
                if data := block.get("data"):
                    self.blocks.reasoning.redact(data.encode())
                return self.blocks.think(block.get("thinking") or "")
        return NOTHING

    def _delta(self, event: JsonObject) -> Batch:
        delta = event["delta"]
        match delta["type"]:
            case "text_delta":
                return self.blocks.text(delta["text"])
            case "input_json_delta":
                return self.blocks.arguments(delta["partial_json"])
            case "thinking_delta":
                return self.blocks.think(delta["thinking"])
            case "signature_delta":
                self.blocks.reasoning.sign(delta["signature"])
        return NOTHING

    def _block_stop(self, _: JsonObject) -> Batch:
        return self.blocks.close()

    def _message_delta(self, event: JsonObject) -> Batch:
        self._told.add(event.get("usage"))
        reason = event["delta"].get("stop_reason")
        if not reason or self.finished:
            return NOTHING
        end = self.blocks.end(finish_in(_FINISH, reason, calls=self.blocks.calls))
        self.finished = True
        return end

    def _error(self, event: JsonObject) -> Batch:
        raise in_band(event)


def _joined(first: Batch, second: Batch) -> Batch:
    return first[0] + second[0], first[1] or second[1]


_TAKE: Mapping[str, Callable[[StreamCodec, JsonObject], Batch]] = {
    "content_block_delta": StreamCodec._delta,
    "content_block_start": StreamCodec._block_start,
    "content_block_stop": StreamCodec._block_stop,
    "message_start": StreamCodec._start,
    "message_delta": StreamCodec._message_delta,
    "error": StreamCodec._error,
}
