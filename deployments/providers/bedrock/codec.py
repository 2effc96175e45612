"""The codec from Bedrock's Converse to OpenAI chat completions: the answer, whole and streamed. Pure."""

from base64 import b64decode, b64encode
from dataclasses import dataclass

from deployments.errors import failed
from deployments.openai_api.chat import Head, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, whole_number
from deployments.openai_api.usage import has_counts, with_tier
from deployments.providers.base import Call
from deployments.providers.bedrock.options import tier_in
from deployments.providers.bedrock.request import to_converse
from deployments.providers.claude.thoughts import signer_of
from deployments.providers.translation.blocks import NOTHING, Batch, BlockAnswer, BlockStream, Reasoning, finish_in
from deployments.providers.translation.offer import call_limit

__all__ = ["StreamCodec", "finish_of", "from_converse", "to_converse", "usage_from"]

# All of botocore's enum `StopReason` but `malformed_model_output` and `malformed_tool_use`, which are failures.
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


def finish_of(reason: str, *, calls: int = 0) -> str:
    """Return OpenAI's finish reason. Raises `server_error` for an answer that is spoiled, or for an unknown word."""
    return finish_in(_FINISH, reason, calls=calls)


def from_converse(response: JsonObject, call: Call) -> tuple[bytes, JsonDict | None]:
    """Return the completion's JSON body and its usage."""
    message = (response.get("output") or {}).get("message")
    if not message or not response.get("stopReason"):
        raise failed("malformed", "the provider's answer has no output or no stop reason", status=200)
    usage = with_tier(usage_from(response.get("usage") or {}), tier_in(response))
    answer = BlockAnswer(_reasoning_of(call.model), call_limit(call.body))
    for block in message["content"]:
        if "text" in block:
            answer.text(block["text"])
        elif "toolUse" in block:
            use = block["toolUse"]
            answer.call(use["toolUseId"], use["name"], use.get("input"))
        elif "reasoningContent" in block:
            thought = block["reasoningContent"]
            text = _keep(answer.reasoning, thought.get("reasoningText") or thought)
            if text:
                answer.reasoning.say(text)
            answer.reasoning.close()
    finish = finish_of(response["stopReason"], calls=len(answer.calls))
    return answer.completion(call.name, finish, usage), usage


def usage_from(usage: JsonObject) -> JsonDict | None:
    """Return OpenAI's usage; None if Converse tells no tokens."""
    # Converse counts cached tokens beside the input, OpenAI within it.
    told = [usage.get(f"{name}Tokens") for name in ("input", "cacheReadInput", "cacheWriteInput", "output")]
    if not has_counts(told):
        return None
    fresh, cached, written, completion = (whole_number(figure) or 0 for figure in told)
    prompt = fresh + cached + written
    return usage_of(prompt, completion, cached=cached, written=written, lifetimes=_lifetimes_in(usage, written))


_LIFETIMES = {"5m": "ephemeral_5m_input_tokens", "1h": "ephemeral_1h_input_tokens"}


def _lifetimes_in(usage: JsonObject, written: int) -> dict[str, int] | None:
    """Return what a cache has written, by its lifetime; None if Converse does not tell all of it."""
    counts = dict.fromkeys(_LIFETIMES.values(), 0)
    details = usage.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        name = _LIFETIMES.get(str(detail.get("ttl"))) if isinstance(detail, dict) else None
        if name is not None:
            counts[name] += whole_number(detail.get("inputTokens")) or 0
    return counts if written and sum(counts.values()) == written else None


def _reasoning_of(model: str) -> Reasoning:
    return Reasoning("bedrock", signer_of(model), lambda data: b64encode(data).decode())


def _keep(reasoning: Reasoning, delta: JsonObject) -> str:
    """Keep what can't be shown of a delta, and return what can."""
    redacted = delta.get("redactedContent") or b""  # on the wire it is in base64
    reasoning.redact(b64decode(redacted) if isinstance(redacted, str) else redacted)
    if signature := delta.get("signature"):
        reasoning.sign(signature)
    return delta.get("text") or ""


@dataclass(slots=True)
class StreamCodec:
    """Converse's events to frames. `finished` with messageStop, `usage` comes after it."""

    head: Head
    blocks: BlockStream
    finished: bool = False
    usage: JsonDict | None = None

    @classmethod
    def of(cls, head: Head, model: str = "", limit: int | None = None) -> "StreamCodec":
        """Return the codec of a model's stream. `limit` is how many calls it may hold."""
        return cls(head, BlockStream(head, _reasoning_of(model), limit))

    def frames(self, event: JsonObject) -> Batch:
        """Return the frames of one event, and whether they hold content."""
        if "contentBlockDelta" in event:
            delta = event["contentBlockDelta"]["delta"]
            if text := delta.get("text"):
                return self.blocks.text(text)
            return self._delta(delta)
        if "messageStart" in event:
            return self.blocks.begin()
        if "contentBlockStart" in event:
            use = (event["contentBlockStart"].get("start") or {}).get("toolUse")
            return self.blocks.call(use["toolUseId"], use["name"]) if use else NOTHING
        if "contentBlockStop" in event:
            return self.blocks.close()
        if "messageStop" in event:
            self.finished = True
            return self.blocks.end(finish_of(event["messageStop"]["stopReason"], calls=self.blocks.calls))
        if "metadata" in event:
            told = event["metadata"]
            self.usage = with_tier(usage_from(told.get("usage") or {}), tier_in(told)) or self.usage
        return NOTHING

    def _delta(self, delta: JsonObject) -> Batch:
        if "toolUse" in delta:
            return self.blocks.arguments(delta["toolUse"].get("input") or "")
        if "reasoningContent" in delta:
            return self.blocks.think(_keep(self.blocks.reasoning, delta["reasoningContent"]))
        return NOTHING
