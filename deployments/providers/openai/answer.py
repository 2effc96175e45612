"""The whole answers of servers that speak OpenAI's API, checked, and read as a client can read them. Pure."""

import json

from deployments.errors import failed
from deployments.openai_api.json_types import JsonDict
from deployments.openai_api.usage import account_of, groq_usage
from deployments.providers.openai.stream.content import arguments_as_text, choices_of
from deployments.providers.openai.stream.failures import failure_in
from deployments.providers.openai.stream.finish import finish_word
from deployments.providers.translation.choice import new_id


def object_of(data: bytes) -> JsonDict:
    """Return the JSON object of an answer. Raises AttemptFailed for the error that it may be under status 200."""
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise failed("malformed", "the answer is not JSON that can be read", status=200) from None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]  # as some errors come
    if not isinstance(answer, dict):
        raise failed("malformed", "the answer is not an object", status=200)
    if failure := failure_in(answer, choices_of(answer)):
        raise failure
    return answer


def answer_of(data: bytes) -> JsonDict:
    """Return a whole answer, each of whose choices has ended, with finish reasons and usage in OpenAI's words."""
    answer = object_of(data)
    choices = answer.get("choices")
    if not choices or not isinstance(choices, list) or not all(_has_ended(choice) for choice in choices):
        raise failed("malformed", "the answer has no choice with a finish reason", status=200)
    if (usage := account_of(groq_usage(answer))) is not None:
        answer["usage"] = usage
    return answer


def _has_ended(choice: JsonDict) -> bool:
    """Return whether a choice has a finish reason, which is put into OpenAI's word. Its calls are made readable."""
    if not isinstance(choice, dict) or (word := finish_word(choice.get("finish_reason"))) is None:
        return False
    choice["finish_reason"] = word
    message = choice.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            arguments_as_text(call)
            call["id"] = call.get("id") or new_id()
    return True
