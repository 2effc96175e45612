"""Anthropic's Messages with all that an answer of it may hold, each event a frame of its own.

The blocks are those of anthropic 2.14: what its servers have done (`ServerToolUseBlock`), and citations of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.anthropic_wire import THOUGHT, USAGE, AnthropicWire, Block, event
from tests.fakes.tool_use import Called, pieces
from tests.fakes.vendors.anthropic import REDACTED

SEARCH: Block = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "Paris"},
    "caller": {"type": "direct"},
}
HIT: Block = {
    "type": "web_search_result",
    "url": "https://x.example",
    "title": "X",
    "encrypted_content": "Eqgf",
    "page_age": None,
}
HITS: Block = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [HIT],
    "caller": {"type": "direct"},
}
CITED: Block = {
    "type": "web_search_result_location",
    "url": "https://x.example",
    "title": "X",
    "encrypted_index": "Eo8B",
    "cited_text": "Paris is the capital.",
}
WRITTEN = {**USAGE, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 20, "output_tokens": 9}
WRITTEN["cache_creation"] = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}


@dataclass
class EachEvent(AnthropicWire):
    """`before` are the blocks before the text, `ends` what the message ends with, and `more` further events."""

    before: list[Block] = field(default_factory=list)
    citations: list[Block] | None = None
    ends: Block = field(default_factory=dict)
    usage: Mapping[str, Any] = field(default_factory=lambda: USAGE)
    more: list[bytes] = field(default_factory=list)

    def content(self, words: Sequence[str], calls: Sequence[Called] = ()) -> list[Block]:
        text = "".join(words)
        said = [{"type": "text", "text": text, "citations": self.citations}] if text else []
        return [*self.before, *said, *map(self._use, calls)]

    def whole(self, words: Sequence[str]) -> bytes:
        return json.dumps({**self.message(self.content(words), "end_turn", self.usage), **self.ends}).encode()

    def whole_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> bytes:
        content = [{"type": "thinking", **THOUGHT}, *self.content(words, calls)]
        return json.dumps({**self.message(content, "tool_use", self.usage), **self.ends}).encode()

    def frames(self, words: Sequence[str]) -> list[bytes]:
        return self._events(self.content(words), words, "end_turn")

    def frames_calls(self, calls: Sequence[Called], words: Sequence[str] = ()) -> list[bytes]:
        return self._events([{"type": "thinking", **THOUGHT}, *self.content(words, calls)], words, "tool_use")

    def _events(self, content: Sequence[Block], words: Sequence[str], reason: str) -> list[bytes]:
        start = event("message_start", message=self.message([], None, {**self.usage, "output_tokens": 1}))
        made = [start, event("ping"), *self.more]
        for at, block in enumerate(content):
            bare, deltas = _opened(block, words)
            made.append(event("content_block_start", index=at, content_block=bare))
            made += [event("content_block_delta", index=at, delta=delta) for delta in deltas]
            made.append(event("content_block_stop", index=at))
        ending = {"stop_reason": reason, "stop_sequence": None, "stop_details": None, "container": None, **self.ends}
        return [*made, event("message_delta", delta=ending, usage=dict(self.usage)), event("message_stop")]


def _opened(block: Block, words: Sequence[str]) -> tuple[Block, list[Block]]:
    """A block as it opens, and its deltas."""
    match block["type"]:
        case "text":
            cited = [{"type": "citations_delta", "citation": one} for one in block["citations"] or ()]
            said = [{"type": "text_delta", "text": word} for word in words]
            return {**block, "text": "", "citations": [] if cited else None}, [*said, *cited]
        case "thinking":
            thought = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*thought, signed]
        case "tool_use" | "server_tool_use":
            text = json.dumps(block["input"]) if block["input"] else ""
            inputs = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(text) if piece]
            return {**block, "input": {}}, inputs or [{"type": "input_json_delta", "partial_json": ""}]
    return block, []


THINKING: Block = {"type": "thinking", **THOUGHT}
HIDDEN: Block = {"type": "redacted_thinking", "data": REDACTED}
