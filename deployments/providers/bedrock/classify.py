"""Bedrock's errors as outcome kinds. Pure, but for boto3's exceptions."""

from collections.abc import Mapping
from typing import Any

import botocore.exceptions as aws
from botocore.eventstream import ParserError
from botocore.parsers import ResponseParserError

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.openai_api.json_types import JsonValue
from deployments.providers.base import retry_after_of
from deployments.providers.http.transport import classify_transport_error
from deployments.providers.vendor_errors.bodies import PAGE, param_by_word, plain
from deployments.providers.vendor_errors.lengths import WINDOW_SUMS
from deployments.providers.vendor_errors.rules import Rule, VendorError, read_by, rule

# Bedrock has one code for almost all that it refuses, so the text tells.
_DOC = "AWS, Bedrock API error codes"
_GAP = r"[^'\"`\[\](){}<>]"  # what is quoted may be the client's
RULES: tuple[Rule, ...] = (
    rule("rejected", "aws-samples/sample-kolya-br-proxy#38: AWS WAF", f"^{PAGE}", statuses=(403, 406)),
    *WINDOW_SUMS,
    # Before what names regions and models: a tier that a model lacks says nothing of either.
    rule("rejected", "NousResearch/hermes-agent#34476", r"service[ _]?tier|reservation not found", statuses=(400,)),
    rule(
        "rejected",
        "AWS, Converse: performanceConfig",
        r"performance ?config|latency.{0,20}optimi[sz]ed",
        statuses=(400,),
    ),
    rule("quota", "AWS, Bedrock quotas", r"too many tokens per day"),
    rule("quota", _DOC, codes="ServiceQuotaExceededException"),
    rule("throttled", _DOC, codes="ThrottlingException ModelNotReadyException TooManyRequestsException"),
    rule("throttled", _DOC, r"too many (?:requests|concurrent)|rate exceeded", statuses=(400,)),
    rule(
        "model_missing",
        "langchain-ai/langchain-aws#258: models that are in inference profiles only",
        r"on-demand throughput is(?:n.t| not) supported",
    ),
    rule(
        "credential",
        _DOC,
        r"operation not allowed|not authorized|access (?:is )?denied|use case details|INVALID_PAYMENT_INSTRUMENT",
        r"marketplace",
        # What stands behind a colon may be a value of the client's.
        rf"(?:unsupported|not (?:supported|available|allowed))(?:(?!:){_GAP}){{0,40}}"
        r"\b(?:country|countries|regions?)\b",
        rf"data retention mode|account {_GAP}{{0,60}}(?:verif|suspend)|security token|api key",
        statuses=(400, 401, 403, 404),
    ),
    rule(
        "model_missing",
        _DOC,
        rf"model identifier is invalid|inference profile {_GAP}{{0,80}}(?:invalid|not found)|invalid model",
        rf"model version has reached|end of its life|marked {_GAP}{{0,20}}as legacy",
        r"could not resolve the foundation model",
        r"(?:this )?model is not supported|isn.t supported on this route|doesn.t support the model that you provided",
        statuses=(400, 404),
    ),
    rule("content_filter", "Anthropic, errors", r"blocked by content filtering policy", statuses=(400,)),
    rule("rejected", "NousResearch/hermes-agent#70222", r"maximum tokens you requested exceeds", statuses=(400,)),
    rule(
        "too_long",
        "aws-samples/bedrock-access-gateway#41: no code for it",
        r"(?:input|prompt|request)\S* (?:is )?too long|too many input tokens|context (?:limit|length|window)",
        r"exceeds? (?:the )?(?:maximum |model'?s )?(?:context|number of tokens)",
        statuses=(400,),
    ),
    # The order of calls and results is the conversation's own: no vendor takes another.
    rule(
        "bad_request",
        "Anthropic, tool use; AWS, Converse",
        r"expected toolResult|number of toolResult|tool_use`? ids were found without|unexpected `?tool_use_id",
        r"toolResult blocks .{0,80}(?:duplicate|exceed)",
        statuses=(400,),
    ),
    rule(
        "credential",
        _DOC,
        codes="AccessDeniedException UnrecognizedClientException InvalidSignatureException ExpiredTokenException"
        " IncompleteSignatureException MissingAuthenticationTokenException InvalidClientTokenId ExpiredToken"
        " SignatureDoesNotMatch OptInRequired",
    ),
    rule("model_missing", _DOC, codes="ResourceNotFoundException UnknownOperationException"),
    rule(
        "server_error",
        _DOC,
        codes="ModelTimeoutException ModelErrorException ModelStreamErrorException InternalServerException",
    ),
    rule("overloaded", _DOC, codes="ServiceUnavailableException"),
)
# Converse's words and its models' for fields, in the texts of their refusals.
_PARAMS = {
    "top_p": "top_p",
    "topP": "top_p",
    "temperature": "temperature",
    "top_k": "top_k",
    "stop_sequences": "stop",
    "stopSequences": "stop",
    "maxTokens": "max_tokens",
    "serviceTier": "service_tier",
    "service tier": "service_tier",
    "service_tier": "service_tier",
    "maximum tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "effort": "reasoning_effort",
    "output_config.format": "response_format",
    "textFormat": "response_format",
    "outputConfig": "response_format",
    "toolChoice": "tool_choice",
    "tool_choice": "tool_choice",
    "toolConfig": "tools",
    "input_schema": "tools",
    "image": "messages",
    "prefill": "messages",
    "messages": "messages",
}


def classify(error: Exception, asked: JsonValue = None) -> AttemptFailed:
    """Return the failure for boto3's exception, by its type and code. A code inside a stream begins in lower case."""
    match error:
        case AttemptFailed():
            return error
        case aws.ClientError():
            return _client_error(error, asked)
        case aws.ParamValidationError():
            return failed("rejected", "boto3 finds the request invalid", status=400)
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


def _client_error(error: aws.ClientError, asked: JsonValue) -> AttemptFailed:
    code = str(error.response.get("Error", {}).get("Code", ""))[:256]
    meta: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    status = meta.get("HTTPStatusCode")
    retry_after = retry_after_of(meta.get("HTTPHeaders", {}))
    message = plain(str(error.response.get("Error", {}).get("Message", "")) or str(error))
    # Inside a stream an error has no status.
    word = code[:1].upper() + code[1:]
    told = VendorError(
        status or (400 if word == "ValidationException" else 500), message, word, None, None, retry_after
    )
    read = read_by((*_original(error), *RULES), told, asked)
    param = (read.param or param_by_word(message, _PARAMS)) if read.kind == "rejected" else None
    return AttemptFailed(
        Outcome(read.kind, status=status, message=message, code=code, param=param, retry_after=retry_after)
    )


def _original(error: aws.ClientError) -> tuple[Rule, ...]:
    """Return a rule of its own where the model's server refused the request: Bedrock passes its status on."""
    original: Any = error.response.get("originalStatusCode")
    return _OF_MODELS_SERVER if original in (400, 413, 422) else ()


_OF_MODELS_SERVER = (
    *[known for known in RULES if known.kind in ("rejected", "too_long", "bad_request", "content_filter")],
    rule("rejected", "AWS, Converse: originalStatusCode", codes="ModelErrorException ModelStreamErrorException"),
)
