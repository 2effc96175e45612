"""Errors as Anthropic's clients read them."""

import orjson
import pytest

from actors.breaker.outcomes import Outcome
from deployments.doors.messages.door import MESSAGES
from deployments.errors import (
    BadRequest,
    BreakwaterError,
    DeadlineExceeded,
    Forbidden,
    InternalError,
    LimitReached,
    NoAnswer,
    TooBusy,
    TooLarge,
    Unauthorized,
    UnknownModel,
    WrongRoute,
)
from tests.doors.anthropic_types import ERROR

THROTTLED = NoAnswer("All providers failed.", [{"outcome": "throttled"}, {"outcome": "skipped: throttled"}])


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("Invalid 'system'.", "system"), 400, "invalid_request_error"),
        (Unauthorized("No key."), 401, "authentication_error"),
        (LimitReached("Used up.", 402, "monthly_cost", 9.0), 402, "billing_error"),
        (Forbidden("No."), 403, "permission_error"),
        (UnknownModel("No such model."), 404, "not_found_error"),
        (WrongRoute("GET", "/v1/messages", ["POST"]), 405, "invalid_request_error"),
        (TooLarge("Too large."), 413, "request_too_large"),
        (LimitReached("Too many.", 429, "requests_per_minute", 1.0), 429, "rate_limit_error"),
        (THROTTLED, 529, "overloaded_error"),
        (TooBusy("Busy."), 529, "overloaded_error"),
        (NoAnswer("All providers failed.", [{"outcome": "server_error"}]), 503, "api_error"),
        (DeadlineExceeded("Late."), 504, "timeout_error"),
        (InternalError("A bug."), 500, "api_error"),
    ],
)
def test_an_error_has_anthropics_status_and_type(error: BreakwaterError, status: int, kind: str) -> None:  # 40
    body = MESSAGES.error(error, "req_1")
    assert MESSAGES.status_of(error) == status
    assert (body["error"]["type"], body["error"]["message"], body["request_id"]) == (kind, str(error), "req_1")
    if kind != "request_too_large":  # documented, and in no type of the SDK
        ERROR.validate_json(orjson.dumps(body), strict=True)


def test_an_error_keeps_what_it_knows_more() -> None:
    body = MESSAGES.error(THROTTLED)
    assert body["error"]["attempts"] == THROTTLED.attempts
    assert MESSAGES.error(BadRequest("Invalid 'a'.", "a"))["error"]["param"] == "a"
    explained = BadRequest("Invalid 'a'.", "a")
    explained.explained = {"row": "row-a"}
    assert MESSAGES.error(explained)["breakwater"] == {"explained": {"row": "row-a"}}


TOLD = [
    ("prompt is too long: 210000 tokens > 200000 maximum", 210_000, 200_000),
    ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.", 9001, 8192),
    (
        "This model's maximum context length is 8,192 tokens. However, you requested 10000 tokens "
        "(9000 in the messages, 1000 in the completion).",
        9000,
        8192,
    ),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1_200_000, 1_048_576),
    ("request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it", 5000, 4096),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 5000, 4096),
    ("This model's maximum context length is 2048 tokens.", 2049, 2048),
]


def too_long(message: str, tokens: int | None = None, window: int | None = None) -> NoAnswer:
    error = NoAnswer(message, [{"outcome": "too_long"}], Outcome("too_long", status=400, message=message))
    error.tokens, error.window = tokens, window
    return error


@pytest.mark.parametrize(("message", "tokens", "window"), TOLD)
def test_a_prompt_that_is_too_long_is_told_in_the_words_by_which_clients_compact(  # 42
    message: str, tokens: int, window: int
) -> None:
    body = MESSAGES.error(too_long(message))
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"] == f"prompt is too long: {tokens} tokens > {window} maximum"
    assert MESSAGES.status_of(too_long(message)) == 400


def test_where_no_text_tells_the_numbers_they_are_those_that_are_known() -> None:
    def told(text: str, tokens: int | None = None, window: int | None = None) -> str:
        return str(MESSAGES.error(too_long(text, tokens, window))["error"]["message"])

    silent = "Input is too long for requested model."
    assert told(silent, 9000, 8192) == "prompt is too long: 9000 tokens > 8192 maximum"
    assert told(silent, 8000, 8192) == "prompt is too long: 8193 tokens > 8192 maximum"
    assert told(silent).startswith("prompt is too long: Input is too long")
    context = "This model's maximum context length is 2048 tokens."
    assert told(context, 3000) == "prompt is too long: 3000 tokens > 2048 maximum"
