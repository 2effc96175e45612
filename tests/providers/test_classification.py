"""The table of outcomes, row by row, from the SDKs' own exception classes."""

import json
from typing import Any

import botocore.exceptions as aws
import httpx2
import openai
import pytest
from botocore.eventstream import ChecksumMismatch
from botocore.parsers import ResponseParserError
from google.genai import errors as google
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.outcomes import ENDINGS, Outcome, Verdict
from deployments.providers.base import retry_after_of
from deployments.providers.bedrock import adapter as bedrock_provider
from deployments.providers.google import adapter as google_provider
from deployments.providers.http.transport import OwnLag
from deployments.providers.openai.errors import classify as openai_provider
from deployments.providers.openai.errors.servers import RULES as openai_rules
from deployments.providers.vendor_errors.rules import VendorError, kind_of

REQUEST = httpx2.Request("POST", "http://x")


def openai_error(cls: type[openai.APIStatusError], status: int, code: str | None = None, **headers: str) -> Exception:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return cls("no", response=response, body={"message": "no", "code": code})


def wrapped(cause: Exception, cls: type[Exception] = openai.APIConnectionError) -> Exception:
    error = cls(request=REQUEST)  # type: ignore[call-arg]
    error.__cause__ = cause
    return error


OPENAI: list[tuple[Exception, str]] = [
    (openai_error(openai.BadRequestError, 400), "rejected"),
    (openai_error(openai.BadRequestError, 400, "context_length_exceeded"), "too_long"),
    (openai_error(openai.BadRequestError, 400, "content_policy_violation"), "content_filter"),
    (openai_error(openai.AuthenticationError, 401), "credential"),
    (openai_error(openai.APIStatusError, 402), "quota"),
    (openai_error(openai.PermissionDeniedError, 403), "credential"),
    (openai_error(openai.NotFoundError, 404, "model_not_found"), "model_missing"),
    (openai_error(openai.APIStatusError, 408), "server_error"),
    (openai_error(openai.ConflictError, 409), "conflict"),
    (openai_error(openai.APIStatusError, 413), "rejected"),
    (openai_error(openai.UnprocessableEntityError, 422), "rejected"),
    (openai_error(openai.APIStatusError, 424), "server_error"),
    (openai_error(openai.RateLimitError, 429), "throttled"),
    (openai_error(openai.RateLimitError, 429, "insufficient_quota"), "quota"),
    (openai_error(openai.InternalServerError, 500), "server_error"),
    (openai_error(openai.InternalServerError, 502), "server_error"),
    (openai_error(openai.InternalServerError, 503), "overloaded"),
    (openai_error(openai.InternalServerError, 503, **{"retry-after": "3"}), "throttled"),
    (openai_error(openai.InternalServerError, 504), "server_error"),
    (openai_error(openai.InternalServerError, 529), "overloaded"),
    (wrapped(httpx2.ConnectError("refused")), "connect"),
    (wrapped(httpx2.ConnectTimeout("slow"), openai.APITimeoutError), "connect"),
    (wrapped(httpx2.PoolTimeout("full"), openai.APITimeoutError), "busy"),
    (wrapped(OwnLag("we"), openai.APITimeoutError), "stalled"),
    (wrapped(httpx2.RemoteProtocolError("closed")), "broken"),
    (wrapped(httpx2.ReadError("reset")), "broken"),
    (httpx2.ReadError("reset"), "broken"),
    (RuntimeError("who knows"), "unclassified"),
]


def client_error(code: str, status: int | None = None, message: str = "no", **headers: str) -> Exception:
    meta: dict[str, Any] = {"HTTPHeaders": headers} | ({"HTTPStatusCode": status} if status else {})
    return aws.ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "Converse")


def in_stream(code: str) -> Exception:
    """As botocore raises it inside a stream: lower camel case, no status."""
    return aws.EventStreamError({"Error": {"Code": code, "Message": "no"}}, "ConverseStream")


BEDROCK: list[tuple[Exception, str]] = [
    (client_error("ValidationException", 400), "rejected"),
    (client_error("ValidationException", 400, "Input is too long for requested model"), "too_long"),
    *[
        (client_error("ValidationException", 400, text), kind)
        for text, kind in (
            ("`temperature` and `top_p` cannot both be specified for this model.", "rejected"),
            ("The maximum tokens you requested exceeds the model limit of 64000.", "rejected"),
            ("stop_sequences: each stop sequence must contain non-whitespace", "rejected"),
            ("prompt is too long: 210000 tokens > 200000 maximum", "too_long"),
            ("input length and `max_tokens` exceed context limit: 9 + 9 > 10", "rejected"),
            ("input length and `max_tokens` exceed context limit: 11 + 9 > 10", "too_long"),
            ("The provided model identifier is invalid.", "model_missing"),
            ("Invocation of model ID x with on-demand throughput isn't supported.", "model_missing"),
            ("The model is not supported in your region: unsupported countries, regions", "credential"),
            ("Operation not allowed", "credential"),
            ("Output blocked by content filtering policy", "content_filter"),
            ("Expected toolResult blocks at messages.2.content for the following Ids: a", "bad_request"),
            ("`tool_use` ids were found without `tool_result` blocks immediately after: a", "bad_request"),
        )
    ],
    (client_error("ThrottlingException", 429, "Too many tokens per day, please wait"), "quota"),
    (client_error("ResourceNotFoundException", 404, "Model use case details have not been submitted"), "credential"),
    (client_error("ServiceQuotaExceededException", 400), "quota"),
    (client_error("AccessDeniedException", 403), "credential"),
    (client_error("UnrecognizedClientException", 403), "credential"),
    (client_error("ExpiredTokenException", 403), "credential"),
    (client_error("ResourceNotFoundException", 404), "model_missing"),
    (client_error("ModelTimeoutException", 408), "server_error"),
    (client_error("ModelErrorException", 424), "server_error"),
    (client_error("ThrottlingException", 429), "throttled"),
    (client_error("ModelNotReadyException", 429), "throttled"),
    (client_error("InternalServerException", 500), "server_error"),
    (client_error("ServiceUnavailableException", 503), "overloaded"),
    (client_error("ServiceUnavailableException", 503, **{"retry-after": "3"}), "throttled"),
    (client_error("ExceptionOfTomorrow", 500), "server_error"),
    (client_error("ExceptionOfTomorrow", 400), "rejected"),
    (in_stream("throttlingException"), "throttled"),
    (in_stream("internalServerException"), "server_error"),
    (in_stream("modelStreamErrorException"), "server_error"),
    (in_stream("serviceUnavailableException"), "overloaded"),
    (in_stream("validationException"), "rejected"),
    (aws.EndpointConnectionError(endpoint_url="x"), "connect"),
    (aws.ConnectTimeoutError(endpoint_url="x"), "connect"),
    (aws.SSLError(endpoint_url="x", error="x"), "connect"),
    (aws.ReadTimeoutError(endpoint_url="x"), "timeout"),
    (aws.ConnectionClosedError(endpoint_url="x"), "broken"),
    (aws.NoCredentialsError(), "credential"),
    (aws.ParamValidationError(report="x"), "rejected"),
    (httpx2.ConnectError("refused"), "connect"),
    (httpx2.PoolTimeout("full"), "busy"),
    (OwnLag("we"), "stalled"),
    (httpx2.RemoteProtocolError("cut"), "broken"),
    (ChecksumMismatch(1, 2), "malformed"),
    (ResponseParserError("x"), "malformed"),
    (RuntimeError("who knows"), "unclassified"),
]


def google_error(status: int, name: str, *details: dict[str, Any], message: str = "no", **headers: str) -> Exception:
    cls = google.ClientError if status < 500 else google.ServerError
    body = {"error": {"code": status, "status": name, "message": message, "details": list(details)}}
    return cls(status, body, httpx2.Response(status, headers=headers, request=REQUEST))


GOOGLE: list[tuple[Exception, str]] = [
    (google_error(400, "INVALID_ARGUMENT"), "rejected"),
    (google_error(400, "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), "credential"),
    (
        google_error(400, "INVALID_ARGUMENT", message="input token count (9) exceeds the maximum number of tokens (1)"),
        "too_long",
    ),
    *[
        (google_error(400, "INVALID_ARGUMENT", message=text), kind)
        for text, kind in (
            ("Penalty is not enabled for this model", "rejected"),
            ("Budget 0 is invalid. This model only works in thinking mode.", "rejected"),
            ("API key not valid. Please pass a valid API key.", "credential"),
            ("Please ensure that the number of function response parts is equal to the number of", "bad_request"),
        )
    ],
    (google_error(400, "FAILED_PRECONDITION", message="User location is not supported for the API use."), "credential"),
    (google_error(400, "FAILED_PRECONDITION", message="Please enable billing on project x"), "quota"),
    (google_error(403, "PERMISSION_DENIED", {"reason": "SERVICE_DISABLED"}), "credential"),
    (google_error(404, "NOT_FOUND", message="models/x is not found for API version v1"), "model_missing"),
    (google_error(429, "RESOURCE_EXHAUSTED", {"violations": [{"quotaId": "RequestsPerDayPerProject"}]}), "quota"),
    (
        google_error(429, "RESOURCE_EXHAUSTED", {"violations": [{"quotaId": "RequestsPerMinutePerProject"}]}),
        "throttled",
    ),
    (google_error(499, "CANCELLED"), "server_error"),
    (google_error(401, "UNAUTHENTICATED"), "credential"),
    (google_error(403, "PERMISSION_DENIED"), "credential"),
    (google_error(404, "NOT_FOUND"), "model_missing"),
    (google_error(429, "RESOURCE_EXHAUSTED"), "throttled"),
    (google_error(500, "INTERNAL"), "server_error"),
    (google_error(503, "UNAVAILABLE"), "overloaded"),
    (google_error(503, "UNAVAILABLE", **{"retry-after": "3"}), "throttled"),
    (google_error(504, "DEADLINE_EXCEEDED"), "server_error"),
    (google.UnknownApiResponseError("x"), "malformed"),
    (json.JSONDecodeError("x", "", 0), "malformed"),
    (httpx2.ConnectError("refused"), "connect"),
    (httpx2.ConnectTimeout("slow"), "connect"),
    (httpx2.PoolTimeout("full"), "busy"),
    (OwnLag("we"), "stalled"),
    (httpx2.RemoteProtocolError("closed"), "broken"),
    (httpx2.ReadError("reset"), "broken"),
    (RuntimeError("who knows"), "unclassified"),
]

ROWS = [
    *((openai_provider, error, kind) for error, kind in OPENAI),
    *((bedrock_provider, error, kind) for error, kind in BEDROCK),
    *((google_provider, error, kind) for error, kind in GOOGLE),
]


@pytest.mark.parametrize(
    ("provider", "error", "kind"),
    ROWS,
    ids=[f"{p.__name__.rsplit('.')[-1]}-{type(e).__name__}-{k}" for p, e, k in ROWS],
)
def test_each_exception_is_its_row(provider: Any, error: Exception, kind: str) -> None:
    outcome = provider.classify(error, {}).outcome
    assert outcome.kind == kind
    assert kind in ENDINGS


def test_googles_own_delay_beats_the_header() -> None:
    error = google_error(429, "RESOURCE_EXHAUSTED", {"retryDelay": "36s"}, **{"retry-after": "2"})
    assert google_provider.classify(error).outcome.retry_after == 36.0


@given(st.integers(400, 599), st.none() | st.text(max_size=30), st.none() | st.floats(0, 100))
def test_any_status_and_any_code_is_a_row_of_the_table(status: int, code: str | None, delay: float | None) -> None:
    error = VendorError(status, code=code, retry_after=delay)
    assert kind_of(error, openai_rules) in ENDINGS


@given(st.text(max_size=40))
def test_any_retry_after_is_a_number_or_absent(value: str) -> None:
    got = retry_after_of({"retry-after": value})
    assert got is None or got >= 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_all_its_shapes(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers) == seconds


def test_the_verdicts_of_the_table_keep_its_promises() -> None:
    for kind, ending in ENDINGS.items():
        if ending.guilt.value == "caller":
            assert ending.before is ending.after, kind
            assert ending.before in (Verdict.NEUTRAL, Verdict.REFUSED), f"{kind}: a caller moves no breaker"
        assert Outcome(kind).verdict is ending.before
        assert Outcome(kind, content=True).verdict is ending.after
    assert Outcome("of tomorrow").ending is ENDINGS["unclassified"]
