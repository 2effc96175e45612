"""The errors of a deployment: dicts with `error`, and what its method raised. Pure."""

from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonObject, whole_number
from deployments.providers.openai.errors.classify import refused
from deployments.providers.openai.stream.content import choices_of
from deployments.providers.openai.stream.failures import failure_in

_LONGEST = 1000  # characters of an exception's text


def failure_of(answer: JsonObject) -> AttemptFailed | None:
    """Return the failure that an answer or an item tells of, None if it is none.

    Its status is `status` beside `error`, as Breakwater's own Python API says it, or the error's code or type, as vLLM
    and OpenAI do; `retry_after` is in seconds.
    """
    status = whole_number(answer.get("status"))
    if answer.get("error") and status is not None and 400 <= status < 600:
        after = answer.get("retry_after")
        return refused(answer, status, float(after) if isinstance(after, int | float) else None)
    return failure_in(answer, choices_of(answer))


def raised(error: BaseException) -> AttemptFailed:
    """Return the failure that an exception of the deployment's method tells of.

    An exception of HTTP (`status_code`, as Starlette's and the SDKs') is read by its status. Any other is an error of
    the server.
    """
    text = f"{type(error).__name__}: {error}"[:_LONGEST]
    status = whole_number(getattr(error, "status_code", None))
    if status is not None and 400 <= status < 600:
        return refused({"message": str(getattr(error, "detail", "") or text)[:_LONGEST]}, status, None)
    return failed("server_error", text)
