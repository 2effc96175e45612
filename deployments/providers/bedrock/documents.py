"""Documents as Converse wants them: each with a name of its own, and a text beside them. Pure."""

import re
from dataclasses import dataclass, field

from deployments.openai_api.json_types import JsonDict
from deployments.providers.translation.conversation import Document

# AWS, Converse, DocumentBlock: letters and digits, single spaces, hyphens, parentheses and brackets; 200 at most. A
# wide space counts as none of them (aws-samples/generative-ai-use-cases#1671).
_OTHER = re.compile(r"[^A-Za-z0-9()\[\]-]+")
_LONGEST = 180  # with room for a number
_UNNAMED = "document"
BESIDE = "(This is the document.)"


@dataclass(slots=True)
class DocumentNames:
    """The names that one request has given. No two of a request may be the same, in whichever turn they are.

    Capitals make no difference (aws-samples/sample-strands-agent-with-agentcore#290).
    """

    _taken: set[str] = field(default_factory=set)

    def block(self, document: Document) -> JsonDict:
        """Return a document's block."""
        name = self._free(_OTHER.sub(" ", document.name).strip()[:_LONGEST].strip() or _UNNAMED)
        return {"document": {"format": document.form, "name": name, "source": {"bytes": document.data}}}

    def _free(self, name: str) -> str:
        free, number = name, 1
        while free.lower() in self._taken:
            number += 1
            free = f"{name}-{number}"
        self._taken.add(free.lower())
        return free


def add_text(content: list[JsonDict]) -> None:
    """Add a text where documents stand without one: AWS, Converse, Message."""
    if any("document" in block for block in content) and not any("text" in block for block in content):
        content.append({"text": BESIDE})
