"""What the errors of gateways and of servers of one's own mean, and in which order all tables are asked. Pure data."""

from deployments.providers.openai.errors import vendors
from deployments.providers.vendor_errors.bodies import PAGE
from deployments.providers.vendor_errors.lengths import MINUTE, WINDOW_SUMS
from deployments.providers.vendor_errors.rules import Rule, rule

# A firewall in front of the vendor refuses what a prompt says, as a path or a query of SQL. It knows no keys.
FIREWALLS = (
    rule(
        "rejected",
        "OpenHands/OpenHands#4480 (Cloudflare), aws-samples/sample-kolya-br-proxy#38 (AWS WAF)",
        f"^{PAGE}",
        statuses=(403, 406),
    ),
)
OPENROUTER = (
    rule(
        "rejected",
        "can1357/oh-my-pi#9569, QwenLM/qwen-code#73: a smaller answer can be paid",
        r"can only afford [1-9]|fewer max_tokens(?!.{0,80}can only afford)",
        statuses=(402,),
        param="max_tokens",
    ),
    rule("rejected", "anomalyco/opencode#12219: of a key's limit", r"prompt tokens limit exceeded", statuses=(402,)),
    rule(
        "content_filter",
        "OpenRouter, errors: 403 moderation",
        r"moderation|(?:input|prompt|request|content)s? .{0,40}flagged",
        statuses=(403,),
    ),
    rule(
        "rejected",
        "OpenRouter, tool calling",
        r"no endpoints found that|no endpoints support|the requested parameters",
        statuses=(404,),
    ),
    # Whom the client excluded itself, by fields that OpenRouter adds to OpenAI's.
    rule(
        "rejected",
        "OpenRouter, provider routing; anomalyco/opencode#45995",
        r"no (?:endpoints|allowed providers|providers)|all providers have been ignored",
        statuses=(404,),
        asks="provider route models plugins transforms",
    ),
    rule(
        "credential",
        "OpenRouter, privacy; farion1231/cc-switch#995: settings of the account",
        r"no endpoints (?:found )?matching your (?:data policy|guardrail)",
        r"no allowed providers are available|all providers have been ignored",
        statuses=(404,),
    ),
    rule("model_missing", "OpenRouter, errors", r"not a valid model id|no endpoints found for", statuses=(400, 404)),
)
LITELLM = (
    rule("too_long", "BerriAI/litellm, exceptions", r"litellm\.ContextWindowExceededError"),
    rule("content_filter", "BerriAI/litellm, exceptions", r"litellm\.ContentPolicyViolationError"),
    rule("quota", "BerriAI/litellm, budgets", codes="budget_exceeded"),
    rule(
        "model_missing",
        "BerriAI/litellm, router",
        r"there are no healthy deployments for this model|there is no 'model_name' with this string",
        statuses=(400, 404),
    ),
)
_TEMPLATES = (
    r"roles must alternate|should alternate with assistant|raise_exception|jinja|chat template",
    r"template (?:error|render)",
    r"only user,? (?:and )?assistant|system role not supported|image input is not supported|\bmmproj\b",
    r"failed to parse (?:grammar|messages|tools|tool_choice|json schema)|no tool parser",
)
# vLLM, SGLang, llama.cpp and the many servers that took their words over.
SELF_HOSTED = (
    rule(
        "rejected",
        "ggml-org/llama.cpp#19851, sipeed/picoclaw#207, idiap/sdialog#122: what a model's template can't take is a 500",
        *_TEMPLATES,
        statuses=(400, 422, 500),
    ),
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
    *(*FIREWALLS, *WINDOW_SUMS, *MINUTE, *vendors.ACCOUNTS, *vendors.OPENAI, *vendors.AZURE, *vendors.XAI),
    *(*vendors.GEMINI_COMPATIBLE, *vendors.GROQ, *vendors.FIREWORKS, *OPENROUTER, *vendors.DEEPSEEK, *vendors.MISTRAL),
    *(*vendors.ANTHROPIC_COMPATIBLE, *vendors.ALIBABA, *vendors.MOONSHOT, *vendors.ZHIPU, *vendors.VOLCENGINE),
    *(*LITELLM, *SELF_HOSTED, *vendors.TOGETHER, *_LAST),
)
