"""OpenAI's embeddings: the check of a request, the answer, and the vector lengths of known models. Pure.

Vectors of two models are never comparable, whatever their length. A row with several targets answers when one of them
is down, but texts embedded by one model must be searched with the same model. So the answer says which it was.
"""

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from deployments.errors import BadRequest
from deployments.openai_api.chat import LONGEST_MODEL, Request, dump
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue
from deployments.validation import refusal_of

MOST_TEXTS = 2048
MOST_LOCAL_TOKENS = 512  # of one text: the local model averages over one batch
BUNDLED = "the bundled weights"  # by this name, whatever name a row gives them

# Which lengths a model's vectors may have. Those with a range can be cut at any length.
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


def other_lengths(model: str, dimensions: int) -> str | None:
    """Return which lengths the model's vectors have, as a predicate; None if they may have this one.

    A model that we do not know may have any.
    """
    known = LENGTHS.get(_without_region(model))
    if known is None or dimensions in known:
        return None
    if isinstance(known, range):
        return f"have up to {known[-1]} dimensions"
    return f"have {' or '.join(map(str, sorted(known)))} dimensions"


def is_cut(model: str) -> bool:
    """Return whether a request may choose the length of the model's vectors."""
    known = LENGTHS.get(_without_region(model))
    return known is not None and len(known) > 1


def _without_region(model: str) -> str:
    # The id of a cross-region inference profile is that of its model with the region before it.
    head, _, rest = model.partition(".")
    return rest if head in ("us", "eu", "apac", "global") else model


class _EmbeddingRequest(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    model: Annotated[str, Field(min_length=1, max_length=LONGEST_MODEL)]
    input: str | Annotated[list[JsonValue], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


_CHECK = TypeAdapter(_EmbeddingRequest)


def check_embedding_request(body: JsonObject, size: int = 0) -> Request:
    """Return the checked request of a dict. Raises BadRequest that names the field."""
    try:
        _CHECK.validate_python(body)
    except ValidationError as error:
        raise BadRequest(*refusal_of(error, _EmbeddingRequest.model_fields)) from None
    if not all_texts(body) and (isinstance(body["input"], str) or not _all_tokens(body["input"])):
        raise BadRequest(
            "Invalid 'input': it must be texts or lists of tokens, none of them empty.", "input", "invalid_value"
        )
    return Request(dict(body), size=size)


def all_texts(body: JsonObject) -> bool:
    """Return whether each input is a text that is not empty."""
    given = body["input"]
    return bool(given) if isinstance(given, str) else all(isinstance(t, str) and t for t in given)


def _all_tokens(given: list[JsonValue]) -> bool:
    lists = given if isinstance(given[0], list) else [given]
    return all(isinstance(one, list) and one and all(type(t) is int and t >= 0 for t in one) for one in lists)


def count_inputs(body: JsonObject) -> int:
    """Return how many vectors are requested. A list of numbers is one input, of tokens."""
    given = body["input"]
    return 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)


def texts_of(body: JsonObject) -> list[str]:
    """Return the inputs of a request whose inputs are all texts."""
    given = body["input"]
    return [given] if isinstance(given, str) else list(given)


def embedding_answer(body: JsonObject, name: str, vectors: Sequence[Sequence[float]], usage: JsonObject) -> bytes:
    """Return the answer's JSON."""
    as_base64 = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _base64(v) if as_base64 else list(v)}
        for i, v in enumerate(vectors)
    ]
    return dump({"object": "list", "data": data, "model": name, "usage": usage})


def usage_of_embedding(tokens: int | None) -> JsonDict | None:
    """Return OpenAI's usage object; None if the tokens are unknown. Unknown is not zero."""
    return {"prompt_tokens": tokens, "total_tokens": tokens} if tokens else None


CHARACTERS_PER_TOKEN = 4  # where nothing is known of a model's tokens, as in usage/token_estimate.py


def estimate_of(body: JsonObject) -> JsonDict:
    """Return the usage of a request whose provider tells none, marked as an estimate. Tokens in it are counted."""
    tokens = max(1, round(length_of_input(body["input"]) / CHARACTERS_PER_TOKEN))
    return {"prompt_tokens": tokens, "total_tokens": tokens, "estimated": True}


def length_of_input(given: JsonValue) -> int:
    """Return the length of texts to embed, in characters; a token that came as a number counts as four."""
    if isinstance(given, str):
        return len(given)
    if isinstance(given, int):
        return CHARACTERS_PER_TOKEN
    return sum(length_of_input(one) for one in given) if isinstance(given, list) else 0


Vectors = tuple[list[list[float]], int | None]  # and their tokens; None where the provider does not report them


def join_vectors(parts: Sequence[Vectors]) -> Vectors:
    """Return the vectors of several calls in order, and their tokens: None if one call did not report them."""
    counts = [tokens for _, tokens in parts]
    tokens = None if None in counts else sum(n for n in counts if n is not None)
    return [vector for vectors, _ in parts for vector in vectors], tokens


def lengths_in(answer: JsonObject) -> set[int]:
    """Return the lengths of the vectors of an answer, in either encoding."""
    vectors = [entry["embedding"] for entry in answer["data"]]
    return {len(base64.b64decode(v)) // 4 if isinstance(v, str) else len(v) for v in vectors}


def normalise(vector: Sequence[float]) -> list[float]:
    """Return the vector scaled to the norm 1, which OpenAI's vectors have."""
    norm = math.sqrt(math.fsum(x * x for x in vector))
    return [x / norm for x in vector] if norm else list(vector)


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
