"""Bedrock's Converse in general, whatever the model is."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from tests.fakes.vendors import Asked, Refusal, Rule, model_of

PREFIX = "The model returned the following errors: "


def refuse(message: str, code: str = "ValidationException", status: int = 400) -> Refusal:
    """Return a refusal in Bedrock's shape."""
    kind = f"{code}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    return Refusal(status, {"message": message}, {"x-amzn-errortype": kind})


_NEEDS_PROFILE = re.compile(r"anthropic\.claude-(?:3-7|\w+-\d)|meta\.llama(?:3-[1-9]|[4-9])|deepseek\.r1")


def base_id(asked: Asked) -> Refusal | None:
    """Refuse the base id of a model that only inference profiles serve: user guide "Inference profiles support"."""
    model = model_of(asked)
    if not _NEEDS_PROFILE.match(model):
        return None
    return refuse(
        f"Invocation of model ID {model} with on-demand throughput isn't supported. "
        "Retry your request with the ID or ARN of an inference profile that contains this model."
    )


def tool_name(asked: Asked) -> Refusal | None:
    """Refuse a tool's name outside [a-zA-Z0-9_-]{1,64}: API reference, `ToolSpecification`."""
    for tool in (asked.body.get("toolConfig") or {}).get("tools", ()):
        name = tool.get("toolSpec", {}).get("name", "x")
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            return refuse(
                f"1 validation error detected: Value '{name}' at 'toolConfig.tools.1.member.toolSpec.name' failed to "
                "satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+"
            )
    return None


def tool_schema(asked: Asked) -> Refusal | None:
    """Refuse an input schema that is no object at its top: aaif-goose/goose#5064, earendil-works/pi#8804."""
    for at, tool in enumerate((asked.body.get("toolConfig") or {}).get("tools", ())):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})
        if schema.get("type") != "object":
            return refuse(
                f"The value at toolConfig.tools.{at}.toolSpec.inputSchema.json.type "
                "must be one of the following: object."
            )
    return None


def image_type(asked: Asked) -> Refusal | None:
    """Refuse an image that is not what its format says: ziatdinovmax/SciLink#382, NousResearch/hermes-agent#55429."""
    for message in asked.body.get("messages", ()):
        for block in message["content"]:
            if "image" not in block:
                continue
            said, data = block["image"]["format"], base64.b64decode(block["image"]["source"]["bytes"])
            if said not in ("png", "jpeg", "gif", "webp"):
                return refuse("1 validation error detected: image format: Member must satisfy enum value set")
            if (found := _type(data)) and found != said:
                return refuse(
                    f"{PREFIX}messages.0.content.0.image.source.base64: The image was specified using the "
                    f"image/{said} media type, but the image appears to be a image/{found} image"
                )
    return None


def _type(data: bytes) -> str | None:
    marks = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for mark, name in marks.items() if data.startswith(mark)), None)


_FORMATS = ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
_NAME = re.compile(r"[A-Za-z0-9()\[\]_-]+(?: [A-Za-z0-9()\[\]_-]+)*")
_MOST_BYTES = 4.5 * 2**20


def document_name(asked: Asked) -> Refusal | None:
    """Refuse a name outside its alphabet, or one that comes twice: API reference, `DocumentBlock`.

    Reported by vercel/ai#20365, strands-agents/harness-sdk#3019 and maximhq/bifrost#7003.
    """
    names = [document["name"] for document in _documents(asked)]
    if not all(len(name) <= 200 and _NAME.fullmatch(name) for name in names):
        return refuse(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, "
            "parentheses, and square brackets. The name can't contain more than one consecutive whitespace character."
        )
    if len({name.lower() for name in names}) < len(names):
        return refuse("Messages can't contain duplicate document names. Rename the document and retry your request.")
    return None


def document_limits(asked: Asked) -> Refusal | None:
    """Refuse more than five documents, one that is too large, or of another format: guide "API restrictions"."""
    documents, model = _documents(asked), model_of(asked)
    if len(documents) > 5:
        return refuse("The number of documents exceeds the limit of 5.")
    free = ("pdf",) if re.search(r"claude-[a-z]+-\d", model) else ("pdf", "docx") if "nova" in model else ()
    for document in documents:
        if document["format"] not in _FORMATS:
            return refuse("1 validation error detected: document format: Member must satisfy enum value set")
        if document["format"] not in free and len(_data(document)) > _MOST_BYTES:
            return refuse("The document exceeds the maximum document size of 4.5 MB.")
    return None


def document_alone(asked: Asked) -> Refusal | None:
    """Refuse documents without a text beside them, or in an answer: API reference, `Message`."""
    for message in asked.body.get("messages", ()):
        if any("document" in block for block in message["content"]):
            if message["role"] != "user":
                return refuse("Documents are only allowed in messages of the user.")
            if not any("text" in block for block in message["content"]):
                return refuse("A text block is required in a message with a document.")
    return None


def _documents(asked: Asked) -> list[Mapping[str, Any]]:
    blocks = [block for message in asked.body.get("messages", ()) for block in message["content"]]
    inner = [one for block in blocks for one in (block, *block.get("toolResult", {}).get("content", ()))]
    return [one["document"] for one in inner if "document" in one]


def _data(document: Mapping[str, Any]) -> bytes:
    data = document["source"]["bytes"]
    return data if isinstance(data, bytes) else base64.b64decode(data)


RULES: tuple[Rule, ...] = (
    *(base_id, tool_name, tool_schema, image_type),
    *(document_name, document_limits, document_alone),
)
