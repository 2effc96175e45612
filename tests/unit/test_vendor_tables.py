"""Whose fault an error is where a vendor's status says another thing: the request's, this tier's, or our account's."""

import json
from typing import Any

import httpx2
import openai
import pytest

from actors.breaker.outcomes import Outcome, Verdict
from deployments.providers.google.classify import RULES as GOOGLE
from deployments.providers.openai.errors.classify import classify, in_band
from deployments.providers.vendor_errors.bodies import MOST_TEXT, read_error
from deployments.providers.vendor_errors.rules import VendorError, kind_of

ASKED = {"model": "row", "messages": [{"role": "user", "content": "Hi"}]}
SDK = openai.OpenAI(api_key="k")


def outcome_of(status: int, body: Any, **asked: Any) -> Outcome:
    """Return how an attempt with this error of HTTP ends."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx2.Response(status, content=raw, request=httpx2.Request("POST", "http://x"))
    return classify(SDK._make_status_error_from_response(response), {**ASKED, **asked}).outcome


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


AFFORD = (
    "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only afford "
)
MINUTE = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 43210."
WINDOW = "This model's maximum context length is 4096 tokens."
SUM = f"{WINDOW} However, you requested 5010 tokens ({{}} in the messages, 5000 in the completion)."
JINJA = "Error: Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/..."
PAGE = b"<!DOCTYPE html>\n<html><head><title>Attention Required! | Cloudflare</title></head>" + b"<p>" * 9999
SUSPENDED = "Your account org-x is suspended due to insufficient balance, please check your plan"
REFUSES: list[tuple[str, int, Any, str | None]] = [
    ("can1357/oh-my-pi#9569", 402, {"error": {"code": 402, "message": AFFORD + "4012."}}, "max_tokens"),
    ("TheR1D/shell_gpt#653", 429, said(MINUTE, type="tokens", code="rate_limit_exceeded"), None),
    ("Groq, rate limits", 413, said(MINUTE, code="rate_limit_exceeded"), None),
    ("vllm-project/vllm#20409", 400, said(SUM.format(10), code="context_length_exceeded"), "max_tokens"),
    ("vllm-project/vllm#20409", 400, said(SUM.format(10), param="messages"), "max_tokens"),
    (
        "run-llama/llama_index#948",
        400,
        said("maximum context length is 4097 tokens, however you requested 4116 tokens (3860 in your prompt; 256 for"),
        "max_tokens",
    ),
    (
        "vllm-project/vllm, OpenAI server",
        400,
        said(f"{WINDOW[:-1]} and your request has 10 input tokens (5000 > 4096 - 10)."),
        "max_tokens",
    ),
    (
        "vllm-project/vllm#33418",
        400,
        said(f"{WINDOW} However, you requested 5000 output tokens and your prompt contains at least 10 input tokens"),
        "max_tokens",
    ),
    (
        "sgl-project/sglang",
        400,
        said(
            "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
            "5010 tokens: 10 tokens from the input messages and 5000 tokens for the completion."
        ),
        "max_tokens",
    ),
    (
        "huggingface/text-generation-inference",
        422,
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 500"},
        "max_tokens",
    ),
    ("OpenHands/OpenHands#4480", 403, PAGE, None),
    ("OpenAI, files API", 404, said("No such File object: file-abc", param="id"), "id"),
    ("OpenAI, files API", 404, said("File 'file-abc' not found."), None),
    ("OpenAI, vision", 404, said("Error while downloading https://x/model_not_found.png."), None),
    (
        "OpenAI, error codes",
        400,
        said("expected a string, but got null", param="messages[0].name", code="invalid_type"),
        None,
    ),
    (
        "OpenAI, error codes",
        400,
        said("expected a string", param="messages[1].tool_calls[0].function.arguments", code="invalid_type"),
        "messages[1].tool_calls[0].function.arguments",
    ),
    ("OpenAI, function calling", 400, said("tool_call_ids did not have response messages: "), None),
    ("Groq, tool use", 400, said("Failed to call a function", code="tool_use_failed"), None),
    ("ggml-org/llama.cpp#19851", 500, said(JINJA, type="server_error", code=500), None),
    ("vllm-project/vllm", 500, said("Conversation roles must alternate", type="InternalServerError"), None),
    ("Perplexity", 400, said("user or tool message(s) should alternate with assistant message(s)."), None),
    ("OpenAI, MCP tools", 424, said("Error retrieving tool list from MCP server: 'x'"), None),
    ("a field of the client", 422, said("x", param="metadata", code="invalid_api_key"), "metadata"),
]


@pytest.mark.parametrize(("source", "status", "body", "param"), REFUSES)
def test_a_tier_refuses_what_another_may_take_and_no_circuit_moves(
    source: str, status: int, body: Any, param: str | None
) -> None:
    outcome = outcome_of(status, body, metadata={})
    assert (outcome.kind, outcome.verdict) == ("rejected", Verdict.REFUSED), source
    assert param is None or outcome.param == param


OTHER: list[tuple[str, int, Any, str]] = [
    ("anomalyco/opencode#12219", 402, {"error": {"code": 402, "message": AFFORD + "0."}}, "quota"),
    ("OpenAI, rate limits", 429, said("Rate limit reached: Limit 30000, Used 29000, Requested 2000."), "throttled"),
    ("vllm-project/vllm#20409", 400, said(SUM.format(4096)), "too_long"),
    (
        "ggml-org/llama.cpp: a wrong path",
        404,
        said("File Not Found", type="not_found_error", code=404),
        "model_missing",
    ),
    (
        "ggml-org/llama.cpp: a wrong path",
        404,
        said("The requested URL /v1/chat/completions could not be found"),
        "model_missing",
    ),
    ("OpenAI, error codes", 403, said("To access GPT-5, go to https://platform.openai.com/settings"), "credential"),
    ("Zhipu, api-code", 429, {"error": {"code": "1113", "message": "no"}}, "quota"),
    ("Zhipu, api-code", 429, {"error": {"code": "1302", "message": "no"}}, "throttled"),
    ("Zhipu, api-code", 400, {"error": {"code": "1261", "message": "Prompt"}}, "too_long"),
    ("Zhipu, api-code", 400, {"error": {"code": "1301", "message": "no"}}, "content_filter"),
    ("Zhipu, api-code", 400, {"error": {"code": 1211, "message": "no"}}, "model_missing"),
    ("MoonshotAI/kimi-code#1857", 429, said(SUSPENDED, type="exceeded_current_quota_error"), "quota"),
    ("cline/cline#995", 413, said("Request body too large", code="tokens_limit_reached"), "too_long"),
    ("anthropics/claude-code#54311", 400, said("This organization has been disabled."), "credential"),
    ("OpenAI, error codes", 403, said("Your account has been flagged for potential abuse."), "credential"),
    (
        "Azure OpenAI, content filtering",
        400,
        {"error": {"message": "no", "code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        "content_filter",
    ),
    ("Anthropic, compatible", 429, said("litellm.RateLimitError: credit balance too low", code="429"), "quota"),
    ("BerriAI/litellm, budgets", 400, said("Budget has been exceeded", type="budget_exceeded"), "quota"),
    ("BerriAI/litellm", 400, said("litellm.ContextWindowExceededError: x", code="400"), "too_long"),
    ("Volcengine Ark", 403, said("overdue", code="AccountOverdueError"), "quota"),
    ("Gemini, compatible", 400, [{"error": {"message": "API key expired. Please renew the API key."}}], "credential"),
]


@pytest.mark.parametrize(("source", "status", "body", "kind"), OTHER)
def test_an_error_is_what_its_source_says(source: str, status: int, body: Any, kind: str) -> None:
    assert outcome_of(status, body).kind == kind, source


NOBODY = "No allowed providers are available for the selected model."


@pytest.mark.parametrize("message", [NOBODY, "No endpoints found for x/y.", "All providers have been ignored."])
def test_whom_the_client_excluded_itself_is_no_fault_of_our_account(message: str) -> None:
    body = {"error": {"code": 404, "message": message}}
    assert outcome_of(404, body, provider={"only": ["tencent"]}).kind == "rejected"
    assert outcome_of(404, body).verdict is Verdict.MISCONFIGURED


def test_the_sum_of_prompt_and_answer_alone_is_too_long_only_without_a_limit() -> None:
    body = {
        "errors": [{"message": "number of input and maximum output tokens (9000) exceeded this context window limit"}]
    }
    assert outcome_of(413, body).kind == "too_long"
    limited = outcome_of(413, body, max_tokens=9)
    assert (limited.kind, limited.param) == ("rejected", "max_tokens")


def test_the_detail_of_a_fastapi_server_is_read_in_each_shape() -> None:
    assert read_error({"detail": {"error": "top up"}}, 402).message == "top up"
    assert read_error({"detail": ["one", "two"]}, 422).message == "one; two"
    told = read_error({"message": {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "no"}]}}, 422)
    assert (told.message, told.param) == ("messages.0.content: no", "messages.0.content")


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"type": "invalid_request_error", "message": "x"}, "rejected", 400),
        ({"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8"}, "too_long", 400),
        ({"type": "BadRequestError", "code": 400, "message": SUM.format(10)}, "rejected", 400),
        ({"code": "1113", "message": "no"}, "quota", None),
        ({"code": "1261", "message": "no"}, "too_long", None),
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded", 529),
        ({"type": "authentication_error", "message": "x"}, "credential", 401),
        ({"code": "rate_limit_exceeded", "message": "x"}, "throttled", 429),
        ({"type": "api_error", "message": "x"}, "server_error", None),
        ({"code": 500, "message": JINJA}, "rejected", 500),
    ],
)
def test_an_error_inside_a_stream_is_read_by_the_tables_of_an_error_of_http(
    error: dict[str, Any], kind: str, status: int | None
) -> None:
    outcome = in_band(error).outcome
    assert (outcome.kind, outcome.status) == (kind, status)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "FAILED_PRECONDITION", "The File 4d21 is not in an ACTIVE state and usage is not allowed", "rejected"),
        (403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.", "rejected"),
        (403, "Forbidden", "an HTML page: Error 403", "rejected"),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", "quota"),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", "credential"),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", "credential"),
        (403, "PERMISSION_DENIED", "The caller does not have permission", "credential"),
    ],
)
def test_gemini_means_a_file_of_the_request_or_our_own_account(status: int, code: str, message: str, kind: str) -> None:
    assert kind_of(VendorError(status, message, code, code), GOOGLE, ASKED) == kind


def test_of_a_page_only_its_title_is_kept() -> None:
    assert outcome_of(502, PAGE).message == "an HTML page: Attention Required! | Cloudflare"


LONG = "x" * 9_000_000


@pytest.mark.parametrize(
    "body",
    [
        LONG,
        {"message": LONG},
        {"error": LONG},
        {"error": {"message": LONG}},
        {"error": {"message": "x", "metadata": {"raw": LONG}}},
        {"detail": LONG},
        {"detail": [{"loc": ["body", LONG], "msg": LONG}] * 3},
        {"detail": [LONG] * 3},
    ],
)
def test_the_text_that_is_kept_of_an_error_is_bounded(body: Any) -> None:
    told = read_error(body, 400)
    assert 0 < len(told.message) <= MOST_TEXT
    assert len(in_band(body if isinstance(body, dict) else {"message": body}).outcome.message) <= MOST_TEXT


def test_the_words_of_an_error_are_bounded() -> None:
    told = read_error({"error": {"code": LONG, "type": LONG, "param": LONG}}, 400)
    assert max(len(word or "") for word in (told.code, told.type, told.param)) <= 256
