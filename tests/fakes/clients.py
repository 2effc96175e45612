"""What twelve popular clients really send: a table of request bodies, taken from their packages or sources.

The rows are in clients.json, one a line. `package` has the version, and `taken` says how the row was taken. `asked_as`
is the model's name that the client was given: some clients send other fields for a name that looks like OpenAI's.
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLIENTS = (
    *("Open WebUI", "LobeChat", "LangChain", "LlamaIndex", "pydantic-ai", "Vercel AI SDK"),
    *("Agents SDK", "Instructor", "Cline", "aider", "n8n", "Dify"),
)


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """One body as a client sends it, without its `model`."""

    client: str
    variant: str
    package: str
    taken: str
    asked_as: str
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.client}: {self.variant}"

    def to(self, model: str) -> dict[str, Any]:
        """Return the whole body for a model."""
        body: dict[str, Any] = json.loads(json.dumps({"model": model, **self.body}))
        return body


@functools.cache
def client_requests() -> tuple[ClientRequest, ...]:
    """Return all rows of the table."""
    rows = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
    return tuple(ClientRequest(**row) for row in rows)
