"""The whole answers of servers that speak OpenAI's API, checked. Pure."""

import json

from deployments.errors import failed
from deployments.openai_api.json_types import JsonDict
from deployments.providers.openai.classify import in_band


def object_of(data: bytes) -> JsonDict:
    try:
        answer = json.loads(data)
    except ValueError:
        raise failed("malformed", "the answer is not JSON", status=200) from None
    if not isinstance(answer, dict):
        raise failed("malformed", "the answer is not an object", status=200)
    if answer.get("error"):
        error = answer["error"]
        raise in_band(error if isinstance(error, dict) else {"message": str(error)})
    return answer


def answer_of(data: bytes) -> JsonDict:
    answer = object_of(data)
    choices = answer.get("choices")
    ended = isinstance(choices, list) and all(isinstance(c, dict) and c.get("finish_reason") for c in choices)
    if not choices or not ended:
        raise failed("malformed", "the answer has no choice with a finish reason", status=200)
    return answer
