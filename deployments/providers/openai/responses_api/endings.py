"""How an answer of the Responses API ends: its finish reason, its usage, or its failure. Pure."""

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.chat import usage_of
from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number
from deployments.openai_api.usage import account_of
from deployments.providers.openai.errors.classify import in_band
from deployments.providers.openai.stream.finish import ended_badly

_CUT = {"max_output_tokens": "length", "content_filter": "content_filter"}
# openai 3.54, `ResponseError.code`: what these say is wrong with the request.
_OF_REQUEST = ("invalid_", "image_", "unsupported_", "empty_", "failed_to_download")


def finish_of(response: JsonObject, *, calls: int) -> str:
    """Return the finish reason of a response. Raises AttemptFailed for one that is not whole."""
    match response.get("status"):
        case "completed" | None:
            return "tool_calls" if calls else "stop"
        case "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            if (finish := _CUT.get(str(reason))) is None:
                raise ended_badly(str(reason))
            return finish
        case "failed" | "cancelled":
            raise failure_of(response.get("error"))
    raise failed("malformed", f"the response is {str(response.get('status'))[:50]!r}", status=200)


def failure_of(error: JsonValue) -> AttemptFailed:
    """Return the failure of a response that failed, or of an `error` event."""
    told = dict(error) if isinstance(error, dict) else {"message": str(error or "the response failed")}
    code = told.get("code")
    # An event's own type says nothing of the error.
    told["type"] = kind if (kind := told.get("type")) != "error" else None
    if told["type"] is None and isinstance(code, str) and code.startswith(_OF_REQUEST):
        told["type"] = "invalid_request_error"
    return in_band(told)


def chat_usage(told: JsonValue) -> JsonDict | None:
    """Return the usage as a chat completion has it; None if it is no account."""
    if (usage := account_of(told)) is None:
        return None
    of_prompt, of_answer = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return usage_of(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        cached=_detail(of_prompt or usage.get("input_tokens_details"), "cached_tokens"),
        written=_detail(of_prompt or usage.get("input_tokens_details"), "cache_write_tokens"),
        reasoning=_detail(of_answer or usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def _detail(details: JsonValue, name: str) -> int:
    return max(whole_number(details.get(name)) or 0, 0) if isinstance(details, dict) else 0
