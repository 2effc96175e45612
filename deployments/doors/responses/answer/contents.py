"""What a message or a delta of a chat completion says, in the forms of the Responses API. Pure.

It may come from any server that speaks OpenAI's API, so each shape is possible, and none is an error here.
"""

from typing import NamedTuple

from deployments.openai_api.images import type_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

_FORMATS = frozenset({"png", "webp", "jpeg", "gif", "svg"})  # openai 3.54, ImageGenerationCall.output_format


class Pieces(NamedTuple):
    thoughts: str = ""
    text: str = ""
    refusal: str = ""


def pieces_of(delta: JsonObject) -> Pieces:
    """Return what a delta says. `reasoning` is vLLM's and OpenRouter's name; where both are, they say the same."""
    thoughts, content = delta.get("reasoning_content") or delta.get("reasoning"), delta.get("content")
    said = _of_parts(content) if isinstance(content, list) else Pieces(text=_text(content))
    return Pieces(_text(thoughts) or said.thoughts, said.text, _text(delta.get("refusal")) or said.refusal)


def _of_parts(parts: list[JsonValue]) -> Pieces:
    """Return what a content in parts says. Mistral tells its thoughts as such a part ("Reasoning")."""
    known = [part for part in parts if isinstance(part, dict)]
    thoughts = [_of_parts(inner).text for part in known if isinstance(inner := part.get("thinking"), list)]
    texts, refusals = ([_text(part.get(name)) for part in known] for name in ("text", "refusal"))
    return Pieces("".join(thoughts), "".join(texts), "".join(refusals))


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def annotations_of(told: JsonValue) -> list[JsonDict]:
    """Return the citations that are whole. A chat completion has them one object deeper."""
    found = [_citation(one) for one in told] if isinstance(told, list) else []
    return [citation for citation in found if citation is not None]


def _citation(told: JsonValue) -> JsonDict | None:
    inner = told.get("url_citation") if isinstance(told, dict) else None
    if not isinstance(inner, dict) or not isinstance(url := inner.get("url"), str):
        return None
    start, end = whole_number(inner.get("start_index")) or 0, whole_number(inner.get("end_index")) or 0
    where = {"start_index": start, "end_index": end}
    return {"type": "url_citation", **where, "url": url, "title": _text(inner.get("title"))}


def logprobs_of(told: JsonValue) -> list[JsonDict]:
    """Return the log probabilities of a text, each with all that an item wants of it."""
    content = told.get("content") if isinstance(told, dict) else None
    return [_token(one) for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _token(told: JsonObject) -> JsonDict:
    tops = told.get("top_logprobs")
    others = [_bare(top) for top in tops if isinstance(top, dict)] if isinstance(tops, list) else []
    return {**_bare(told), "top_logprobs": others}


def _bare(told: JsonObject) -> JsonDict:
    token, value, data = _text(told.get("token")), told.get("logprob"), told.get("bytes")
    number = float(value) if isinstance(value, int | float) else 0.0
    return {"token": token, "logprob": number, "bytes": data if _is_bytes(data) else [*token.encode(errors="replace")]}


def _is_bytes(data: JsonValue) -> bool:
    return isinstance(data, list) and all(type(one) is int for one in data)


def pictures_of(told: JsonValue) -> list[JsonDict]:
    """Return what items say of the pictures that have come as data."""
    found = [_picture(one) for one in told] if isinstance(told, list) else []
    return [picture for picture in found if picture is not None]


def _picture(image: JsonValue) -> JsonDict | None:
    inner = image.get("image_url") if isinstance(image, dict) else None
    url = inner.get("url") if isinstance(inner, dict) else None
    if not isinstance(url, str) or not url.startswith("data:image/"):
        return None
    subtype = type_of(url)
    kind = {"output_format": subtype} if subtype in _FORMATS else {}
    return {"result": url.partition(",")[2], **kind}
