"""The whole answer of embeddings that adapters build. Pure."""

from collections.abc import Sequence

from deployments.errors import failed
from deployments.openai_api.embeddings import embedding_answer, texts_of, usage_of_embedding
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
    return Completed(embedding_answer(call.body, call.name, vectors, tokens), usage_of_embedding(tokens))
