"""OpenAI chat completions to Anthropic's Messages: the request. Pure.

What Anthropic wants otherwise than OpenAI: a limit of tokens in each request, system prompts apart, results of tools in
the user's turn, no blank text, and no space at the end of what the assistant began to say. Roles need not alternate
there; they do here all the same, because Anthropic would join neighbours itself (Anthropic, Messages).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.json_schema.memory import translate_cached
from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import max_tokens_of, stops_of
from deployments.openai_api.found import MARK
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.openai_api.message_fields import as_error, is_blank
from deployments.providers.anthropic.caching import add_mark, keep_marks
from deployments.providers.base import Call
from deployments.providers.claude.outputs import longest_output
from deployments.providers.claude.thinking import thinking_of
from deployments.providers.claude.thoughts import signed_block, thoughts_for
from deployments.providers.kinds import ANTHROPIC, is_user
from deployments.providers.renaming.call_ids import tool_use_id
from deployments.providers.translation.conversation import (
    CachePoint,
    Conversation,
    Document,
    Image,
    Item,
    Media,
    Signed,
    ToolCall,
    ToolResult,
    read,
    refuse_unfit,
)
from deployments.providers.translation.offer import Offer, offer_of


@dataclass(frozen=True, slots=True)
class Terms:
    """In which words a request is made, where the first ones were refused.

    Attributes:
        thoughts: whether signed thoughts go back.
        most: the limit of the answer's tokens, where the client has named none.
    """

    thoughts: bool = True
    most: int | None = None


@dataclass(frozen=True, slots=True)
class _Target:
    model: str
    thoughts: bool


_LONGEST_TITLE = 500  # Anthropic, Messages, document: title
_EMPTY_DOCUMENT = "(The document is empty.)"
_NOTES = (("title", "name"), ("description", "description"))
GONE = "Not available any more. Do not call it."


def to_messages(call: Call, terms: Terms = Terms(), *, stream: bool = False) -> JsonDict:
    """Return the body of a request. Bytes in it go as base64. Raises `unsupported` naming the field."""
    body, model = call.body, call.model
    refuse_unfit(find_unsupported(ANTHROPIC.capabilities, body, model), "Anthropic")
    talk, offer = read(body["messages"]), offer_of(body)
    target = _Target(model, terms.thoughts)
    messages: list[JsonDict] = [{"role": turn.side, "content": _blocks(turn.items, target)} for turn in talk.turns]
    _end_in_no_space(messages[-1])
    limit = max_tokens_of(body)
    made: JsonDict = {
        "model": model,
        "max_tokens": limit if limit is not None else terms.most or longest_output(model),
        "messages": messages,
    }
    made |= _sampling(body)
    if talk.system:
        made["system"] = [block for pieces in talk.system for block in _blocks(pieces, target)]
    made |= _tools(offer, talk, body, model)
    made |= _thinking(body, made, forced=offer.choice == "required")
    users = [user for name in ("safety_identifier", "user") if is_user(user := body.get(name))]
    if users:
        made["metadata"] = {"user_id": users[0]}
    if stream:
        made["stream"] = True
    keep_marks([made.get("tools", []), made.get("system", []), *(message["content"] for message in messages)])
    return made


def _end_in_no_space(message: JsonDict) -> None:
    """Cut the space at the end of what the assistant began: Anthropic, Prefill Claude's response."""
    last = message["content"][-1]
    if message["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _sampling(body: JsonObject) -> JsonDict:
    temperature = body.get("temperature")
    given = {
        "temperature": None if temperature is None else min(temperature, 1),  # it ends at 1 here
        "top_p": body.get("top_p"),
        "top_k": body.get("top_k"),
        "stop_sequences": stops_of(body) or None,
        "service_tier": body.get("service_tier") if body.get("service_tier") == "standard_only" else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _thinking(body: JsonObject, made: JsonDict, *, forced: bool) -> JsonDict:
    """Return how much the model is to think, and the form of its answer."""
    # A limit that is ours is what a budget of thoughts must fit into.
    limited = body if max_tokens_of(body) is not None else {**body, "max_tokens": made["max_tokens"]}
    effort, thinking = thinking_of(limited, made["model"], forced=forced, can_begin=_can_begin(made["messages"]))
    output: JsonDict = {} if effort is None else {"effort": effort}
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        holder = wanted["json_schema"]
        # The form has a schema alone, so what is said of it stands there.
        told = {name: holder[own] for name, own in _NOTES if holder.get(own)}
        schema = translate_cached(holder["schema"], ANTHROPIC.schemas.answer).schema
        output["format"] = {"type": "json_schema", "schema": {**told, **schema}}
    given = {"thinking": thinking, "output_config": output or None}
    return {name: value for name, value in given.items() if value is not None}


def _can_begin(messages: Sequence[JsonObject]) -> bool:
    """Return whether an answer begins here, or goes on behind calls that have their thoughts."""
    last = messages[-1]
    if last["role"] == "assistant":
        return False
    goes_on = last["content"][0]["type"] == "tool_result"
    return not goes_on or messages[-2]["content"][0]["type"] in ("thinking", "redacted_thinking")


def _blocks(items: Sequence[Item], target: _Target) -> list[JsonDict]:
    blocks: list[JsonDict] = []
    for item in items:
        match item:
            case str():
                blocks.append(_text(item))
            case Signed(text, extra):
                blocks += [*_thoughts(extra, target), _text(text)]
            case Image() | Document():
                blocks.append(_media(item))
            case CachePoint():
                add_mark(blocks, item)
            case ToolCall(key, name, arguments, extra):
                use = {"type": "tool_use", "id": tool_use_id(key), "name": name, "input": arguments}
                # Thoughts that are told with the first call opened the message, if none are told with its text.
                first = all(block["type"] == "text" for block in blocks)
                at = 0 if first else len(blocks)
                blocks[at:at] = _thoughts(extra, target)
                blocks.append(use)
            case ToolResult():
                blocks.append(_result(item))
                add_mark(blocks, item.point)
    return blocks


def _text(text: str) -> JsonDict:
    return {"type": "text", "text": text}


def _media(media: Media) -> JsonDict:
    match media:
        case Image(subtype, data):
            return {"type": "image", "source": _inline(f"image/{subtype}", data)}
        case Document(form, name, data):
            title = {} if is_blank(name) else {"title": name[:_LONGEST_TITLE]}
            if form == "pdf":
                return {"type": "document", "source": _inline("application/pdf", data), **title}
            text = data.decode(errors="replace")
            source = {"type": "text", "media_type": "text/plain", "data": _EMPTY_DOCUMENT if is_blank(text) else text}
            return {"type": "document", "source": source, **title}


def _inline(media_type: str, data: bytes) -> JsonDict:
    return {"type": "base64", "media_type": media_type, "data": data}


def _result(result: ToolResult) -> JsonDict:
    content = [_text(part) if isinstance(part, str) else _media(part) for part in result.parts]
    made: JsonDict = {"type": "tool_result", "tool_use_id": tool_use_id(result.id)}
    if result.is_error:
        # Anthropic, Messages: the content can't be empty if `is_error` is true.
        return {**made, "content": content or [_text(str(as_error("")))], "is_error": True}
    return {**made, "content": content} if content else made


def _thoughts(extra: JsonObject, target: _Target) -> list[JsonDict]:
    """Thoughts with the signatures that prove them. Others would be refused."""
    return list(map(signed_block, thoughts_for("anthropic", target.model, extra))) if target.thoughts else []


def _tools(offer: Offer, talk: Conversation, body: JsonObject, model: str) -> JsonDict:
    """Return the tools and the choice among them. What the history called must be named, if nothing else is."""
    if not offer.functions:
        gone = [{"name": name, "description": GONE} for name in dict.fromkeys(talk.names.values())]
        return {"tools": [_tool(function, model) for function in gone], "tool_choice": {"type": "none"}} if gone else {}
    tools: list[JsonDict] = []
    for function in offer.functions:
        tools.append(_tool(function, model))
        if offer.choice != "none":
            add_mark(tools, offer.points.get(function["name"]))
    # All may stand at functions that a choice leaves out.
    if offer.points and offer.choice != "none" and not any(MARK in tool for tool in tools):
        add_mark(tools, next(iter(offer.points.values())))
    choice: JsonDict = {"type": {"required": "any"}.get(offer.choice, offer.choice)}
    if offer.only is not None:
        choice = {"type": "tool", "name": offer.only}
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def _tool(function: JsonObject, model: str) -> JsonDict:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    form = ANTHROPIC.schemas.of_tool(model, strict=bool(function.get("strict")))
    tool: JsonDict = {"name": function["name"], "input_schema": translate_cached(schema, form).schema}
    if function.get("description"):
        tool["description"] = function["description"]
    if function.get("strict"):
        tool["strict"] = True
    return tool
