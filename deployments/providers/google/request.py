"""OpenAI chat completions to Gemini's generateContent: the request as the API's own JSON. Pure.

Gemini 3 signs the reasoning behind the first function call of each step, and refuses a history
without. What it signed comes back from the client; what another provider called never had one, and
goes with the value that Google names for such histories.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from deployments.json_schema.memory import translate_cached
from deployments.openai_api.capabilities import find_unsupported
from deployments.openai_api.chat import max_tokens_of, stops_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.base import Call
from deployments.providers.kinds import GOOGLE
from deployments.providers.translation.conversation import (
    Document,
    Image,
    Media,
    Signed,
    ToolCall,
    ToolResult,
    Turn,
    read,
    refuse_unfit,
    signature_of,
)
from deployments.providers.translation.offer import Offer, offer_of

UNSIGNED = urlsafe_b64encode(b"skip_thought_signature_validator").decode()


def to_generate(call: Call) -> JsonDict:
    """Return the body of generateContent and streamGenerateContent. Raises `unsupported` naming the field."""
    body = call.body
    refuse_unfit(find_unsupported(GOOGLE.capabilities, body), "Google")
    talk = read(body["messages"])
    old = call.model.rpartition("/")[2].startswith(_OLD_MODELS)
    contents = [content for turn in talk.turns for content in _contents(turn, old)]
    config = {
        "maxOutputTokens": max_tokens_of(body),
        "temperature": body.get("temperature"),
        "topP": body.get("top_p"),
        "stopSequences": stops_of(body) or None,
        "presencePenalty": body.get("presence_penalty"),
        "frequencyPenalty": body.get("frequency_penalty"),
        "candidateCount": body.get("n"),
    }
    made: JsonDict = {
        "contents": contents,
        "generationConfig": {k: v for k, v in config.items() if v is not None},
    }
    if talk.system:
        texts = ["".join(piece for piece in pieces if isinstance(piece, str)) for pieces in talk.system]
        made["systemInstruction"] = {"role": "user", "parts": [{"text": "\n\n".join(texts)}]}
    if not _RARE.isdisjoint(body):
        made["generationConfig"] |= _rare(body, call.model)
        made |= _tools(offer_of(body), call.model)
    return made


# Before Gemini 3 a call had no signature that must come back, and a result was text alone.
_OLD_MODELS = ("gemini-1", "gemini-2")

_RARE = frozenset({"tools", "tool_choice", "response_format", "logprobs", "reasoning_effort", "seed"})


# Google, Function calling, Multimodal function responses: what a result may hold since Gemini 3.
_RESULT_IMAGES = frozenset({"png", "jpeg", "webp"})


def _contents(turn: Turn, old: bool) -> list[JsonDict]:
    """Return the contents of a turn: one, or two if it has results, and images or documents that are no part of them.

    Gemini refuses images beside results (vellum-ai/vellum-assistant#1901), so they and what follows stand apart.
    """
    role = "model" if turn.side == "assistant" else "user"
    parts = _parts(turn, old)
    apart = [
        part
        for item in turn.items
        if isinstance(item, ToolResult) and (media := _media_apart(item, old))
        for part in ({"text": f"Files of the result of {item.name} ({item.id}):"}, *_inline(media))
    ]
    results = [part for part in parts if "functionResponse" in part]
    if not results or not (apart or any("inlineData" in part for part in parts)):
        return [{"role": role, "parts": parts}]
    return [{"role": role, "parts": results}, {"role": role, "parts": [*apart, *parts[len(results) :]]}]


def _parts(turn: Turn, old: bool) -> list[JsonDict]:
    parts: list[JsonDict] = []
    step = True  # the first call of a step carries the signature of all of them
    for item in turn.items:
        match item:
            case str():
                parts.append({"text": item})
            case Signed(text, extra):
                parts.append({"text": text, **_signed(extra)})
            case Image() | Document():
                parts += _inline([item])
            case ToolCall(key, name, arguments, extra):
                signature = _signed(extra) or ({"thoughtSignature": UNSIGNED} if not old and step else {})
                parts.append({"functionCall": {"id": key, "name": name, "args": arguments}, **signature})
                step = False
            case ToolResult():
                parts.append({"functionResponse": _response(item, old)})
    return parts


def _response(result: ToolResult, old: bool) -> JsonDict:
    # As text: it may be no object, a number of many digits would not survive as JSON, and a `$ref` inside an object
    # would be looked up among the images (NousResearch/hermes-agent#93014).
    word = "error" if result.is_error else "result"  # Google, FunctionResponse.response
    response: JsonDict = {"id": result.id, "name": result.name, "response": {word: result.text}}
    if result.media and not _media_apart(result, old):
        response["parts"] = _inline(result.media)
    return response


def _media_apart(result: ToolResult, old: bool) -> list[Media]:
    """Return what must stand behind a result. Of documents reports differ (QwenLM/qwen-code#2028): they always do."""
    media = result.media
    return [] if not old and all(isinstance(m, Image) and m.subtype in _RESULT_IMAGES for m in media) else media


def _inline(media: Sequence[Media]) -> list[JsonDict]:
    """Return images and documents as parts. Gemini's own API has no place for a document's name, so a text says it."""
    parts: list[JsonDict] = []
    for one in media:
        if isinstance(one, Document) and one.name:
            parts.append({"text": f"File: {one.name}"})
        parts.append({"inlineData": {"mimeType": _type_of(one), "data": urlsafe_b64encode(one.data).decode()}})
    return parts


def _type_of(media: Media) -> str:
    """Return a media type that Gemini takes. Each text goes as a plain one: epam/ai-dial-adapter-vertexai#148."""
    if isinstance(media, Image):
        return f"image/{media.subtype}"
    return "application/pdf" if media.form == "pdf" else "text/plain"


def _signed(extra: JsonObject) -> dict[str, str]:
    signature = signature_of(extra, "google", "thought_signature")
    if not isinstance(signature, str) or not signature:
        return {}
    try:
        # The API writes the one alphabet of base64, its SDK the other; both read either.
        kept = urlsafe_b64decode(signature.replace("+", "-").replace("/", "_"))
    except ValueError:
        return {}
    return {"thoughtSignature": urlsafe_b64encode(kept).decode()}


def _rare(body: JsonObject, model: str) -> JsonDict:
    config: JsonDict = {}
    if body.get("seed") is not None:
        config["seed"] = body["seed"] % 2**31  # of 32 bits there; which one it is says nothing
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_object", "json_schema"):
        config["responseMimeType"] = "application/json"
        holder = wanted.get("json_schema") or {}
        if (schema := holder.get("schema")) is not None:
            config["responseJsonSchema"] = translate_cached(_described(schema, holder), GOOGLE.schemas.answer).schema
    if body.get("logprobs"):
        config["responseLogprobs"] = True
        if body.get("top_logprobs"):
            config["logprobs"] = body["top_logprobs"]
    if body.get("reasoning_effort"):
        config["thinkingConfig"] = _thinking(body["reasoning_effort"], model)
    return config


def _described(schema: JsonObject, holder: JsonObject) -> JsonObject:
    """Return the schema with the words that OpenAI has beside it, where it has none of its own."""
    words = {"title": holder.get("name"), "description": holder.get("description")}
    return {**{name: str(word) for name, word in words.items() if word and name not in schema}, **schema}


def _tools(offer: Offer, model: str) -> JsonDict:
    if not offer.functions:
        return {}
    return {
        "tools": [{"functionDeclarations": [_declaration(f, model) for f in offer.functions]}],
        "toolConfig": {"functionCallingConfig": _calling(offer)},
    }


def _declaration(function: JsonObject, model: str) -> JsonDict:
    parameters = function.get("parameters")
    form = GOOGLE.schemas.of_tool(model, strict=bool(function.get("strict")))
    made = {
        "name": function["name"],
        "description": function.get("description") or None,
        "parametersJsonSchema": translate_cached(parameters, form).schema if parameters else None,
    }
    return {k: v for k, v in made.items() if v is not None}


def _calling(offer: Offer) -> JsonDict:
    if offer.choice == "none":
        return {"mode": "NONE"}
    if offer.only is not None:
        return {"mode": "ANY", "allowedFunctionNames": [offer.only]}
    if offer.choice == "required":
        return {"mode": "ANY"}
    return {"mode": "VALIDATED" if offer.strict else "AUTO"}  # validated: text, or a call that keeps to the schema


_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192}
_LEAST_BUDGET = 128  # of 2.5 Pro, which can't but think: "Budget 0 is invalid. This model only works in thinking mode."


def _thinking(effort: str, model: str) -> JsonDict:
    """Levels since Gemini 3, a budget of tokens before, as in Google's own OpenAI-compatible API.

    What a model has no word for becomes the nearest: of Gemini 3 only early Flash models know MINIMAL (Google, Gemini
    thinking; BerriAI/litellm-docs#1505, comet-ml/opik#8280), and none knows XHIGH.
    """
    if "gemini-2" in model:
        least = _LEAST_BUDGET if "pro" in model else 0
        return {"thinkingBudget": max(least, _BUDGETS.get(effort, 24576))}
    level = _LEVELS.get(effort, "HIGH" if "gemini-3" in model else "XHIGH")
    if level == "MINIMAL" and "gemini-3" in model and not _MINIMAL.search(model):
        level = "LOW"
    return {"thinkingLevel": level}


_MINIMAL = re.compile(r"gemini-3(?:\.[0-6])?-flash")
