"""The codec from Bedrock's Converse to OpenAI chat completions: the answer, whole and streamed. Pure."""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import Head, chunk, completion_of, dump, usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, whole_number
from deployments.openai_api.usage import has_counts
from deployments.providers.base import Call
from deployments.providers.bedrock.request import to_converse
from deployments.providers.choice import admits, arguments_delta, call_delta, choice, tool_call
from deployments.providers.offer import call_limit

__all__ = ["StreamCodec", "finish_of", "from_converse", "to_converse", "usage_from"]

# All of botocore's enum `StopReason` but `malformed_model_output` and `malformed_tool_use`, which are failures, as is
# each word that is not known: nobody can tell whether such an answer is whole.
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
    if (finish := _FINISH.get(reason)) is None:
        raise failed("server_error", f"the model stopped with {reason}", code=reason)
    if finish in ("stop", "tool_calls"):  # the stop reason does not always agree with the calls
        return "tool_calls" if calls else "stop"
    return finish


def from_converse(response: JsonObject, call: Call) -> tuple[bytes, JsonDict | None]:
    """Return the completion's JSON body and its usage."""
    message = (response.get("output") or {}).get("message")
    if not message or not response.get("stopReason"):
        raise failed("malformed", "the provider's answer has no output or no stop reason", status=200)
    usage = usage_from(response.get("usage") or {})
    texts: list[str] = []
    calls: list[JsonDict] = []
    reasoning = Reasoning()
    extra: JsonDict | None = None  # what is signed before the first text, as in a stream
    for block in message["content"]:
        if "text" in block:
            texts.append(block["text"])
            extra = extra or reasoning.kept()
        elif "toolUse" in block:
            use = block["toolUse"]
            if admits(len(calls), call_limit(call.body)):
                calls.append(tool_call(use["toolUseId"], use["name"], use.get("input"), reasoning.kept()))
        elif "reasoningContent" in block:
            reasoning.take_block(block["reasoningContent"])
    finish = finish_of(response["stopReason"], calls=len(calls))
    extra = extra or reasoning.kept()
    made = choice(0, "".join(texts), finish, tool_calls=calls, reasoning="".join(reasoning.texts), extra=extra)
    return dump(completion_of(Head.new(call.name), [made], usage)), usage


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


MOST_REASONING = 16 * 1024 * 1024  # characters: all of it is kept, and goes back with the call that it belongs to


@dataclass(slots=True)
class Reasoning:
    """The reasoning so far, and its signed blocks until the call or the end that they belong to."""

    texts: list[str] = field(default_factory=list)
    _open: dict[str, str] = field(default_factory=dict)
    _redacted: bytes = b""
    _blocks: list[dict[str, str]] = field(default_factory=list)
    _size: int = 0

    def take_block(self, block: JsonObject) -> None:
        self.take_delta(block.get("reasoningText") or block)
        self.close()

    def take_delta(self, delta: JsonObject) -> str:
        """Keep a delta, and return the part of it that can be shown."""
        redacted = delta.get("redactedContent") or b""  # on the wire it is in base64
        self._size += len(redacted) + len(delta.get("signature") or "") + len(delta.get("text") or "")
        if self._size > MOST_REASONING:
            raise failed("malformed", f"more than {MOST_REASONING // 2**20} MiB of reasoning", status=200)
        self._redacted += b64decode(redacted) if isinstance(redacted, str) else redacted
        if signature := delta.get("signature"):
            self._open["signature"] = self._open.get("signature", "") + signature
        text = delta.get("text") or ""
        if text:
            self.texts.append(text)
            self._open["text"] = self._open.get("text", "") + text
        return text

    def close(self) -> None:
        """End a block, and keep it if it is signed: Bedrock takes no other back."""
        if "signature" in self._open:
            self._blocks.append({"text": self._open.get("text", ""), "signature": self._open["signature"]})
        if self._redacted:
            self._blocks.append({"redacted": b64encode(self._redacted).decode()})
        self._open, self._redacted = {}, b""

    def kept(self) -> JsonDict | None:
        """Return the signed blocks since the last call, as `extra_content`."""
        blocks, self._blocks = self._blocks, []
        return {"bedrock": {"reasoning": blocks}} if blocks else None


@dataclass(slots=True)
class StreamCodec:
    """Converse's events to frames. `finished` with messageStop, `usage` comes after it."""

    head: Head
    limit: int | None = None  # of calls
    finished: bool = False
    usage: JsonDict | None = None
    _calls: int = 0
    _open: str | None = None  # the arguments' state of the call that is open: None, "empty", "begun", "withheld"
    _reasoning: Reasoning = field(default_factory=Reasoning)
    _told: bool = False

    def frames(self, event: JsonObject) -> tuple[bytes, bool]:
        """Return the frames of one event, and whether they hold content."""
        if "contentBlockDelta" in event:
            delta = event["contentBlockDelta"]["delta"]
            text = delta.get("text")
            if not text:
                return self._delta(delta)
            extra = self._extra()
            return chunk(self.head, {"content": text, "extra_content": extra} if extra else {"content": text}), True
        if "messageStart" in event:
            return chunk(self.head, {"role": "assistant", "content": ""}), False
        if "contentBlockStart" in event:
            return self._block_start(event["contentBlockStart"].get("start") or {})
        if "contentBlockStop" in event:
            return self._block_stop()
        if "messageStop" in event:
            return self._stop(event["messageStop"]["stopReason"]), True
        if "metadata" in event:
            self.usage = usage_from(event["metadata"].get("usage") or {}) or self.usage
        return b"", False

    def _extra(self) -> JsonDict | None:
        """Return what is signed before a text or the end, once: clients can't join two lists of objects.

        A client of another API must have it before the text: there the signature is a part of the thoughts.
        """
        extra = None if self._told else self._reasoning.kept()
        self._told = self._told or extra is not None
        return extra

    def _delta(self, delta: JsonObject) -> tuple[bytes, bool]:
        if "toolUse" in delta:
            fragment = delta["toolUse"].get("input") or ""
            if not fragment or self._open not in ("empty", "begun"):
                return b"", False
            self._open = "begun"
            return chunk(self.head, arguments_delta(self._calls - 1, fragment)), True
        if "reasoningContent" in delta and (text := self._reasoning.take_delta(delta["reasoningContent"])):
            return chunk(self.head, {"reasoning_content": text}), True
        return b"", False

    def _block_start(self, start: JsonObject) -> tuple[bytes, bool]:
        use = start.get("toolUse")
        if not use:
            return b"", False
        if not admits(self._calls, self.limit):
            self._open = "withheld"
            return b"", False
        self._open, self._calls = "empty", self._calls + 1
        call = tool_call(use["toolUseId"], use["name"], "", self._reasoning.kept())
        return chunk(self.head, call_delta(self._calls - 1, call)), True

    def _block_stop(self) -> tuple[bytes, bool]:
        self._reasoning.close()
        was, self._open = self._open, None
        # A call without arguments streams none; OpenAI's are always an object.
        return (chunk(self.head, arguments_delta(self._calls - 1, "{}")), True) if was == "empty" else (b"", False)

    def _stop(self, reason: str) -> bytes:
        self.finished = True
        extra = self._extra()
        data = chunk(self.head, {"extra_content": extra}) if extra else b""
        return data + chunk(self.head, {}, finish_of(reason, calls=self._calls))
