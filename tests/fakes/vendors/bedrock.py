"""Bedrock's Converse in general, whatever the model is."""

import base64
import re

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


RULES: tuple[Rule, ...] = (base_id, tool_name, tool_schema, image_type)
