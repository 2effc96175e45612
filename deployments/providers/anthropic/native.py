"""A request of the Messages API as its client wrote it, and the server's own answer to it. Pure.

The answer goes on as it came: whole, or event by event. It is only watched: where its content begins, what it has used,
and whether it is whole. So what no chat has words for (tools that Anthropic's servers run, citations) is not lost.

A request is changed where Anthropic would refuse it for what Breakwater has done: for a turn that another provider has
answered, and for a model of a row that is of another version than its client knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deployments.errors import failed
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.openai_api.message_fields import is_blank
from deployments.providers.anthropic.classify import in_band
from deployments.providers.anthropic.codec import Counts, usage_from
from deployments.providers.anthropic.request import GONE, Terms
from deployments.providers.base import Call, Completed
from deployments.providers.claude.thinking import takes_thinking, thinking_model, thinking_of
from deployments.providers.claude.thoughts import signed_block, thoughts_for
from deployments.providers.renaming.call_ids import tool_use_id
from deployments.providers.sse import named_frame
from deployments.providers.translation.blocks import NOTHING, Batch

_OURS = "extra_content"  # of the body: what we are told. As the type of a block: what an envelope held
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_NO_USAGE: JsonObject = {}


def native_body(call: Call, terms: Terms, *, stream: bool) -> tuple[JsonDict, Sequence[str]]:
    """Return the request's body, and the betas that its client wants."""
    body = {**call.body, "model": call.model}
    told = body.pop(_OURS)
    body["messages"] = _messages(body["messages"], call.model, terms)
    if stream:
        body["stream"] = True
    if not body.get("tools") and (names := dict.fromkeys(_called(body["messages"]))):
        tools = [{"name": name, "description": GONE, "input_schema": {"type": "object"}} for name in names]
        body |= {"tools": tools, "tool_choice": {"type": "none"}}  # what the history called must be named
    _think(body, told["effort"])
    return body, told["betas"]


def _messages(given: Sequence[JsonObject], model: str, terms: Terms) -> list[JsonObject]:
    """Return the messages. Of an earlier answer those thoughts are left out that can't go back."""
    messages = list[JsonObject]()
    for message in given:
        content = message["content"]
        if isinstance(content, str):
            messages.append(message)
            continue
        is_answer = message["role"] == "assistant"
        blocks = [one for block in content for one in (_answered(block, model, terms) if is_answer else [_said(block)])]
        if blocks or not content:
            same = len(blocks) == len(content) and all(map(_is, blocks, content))
            messages.append(message if same else {**message, "content": blocks})
    return messages


def _is(one: object, other: object) -> bool:
    return one is other


def _answered(block: JsonObject, model: str, terms: Terms) -> list[JsonObject]:
    """Return a block of an earlier answer, which another provider may have given."""
    kind = block["type"]
    if kind == _OURS:
        held = block[_OURS]
        extras = [held["message"], *held["calls"].values()] if held and terms.thoughts else []
        return [signed_block(kept) for extra in extras for kept in thoughts_for("anthropic", model, extra)]
    if kind == "tool_use":
        key = tool_use_id(block["id"])
        return [block if key == block["id"] else {**block, "id": key}]
    if (kind in _THOUGHTS and not terms.thoughts) or (kind == "text" and is_blank(block["text"])):
        return []
    return [block]


def _said(block: JsonObject) -> JsonObject:
    if block["type"] != "tool_result":
        return block
    key = tool_use_id(block["tool_use_id"])
    return block if key == block["tool_use_id"] else {**block, "tool_use_id": key}


def _called(messages: Sequence[JsonObject]) -> Iterator[str]:
    for message in messages:
        if message["role"] == "assistant" and not isinstance(message["content"], str):
            yield from (block["name"] for block in message["content"] if block["type"] == "tool_use")


def _think(body: JsonDict, effort: str | None) -> None:
    """Say how much the model is to think in the words of its version, and where it can't think now, not at all.

    A client asks for what it knows of the model that it names, and a row may have another. With a budget the step that
    goes on must begin with thoughts, and it does not where another provider has begun it (claude/thinking.py).
    """
    if effort is None or (how := thinking_model(body["model"])) is None:
        return
    given = body.get("thinking")
    can_begin = _can_begin(body["messages"])
    if given is not None and (not takes_thinking(how, given["type"]) or (given["type"] == "enabled" and not can_begin)):
        limits = {"reasoning_effort": effort, "max_tokens": body["max_tokens"]}
        forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
        wanted, thinking = thinking_of(limits, body["model"], forced=forced, can_begin=can_begin)
        _put(body, "thinking", thinking)
        _put_effort(body, wanted)
    elif not how.takes_effort:
        _put_effort(body, None)


def _put(body: JsonDict, name: str, value: JsonValue) -> None:
    if value:
        body[name] = value
    else:
        body.pop(name, None)


def _put_effort(body: JsonDict, effort: str | None) -> None:
    others = {name: value for name, value in (body.get("output_config") or {}).items() if name != "effort"}
    _put(body, "output_config", others if effort is None else {**others, "effort": effort})


def _can_begin(messages: Sequence[JsonObject]) -> bool:
    """Return whether an answer begins here, or goes on behind calls that have their thoughts."""
    if not messages:  # nothing of an empty turn is left: the server says so
        return True
    if messages[-1]["role"] == "assistant":
        return False
    step = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    if step is None or isinstance(content := step["content"], str) or not content:
        return True
    return content[0]["type"] in _THOUGHTS or not any(block["type"] == "tool_use" for block in content)


def native_answer(message: JsonObject, data: bytes) -> Completed:
    """Return a whole answer, of which `data` are the bytes.

    Raises AttemptFailed, also for an error under status 200.
    """
    if message.get("type") == "error":
        raise in_band(message)
    if not message.get("stop_reason"):
        raise failed("malformed", "the provider's answer has no stop reason", status=200)
    if not isinstance(message["content"], list):
        raise failed("malformed", "the provider's answer has no list of content", status=200)
    body = data if data.lstrip()[:1] == b"{" else dump(message)
    return Completed(body, usage_from(message.get("usage") or _NO_USAGE), native=True)


@dataclass(slots=True)
class NativeReader:
    """One stream. `finished`, `usage` and `model` are as of `StreamCodec`."""

    finished: bool = False
    model: JsonValue = None
    _told: Counts = field(default_factory=Counts)

    @property
    def usage(self) -> JsonDict | None:
        return self._told.usage

    def frames(self, event: JsonObject, data: bytes) -> Batch:
        """Return the frame of one event, of which `data` are the bytes, and whether it holds content.

        Raises AttemptFailed for an error.
        """
        kind = event["type"]
        content = False
        if kind == "content_block_delta":
            content = _says(event["delta"])
        elif kind == "content_block_start":
            content = _opens(event["content_block"])
        elif kind == "message_delta":
            self._told.add(event.get("usage"))
            content = bool(event["delta"].get("stop_reason"))
            self.finished = self.finished or content
        elif kind == "message_start":
            self.model = event["message"].get("model")
            self._told.add(event["message"].get("usage"))
        elif kind == "error":
            raise in_band(event)
        elif not kind.isidentifier():
            return NOTHING  # no name of an event: it would stand in a line of its own
        return named_frame(kind, event, data), content


_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _says(delta: JsonObject) -> bool:
    kind = delta["type"]
    return bool(delta[_TEXTS[kind]]) if kind in _TEXTS else kind != "signature_delta"


def _opens(block: JsonObject) -> bool:
    """Return whether a block says something before its first delta: a call does, and what a tool is at work for."""
    kind = block["type"]
    return bool(block.get(kind)) if kind in ("text", "thinking") else kind != "redacted_thinking"
