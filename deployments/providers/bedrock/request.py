"""OpenAI chat completions to Bedrock's Converse: the request. Pure.

What Converse wants otherwise than OpenAI: turns that alternate, no blank text, ids of calls in
its own alphabet, the tools described whenever the history used some, and no space at the end of
what the assistant began to say.
"""

import contextlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.json_schema.memory import translate_cached
from deployments.openai_api.cache_marks import CachePlaces
from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import dump, max_tokens_of, stops_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.openai_api.message_fields import as_error
from deployments.providers.base import Call
from deployments.providers.bedrock.caching import POINT, add_point, keep_points
from deployments.providers.bedrock.documents import DocumentNames, add_text
from deployments.providers.claude.thinking import thinking_of
from deployments.providers.claude.thoughts import thoughts_for
from deployments.providers.kinds import BEDROCK, CONVERSE_TIERS, cache_places
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
class _Target:
    """What a model takes, and what its request has used of it.

    Attributes:
        model: its id.
        places: where it takes marks of a prompt cache.
        has_status: whether it reads the status of a result; for another its text says that a call has failed.
        names: those that documents have got.
    """

    model: str
    places: CachePlaces | None
    has_status: bool
    names: DocumentNames

    @classmethod
    def of(cls, model: str) -> "_Target":
        # AWS, Converse, ToolResultBlock, status: Amazon Nova and Anthropic Claude alone.
        return cls(model, cache_places(model), "claude" in model or "nova" in model, DocumentNames())


def to_converse(call: Call) -> JsonDict:
    """Keyword arguments of `converse` and `converse_stream`. Raises `unsupported` naming the field."""
    body = call.body
    refuse_unfit(find_unsupported(BEDROCK.capabilities, body, call.model), "Bedrock")
    talk, offer, target = read(body["messages"]), offer_of(body), _Target.of(call.model)
    messages: list[JsonDict] = [{"role": turn.side, "content": _blocks(turn.items, target)} for turn in talk.turns]
    _end_in_no_space(messages[-1])
    arguments: JsonDict = {"modelId": call.model, "messages": messages, "inferenceConfig": _inference(body)}
    if talk.system:
        arguments["system"] = [block for pieces in talk.system for block in _blocks(pieces, target)]
    if tools := _tools(offer, talk, call.model, target.places):
        arguments["toolConfig"] = tools
    forced = offer.choice == "required"
    effort, thinking = thinking_of(body, call.model, forced=forced, can_begin=_can_begin(messages))
    if thinking is not None:
        arguments["additionalModelRequestFields"] = {"thinking": thinking}
    if output := _output(body, effort):
        arguments["outputConfig"] = output
    if (tier := CONVERSE_TIERS.get(str(body.get("service_tier")))) is not None:
        arguments["serviceTier"] = {"type": tier}
    keep_points([tools["tools"] if tools else [], arguments.get("system", []), *(m["content"] for m in messages)])
    return arguments


def _end_in_no_space(message: JsonDict) -> None:
    """Cut the space at the end of what the assistant began: Claude refuses it (langchain-ai/langchain-aws#599)."""
    last = message["content"][-1]
    if message["role"] == "assistant" and "text" in last:
        last["text"] = last["text"].rstrip()


def _inference(body: JsonObject) -> JsonDict:
    inference = {
        "maxTokens": max_tokens_of(body),
        "temperature": _temperature(body),
        "topP": body.get("top_p"),
        "stopSequences": stops_of(body) or None,
    }
    return {k: v for k, v in inference.items() if v is not None}


def _temperature(body: JsonObject) -> float | None:
    """Return the temperature, which ends at 1 here: that is the nearest to a higher one."""
    given = body.get("temperature")
    return None if given is None else min(given, 1)


def _blocks(items: Sequence[Item], target: _Target) -> list[JsonDict]:
    blocks: list[JsonDict] = []
    for item in items:
        match item:
            case str():
                blocks.append({"text": item})
            case Signed(text, extra):
                blocks += [*_reasoning(extra, target.model), {"text": text}]
            case Image() | Document():
                blocks.append(_part(item, target.names))
            case CachePoint():
                add_point(blocks, item, target.places)
            case ToolCall(key, name, arguments, extra):
                use = {"toolUseId": tool_use_id(key), "name": name, "input": arguments}
                # Reasoning that is told with the first call opened the message, if none is told with its text.
                first = not any("toolUse" in block or "reasoningContent" in block for block in blocks)
                at = 0 if first else len(blocks)
                blocks[at:at] = _reasoning(extra, target.model)
                blocks.append({"toolUse": use})
            case ToolResult():
                blocks.append({"toolResult": _result(item, target)})
                add_point(blocks, item.point, target.places)
    add_text(blocks)
    return blocks


def _result(result: ToolResult, target: _Target) -> JsonDict:
    content = [_part(part, target.names) for part in result.parts]
    add_text(content)
    made: JsonDict = {"toolUseId": tool_use_id(result.id), "content": content}
    if result.is_error and target.has_status:
        made["status"] = "error"
    elif result.is_error:
        first = content[0].get("text", "") if content else ""
        content[: bool(first)] = [{"text": as_error(first)}]
    return made


def _part(part: str | Media, names: DocumentNames) -> JsonDict:
    match part:
        case str():
            return {"text": part}
        case Image(subtype, data):
            return {"image": {"format": subtype, "source": {"bytes": data}}}
        case Document():
            return names.block(part)


def _reasoning(extra: JsonObject, model: str) -> list[JsonDict]:
    """Reasoning that the model's own signature proves. From anyone else it would be refused."""
    blocks: list[JsonDict] = []
    for kept in thoughts_for("bedrock", model, extra):
        if "redacted" in kept:
            with contextlib.suppress(ValueError):
                blocks.append({"reasoningContent": {"redactedContent": b64decode(kept["redacted"])}})
        else:
            signed = {"text": kept["text"], "signature": kept["signature"]}
            blocks.append({"reasoningContent": {"reasoningText": signed}})
    return blocks


def _can_begin(messages: Sequence[JsonObject]) -> bool:
    """Return whether an answer begins here, or goes on behind calls that have their thoughts."""
    last = messages[-1]
    if last["role"] == "assistant":
        return False
    goes_on = "toolResult" in last["content"][0]
    return not goes_on or "reasoningContent" in messages[-2]["content"][0]


_GONE = "Not available any more. Do not call it."


def _tools(offer: Offer, talk: Conversation, model: str, places: CachePlaces | None) -> JsonDict | None:
    """Converse has no choice of none: what the history called must be named, so it is named as gone."""
    if offer.choice == "none":
        gone = [{"name": name, "description": _GONE} for name in dict.fromkeys(talk.names.values())]
        return {"tools": [_spec(function, model) for function in gone]} if gone else None
    tools: list[JsonDict] = []
    for function in offer.functions:
        tools.append(_spec(function, model))
        add_point(tools, offer.points.get(function["name"]), places)
    if offer.points and not any(POINT in tool for tool in tools):  # all stand at functions that a choice leaves out
        add_point(tools, next(iter(offer.points.values())), places)
    config: JsonDict = {"tools": tools}
    if offer.only is not None:
        config["toolChoice"] = {"tool": {"name": offer.only}}
    elif offer.choice == "required":
        config["toolChoice"] = {"any": {}}
    return config


def _spec(function: JsonObject, model: str) -> JsonDict:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    form = BEDROCK.schemas.of_tool(model, strict=bool(function.get("strict")))
    spec: JsonDict = {"name": function["name"], "inputSchema": {"json": translate_cached(schema, form).schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    if function.get("strict"):
        spec["strict"] = True
    return {"toolSpec": spec}


def _output(body: JsonObject, effort: str | None) -> JsonDict:
    output: JsonDict = {} if effort is None else {"effort": effort}
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": _schema(wanted["json_schema"])}}
    return output


def _schema(wanted: JsonObject) -> dict[str, str]:
    """The schema goes as the text of a JSON document."""
    named = {k: str(wanted[k]) for k in ("name", "description") if wanted.get(k)}
    return {"schema": dump(translate_cached(wanted["schema"], BEDROCK.schemas.answer).schema).decode(), **named}
