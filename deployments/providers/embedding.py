"""A whole answer of embeddings, as every adapter gives it. Pure."""

from collections.abc import Sequence

from deployments.errors import failed
from deployments.openai_api.embeddings import embedded, texts_of, usage_of_embedding
from deployments.providers.base import Call, Completed


def completed(call: Call, vectors: Sequence[Sequence[float]], tokens: int | None) -> Completed:
    """What a provider gives back. Raises `malformed` for vectors of another length than the row's."""
    wanted, texts = call.body.get("dimensions"), len(texts_of(call.body))
    if len(vectors) != texts:
        raise failed("malformed", f"{len(vectors)} vectors came for {texts} texts", status=200)
    for vector in vectors:
        if wanted is not None and len(vector) != wanted:
            raise failed("malformed", f"a vector has {len(vector)} dimensions, the row {wanted}", status=200)
    return Completed(embedded(call.body, call.name, vectors, tokens), usage_of_embedding(tokens))
