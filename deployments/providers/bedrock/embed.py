"""Embeddings on Bedrock through InvokeModel: Titan takes one text a call, Cohere up to 96. No SDK here."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from deployments.aio.gather import gather
from deployments.errors import failed
from deployments.openai_api.embeddings import Vectors, is_cut, join_vectors, texts_of
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.base import Call, Completed
from deployments.providers.embedding import completed
from deployments.providers.time_limits import Pieces

AT_ONCE = 8  # calls of one request
MOST_COHERE = 96
TOKENS_HEADER = "x-amzn-bedrock-input-token-count"

Invoke = Callable[[JsonObject], Awaitable[tuple[JsonObject, Mapping[str, str]]]]


async def embed(call: Call, invoke: Invoke) -> Completed:
    """Return embeddings. `invoke` sends one body to the model, and returns the answer's body and headers."""
    cohere = "cohere.embed" in call.model
    bodies = _cohere_bodies(call) if cohere else _titan_bodies(call)
    limit = asyncio.Semaphore(AT_ONCE)
    pieces = Pieces(call.limits, call.within, "input" if len(bodies) > AT_ONCE else None)

    async def one(body: JsonObject) -> Vectors:
        async with limit:
            answer, headers = await invoke(body)
            pieces.note()
        return (_cohere_vectors if cohere else _titan_vectors)(answer, headers)

    with pieces.in_time():
        return completed(call, *join_vectors(await gather(one(body) for body in bodies)))


def _titan_bodies(call: Call) -> list[JsonDict]:
    cut = {"dimensions": call.body["dimensions"]} if call.body.get("dimensions") and is_cut(call.model) else {}
    return [{"inputText": text, **({"normalize": True, **cut} if cut else {})} for text in texts_of(call.body)]


def _cohere_bodies(call: Call) -> list[JsonDict]:
    texts = texts_of(call.body)
    cut = {"output_dimension": call.body["dimensions"]} if call.body.get("dimensions") and is_cut(call.model) else {}
    rest = {"input_type": "search_document", "embedding_types": ["float"], "truncate": "NONE", **cut}
    return [{"texts": texts[at : at + MOST_COHERE], **rest} for at in range(0, len(texts), MOST_COHERE)]


def _titan_vectors(answer: JsonObject, _: Mapping[str, str]) -> Vectors:
    return [_vector(answer.get("embedding"))], answer.get("inputTextTokenCount")


def _cohere_vectors(answer: JsonObject, headers: Mapping[str, str]) -> Vectors:
    found = answer.get("embeddings")
    vectors: Any = found.get("float") if isinstance(found, dict) else found
    count = headers.get(TOKENS_HEADER, "")
    return [_vector(v) for v in vectors or []], int(count) if count.isdigit() else None


def _vector(found: Any) -> list[float]:
    if not isinstance(found, list) or not found or not all(isinstance(x, (int, float)) for x in found):
        raise failed("malformed", "the provider's answer has no vector", status=200)
    return found


def parsed(data: bytes) -> JsonDict:
    """Return the JSON object of an answer. Raises `malformed` for anything else."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise failed("malformed", "the provider's answer is not a JSON object", status=200)
    return answer
