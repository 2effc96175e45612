"""What the errors of a dozen vendors mean, by the bodies that their documentation and public reports show."""

from typing import Any

import pytest

from deployments.providers.openai.errors.servers import RULES
from deployments.providers.vendor_errors.bodies import param_in, read_error
from deployments.providers.vendor_errors.rules import kind_of


def openai(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


ASKED = {"model": "row", "messages": [{"role": "user", "content": "Hi"}]}

CASES: list[tuple[str, int, Any, str, str | None]] = [
    ("OpenAI", 400, openai("Unsupported parameter: 'max_tokens'", param="max_tokens"), "rejected", "max_tokens"),
    (
        "OpenAI",
        400,
        openai("Unsupported value", param="temperature", code="unsupported_value"),
        "rejected",
        "temperature",
    ),
    ("OpenAI", 400, openai("Unrecognized request argument supplied: top_k"), "rejected", "top_k"),
    ("OpenAI", 400, openai("max_tokens is too large: 100000. This model supports at most 32768"), "rejected", None),
    ("OpenAI", 400, openai("'tools' is too long: maximum of 128 items", param="tools"), "rejected", "tools"),
    ("OpenAI", 400, openai("Missing required parameter", code="missing_required_parameter"), "rejected", None),
    (
        "OpenAI",
        400,
        openai("Invalid parameter: messages with role 'tool' must be a response to a preceeding message"),
        "bad_request",
        None,
    ),
    ("OpenAI", 400, openai("Your input exceeds the context window of this model."), "too_long", None),
    ("OpenAI", 400, openai("flagged as violating our usage policy", code="invalid_prompt"), "content_filter", None),
    ("OpenAI", 403, openai("Country", code="unsupported_country_region_territory"), "credential", None),
    ("OpenAI", 404, openai("The model `gpt-9` does not exist", code="model_not_found"), "model_missing", None),
    ("OpenAI", 429, openai("quota", code="insufficient_quota"), "quota", None),
    (
        "Azure",
        400,
        openai("triggering Azure OpenAI's content management policy", code="content_filter"),
        "content_filter",
        None,
    ),
    ("Azure", 404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, "model_missing", None),
    (
        "xAI",
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided"},
        "credential",
        None,
    ),
    ("xAI", 403, {"code": "x", "error": "Your team has used all available credits"}, "quota", None),
    (
        "xAI",
        400,
        {"code": "x", "error": "Argument not supported on this model: presencePenalty"},
        "rejected",
        None,
    ),
    (
        "Gemini, compatible",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
        "credential",
        None,
    ),
    (
        "Gemini, compatible",
        400,
        [{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}],
        "rejected",
        "seed",
    ),
    ("Groq", 413, openai("Rate limit reached for tokens", code="rate_limit_exceeded"), "throttled", None),
    (
        "Groq",
        413,
        openai("Request too large for model on tokens per minute", code="rate_limit_exceeded"),
        "rejected",
        None,
    ),
    ("Groq", 498, openai("capacity", code="capacity_exceeded"), "throttled", None),
    ("Groq", 400, openai("Organization has been restricted.", code="organization_restricted"), "credential", None),
    (
        "Groq",
        400,
        openai("Failed to call a function", code="tool_use_failed", failed_generation="x"),
        "rejected",
        None,
    ),
    ("Groq", 400, openai("property 'name' is unsupported"), "rejected", "name"),
    ("Fireworks", 412, openai("Account is suspended, possibly due to unpaid invoices"), "credential", None),
    ("Fireworks", 412, openai("LoRA is not loaded"), "model_missing", None),
    ("Together", 403, openai("inputs tokens + max_new_tokens must be <= 8193"), "too_long", None),
    ("Together", 403, openai("no such key"), "credential", None),
    ("a proxy", 403, openai("Invalid token"), "credential", None),
    ("OpenAI", 404, openai("This is not a chat model and thus not supported"), "model_missing", None),
    (
        "OpenRouter",
        403,
        {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["x"]}}},
        "content_filter",
        None,
    ),
    (
        "OpenRouter",
        404,
        {"error": {"code": 404, "message": "No endpoints found that support tool use."}},
        "rejected",
        None,
    ),
    ("OpenRouter", 404, {"error": {"code": 404, "message": "No endpoints found for x/y."}}, "model_missing", None),
    (
        "OpenRouter",
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": "Incorrect API key provided"},
            }
        },
        "credential",
        None,
    ),
    ("DeepSeek", 400, openai("Content Exists Risk"), "content_filter", None),
    ("DeepSeek", 402, openai("Insufficient Balance", type="unknown_error"), "quota", None),
    (
        "DeepSeek",
        400,
        openai("This model's maximum context length is 131072 tokens. However, you requested 140000"),
        "too_long",
        None,
    ),
    (
        "Mistral",
        422,
        {
            "object": "error",
            "message": {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "store"], "msg": "Extra inputs are not permitted"}
                ]
            },
            "type": "invalid_request_error",
        },
        "rejected",
        "store",
    ),
    (
        "Mistral",
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        },
        "too_long",
        None,
    ),
    ("Mistral", 400, {"message": "Not the same number of function calls and responses"}, "bad_request", None),
    (
        "FastAPI",
        422,
        {"detail": [{"loc": ["body", "top_k"], "msg": "extra fields not permitted"}]},
        "rejected",
        "top_k",
    ),
    ("FastAPI", 400, {"detail": "no such thing"}, "rejected", None),
    (
        "vLLM, old",
        400,
        {"object": "error", "message": "This model's maximum context length is 8192 tokens.", "code": 400},
        "too_long",
        None,
    ),
    ("vLLM", 404, openai("The model `x` does not exist.", type="NotFoundError", code=404), "model_missing", None),
    ("vLLM", 400, openai("'max_tokens' or 'max_completion_tokens' is too large: 9000."), "rejected", None),
    (
        "SGLang",
        400,
        {
            "object": "error",
            "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        },
        "too_long",
        None,
    ),
    (
        "llama.cpp",
        400,
        {"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error"}},
        "too_long",
        None,
    ),
    ("Ollama", 404, {"error": 'model "x" not found, try pulling it first'}, "model_missing", None),
    ("Ollama", 400, {"error": "registry.ollama.ai/library/x does not support tools"}, "rejected", None),
    (
        "Anthropic, compatible",
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
        "quota",
        None,
    ),
    (
        "Anthropic, compatible",
        400,
        {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
        "too_long",
        None,
    ),
    (
        "Alibaba",
        400,
        openai("Output data may contain inappropriate content.", code="data_inspection_failed"),
        "content_filter",
        None,
    ),
    ("a proxy", 400, "<html>Bad Request</html>", "rejected", None),
    ("a proxy", 400, None, "rejected", None),
    ("a proxy", 409, None, "conflict", None),
]


@pytest.mark.parametrize(("vendor", "status", "body", "kind", "param"), CASES)
def test_an_error_is_read_as_its_vendor_means_it(
    vendor: str, status: int, body: Any, kind: str, param: str | None
) -> None:
    told = read_error(body, status)
    assert kind_of(told, RULES, ASKED) == kind, vendor
    if param is not None:
        assert told.param == param
    assert told.message or body is None


def test_the_delay_of_a_compatible_gemini_is_kept() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}]
    told = read_error([{"error": {"code": 429, "message": "no", "details": details}}], 429)
    assert (told.retry_after, kind_of(told, RULES, ASKED)) == (36.0, "throttled")


@pytest.mark.parametrize(
    "body", [[], [1], {"error": []}, {"message": 5}, {"detail": [1]}, {"error": {"message": {}}}, 7]
)
def test_a_body_of_any_shape_is_read(body: Any) -> None:
    told = read_error(body, 400)
    assert kind_of(told, RULES, ASKED) == "rejected"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Unknown parameter: 'top_k'.", "top_k"),
        ("Unsupported value: 'temperature' does not support 0.2", "temperature"),
        ("unknown field `stream_options`", "stream_options"),
        ("'messages.2' : property 'reasoning_content' is unsupported", "reasoning_content"),
        ("the field is odd", None),
        ("no", None),
    ],
)
def test_a_field_is_found_in_a_text_that_names_one(message: str, param: str | None) -> None:
    assert param_in(message) == param


QUOTED = [
    "Incorrect API key provided",
    "incorrect\napi key",
    "Insufficient Balance",
    "the model x does not exist",
    "API key not valid",
    "spending limit",
]


@pytest.mark.parametrize("words", QUOTED)
def test_no_words_of_a_client_move_a_circuit_when_an_error_quotes_them(words: str) -> None:
    asked = {"messages": [{"role": "user", "content": [{"type": words}]}]}
    told = read_error(openai(f"Invalid value: '{words}'. Supported values are: 'text'"), 400)
    assert kind_of(told, RULES, asked) == "rejected"


@pytest.mark.parametrize("words", QUOTED)
def test_where_the_request_is_not_known_no_text_moves_a_circuit(words: str) -> None:
    assert kind_of(read_error(openai(words), 400), RULES) == "rejected"
