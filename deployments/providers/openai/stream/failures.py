"""The errors that an answer or a frame may hold. Pure.

Only places where such a thing is meant are looked at. An annotation of a choice, as Azure's `content_filter_results`,
may hold an `error` of its own (BerriAI/litellm#1564), and a field that we do not know may hold anything.
"""

from collections.abc import Mapping, Sequence

from deployments.errors import AttemptFailed
from deployments.openai_api.json_types import JsonObject, JsonValue
from deployments.providers.openai.errors.classify import in_band
from deployments.providers.openai.stream.content import choices_of


def failure_in(data: JsonObject, choices: Sequence[JsonObject]) -> AttemptFailed | None:
    """Return the failure that an answer or a frame under status 200 tells of: at its top, or at the top of a choice.

    OpenRouter has the latter ("Errors and debugging"; genkit-ai/genkit#6259).
    """
    if error := data.get("error"):
        return in_band(_object(error, data))
    if data.get("object") == "error":  # vLLM before 0.10
        return in_band(data)
    for choice in choices:
        if error := choice.get("error"):
            return in_band(_object(error, choice))
    return None


def error_event(data: JsonValue) -> AttemptFailed:
    """Return the failure of an event that is named `error`, whatever its data."""
    if isinstance(data, dict):
        return failure_in(data, choices_of(data)) or in_band(data)
    return in_band({"message": str(data or "the stream ended with an error")})


def _object(error: JsonValue, around: JsonObject) -> JsonObject:
    """Return OpenAI's error object. xAI writes `{"code": TEXT, "error": TEXT}`."""
    if isinstance(error, Mapping):
        return error
    return {"message": str(error), "code": around.get("code"), "type": around.get("type")}
