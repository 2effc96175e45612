"""OpenAI chat completions to Bedrock's Converse: the request. Pure.

What Converse wants otherwise than OpenAI: turns that alternate, no blank text, ids of calls in
its own alphabet, and the tools described whenever the history used some.
"""

import contextlib
import hashlib
import re
from base64 import b64decode

from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import dump, max_tokens_of, stops_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.base import Call
from deployments.providers.conversation import (
    Conversation,
    Image,
    Item,
    Offer,
    Signed,
    ToolCall,
    ToolResult,
    offer_of,
    read,
    refuse_unfit,
    signature_of,
)
from deployments.providers.kinds import BEDROCK


def to_converse(call: Call) -> JsonDict:
    """Keyword arguments of `converse` and `converse_stream`. Raises `unsupported` naming the field."""
    body = call.body
    refuse_unfit(find_unsupported(BEDROCK.capabilities, body), "Bedrock")
    talk, offer = read(body["messages"]), offer_of(body)
    arguments: JsonDict = {
        "modelId": call.model,
        "messages": [{"role": turn.side, "content": _blocks(turn.items)} for turn in talk.turns],
        "inferenceConfig": _inference(body),
    }
    if talk.system:
        arguments["system"] = [{"text": text} for text in talk.system]
    if tools := _tools(offer, talk):
        arguments["toolConfig"] = tools
    if output := _output(body):
        arguments["outputConfig"] = output
    return arguments


def _inference(body: JsonObject) -> JsonDict:
    inference = {
        "maxTokens": max_tokens_of(body),
        "temperature": _temperature(body),
        "topP": body.get("top_p"),
        "stopSequences": [stop for stop in stops_of(body) if stop] or None,
    }
    return {k: v for k, v in inference.items() if v is not None}


def _temperature(body: JsonObject) -> float | None:
    """Return the temperature, which ends at 1 here: that is the nearest to a higher one."""
    given = body.get("temperature")
    return None if given is None else min(given, 1)


def _blocks(items: list[Item]) -> list[JsonDict]:
    blocks: list[JsonDict] = []
    for item in items:
        match item:
            case str():
                blocks.append({"text": item})
            case Signed(text, extra):
                blocks += [*_reasoning(extra), {"text": text}]
            case Image(subtype, data):
                blocks.append({"image": {"format": subtype, "source": {"bytes": data}}})
            case ToolCall(key, name, arguments, extra):
                use = {"toolUseId": tool_use_id(key), "name": name, "input": arguments}
                # The reasoning before the first call opened the whole message.
                first = not any("toolUse" in block for block in blocks)
                at = 0 if first else len(blocks)
                blocks[at:at] = _reasoning(extra)
                blocks.append({"toolUse": use})
            case ToolResult(key, _, text):
                content = [{"text": text}] if text.strip() else []
                blocks.append({"toolResult": {"toolUseId": tool_use_id(key), "content": content}})
    return blocks


def _reasoning(extra: JsonObject) -> list[JsonDict]:
    """Reasoning that Bedrock itself signed. From anyone else it would be refused."""
    blocks: list[JsonDict] = []
    signed = signature_of(extra, "bedrock", "reasoning")
    for kept in signed if isinstance(signed, list) else ():
        match kept:
            case {"text": str(text), "signature": str(signature)}:
                blocks.append({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
            case {"redacted": str(data)}:
                with contextlib.suppress(ValueError):
                    blocks.append({"reasoningContent": {"redactedContent": b64decode(data)}})
    return blocks


_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def tool_use_id(key: str) -> str:
    """Return the id as Bedrock's models take it: the same for a call and its result."""
    return key if _ID.fullmatch(key) else f"call_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


_GONE = "Not available any more. Do not call it."


def _tools(offer: Offer, talk: Conversation) -> JsonDict | None:
    """Converse has no choice of none: what the history called must be named, so it is named as gone."""
    if offer.choice == "none":
        gone = [{"name": name, "description": _GONE} for name in dict.fromkeys(talk.names.values())]
        return {"tools": [_spec(function) for function in gone]} if gone else None
    config: JsonDict = {"tools": [_spec(function) for function in offer.functions]}
    if offer.only is not None:
        config["toolChoice"] = {"tool": {"name": offer.only}}
    elif offer.choice == "required":
        config["toolChoice"] = {"any": {}}
    return config


def _spec(function: JsonObject) -> JsonDict:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    spec: JsonDict = {"name": function["name"], "inputSchema": {"json": schema}}
    if function.get("description"):
        spec["description"] = function["description"]
    if function.get("strict"):
        spec["strict"] = True
    return {"toolSpec": spec}


_EFFORT = {"minimal": "low"}


def _output(body: JsonObject) -> JsonDict:
    output: JsonDict = {}
    effort = body.get("reasoning_effort")
    if effort and effort != "none":
        output["effort"] = _EFFORT.get(effort, effort)
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": _schema(wanted["json_schema"])}}
    return output


def _schema(wanted: JsonObject) -> dict[str, str]:
    """The schema goes as the text of a JSON document."""
    named = {k: str(wanted[k]) for k in ("name", "description") if wanted.get(k)}
    return {"schema": dump(wanted["schema"]).decode(), **named}
