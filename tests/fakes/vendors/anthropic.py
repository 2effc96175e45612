"""Anthropic's own Messages API. What its models refuse by any API stands in `bedrock_claude.py`, and is asked there."""

import base64
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes import schema_rules
from tests.fakes.vendors import Asked, Refusal, Rule, bedrock_claude
from tests.fakes.vendors.bedrock import PREFIX

THOUGHT = {"thinking": "I should look it up.", "signature": "c2lnLWFudGhyb3BpYw=="}
REDACTED = "EmwKAhgBEgy3va3pzix-redacted"
# Anthropic's signatures hold on Bedrock, and Bedrock's here: page "Extended thinking". The fakes of both know both.
SIGNED_BY_BEDROCK = {"thinking": "I should look it up.", "signature": "c2lnLWJlZHJvY2s="}
SIGNED = (THOUGHT, SIGNED_BY_BEDROCK)

Body = Mapping[str, Any]


def refuse(message: str, kind: str = "invalid_request_error", status: int = 400) -> Refusal:
    """Return a refusal in Anthropic's shape: page "API errors"."""
    return Refusal(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"})


def headers(asked: Asked) -> Refusal | None:
    """Refuse a request without a version or a key: page "Versions", page "API overview"."""
    if not ({"x-api-key", "authorization"} & asked.headers.keys()):
        return refuse("x-api-key header is required", "authentication_error", 401)
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", asked.headers.get("anthropic-version", "")):
        return refuse("anthropic-version: header is required")
    return None


# What Claude Code 2.1.197 sends, and anthropic 2.14, `AnthropicBetaParam`. Each opens what stands behind it.
BETAS = {
    "claude-code-20250219": "",
    "interleaved-thinking-2025-05-14": "",
    "thinking-token-count-2026-05-13": "",
    "prompt-caching-scope-2026-01-05": "",
    "effort-2025-11-24": "",
    "context-1m-2025-08-07": "",
    "files-api-2025-04-14": "",
    "code-execution-2025-08-25": "",
    "context-management-2025-06-27": "context_management",
    "mcp-client-2025-11-20": "mcp_servers",
    "structured-outputs-2025-11-13": "output_format",
    "mid-conversation-system-2026-04-07": "system",
}


def _betas_of(asked: Asked) -> list[str]:
    return [one.strip() for one in asked.headers.get("anthropic-beta", "").split(",") if one.strip()]


def betas(asked: Asked) -> Refusal | None:
    """Refuse names that are no betas: QuantumNous/new-api#2975, anthropics/claude-code#53855."""
    if not (odd := [name for name in _betas_of(asked) if name not in BETAS]):
        return None
    names = ", ".join(f"`{name}`" for name in odd)
    return refuse(
        f"Unexpected value(s) {names} for the `anthropic-beta` header. Please consult our documentation at "
        "docs.anthropic.com or try again without the header."
    )


# anthropic 2.14, `MessageCreateParamsBase`, and what older versions of the API take: anything else is refused.
_FIELDS = frozenset(
    {
        *("model", "max_tokens", "messages", "system", "stream", "stop_sequences", "tools", "tool_choice", "thinking"),
        *("output_config", "metadata", "service_tier", "cache_control", "container", "diagnostics", "inference_geo"),
        *("speed", "temperature", "top_p", "top_k"),
    }
)
_BLOCKS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "cache_control"},
    "document": {"type", "source", "cache_control", "citations", "context", "title"},
    "tool_use": {"type", "id", "name", "input", "cache_control", "caller"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    # anthropic 2.14, `ContentBlockParam`
    "search_result": {"type", "source", "title", "content", "cache_control", "citations"},
    "container_upload": {"type", "file_id", "cache_control"},
    "server_tool_use": {"type", "id", "name", "input", "cache_control", "caller"},
    "web_search_tool_result": {"type", "tool_use_id", "content", "cache_control", "caller"},
    "code_execution_tool_result": {"type", "tool_use_id", "content", "cache_control"},
}


def fields(asked: Asked) -> Refusal | None:
    """Refuse a missing or an unknown field: API reference, "Create a message"; BerriAI/litellm#22821."""
    for name in ("model", "max_tokens", "messages"):
        if name not in asked.body:
            return refuse(f"{name}: Field required")
    opened = {BETAS[name] for name in _betas_of(asked) if name in BETAS}
    if unknown := asked.body.keys() - _FIELDS - opened:
        return refuse(f"{min(unknown)}: Extra inputs are not permitted")
    for path, block in _all_blocks(asked.body):
        if (known := _BLOCKS.get(block.get("type", ""))) is None:
            return refuse(f"{path}: Input tag '{block.get('type')}' found using 'type' does not match any of them")
        if unknown := block.keys() - known:
            return refuse(f"{path}.{block['type']}.{min(unknown)}: Extra inputs are not permitted")
    if unknown := asked.body.get("metadata", {}).keys() - {"user_id"}:
        return refuse(f"metadata.{min(unknown)}: Extra inputs are not permitted")
    if len(asked.body.get("metadata", {}).get("user_id") or "") > 256:
        return refuse("metadata.user_id: String should have at most 256 characters")
    return None


def _blocks_of(content: Any) -> list[Body]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _turns(body: Body) -> Iterator[tuple[str, str, list[Body]]]:
    for at, message in enumerate(body["messages"]):
        yield f"messages.{at}", message["role"], _blocks_of(message["content"])


def _all_blocks(body: Body) -> Iterator[tuple[str, Body]]:
    """Yield each block of the messages, those inside results too, and of the system prompt."""
    for at, block in enumerate(_blocks_of(body.get("system") or [])):
        yield f"system.{at}", block
    for path, _, blocks in _turns(body):
        for at, block in enumerate(blocks):
            yield f"{path}.content.{at}", block
            inner = block.get("content") if block.get("type") == "tool_result" else None
            for n, one in enumerate(_blocks_of(inner or [])):
                yield f"{path}.content.{at}.tool_result.content.{n}", one


def roles(asked: Asked) -> Refusal | None:
    """Refuse no messages, another role, or an opening by the assistant. Neighbours of one role are joined: "Messages".

    Reported by letta-ai/letta#1558 and microsoft/autogen#5621.
    """
    messages = asked.body["messages"]
    if not messages:
        return refuse("messages: at least one message is required")
    known = {"user", "assistant", *(BETAS[name] for name in _betas_of(asked) if name in BETAS)}
    if wrong := [m["role"] for m in messages if m["role"] not in known]:
        return refuse(f'messages: Unexpected role "{wrong[0]}".')
    if messages[0]["role"] != "user":
        return refuse('messages: first message must use the "user" role')
    return None


def empty(asked: Asked) -> Refusal | None:
    """Refuse a message without content, and blank text: BerriAI/litellm#9021, langchain-ai/langchain#25475."""
    for path, role, blocks in _turns(asked.body):
        if not blocks and not (role == "assistant" and path == f"messages.{len(asked.body['messages']) - 1}"):
            return refuse(f"{path}: all messages must have non-empty content except for the optional final assistant")
    for path, block in _all_blocks(asked.body):
        if block["type"] == "text" and not block["text"]:
            return refuse(f"{path}: text content blocks must be non-empty")
        if block["type"] == "text" and not block["text"].strip():
            return refuse(f"{path}: text content blocks must contain non-whitespace text")
        if block["type"] == "tool_result" and block.get("is_error") and not block.get("content"):
            return refuse(f"{path}: content cannot be empty if `is_error` is true")  # block/goose#3204
    return None


def tool_turns(asked: Asked) -> Refusal | None:
    """Refuse calls without results in the next message, before all else there: page "Handle tool calls"."""
    waiting: list[str] = []
    seen: set[str] = set()
    # What Anthropic joins itself is one turn.
    spoken = (turn for turn in _turns(asked.body) if turn[1] != "system")
    joined = itertools.groupby(spoken, key=lambda turn: turn[1])
    for role, turns in joined:
        blocks = [block for _, _, found in turns for block in found]
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        uses = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if (results and role != "user") or (uses and role != "assistant"):
            return refuse("`tool_use` blocks can only be in `assistant` messages, and results in those of the `user`")
        order = [block["type"] == "tool_result" for block in blocks]
        if order != sorted(order, reverse=True) or set(waiting) - set(results):
            return refuse(f"`tool_use` ids were found without `tool_result` blocks immediately after: {waiting}")
        if unexpected := [key for key in results if key not in waiting]:
            return refuse(f"unexpected `tool_use_id` found in `tool_result` blocks: {unexpected[0]}")
        if len(set(results)) < len(results):
            return refuse("each tool_use must have a single result. Found multiple `tool_result` blocks with one id")
        if not seen.isdisjoint(uses) or len(set(uses)) < len(uses):
            return refuse("`tool_use` ids must be unique")
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]+", key) for key in uses):
            return refuse("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")  # agno-agi/agno#4083
        waiting, seen = uses, seen | set(uses)
    if waiting:
        return refuse(f"`tool_use` ids were found without `tool_result` blocks immediately after: {waiting}")
    if seen and not asked.body.get("tools"):
        return refuse("Requests which include `tool_use` or `tool_result` blocks must define tools")
    return None


_TYPED = r"(?:web_search|web_fetch|code_execution|bash|text_editor|memory|computer|tool_search_tool_\w+)_\d{8}"


def tools(asked: Asked) -> Refusal | None:
    """Refuse an odd name, the same name twice, and a schema that is no object: page "Define tools"."""
    names = [tool["name"] for tool in asked.body.get("tools") or ()]
    if len(set(names)) < len(names):
        return refuse("tools: Tool names must be unique.")
    for at, tool in enumerate(asked.body.get("tools") or ()):
        if tool.get("type", "custom") != "custom":
            if not re.fullmatch(_TYPED, tool["type"]):
                return refuse(f"tools.{at}: Input tag '{tool['type']}' found using 'type' does not match any of them")
            continue
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool["name"]):
            return refuse(f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if unknown := tool.keys() - {"type", "name", "description", "input_schema", "strict", "cache_control"}:
            return refuse(f"tools.{at}.custom.{min(unknown)}: Extra inputs are not permitted")
        if tool["input_schema"].get("type") != "object":
            return refuse(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
    choice = asked.body.get("tool_choice")
    if choice and not names:
        return refuse("tool_choice: may only be specified while providing tools")
    if choice and choice["type"] == "tool" and choice["name"] not in names:
        return refuse(f"Tool '{choice['name']}' not found in provided tools")
    return None


def thoughts(asked: Asked) -> Refusal | None:
    """Refuse thoughts without a signature, or with a foreign one: page "Extended thinking", better-ccflare#52."""
    for path, block in _all_blocks(asked.body):
        if block["type"] == "thinking" and not block.get("signature"):
            return refuse(f"{path}.thinking.signature: Field required")
        if block["type"] == "thinking" and {k: v for k, v in block.items() if k != "type"} not in SIGNED:
            return refuse(f"{path}: Invalid `signature` in `thinking` block")
        if block["type"] == "redacted_thinking" and block["data"] != REDACTED:
            return refuse(f"{path}: Invalid `data` in `redacted_thinking` block")
    for path, role, blocks in _turns(asked.body):
        if role != "assistant" and any("thinking" in block["type"] for block in blocks):
            return refuse(f"{path}: `thinking` blocks may only be in `assistant` messages")
    return None


def thinking_and_top_k(asked: Asked) -> Refusal | None:
    """Refuse top_k beside thoughts: page "Extended thinking", feature compatibility."""
    if "top_k" in asked.body and (asked.body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        return refuse("`top_k` must be unset when thinking is enabled.")
    return None


def top_k(asked: Asked) -> Refusal | None:
    """Refuse top_k where other sampling is refused: page "Migration guide", promptfoo/promptfoo#10830."""
    found = bedrock_claude.version_of(asked)
    if found is None or found[1] < {"opus": (4, 7)}.get(found[0], (5, 0)) or "top_k" not in asked.body:
        return None
    return refuse("`top_k` is deprecated for this model.")


def marks(asked: Asked) -> Refusal | None:
    """Refuse more than four marks, one on thoughts, an unknown lifetime, and one that rises: page "Prompt caching"."""
    tools = [(f"tools.{at}", tool) for at, tool in enumerate(asked.body.get("tools") or ())]
    found = [(path, block["cache_control"]) for path, block in [*tools, *_all_blocks(asked.body)] if _MARK in block]
    if len(found) > 4:
        return refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {len(found)}.")
    shorter = False
    for path, mark in found:
        if mark.get("type") != "ephemeral" or mark.keys() - {"type", "ttl"}:
            return refuse(f"{path}.cache_control: Input tag does not match 'ephemeral'")
        if mark.get("ttl", "5m") not in ("5m", "1h"):
            return refuse(f"{path}.cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
        if shorter and mark.get("ttl") == "1h":
            return refuse(
                f"{path}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
        shorter = shorter or mark.get("ttl") != "1h"
    return None


_MARK = "cache_control"
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


def media(asked: Asked) -> Refusal | None:
    """Refuse another type of image or document, or an image that is not what it says: pages "Vision", "PDF support".

    Reported by NousResearch/hermes-agent#55429 and anthropics/claude-code#1452.
    """
    for path, block in _all_blocks(asked.body):
        if block["type"] not in ("image", "document"):
            continue
        if block["source"]["type"] in ("url", "file", "content"):
            continue
        source, where = block["source"], f"{path}.{block['type']}.source"
        if block["type"] == "document" and source["type"] == "text":
            if source["media_type"] != "text/plain" or not source["data"]:
                return refuse(f"{where}.media_type: Input should be 'text/plain'")
        elif source["type"] == "base64":
            known = _MAGIC.values() if block["type"] == "image" else ("application/pdf",)
            if source["media_type"] not in known:
                return refuse(f"{where}.base64.media_type: Input should be {' or '.join(map(repr, known))}")
            data = source["data"]
            data = data if isinstance(data, bytes) else base64.b64decode(data, validate=True)
            real = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
            if block["type"] == "image" and real not in (None, source["media_type"]):
                return refuse(
                    f"{where}.base64: The image was specified using the {source['media_type']} media type, but the "
                    f"image appears to be a {real} image"
                )
        if block["type"] == "document" and not 1 <= len(block.get("title") or "x") <= 500:
            return refuse(f"{path}.document.title: String should have at most 500 characters")
    return None


def output(asked: Asked) -> Refusal | None:
    """Refuse a schema beyond its grammar: page "Structured outputs", future-agi/future-agi#412."""
    wanted = (asked.body.get("output_config") or {}).get("format")
    if wanted is not None and wanted.keys() != {"type", "schema"}:
        return refuse("output_config.format: Extra inputs are not permitted")
    if wanted and (why := schema_rules.claude_output(wanted["schema"])):
        return refuse(f"output_config.format.schema: {why}")
    for at, tool in enumerate(tool for tool in asked.body.get("tools") or () if "input_schema" in tool):
        if tool.get("strict") and (why := schema_rules.claude_strict_tool(tool["input_schema"])):
            return refuse(f"tools.{at}.custom.input_schema: {why}")
        if bedrock_claude.version_of(asked) and {"oneOf", "allOf", "anyOf"} & tool["input_schema"].keys():
            return refuse(
                f"tools.{at}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
            )
    return None


@dataclass(frozen=True)
class _ByConverse:
    """The same request as Converse would get it, as far as the rules of the models look at it."""

    path: str
    headers: Mapping[str, str]
    body: Body


_CHOICES = {"any": "any", "tool": "tool"}


def _by_converse(asked: Asked) -> _ByConverse:
    body = asked.body
    names = {"max_tokens": "maxTokens", "temperature": "temperature", "top_p": "topP"}
    inference = {converse: body[name] for name, converse in names.items() if name in body}
    if "stop_sequences" in body:
        inference["stopSequences"] = body["stop_sequences"]
    made: dict[str, Any] = {"model": body["model"], "inferenceConfig": inference, "messages": _as_converse(body)}
    if "thinking" in body:
        made["additionalModelRequestFields"] = {"thinking": body["thinking"]}
    if effort := (body.get("output_config") or {}).get("effort"):
        made["outputConfig"] = {"effort": effort}
    if choice := _CHOICES.get((body.get("tool_choice") or {}).get("type", "")):
        made["toolConfig"] = {"toolChoice": {choice: {}}}
    return _ByConverse(asked.path, asked.headers, made)


def _as_converse(body: Body) -> list[dict[str, Any]]:
    named = {"tool_result": "toolResult", "thinking": "reasoningContent", "redacted_thinking": "reasoningContent"}
    return [
        {
            "role": role,
            "content": [
                {"text": b["text"]} if b["type"] == "text" else {named.get(b["type"], b["type"]): {}} for b in blocks
            ],
        }
        for _, role, blocks in _turns(body)
    ]


_OF_MODELS: Sequence[Rule] = (
    bedrock_claude.sampling,
    bedrock_claude.temperature_beside_top_p,
    bedrock_claude.temperature_range,
    bedrock_claude.too_many_tokens,
    bedrock_claude.blank_stop,
    bedrock_claude.effort,
    bedrock_claude.effort_unthought,
    bedrock_claude.thinking_type,
    bedrock_claude.thinking_budget,
    bedrock_claude.forced_tool,
    bedrock_claude.thinking_beside,
    bedrock_claude.thoughts_of_a_step,
    bedrock_claude.prefill,
)


def model(asked: Asked) -> Refusal | None:
    """Refuse what the model refuses by any API: each rule there names its source."""
    there = _by_converse(asked)
    for rule in _OF_MODELS:
        if (refusal := rule(there)) is not None:
            return refuse(str(refusal.body["message"]).removeprefix(PREFIX))
    return None


WINDOW = 200_000


def window(asked: Asked) -> Refusal | None:
    """Refuse prompt and answer that are longer than the window together, up to 4.4: page "Context windows"."""
    if (found := bedrock_claude.version_of(asked)) is None:
        return None
    prompt = len(str(asked.body["messages"])) // 4
    if prompt > WINDOW:
        return refuse(f"prompt is too long: {prompt} tokens > {WINDOW} maximum")
    answer = asked.body["max_tokens"]
    if found[1] >= (4, 5) or prompt + answer <= WINDOW:
        return None
    return refuse(
        f"input length and `max_tokens` exceed context limit: {prompt} + {answer} > {WINDOW}, "
        "decrease input length or `max_tokens` and try again"
    )


OF_BODIES: tuple[Rule, ...] = (
    *(betas, fields, roles, empty, tool_turns, tools, thoughts, thinking_and_top_k, top_k),
    *(marks, media, output, model),
)
RULES: tuple[Rule, ...] = (headers, *OF_BODIES, window)
