"""What can go wrong, named by guilt. Each error knows its HTTP status and its OpenAI-shaped body.

BreakwaterError
├── CallerError               the request is at fault: no provider is asked, or asked again
│   ├── BadRequest            400, `param` names the field
│   ├── UnknownModel          404
│   ├── Unauthorized          401
│   ├── Forbidden             403
│   ├── NotFound, WrongRoute  404, 405
│   ├── TooLarge              413
│   └── LimitReached          429 or 402, of a tenant or a key
├── AttemptFailed             one attempt at one provider ended badly; `outcome` says how
├── NoAnswer                  every attempt is spent, or none was possible
│   └── DeadlineExceeded      504, the request's own time is over
├── Unavailable               503, a part of us is away
└── InternalError             500, a bug of ours
ConfigError                   serve_config.yaml is wrong; one sentence that names the key

All arguments go to `super().__init__`, or an error would not survive pickling.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.breaker.outcomes import Guilt, Outcome


class ConfigError(ValueError):
    """The configuration can't be used. The message is one sentence that names the key."""


class BreakwaterError(Exception):
    status = 500
    type = "server_error"
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    explained: Mapping[str, Any] | None = None  # what the request went through, if its caller wants to read it

    def body(self) -> dict[str, Any]:
        """OpenAI's error object, without the envelope."""
        return {"message": str(self), "type": self.type, "param": self.param, "code": self.code}


class CallerError(BreakwaterError):
    status = 400
    type = "invalid_request_error"


class BadRequest(CallerError):
    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value"):
        super().__init__(message, param, code)
        self.param, self.code = param, code

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownModel(CallerError):
    status = 404
    code = "model_not_found"
    param = "model"


class Unauthorized(CallerError):
    status = 401
    code = "invalid_api_key"


class Forbidden(CallerError):
    status = 403
    code = "forbidden"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class WrongRoute(CallerError):
    code = "not_found"

    def __init__(self, method: str, path: str, status: int):
        super().__init__(method, path, status)
        self.status = status

    def __str__(self) -> str:
        return f"No such route: {self.args[0]} {self.args[1]}."


class TooLarge(CallerError):
    status = 413
    code = "request_too_large"


class LimitReached(CallerError):
    """A tenant or a key has used what it may: `retry_after` seconds until it may again."""

    type = "rate_limit_error"

    def __init__(self, message: str, status: int, code: str, retry_after: float):
        super().__init__(message, status, code, retry_after)
        self.status, self.code, self.retry_after = status, code, retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class AttemptFailed(BreakwaterError):
    """One attempt ended; raised by a provider, taken by the failover, never sent to a client as it is."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.message or self.outcome.ending.why


class NoAnswer(BreakwaterError):
    """Nobody answered. `attempts` says what was tried; the last outcome decides the status."""

    def __init__(
        self,
        message: str,
        attempts: Sequence[dict[str, Any]] = (),
        last: Outcome | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message, attempts, last, retry_after)
        self.attempts = list(attempts)
        self.last = last
        self.retry_after = retry_after
        self.status, self.type, self.code = 503, "server_error", "no_provider_available"
        if last is not None and last.ending.guilt is Guilt.CALLER:
            self.status = last.status if last.status and 400 <= last.status < 500 else 400
            self.type = last.type or "invalid_request_error"
            # Each vendor has a code of its own for a prompt that is too long, or none; clients look for OpenAI's.
            code = None if last.kind == "too_long" else last.code
            self.code = code or _CALLER_CODES.get(last.kind)
            self.param = last.param
        elif _all_throttle(attempts):
            self.status, self.type, self.code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __str__(self) -> str:
        return str(self.args[0])

    def body(self) -> dict[str, Any]:
        return {**super().body(), "attempts": self.attempts}


class DeadlineExceeded(NoAnswer):
    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.status, self.type, self.code = 504, "timeout_error", "deadline_exceeded"


class Unavailable(BreakwaterError):
    status = 503
    code = "unavailable"
    retry_after = 1.0


class InternalError(BreakwaterError):
    code = "internal_error"


def _all_throttle(attempts: Sequence[dict[str, Any]]) -> bool:
    """Did all throttle that were asked, with nobody left out who could have answered?"""
    asked = [a["outcome"] for a in attempts if not a["outcome"].startswith(UNFIT)]
    return bool(asked) and all(outcome.removeprefix("skipped: ") == "throttled" for outcome in asked)


TOO_SMALL = "no larger context window"
UNFIT = ("skipped: unsupported ", f"skipped: {TOO_SMALL}")  # whoever can't take the request at all
_CALLER_CODES = {
    "too_long": "context_length_exceeded",
    "content_filter": "content_filter",
    "unsupported": "unsupported_parameter",
}


def error_object(error: BreakwaterError) -> dict[str, Any]:
    """OpenAI's envelope."""
    told = {} if error.explained is None else {"breakwater": {"explained": error.explained}}
    return {"error": error.body(), **told}


def error_dict(error: BreakwaterError) -> dict[str, Any]:
    """An error as the Python door gives it; `retry_after` is seconds, where there is one."""
    told: dict[str, Any] = {**error_object(error), "status": error.status}
    return told if error.retry_after is None else {**told, "retry_after": error.retry_after}


def failed(kind: str, message: str = "", **details: Any) -> AttemptFailed:
    return AttemptFailed(Outcome(kind, message=message, **details))


def stalled(*, content: bool = False) -> AttemptFailed:
    """What a limit says that passed while our own loop stood still: nothing of the provider."""
    return failed("stalled", "our own event loop stood still as the time passed", content=content)
