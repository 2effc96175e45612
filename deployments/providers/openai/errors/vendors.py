"""What the errors of vendors that speak OpenAI's API mean: a small table for each vendor. Pure data.

A server's address does not tell its vendor: many stand behind a gateway or run at home. So all tables are asked, and a
rule is as narrow as its vendor's own words. Sources are the vendors' documentation of errors, or reports of them.
A gap inside a rule that moves a circuit holds no quotes: what is quoted may be the client's.
"""

from deployments.providers.vendor_errors.rules import rule

REFUSED = (400, 401, 403, 404, 412, 422)
_GAP = r"[^'\"`\[\](){}<>]"

# Our account there, in the words that many vendors use. It comes first: `flagged` alone may mean the prompt.
ACCOUNTS = (
    rule(
        "credential",
        "anthropics/claude-code#54311; OpenAI, error codes; Groq, errors",
        r"(?:your|this|the) (?:account|organi[sz]ation|workspace|project|team|api key) (?:has been|is|was) "
        r"(?:temporarily |currently )?(?:flagged|disabled|deactivated|suspended|restricted|terminated|banned|blocked)",
        statuses=REFUSED,
    ),
)
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
        "rejected",
        "OpenAI, chat API",
        r"max(?:_completion)?_tokens.{0,40} (?:too large|must be)",
        statuses=(400, 422),
        param="max_tokens",
    ),
    rule(
        "model_missing",
        "OpenAI, deprecations and the Responses API",
        r"not a chat model|only supported in v1/responses|cannot be used with the chat completions",
        statuses=(400, 404),
    ),
    # What the request names there, and not the model.
    rule(
        "rejected",
        "OpenAI, files API; googleapis/python-genai#1218; expectedparrot/edsl#1907",
        r"no such file object|file (?:with id |id )?['\"`]?[\w./:]{0,60}[-_\d][\w./:-]{0,60}['\"`]? (?:is |was )?"
        r"not (?:found|in an active state)",
        r"access the file|cached ?content .{0,120}not found",
        r"(?:download|fetch)\w* .{0,20}(?:image|file|url|https?:)|(?:retriev|load)\w* .{0,20}(?:image|file|url)",
        r"(?:image|file|(?<!requested )url) .{0,200}(?:could not|cannot|can't|failed to) be "
        r"(?:found|downloaded|fetched|loaded)",
        statuses=(400, 403, 404, 422),
    ),
    rule("rejected", "OpenAI, MCP tools: a server of the request", r"\bmcp\b", statuses=(424,)),
    # The order of calls and results is the conversation's own: no vendor takes another. An empty id is no order.
    rule(
        "bad_request",
        "OpenAI, function calling",
        r"role '?tool'? must be a response to|must be followed by tool messages",
        r"did not have response messages: ?\w",
        statuses=(400,),
    ),
)
AZURE = (
    rule("content_filter", "Azure OpenAI, content filtering", r"content management policy", statuses=(400,)),
    rule("model_missing", "Azure OpenAI, errors", codes="DeploymentNotFound unavailable_model OperationNotSupported"),
    rule("too_long", "cline/cline#995 (GitHub Models)", statuses=(413,), codes="tokens_limit_reached"),
)
XAI = (
    rule(
        "credential",
        "xAI, debugging errors: a wrong key is a 400",
        r"incorrect api key|invalid api[ _-]?key",
        rf"api key {_GAP}{{0,20}}(?:disabled|blocked)",
        statuses=REFUSED,
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
        statuses=REFUSED,
    ),
    rule("quota", "Google, Gemini API errors: FAILED_PRECONDITION", r"enable billing", statuses=(400, 403)),
    rule("quota", "dyad-sh/dyad#3626", r"prepayment credits are depleted", statuses=(400, 403, 429)),
)
GROQ = (
    # One request above the limit of a minute is no matter of the model's window.
    rule("rejected", "Groq, rate limits", r"request too large", statuses=(413, 429)),
    rule("throttled", "Groq, errors", statuses=(413,), codes="rate_limit_exceeded"),
    rule("throttled", "Groq, flex processing: 498 capacity exceeded", statuses=(498,)),
    rule("credential", "Groq, errors", codes="organization_restricted project_restricted"),
    # The model's own fault, but at what the request asks of it: another request's tools go well.
    rule("rejected", "Groq, tool use", codes="tool_use_failed json_validate_failed"),
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
        r"credit balance (?:is )?too low|usage limits",
        statuses=(400, 403, 429),
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
    rule(
        "quota",
        "Alibaba Model Studio, error codes: overdue payment, free quota",
        codes="Arrearage AllocationQuota.FreeTierOnly",
    ),
    rule("credential", "Alibaba Model Studio, error codes", codes="access_denied"),
)
MOONSHOT = (
    rule("quota", "MoonshotAI/kimi-code#1857, MoonshotAI/Kimi-K2#5", codes="exceeded_current_quota_error"),
    rule("throttled", "Moonshot, error codes", codes="engine_overloaded_error rate_limit_reached_error"),
)
# Its codes are numbers of four digits, and nobody else's.
_ZHIPU = "Zhipu, docs.bigmodel.cn, api-code"
ZHIPU = (
    rule("quota", _ZHIPU, codes="1113 1304 1308 1309 1310"),
    rule("throttled", _ZHIPU, codes="1302 1303 1305 1312 1313"),
    rule("too_long", _ZHIPU, codes="1261"),
    rule("content_filter", _ZHIPU, codes="1301"),
    rule("model_missing", _ZHIPU, codes="1211 1221 1222 1311"),
    rule("credential", _ZHIPU, codes="1000 1001 1002 1003 1004 1100 1110 1111 1112 1121 1220"),
    rule("server_error", _ZHIPU, codes="1120 1230 1234"),
    rule("rejected", _ZHIPU, codes="1210 1212 1213 1214 1215 1300"),
)
VOLCENGINE = (
    rule("quota", "Volcengine Ark, error codes", codes="AccountOverdueError"),
    rule("model_missing", "Volcengine Ark, error codes", codes="ModelNotOpen InvalidEndpointOrModel.NotFound"),
    rule(
        "content_filter",
        "Volcengine Ark, error codes",
        codes="InputTextSensitiveContentDetected InputImageSensitiveContentDetected SensitiveContentDetected",
    ),
)
