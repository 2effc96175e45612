"""What OpenAI's hosted tools leave in an answer, and the events by which a stream tells it.

By the types of openai 3.54: `ResponseOutputItem` and `ResponseStreamEvent`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Item = dict[str, Any]

SEARCH: Item = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "capital of France", "queries": ["capital of France"]},
}
FILES: Item = {
    "id": "fs_1",
    "type": "file_search_call",
    "status": "completed",
    "queries": ["capital"],
    "results": [{"file_id": "file-1", "filename": "a.txt", "score": 0.9, "text": "Paris", "attributes": {}}],
}
CODE: Item = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "status": "completed",
    "code": "print(1)",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "1"}],
}
PICTURE: Item = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="}
LISTED: Item = {
    "id": "mcpl_1",
    "type": "mcp_list_tools",
    "server_label": "maps",
    "tools": [{"name": "find", "input_schema": {"type": "object"}, "description": "Finds", "annotations": None}],
}
MCP: Item = {
    "id": "mcp_1",
    "type": "mcp_call",
    "server_label": "maps",
    "name": "find",
    "arguments": '{"q": "Paris"}',
    "output": "48.85, 2.35",
    "status": "completed",
}
ASKED: Item = {"id": "mcpr_1", "type": "mcp_approval_request", "server_label": "maps", "name": "f", "arguments": "{}"}
SCREEN: Item = {
    "id": "cu_1",
    "type": "computer_call",
    "call_id": "call_cu",
    "status": "completed",
    "pending_safety_checks": [],
    "action": {"type": "screenshot"},
}
CUSTOM: Item = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "call_id": "call_ctc",
    "name": "apply_patch",
    "input": "*** Begin\n*** End",
}
HOSTED: Mapping[str, Item] = {
    item["type"]: item for item in (SEARCH, FILES, CODE, PICTURE, LISTED, MCP, ASKED, SCREEN, CUSTOM)
}
CITED: Item = {"type": "url_citation", "start_index": 0, "end_index": 5, "url": "https://x.example", "title": "X"}
OF_FILE: Item = {"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 5}

# The states that an item's own events tell, in their order.
_STATES = {
    "web_search_call": ("in_progress", "searching", "completed"),
    "file_search_call": ("in_progress", "searching", "completed"),
    "code_interpreter_call": ("in_progress", "interpreting", "completed"),
    "image_generation_call": ("in_progress", "generating", "completed"),
    "mcp_list_tools": ("in_progress", "completed"),
    "mcp_call": ("in_progress", "completed"),
}
# What a stream tells of an item before it is done: the item's field, and the name of the events.
_TOLD = {
    "code_interpreter_call": ("code", "code_interpreter_call_code"),
    "mcp_call": ("arguments", "mcp_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}


def events_of(item: Item, where: Mapping[str, Any]) -> Iterator[Item]:
    """Yield what stands between `output_item.added` and `output_item.done`. `where` has the item's id and index."""
    kind = item["type"]
    first, *others = _STATES.get(kind, ("",))
    if first:
        yield {"type": f"response.{kind}.{first}", **where}
    if kind in _TOLD:
        name, event = _TOLD[kind]
        text = item[name]
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield {"type": f"response.{event}.delta", **where, "delta": piece}
        yield {"type": f"response.{event}.done", **where, name: text}
    if kind == "image_generation_call":
        yield {
            "type": f"response.{kind}.partial_image",
            **where,
            "partial_image_index": 0,
            "partial_image_b64": "aA==",
        }
    for state in others:
        yield {"type": f"response.{kind}.{state}", **where}


def opened(item: Item) -> Item:
    """Return an item as `output_item.added` has it."""
    empty = {name: "" for name in ("code", "arguments", "input") if name in item and item["type"] in _TOLD}
    state = {"status": "in_progress"} if "status" in item else {}
    result = {"result": None} if "result" in item else {}
    return {**item, **empty, **state, **result}
