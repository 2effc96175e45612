"""Rules about lengths that vendors share: prompt and answer together, and the limit of a minute. Pure data.

A prompt that is too long for a model is `too_long`. Where the prompt alone fits, only the answer's limit is too high,
and `max_tokens` is refused: the same tier can take a smaller one, and another tier the same.
"""

import re

from deployments.providers.vendor_errors.rules import Rule, rule


def prompt_fits(found: re.Match[str]) -> bool:
    """Return whether the prompt alone is within the window."""
    counts = found.groupdict(default="0")
    return int(counts["prompt"]) + int(counts.get("more", "0")) < int(counts["window"])


def never_fits(found: re.Match[str]) -> bool:
    """Return whether one request is above the limit of a whole minute: it will not fit later either."""
    return int(found["requested"]) > int(found["limit"])


def _sum(source: str, text: str) -> Rule:
    return rule("rejected", source, text, fits=prompt_fits, param="max_tokens")


WINDOW_SUMS: tuple[Rule, ...] = (
    _sum(
        "vllm-project/vllm#20409; evalstate/fast-agent#621 (DeepSeek); run-llama/llama_index#948 (OpenAI); OpenRouter",
        r"context length is (?P<window>\d+) tokens.{0,80}?\((?P<prompt>\d+) (?:in (?:the|your)|of text) "
        r"(?:messages|prompt|input)(?:, (?P<more>\d+) (?:in the functions|of tool input))?",
    ),
    _sum(
        "vllm-project/vllm, OpenAI server",
        r"context length is (?P<window>\d+) tokens and your request has (?P<prompt>\d+) input tokens",
    ),
    _sum(
        "vllm-project/vllm#33418",
        r"context length is (?P<window>\d+) tokens.{0,80}? output tokens and your prompt contains (?:at least )?"
        r"(?P<prompt>\d+)",
    ),
    _sum(
        "sgl-project/sglang, OpenAI server",
        r"context length of (?P<window>\d+) tokens.{0,80}?: (?P<prompt>\d+) tokens from the input",
    ),
    _sum(
        "Anthropic, errors",
        r"input length and `?max_tokens`? exceed context limit: (?P<prompt>\d+) \+ \d+ > (?P<window>\d+)",
    ),
    _sum(
        "huggingface/text-generation-inference, validation",
        r"must be <= (?P<window>\d+)\. Given: (?P<prompt>\d+) `?inputs`? tokens",
    ),
    # Vendors that tell only the sum: with a limit in the request it may be the limit.
    rule(
        "rejected",
        "Cloudflare, Workers AI errors; Together, error codes; Cerebras, errors",
        r"input and maximum output tokens|tokens \+ .{0,3}max_new_tokens.{0,3} must be"
        r"|messages or completion\. current length|max_total_tokens",
        asks="max_tokens max_completion_tokens",
        param="max_tokens",
    ),
)
MINUTE: tuple[Rule, ...] = (
    rule(
        "rejected",
        "TheR1D/shell_gpt#653 (OpenAI); Groq, rate limits",
        r"limit:? (?P<limit>\d+)(?:, used:? \d+)?, requested:? (?P<requested>\d+)",
        statuses=(413, 429),
        fits=never_fits,
    ),
)
