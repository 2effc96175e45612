"""What the errors of servers that speak OpenAI's API mean: a small table for each vendor. Pure data.

A server's address does not tell its vendor: many stand behind a gateway or run at home. So all tables are asked, and a
rule is as narrow as its vendor's own words. Sources are the vendors' documentation of errors, or reports of them.
"""

from deployments.providers.vendor_errors import Rule, rule

_REFUSED = (400, 401, 403, 404, 412, 422)

OPENAI = (
    rule("content_filter", "OpenAI, error codes", codes="content_filter content_policy_violation moderation_blocked"),
    rule("content_filter", "openai/openai-python#2194", r"violating our usage policy", codes="invalid_prompt"),
    rule("quota", "OpenAI, error codes", codes="insufficient_quota billing_hard_limit_reached billing_not_active"),
    rule(
        "credential",
        "OpenAI, error codes",
        codes="invalid_api_key account_deactivated unsupported_country_region_territory",
    ),
    rule(
        "rejected", "OpenAI, chat API", r"max(?:_completion)?_tokens.{0,40} (?:too large|must be)", statuses=(400, 422)
    ),
    rule(
        "model_missing",
        "OpenAI, deprecations and the Responses API",
        r"not a chat model|only supported in v1/responses|cannot be used with the chat completions",
        statuses=(400, 404),
    ),
    # The order of calls and results is the conversation's own: no vendor takes another.
    rule(
        "bad_request",
        "OpenAI, function calling",
        r"role '?tool'? must be a response to|must be followed by tool messages|did not have response messages",
        statuses=(400,),
    ),
    rule("bad_request", "OpenAI, error codes", statuses=(400,), codes="missing_required_parameter invalid_type"),
)
AZURE = (
    rule("content_filter", "Azure OpenAI, content filtering", r"content management policy", statuses=(400,)),
    rule("model_missing", "Azure OpenAI, errors", codes="DeploymentNotFound unavailable_model OperationNotSupported"),
)
XAI = (
    rule(
        "credential",
        "xAI, debugging errors: a wrong key is a 400",
        r"incorrect api key|invalid api[ _-]?key",
        r"api key .{0,20}(?:disabled|blocked)",
        statuses=_REFUSED,
    ),
    rule(
        "quota",
        "xAI, debugging errors",
        r"(?:no|out of|used all available|purchase more) credits",
        r"spending limit",
        statuses=(402, 403, 429),
    ),
)
GEMINI_COMPATIBLE = (
    rule(
        "credential",
        "Google, Gemini API errors",
        r"api key (?:not valid|not found|expired)",
        r"API_KEY_INVALID|user location is not supported",
        statuses=_REFUSED,
    ),
    rule("quota", "Google, Gemini API errors: FAILED_PRECONDITION", r"enable billing", statuses=(400, 403)),
)
GROQ = (
    rule(
        "too_long", "Groq, rate limits: one request above the limit of a minute", r"request too large", statuses=(413,)
    ),
    rule("throttled", "Groq, errors", statuses=(413,), codes="rate_limit_exceeded"),
    rule("throttled", "Groq, flex processing: 498 capacity exceeded", statuses=(498,)),
    rule("credential", "Groq, errors", r"organization has been restricted", statuses=_REFUSED),
    rule("credential", "Groq, errors", codes="organization_restricted project_restricted"),
    rule("server_error", "Groq, tool use: the model's own fault", codes="tool_use_failed json_validate_failed"),
    rule("model_missing", "Groq, deprecations", codes="model_decommissioned model_terms_required"),
)
FIREWORKS = (
    rule("credential", "Fireworks, error codes: 412 account suspended", r"suspended|unpaid", statuses=(402, 403, 412)),
    rule("model_missing", "Fireworks, error codes: 412 model not loaded", statuses=(412,)),
)
TOGETHER = (
    rule(
        "too_long",
        "Together, error codes: 403 is input plus max_tokens above the context",
        r"inputs? tokens|max_new_tokens|max_tokens|context (?:length|window)",
        statuses=(403,),
    ),
    rule("quota", "Together, error codes", r"spend(?:ing)? limit|credit limit", statuses=(402, 403, 429)),
)
OPENROUTER = (
    rule("content_filter", "OpenRouter, errors: 403 moderation", r"moderation|flagged", statuses=(403,)),
    rule(
        "rejected",
        "OpenRouter, tool calling",
        r"no endpoints found that (?:support|can handle)|no endpoints support",
        statuses=(404,),
    ),
    rule(
        "credential",
        "OpenRouter, privacy",
        r"no endpoints (?:found )?matching your (?:data policy|guardrail)",
        statuses=(404,),
    ),
    rule("model_missing", "OpenRouter, errors", r"not a valid model id|no endpoints found for", statuses=(400, 404)),
)
DEEPSEEK = (
    rule("content_filter", "deepseek-ai/DeepSeek-V3#551", r"content exists risk", statuses=(400,)),
    rule("quota", "DeepSeek, error codes", r"insufficient balance", statuses=(400, 402, 403)),
)
MISTRAL = (
    rule(
        "bad_request",
        "mistralai/client-python#151",
        r"not the same number of function calls and responses|unexpected role 'tool' after",
        statuses=(400, 422),
    ),
    rule("model_missing", "Mistral, API errors", codes="invalid_model"),
)
ANTHROPIC_COMPATIBLE = (
    rule(
        "quota",
        "Anthropic, errors: a 400 without a code",
        r"credit balance is too low|usage limits",
        statuses=(400, 403),
    ),
    rule("content_filter", "Anthropic, errors", r"blocked by content filtering policy", statuses=(400,)),
    rule(
        "bad_request",
        "Anthropic, tool use",
        r"`?tool_use`? ids were found without|unexpected `?tool_use_id",
        statuses=(400,),
    ),
)
ALIBABA = (
    rule("content_filter", "Alibaba Model Studio, error codes", codes="data_inspection_failed DataInspectionFailed"),
    rule("credential", "Alibaba Model Studio, error codes: overdue payment", codes="Arrearage access_denied"),
)
# vLLM, SGLang, llama.cpp and the many servers that took their words over.
SELF_HOSTED = (
    rule(
        "too_long",
        "vllm-project/vllm, OpenAI server; sgl-project/sglang; ggml-org/llama.cpp",
        r"(?:maximum|max_?model|model'?s|available|allowed) (?:context|input|prompt) ?(?:length|size|window|len)",
        r"context (?:length|window|size) (?:of|is|exceeded|limit)",
        r"exceeds? (?:the )?(?:model'?s )?(?:maximum |available )?context",
        r"(?:prompt|input) (?:is )?too long|longer than the (?:model|maximum)",
        r"too large for model with \d+ maximum context",
        r"reduce the length of the (?:messages|input|prompt)|range of input length",
        statuses=(400, 403, 413, 422, 500),
    ),
    rule("too_long", "ggml-org/llama.cpp", codes="exceed_context_size_error context_length_exceeded"),
    rule(
        "model_missing",
        "vLLM, OpenAI server; Ollama",
        r"(?:the )?model [`'\"]?[\w./:@-]+[`'\"]? (?:does not exist|not found|is not (?:found|available|loaded))",
        r"(?:the )?model [`'\"]?[\w./:@-]+[`'\"]? has been (?:deprecated|decommissioned|retired)",
        r"unknown model|no such model|model_not_found",
        statuses=(400, 404, 422),
    ),
)

# The one code that must not come before what a vendor's text says.
_LAST = (rule("model_missing", "OpenAI, error codes", codes="model_not_found"),)

RULES: tuple[Rule, ...] = (
    *(*OPENAI, *AZURE, *XAI, *GEMINI_COMPATIBLE, *GROQ, *FIREWORKS, *OPENROUTER, *DEEPSEEK, *MISTRAL),
    *(*ANTHROPIC_COMPATIBLE, *ALIBABA, *SELF_HOSTED, *TOGETHER, *_LAST),
)
