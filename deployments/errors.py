"""All errors, named by guilt. Each knows its HTTP status and its body in OpenAI's shape.

BreakwaterError
├── CallerError               the request is at fault: no provider is asked, or asked again
│   ├── BadRequest            400, `param` names the field
│   ├── UnknownModel          404
│   ├── Unauthorized          401
│   │   └── ExpiredKey        401
│   ├── Forbidden             403
│   ├── NotFound, WrongRoute  404, 405
│   ├── BodyTooSlow           408
│   ├── TooLarge              413
│   ├── KeyReused             422, another request had its idempotency key
│   ├── UnknownEncoding       415
│   ├── WrongContentType      415
│   ├── OutOfScope            403, no target has the tags that the request keeps to
│   ├── LimitReached          429 or 402, of a tenant or a key
│   └── NotPriced             403, a limit of cost can't count the target
├── AttemptFailed             one attempt failed; `outcome` says how
├── NoAnswer                  all attempts failed, or no target could be asked
│   └── DeadlineExceeded      504, the request's deadline has passed
├── Unavailable               503, a part of Breakwater does not answer
├── TooBusy                   503, this replica holds too much already
├── Overloaded                503, all targets have as many calls as they take
└── InternalError             500, a bug of Breakwater
ConfigError                   serve_config.yaml is invalid; the message names the key

All arguments go to `super().__init__`, or an error would not survive pickling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict, cast

from actors.breaker.outcomes import Guilt, Outcome

# A candidate of a request as its client reads it: provider, model, outcome, and more where it was asked.
Entry: TypeAlias = Mapping[str, Any]


class ErrorBody(TypedDict):
    """OpenAI's error object."""

    message: str
    type: str  # OpenAI's class of errors, as `invalid_request_error`
    param: str | None  # the field of the request that is at fault
    code: str | None
    attempts: NotRequired[list[Entry]]  # each candidate, skipped or asked; only where no provider answered


class Explanation(TypedDict):
    explained: Entry  # see telemetry/explain.py


class ErrorObject(TypedDict):
    """OpenAI's envelope of an error."""

    error: ErrorBody
    breakwater: NotRequired[Explanation]  # only if the caller asked for an explanation


class ErrorAnswer(ErrorObject):
    """An error of the Python API."""

    status: int  # the HTTP status that the HTTP API would have answered
    retry_after: NotRequired[float]  # seconds


class ConfigError(ValueError):
    """The configuration is invalid. The message is one sentence that names the key."""


class BreakwaterError(Exception):
    """The base of all errors that a client may get.

    Attributes:
        status: HTTP status.
        type, code, param: as in OpenAI's error object.
        retry_after: seconds until the same request may succeed.
        explained: what the request went through, if its caller asked for it: see telemetry/explain.py.
        in_clients_words: whether it names fields as the client of another API wrote them.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    explained: Entry | None = None
    in_clients_words: bool = False

    def body(self) -> ErrorBody:
        """Return OpenAI's error object, without the envelope."""
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


class ExpiredKey(Unauthorized):
    code = "expired_api_key"


class Forbidden(CallerError):
    status = 403
    code = "forbidden"


class NotFound(CallerError):
    status = 404
    code = "not_found"


class WrongRoute(CallerError):
    """`allowed` are the methods that the path has, if it is there; `hint` says where to look if it is not."""

    def __init__(self, method: str, path: str, allowed: Sequence[str] = (), hint: str = ""):
        super().__init__(method, path, allowed, hint)
        self.allowed = allowed
        self.status, self.code = (405, "method_not_allowed") if allowed else (404, "not_found")

    def __str__(self) -> str:
        method, path, allowed, hint = self.args
        if allowed:
            return f"{path} has no {method}: use {' or '.join(allowed)}."
        return f"No such route: {method} {path}.{f' {hint}' if hint else ''}"


class TooLarge(CallerError):
    status = 413
    code = "request_too_large"


class BodyTooSlow(CallerError):
    status = 408
    code = "request_timeout"


class UnknownEncoding(CallerError):
    """The body has a content encoding that we can't decode."""

    status = 415
    code = "unsupported_content_encoding"


class KeyReused(CallerError):
    """Another request had the same idempotency key. A vendor's SDK would send it again after a 409."""

    status = 422
    code = "idempotency_key_reused"
    param = "idempotency-key"


class WrongContentType(CallerError):
    """The body's type is not the one that the route takes."""

    status = 415
    code = "unsupported_content_type"

    def __init__(self, given: str, wanted: str):
        super().__init__(given, wanted)
        self.given, self.wanted = given, wanted

    def __str__(self) -> str:
        found = f"not {self.given[:100]!r}" if self.given else "and its type was not given"
        return f"The request body must be {self.wanted}, {found}: send the header 'content-type: {self.wanted}'."


class OutOfScope(CallerError):
    """No target of what is asked for has all the tags that the request, its key or its tenant keeps to."""

    status = 403
    code = "out_of_scope"


class LimitReached(CallerError):
    """A tenant or a key has used up a limit. `retry_after` is seconds until the limit resets."""

    type = "rate_limit_error"

    def __init__(self, message: str, status: int, code: str, retry_after: float):
        super().__init__(message, status, code, retry_after)
        self.status, self.code, self.retry_after = status, code, retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class NotPriced(CallerError):
    """The caller has a limit of cost, and what it asks for has no price."""

    status = 403
    code = "model_not_priced"
    param = "model"


class AttemptFailed(BreakwaterError):
    """One attempt failed. A provider raises it and the failover catches it; no client gets it."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return self.outcome.message or self.outcome.ending.why


class NoAnswer(BreakwaterError):
    """No provider answered. `attempts` lists each candidate; the outcome `last` decides the status.

    `tokens` and `window` are of a prompt that was too long, where its door tells them: an estimate, and the largest
    context that its row has.
    """

    tokens: int | None = None
    window: int | None = None

    def __init__(
        self,
        message: str,
        attempts: Sequence[Entry] = (),
        last: Outcome | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message, attempts, last, retry_after)
        self.attempts = list(attempts)
        self.last = last
        self.retry_after = retry_after
        self.status, self.type, self.code = 503, "server_error", "no_provider_available"
        if last is not None and last.ending.guilt is Guilt.CALLER:
            own = last.kind not in OF_ONE_TIER and last.status is not None and 400 <= last.status < 500
            self.status = last.status if own and last.status is not None else 400
            self.type = last.type or "invalid_request_error"
            # Each vendor has a code of its own for a prompt that is too long, or none; clients look for OpenAI's.
            code = None if last.kind == "too_long" else last.code
            self.code = code or _CALLER_CODES.get(last.kind)
            self.param = last.param
        elif last is not None and last.kind == "internal_error":
            self.status, self.code = InternalError.status, InternalError.code
        elif _all_throttle(attempts):
            self.status, self.type, self.code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __str__(self) -> str:
        return str(self.args[0])

    def body(self) -> ErrorBody:
        return {**super().body(), "attempts": self.attempts}


class DeadlineExceeded(NoAnswer):
    def __init__(
        self,
        message: str,
        attempts: Sequence[Entry] = (),
        last: Outcome | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message, attempts, last, retry_after)
        self.status, self.type, self.code = 504, "timeout_error", "deadline_exceeded"


class Unavailable(BreakwaterError):
    status = 503
    code = "unavailable"
    retry_after = 1.0


class TooBusy(BreakwaterError):
    """This replica holds too much already. The same request may be taken a moment later, or by another replica."""

    status = 503
    code = "too_busy"
    retry_after = 1.0


class Overloaded(BreakwaterError):
    """All targets of a request have as many calls as they take, and it would wait for too long."""

    status = 503
    code = "at_capacity"
    retry_after = 1.0


INTERNAL_ERROR = "a bug of Breakwater kept the request from its provider"


class InternalError(BreakwaterError):
    code = "internal_error"


def _all_throttle(attempts: Sequence[Entry]) -> bool:
    """Return whether every target that could have answered throttles, skipped targets included."""
    outcomes = [a["outcome"] for a in attempts if not a["outcome"].startswith(UNFIT)]
    return bool(outcomes) and all(outcome.removeprefix("skipped: ") == "throttled" for outcome in outcomes)


TOO_SMALL = "no larger context window"
NO_PRICE = "no price, so the caller's monthly_cost can't count it"
OUT_OF_SCOPE = "outside the scope"
# These targets can't take the request at all.
UNFIT = ("skipped: unsupported ", f"skipped: {TOO_SMALL}", f"skipped: {NO_PRICE}", f"skipped: {OUT_OF_SCOPE}")
_CALLER_CODES = {
    "too_long": "context_length_exceeded",
    "content_filter": "content_filter",
    "unsupported": "unsupported_parameter",
    "rejected": "unsupported_value",
}
# What one tier can't do another may. Its vendor may say it with any status: a 403, say, for a prompt that is too long.
OF_ONE_TIER = frozenset({"rejected", "too_long", "unsupported"})


def error_object(error: BreakwaterError) -> ErrorObject:
    """Return an error in OpenAI's envelope."""
    envelope: ErrorObject = {"error": error.body()}
    if error.explained is not None:
        envelope["breakwater"] = {"explained": error.explained}
    return envelope


def error_dict(error: BreakwaterError) -> ErrorAnswer:
    """Return an error as the Python API answers it."""
    answer = cast(ErrorAnswer, {**error_object(error), "status": error.status})
    if error.retry_after is not None:
        answer["retry_after"] = error.retry_after
    return answer


def failed(kind: str, message: str = "", **details: Any) -> AttemptFailed:
    """Return the error of a failed attempt. `kind` and `details` are those of its Outcome."""
    return AttemptFailed(Outcome(kind, message=message, **details))


def stalled(*, content: bool = False) -> AttemptFailed:
    """Return the error of a time limit that passed while our own event loop stood still.

    It says nothing of the provider. `content`: the stream had its first content.
    """
    return failed("stalled", "our own event loop stood still as the time passed", content=content)
