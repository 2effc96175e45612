"""OpenAI chat completions to Gemini's generate_content: the request. Pure.

Gemini 3 signs the reasoning behind the first function call of each step, and refuses a history
without. What it signed comes back from the client; what another provider called never had one, and
goes with the value that Google names for such histories.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from deployments.abilities import fit
from deployments.providers.base import Call
from deployments.providers.conversation import (
    Image,
    Offer,
    Signed,
    ToolCall,
    ToolResult,
    Turn,
    offer_of,
    read,
    refuse_unfit,
    signature_of,
)
from deployments.wire import max_tokens_of, stops_of

UNSIGNED = b"skip_thought_signature_validator"


def to_generate(call: Call) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """`contents` and `config` of generate_content. Raises `unsupported` naming the field."""
    body = call.body
    refuse_unfit(fit("google", body), "Google")
    talk = read(body["messages"])
    signs = not call.model.rpartition("/")[2].startswith(_UNSIGNED_MODELS)
    contents = [
        {"role": "model" if turn.side == "assistant" else "user", "parts": _parts(turn, signs)} for turn in talk.turns
    ]
    config = {
        "system_instruction": "\n\n".join(talk.system) or None,
        "max_output_tokens": max_tokens_of(body),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "stop_sequences": [stop for stop in stops_of(body) if stop] or None,
        "presence_penalty": body.get("presence_penalty"),
        "frequency_penalty": body.get("frequency_penalty"),
        "candidate_count": body.get("n"),
    }
    made = {k: v for k, v in config.items() if v is not None}
    if not _RARE.isdisjoint(body):
        made |= _rare(body, call.model)
    return contents, made


# Before Gemini 3 a call had no signature that must come back.
_UNSIGNED_MODELS = ("gemini-1", "gemini-2")

_RARE = frozenset({"tools", "tool_choice", "response_format", "logprobs", "reasoning_effort", "seed"})


def _parts(turn: Turn, signs: bool) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    step = True  # the first call of a step carries the signature of all of them
    for item in turn.items:
        match item:
            case str():
                parts.append({"text": item})
            case Signed(text, extra):
                parts.append({"text": text, **_signed(extra)})
            case Image(subtype, data):
                parts.append({"inline_data": {"mime_type": f"image/{subtype}", "data": data}})
            case ToolCall(key, name, arguments, extra):
                signature = _signed(extra) or ({"thought_signature": UNSIGNED} if signs and step else {})
                parts.append({"function_call": {"id": key, "name": name, "args": arguments}, **signature})
                step = False
            case ToolResult(key, name, text):
                # As text: a number of many digits would not survive as JSON there.
                parts.append({"function_response": {"id": key, "name": name, "response": {"result": text}}})
    return parts


def _signed(extra: Mapping[str, Any]) -> dict[str, bytes]:
    signature = signature_of(extra, "google", "thought_signature")
    if not isinstance(signature, str) or not signature:
        return {}
    try:
        # The API writes the one alphabet of base64, the SDK the other.
        return {"thought_signature": urlsafe_b64decode(signature.replace("+", "-").replace("/", "_"))}
    except ValueError:
        return {}


def _rare(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if body.get("seed") is not None:
        config["seed"] = body["seed"] % 2**31  # of 32 bits there; which one it is says nothing
    if (offer := offer_of(body)).functions:
        config["tools"] = [{"function_declarations": [_declaration(f) for f in offer.functions]}]
        config["tool_config"] = {"function_calling_config": _calling(offer)}
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_object", "json_schema"):
        config["response_mime_type"] = "application/json"
        schema = (wanted.get("json_schema") or {}).get("schema")
        if schema is not None:
            config["response_json_schema"] = schema
    if body.get("logprobs"):
        config["response_logprobs"] = True
        if body.get("top_logprobs"):
            config["logprobs"] = body["top_logprobs"]
    if body.get("reasoning_effort"):
        config["thinking_config"] = _thinking(body["reasoning_effort"], model)
    return config


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    made = {
        "name": function["name"],
        "description": function.get("description") or None,
        "parameters_json_schema": function.get("parameters") or None,
    }
    return {k: v for k, v in made.items() if v is not None}


def _calling(offer: Offer) -> dict[str, Any]:
    if offer.choice == "none":
        return {"mode": "NONE"}
    if offer.only is not None:
        return {"mode": "ANY", "allowed_function_names": [offer.only]}
    if offer.choice == "required":
        return {"mode": "ANY"}
    return {"mode": "VALIDATED" if offer.strict else "AUTO"}  # validated: text, or a call that keeps to the schema


_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192}


def _thinking(effort: str, model: str) -> dict[str, Any]:
    """Levels since Gemini 3, a budget of tokens before, as in Google's own OpenAI-compatible API."""
    if "gemini-2" in model:
        return {"thinking_budget": _BUDGETS.get(effort, 24576)}
    return {"thinking_level": _LEVELS.get(effort, "XHIGH")}
