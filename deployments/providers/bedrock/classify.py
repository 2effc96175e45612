"""Bedrock's errors as outcome kinds. Pure, but for boto3's exceptions."""

from collections.abc import Mapping
from typing import Any

import botocore.exceptions as aws
from botocore.eventstream import ParserError
from botocore.parsers import ResponseParserError

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.providers.base import kind_of_status, retry_after_of
from deployments.providers.transport import classify_transport_error

_KINDS = {
    "ThrottlingException": "throttled",
    "ModelNotReadyException": "throttled",
    "ServiceQuotaExceededException": "quota",
    "AccessDeniedException": "credential",
    "UnrecognizedClientException": "credential",
    "InvalidSignatureException": "credential",
    "ExpiredTokenException": "credential",
    "ResourceNotFoundException": "model_missing",
    "ModelTimeoutException": "server_error",
    "ModelErrorException": "server_error",
    "ModelStreamErrorException": "server_error",
    "InternalServerException": "server_error",
    "ServiceUnavailableException": "overloaded",
    "ValidationException": "bad_request",
}


def classify(error: Exception) -> AttemptFailed:
    """Return the failure for boto3's exception, by its type and code. A code inside a stream begins in lower case."""
    match error:
        case AttemptFailed():
            return error
        case aws.ClientError():
            return _client_error(error)
        case aws.ParamValidationError():
            return failed("bad_request", str(error), status=400)
        case aws.NoCredentialsError() | aws.PartialCredentialsError() | aws.CredentialRetrievalError():
            return failed("credential", str(error))
        case aws.EndpointConnectionError() | aws.ConnectTimeoutError() | aws.ProxyConnectionError() | aws.SSLError():
            return failed("connect", "the connection to Bedrock failed")
        case aws.ReadTimeoutError():
            return failed("timeout", "Bedrock sent no answer within boto3's limit")
        case aws.HTTPClientError():
            return failed("broken", "the connection to Bedrock broke off")
        case ResponseParserError() | ParserError() | UnicodeDecodeError():
            return failed("malformed", f"Bedrock's answer can't be parsed ({type(error).__name__})")
    return classify_transport_error(error) or failed("unclassified", f"{type(error).__name__}: {error}")


def _client_error(error: aws.ClientError) -> AttemptFailed:
    code = str(error.response.get("Error", {}).get("Code", ""))
    meta: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    status = meta.get("HTTPStatusCode")
    retry_after = retry_after_of(meta.get("HTTPHeaders", {}))
    kind = _KINDS.get(code[:1].upper() + code[1:]) or kind_of_status(status or 500, code, retry_after)
    message = str(error.response.get("Error", {}).get("Message", "")) or str(error)
    if kind == "bad_request" and _too_long(message):
        kind = "too_long"
    if kind == "overloaded" and retry_after is not None:
        kind = "throttled"
    return AttemptFailed(Outcome(kind, status=status, message=message, code=code, retry_after=retry_after))


def _too_long(message: str) -> bool:
    """Is the prompt too long? Bedrock has no code for it, so only the text tells."""
    return "too long" in message.lower()
