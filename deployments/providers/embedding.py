"""The whole answer of embeddings, built by an adapter or a server's own, with a usage of integers always. Pure.

OpenAI's API has `usage` as required, and typed clients fail without it (spring-projects/spring-ai#7019). Some vendors
tell no tokens: then they are estimated, and the usage says `"estimated": true`. The ledger makes its own estimate.
"""

from collections.abc import Sequence

from deployments.errors import failed
from deployments.openai_api.chat import dump
from deployments.openai_api.embeddings import embedding_answer, estimate_of, texts_of, usage_of_embedding
from deployments.openai_api.json_types import JsonDict
from deployments.openai_api.usage import account_of
from deployments.providers.base import Call, Completed


def completed(call: Call, vectors: Sequence[Sequence[float]], tokens: int | None) -> Completed:
    """Return the answer. Raises `malformed` if the number or the length of the vectors is wrong."""
    wanted, texts = call.body.get("dimensions"), len(texts_of(call.body))
    if len(vectors) != texts:
        raise failed("malformed", f"the provider returned {len(vectors)} vectors for {texts} texts", status=200)
    for vector in vectors:
        if wanted is not None and len(vector) != wanted:
            raise failed(
                "malformed",
                f"a vector has {len(vector)} dimensions, and the row has {wanted}",
                status=200,
            )
    usage = usage_of_embedding(tokens)
    return Completed(embedding_answer(call.body, call.name, vectors, usage or estimate_of(call.body)), usage)


def embedded(call: Call, answer: JsonDict) -> Completed:
    """Return a server's own embeddings with the row's name, and with a usage."""
    known = account_of(answer.get("usage"))
    if known is None:
        return Completed(dump({**answer, "model": call.name, "usage": estimate_of(call.body)}), None)
    tokens = known["prompt_tokens"] or known["total_tokens"]
    usage = {**answer["usage"], "prompt_tokens": tokens, "total_tokens": tokens}
    return Completed(dump({**answer, "model": call.name, "usage": usage}), usage)
