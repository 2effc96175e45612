"""Vertex AI's wire: chats as Gemini's API has them, embeddings by three methods.

Google Cloud, Vertex AI API reference: `embedContent` takes one text and `batchEmbedContents` several, for Gemini's
models; `predict` is for the others, up to 250 texts, and tells the tokens of each.
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.vectors import vector

MOST_INSTANCES = 250


class VertexWire(GeminiWire):
    def embedded(self, path: str, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        model, _, method = path.rpartition("/")[2].partition(":")
        if "gemini" not in model:
            return self._predicted(body) if method == "predict" else None
        if method == "embedContent":
            made = self._vector(body)
            return json.dumps({"embedding": {"values": made}, "usageMetadata": {"promptTokenCount": 3}}).encode(), {}
        if method == "batchEmbedContents":
            vectors = [{"values": self._vector(asked)} for asked in body["requests"]]
            return json.dumps({"embeddings": vectors}).encode(), {}
        return None

    def _vector(self, asked: Mapping[str, Any]) -> list[float]:
        length = asked.get("outputDimensionality") or asked.get("embedContentConfig", {}).get("outputDimensionality")
        return [2 * x for x in vector(asked["content"]["parts"][0]["text"], length or 3072)]

    def _predicted(self, body: Mapping[str, Any]) -> tuple[bytes, dict[str, str]] | None:
        if len(body["instances"]) > MOST_INSTANCES:
            return None
        length = (body.get("parameters") or {}).get("outputDimensionality") or 768
        made = [
            {
                "embeddings": {
                    "values": vector(instance["content"], length),
                    "statistics": {"token_count": 3, "truncated": False},
                }
            }
            for instance in body["instances"]
        ]
        return json.dumps({"predictions": made}).encode(), {}
