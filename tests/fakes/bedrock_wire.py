"""Bedrock's Converse on the wire: JSON, and ConverseStream's binary event stream.

A message is: total length, headers length, CRC of those two; headers; payload; CRC of all before.
"""

import base64
import binascii
import itertools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.converse_model import model_objection
from tests.fakes.tool_use import Called, Result, Talk, calls_to, pieces, text_of
from tests.fakes.vectors import vector
from tests.fakes.vendors import anthropic

THOUGHT = {"text": "I should look it up.", "signature": "c2lnLWJlZHJvY2s="}
# Anthropic's signatures hold here too: page "Extended thinking".
SIGNED = (THOUGHT, {"text": anthropic.THOUGHT["thinking"], "signature": anthropic.THOUGHT["signature"]})
USAGE = {"inputTokens": 7, "outputTokens": 5, "totalTokens": 12}


def event(kind: str, payload: Mapping[str, Any], *, exception: bool = False) -> bytes:
    """One message of the event stream."""
    names = (":exception-type", "exception") if exception else (":event-type", "event")
    headers = {names[0]: kind, ":content-type": "application/json", ":message-type": names[1]}
    head = b"".join(
        struct.pack("!B", len(k)) + k.encode() + struct.pack("!BH", 7, len(v)) + v.encode() for k, v in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 12 + len(head) + len(body) + 4, len(head))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + head + body
    return message + struct.pack("!I", binascii.crc32(message))


class BedrockWire:
    stream_type = "application/vnd.amazon.eventstream"

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return path.endswith("/converse-stream")

    def whole(self, words: Sequence[str]) -> bytes:
        return self._whole([{"text": "".join(words)}], "end_turn")

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        said = [{"text": "".join(words)}] if words else []
        uses = [{"toolUse": {**self._start(c), "input": c.arguments}} for c in calls]
        return self._whole([{"reasoningContent": {"reasoningText": THOUGHT}}, *said, *uses], "tool_use")

    def _whole(self, content: list[dict[str, Any]], reason: str) -> bytes:
        message = {"role": "assistant", "content": content}
        return json.dumps(
            {"output": {"message": message}, "stopReason": reason, "usage": USAGE, "metrics": {"latencyMs": 9}}
        ).encode()

    def _start(self, called: Called) -> dict[str, str]:
        return {"toolUseId": f"tooluse_up-{called.key}", "name": called.name}

    def frames(self, words: Sequence[str]) -> list[bytes]:
        return self._frames([(None, [{"text": w} for w in words])], "end_turn")

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        thought = [
            {"reasoningContent": {"text": THOUGHT["text"]}},
            {"reasoningContent": {"signature": THOUGHT["signature"]}},
        ]
        blocks: list[tuple[dict[str, str] | None, list[dict[str, Any]]]] = [(None, thought)]
        if words:
            blocks.append((None, [{"text": word} for word in words]))
        for called in calls:
            inputs = [{"toolUse": {"input": piece}} for piece in pieces(json.dumps(called.arguments))]
            blocks.append((self._start(called), inputs))
        return self._frames(blocks, "tool_use")

    def _frames(self, blocks: list[tuple[dict[str, str] | None, list[dict[str, Any]]]], reason: str) -> list[bytes]:
        frames = [event("messageStart", {"role": "assistant"})]
        for at, (start, deltas) in enumerate(blocks):
            if start is not None:  # only a tool's block is announced
                frames.append(event("contentBlockStart", {"start": {"toolUse": start}, "contentBlockIndex": at}))
            frames += [event("contentBlockDelta", {"delta": d, "contentBlockIndex": at}) for d in deltas]
            frames.append(event("contentBlockStop", {"contentBlockIndex": at}))
        return [
            *frames,
            event("messageStop", {"stopReason": reason}),
            event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}}),
        ]

    def closing(self) -> int:
        return 2

    def error(self, status: int, code: str | None, message: str) -> bytes:
        return json.dumps({"message": message}).encode()

    def error_headers(self, status: int, code: str | None) -> dict[str, str]:
        known = {
            400: "ValidationException",
            401: "UnrecognizedClientException",
            403: "AccessDeniedException",
            404: "ResourceNotFoundException",
            429: "ThrottlingException",
            500: "InternalServerException",
            503: "ServiceUnavailableException",
        }
        return {"x-amzn-errortype": code or known[status]}

    def in_band_error(self, code: str | None = None) -> bytes:
        return event(code or "internalServerException", {"message": "the engine fell over"}, exception=True)

    def malformed(self) -> bytes:
        """A message whose checksum is wrong."""
        message = bytearray(event("contentBlockDelta", {"delta": {"text": "x"}, "contentBlockIndex": 0}))
        message[-5] ^= 1
        return bytes(message)

    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        if not path.endswith("/invoke"):
            return None
        if "inputText" in body:
            made = vector(body["inputText"], body.get("dimensions") or 1024)
            return json.dumps({"embedding": made, "inputTextTokenCount": 3}).encode(), {}
        vectors = [vector(text, body.get("output_dimension") or 1024) for text in body["texts"]]
        answer = {"id": "1", "texts": body["texts"], "embeddings": {"float": vectors}, "response_type": "by_type"}
        return json.dumps(answer).encode(), {"x-amzn-bedrock-input-token-count": str(3 * len(vectors))}

    def calls(self, body: Mapping[str, Any]) -> list[Called]:
        if "toolResult" in body["messages"][-1]["content"][-1]:
            return []
        specs = [tool["toolSpec"] for tool in (body.get("toolConfig") or {}).get("tools", ()) if "toolSpec" in tool]
        return calls_to([(s["name"], s["inputSchema"]["json"]) for s in specs], len(body["messages"]))

    def talk(self, body: Mapping[str, Any]) -> Talk:
        blocks = [block for message in body["messages"] for block in message["content"]]
        results = [block["toolResult"] for block in blocks if "toolResult" in block]
        said = {result["toolUseId"]: text_of(result["content"]) for result in results}
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        done = [Result(use["name"], use["input"], said[use["toolUseId"]]) for use in uses if use["toolUseId"] in said]
        tools = (body.get("toolConfig") or {}).get("tools", ())
        return Talk(frozenset(tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool), done)

    def objection(self, path: str, body: Mapping[str, Any]) -> str | None:
        return model_objection(path, body) or objection(body)

    def told_whole(self, body: Mapping[str, Any], answer: bytes) -> bytes:
        """The answer with what it tells of its request's options: AWS, API reference, Converse, response elements."""
        told = {**json.loads(answer), **_told(body)}
        if _is_guarded(body):
            told |= {"output": {"message": {"role": "assistant", "content": [{"text": BLOCKED}]}}}
            told |= {"stopReason": "guardrail_intervened", **_assessed(body)}
        return json.dumps(told).encode()

    def told_frames(self, body: Mapping[str, Any], frames: list[bytes]) -> list[bytes]:
        """The same of a stream, whose last event tells it: AWS, API reference, ConverseStreamMetadataEvent."""
        more = {**_told(body), **(_assessed(body) if _is_guarded(body) else {})}
        if _is_guarded(body):
            frames = self._frames([(None, [{"text": BLOCKED}])], "guardrail_intervened")
        last = event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 9}, **more})
        return [*frames[:-1], last] if more else frames


# A guardrail with a denied topic, and the words with which it answers in place of the model (AWS, user guide, Use a
# guardrail with the Converse API).
TOPIC, BLOCKED = "the forbidden topic", "Sorry, the model cannot answer this question."


def _is_guarded(body: Mapping[str, Any]) -> bool:
    return "guardrailConfig" in body and TOPIC in json.dumps(body["messages"])


def _told(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in ("serviceTier", "performanceConfig") if name in body}


def _assessed(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the guardrail has found, for who asks for it: it names the guardrail's ARN, account and all."""
    if body["guardrailConfig"].get("trace", "disabled") == "disabled":
        return {}
    found = {"topicPolicy": {"topics": [{"name": "forbidden", "type": "DENY", "action": "BLOCKED"}]}}
    return {"trace": {"guardrail": {"inputAssessment": {body["guardrailConfig"]["guardrailIdentifier"]: found}}}}


def objection(body: Mapping[str, Any]) -> str | None:
    """What Converse would call a ValidationException, beyond what boto3 checks."""
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    if roles[:1] != ["user"] or any(a == b for a, b in itertools.pairwise(roles)):
        return f"roles must alternate, the user first: {roles}"
    blocks = [block for message in messages for block in message["content"]]
    if not all(message["content"] for message in messages):
        return "a message without content"
    if any("text" in block and not block["text"].strip() for block in [*blocks, *body.get("system", [])]):
        return "text content blocks must be non-empty"
    if any("toolUse" in block or "toolResult" in block for block in blocks) and not body.get("toolConfig"):
        return "the toolConfig field must be defined when using toolUse and toolResult content blocks"
    last = messages[-1]["content"][-1]
    if roles[-1] == "assistant" and "text" in last and last["text"] != last["text"].rstrip():
        return "final assistant content cannot end with trailing whitespace"  # langchain-ai/langchain-aws#599
    for block in blocks:
        thought = block.get("reasoningContent", {}).get("reasoningText")
        if thought and thought not in SIGNED:
            return "invalid signature in a thinking block"
    return _image_objection(blocks) or _cache_objection(body) or _tool_objection(messages)


_MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def _image_objection(blocks: Sequence[Mapping[str, Any]]) -> str | None:
    """The image must be what it says, in a result of a tool too (NousResearch/hermes-agent#70224)."""
    inner = [b for block in blocks for b in (block, *block.get("toolResult", {}).get("content", ()))]
    for image in [b["image"] for b in inner if "image" in b]:
        data, kind = image["source"]["bytes"], image["format"]
        data = data if isinstance(data, bytes) else base64.b64decode(data, validate=True)
        real = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), kind)
        if kind not in _MAGIC.values() or kind != real:
            return f"the image was specified using the image/{kind} media type, but it appears to be image/{real}"
    return None


def _cache_objection(body: Mapping[str, Any]) -> str | None:
    """AWS, Prompt caching: four points at most, each behind what it covers."""
    tools = (body.get("toolConfig") or {}).get("tools", [])
    lists = [tools, body.get("system", []), *(message["content"] for message in body["messages"])]
    if sum("cachePoint" in block for blocks in lists for block in blocks) > 4:
        return "too many cache points"
    for blocks in lists:
        if any("cachePoint" in b and (at == 0 or "cachePoint" in blocks[at - 1]) for at, b in enumerate(blocks)):
            return "a cache point that covers nothing"
    return None


def _tool_objection(messages: Sequence[Mapping[str, Any]]) -> str | None:
    waiting: list[str] = []
    seen: set[str] = set()
    for message in messages:
        results = [b["toolResult"]["toolUseId"] for b in message["content"] if "toolResult" in b]
        kinds = ["toolResult" in b for b in message["content"] if "cachePoint" not in b]
        if kinds != sorted(kinds, reverse=True):
            return "tool results must come before all else in their turn"  # Anthropic, Handle tool calls
        if sorted(results) != sorted(waiting):
            return f"toolResult {results} where toolUse {waiting} wait"
        waiting = [b["toolUse"]["toolUseId"] for b in message["content"] if "toolUse" in b]
        if not seen.isdisjoint(waiting) or len(set(waiting)) < len(waiting):
            return f"tool_use ids must be unique: {waiting}"
        seen |= set(waiting)
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", key) for key in waiting):
            return f"invalid toolUseId among {waiting}"
    return f"toolUse {waiting} without a result" if waiting else None
