"""OpenAI's embeddings on the wire, and what is known of the models that make them. Pure.

Vectors of two models are never comparable, whatever their length. A row of several targets answers when
one of them is down; what was embedded by one must be searched with the same: the answer says which it was.
"""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.errors import BadRequest
from deployments.openai_api.chat import Request, dump, parse_object, refusal

MOST_TEXTS = 2048
MOST_LOCAL_TOKENS = 512  # of one text: what the local model takes for a mean in one batch
BUNDLED = "the bundled weights"  # whatever name a row gives them

# Which lengths a model's vectors may have: (native, others). A range is one that can be cut at any length.
_TITAN_2, _COHERE_4 = frozenset({256, 512, 1024}), frozenset({256, 512, 1024, 1536})
LENGTHS: Mapping[str, range | frozenset[int]] = {
    "text-embedding-3-small": range(1, 1537),
    "text-embedding-3-large": range(1, 3073),
    "text-embedding-ada-002": frozenset({1536}),
    "amazon.titan-embed-text-v1": frozenset({1536}),
    "amazon.titan-embed-text-v2:0": _TITAN_2,
    "cohere.embed-english-v3": frozenset({1024}),
    "cohere.embed-multilingual-v3": frozenset({1024}),
    "cohere.embed-v4:0": _COHERE_4,
    "gemini-embedding-001": range(1, 3073),
    "text-embedding-004": range(1, 769),
    BUNDLED: frozenset({576}),
}


def lengths_instead(model: str, dimensions: int) -> str | None:
    """What lengths the model's vectors have, if not this one. A model that we do not know is taken at its word."""
    known = LENGTHS.get(_bare(model))
    if known is None or dimensions in known:
        return None
    if isinstance(known, range):
        return f"have up to {known[-1]} dimensions"
    return f"have {' or '.join(map(str, sorted(known)))} dimensions"


def is_cut(model: str) -> bool:
    """Is the length of its vectors a matter of the request?"""
    known = LENGTHS.get(_bare(model))
    return known is not None and len(known) > 1


def _bare(model: str) -> str:
    """Without the region prefix of a cross-region inference profile."""
    head, _, rest = model.partition(".")
    return rest if head in ("us", "eu", "apac", "global") else model


class _EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    model: Annotated[str, Field(min_length=1)]
    input: str | Annotated[list[Any], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


_CHECK = TypeAdapter(_EmbeddingRequest)


def parse_embedding_request(data: bytes) -> Request:
    """Parse and check a request body. Raises BadRequest that names the field."""
    return check_embedding_request(parse_object(data))


def check_embedding_request(body: Mapping[str, Any]) -> Request:
    try:
        _CHECK.validate_python(body)
    except ValidationError as error:
        raise refusal(error, frozenset(_EmbeddingRequest.model_fields)) from None
    if not all_texts(body) and not _all_tokens(body["input"]):
        raise BadRequest("Invalid 'input': texts, or tokens, none of them empty.", "input", "invalid_value")
    return Request(dict(body))


def all_texts(body: Mapping[str, Any]) -> bool:
    given = body["input"]
    return bool(given) if isinstance(given, str) else all(isinstance(t, str) and t for t in given)


def _all_tokens(given: Any) -> bool:
    lists = given if isinstance(given[0], list) else [given]
    return all(isinstance(one, list) and one and all(type(t) is int and t >= 0 for t in one) for one in lists)


def inputs_in(body: Mapping[str, Any]) -> int:
    """How many vectors are asked for. A list of numbers is one input, of tokens."""
    given = body["input"]
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def texts_of(body: Mapping[str, Any]) -> list[str]:
    given = body["input"]
    return [given] if isinstance(given, str) else list(given)


def embedded(body: Mapping[str, Any], name: str, vectors: Sequence[Sequence[float]], tokens: int | None) -> bytes:
    """The answer. `tokens` is None where the provider does not tell: unknown is not zero."""
    base64_wanted = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _base64(v) if base64_wanted else list(v)}
        for i, v in enumerate(vectors)
    ]
    return dump({"object": "list", "data": data, "model": name, "usage": usage_of_embedding(tokens)})


def usage_of_embedding(tokens: int | None) -> dict[str, Any] | None:
    return None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens}


Vectors = tuple[list[list[float]], int | None]  # and their tokens; None where the provider does not tell


def joined(parts: Sequence[Vectors]) -> Vectors:
    """The vectors of several calls in order, and their tokens: None if one of them did not tell."""
    counts = [tokens for _, tokens in parts]
    told = None if None in counts else sum(n for n in counts if n is not None)
    return [vector for vectors, _ in parts for vector in vectors], told


def lengths_in(answer: Mapping[str, Any]) -> set[int]:
    """How long the vectors of an answer are, whichever way they are written."""
    vectors = [entry["embedding"] for entry in answer["data"]]
    return {len(base64.b64decode(v)) // 4 if isinstance(v, str) else len(v) for v in vectors}


def normalised(vector: Sequence[float]) -> list[float]:
    """Of length one, as OpenAI's are."""
    norm = math.sqrt(math.fsum(x * x for x in vector))
    return [x / norm for x in vector] if norm else list(vector)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
