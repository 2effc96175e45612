"""OpenAI's usage, read from whatever a server that speaks its API says of tokens. Pure.

In OpenAI's own usage, reasoning is part of the completion, cached tokens are part of the prompt, and the total is the
sum of both. Servers differ in three ways, and their totals say which:

- reasoning beside the completion: xAI (vercel/ai#12425), and Gemini through others (router-for-me/CLIProxyAPI#5733);
- cached tokens under a name of their own, inside the prompt or beside it, as Anthropic counts them;
- the names of the Responses API and of Anthropic, `input_tokens` and `output_tokens`.

A usage that is right is returned as it is. Unknown is not zero: a usage without any count, or with one that can't be a
count, is None, and the ledger estimates. What nobody can tell is read so that it can't be too little.
"""

from collections.abc import Iterable

from deployments.openai_api.json_types import JsonDict, JsonObject, JsonValue, whole_number

_PROMPT = (("prompt_tokens",), ("input_tokens",))
_COMPLETION = (("completion_tokens",), ("output_tokens",))
_REASONING = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),  # SGLang, Perplexity
)
_CACHED = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),  # DeepSeek, "Create Chat Completion"
    ("cached_tokens",),  # Moonshot, and Together
    ("cache_read_input_tokens",),  # Anthropic, "Prompt caching"; LiteLLM sends it on
    ("cacheReadInputTokens",),
    ("cache_read_tokens",),
    ("num_cached_tokens",),
)
_WRITTEN = (
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenAI from GPT-5.6 on; OpenRouter
    ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
    ("input_tokens_details", "cache_write_tokens"),
    ("cache_creation_input_tokens",),
    ("cache_write_input_tokens",),
    ("cache_write_tokens",),
    ("cacheWriteInputTokens",),
)


def account_of(usage: JsonValue) -> JsonDict | None:
    """Return the usage in OpenAI's words, the same object if it is right; None if it has no count above zero."""
    if not isinstance(usage, dict):
        return None
    if usage.keys() <= _OWN and _is_right(usage):
        return usage
    if not has_counts(usage.get(name) for name in _COUNTS):
        return None
    given_prompt, given_completion = _first(usage, _PROMPT), _first(usage, _COMPLETION)
    total = _count(usage.get("total_tokens")) or None
    prompt, completion = given_prompt or 0, given_completion or 0
    cached, written = _first(usage, _CACHED) or 0, _first(usage, _WRITTEN) or 0
    beside = _beside_prompt(usage, prompt, completion, total, cached + written)
    if total == prompt + completion:  # a total that leaves the cache out leaves nothing else out for that
        total += beside
    prompt += beside
    if given_completion is None and total is not None and total > prompt:
        # As LM Studio and some proxies leave out what is none. Reasoning is a part of such a rest.
        completion, reasoning = total - prompt, min(_first(usage, _REASONING) or 0, total - prompt)
    else:
        completion, reasoning = _with_reasoning(usage, prompt, completion, total)
    return _rewritten(usage, prompt, completion, {"cached": cached, "written": written, "reasoning": reasoning})


def with_tier(usage: JsonDict | None, tier: JsonValue) -> JsonDict | None:
    """Return a usage with the answer's `service_tier` in it, for who counts the cost; unchanged for the usual one."""
    if usage is None or not isinstance(tier, str) or tier in _USUAL_TIERS:
        return usage
    return {**usage, "service_tier": tier}


def has_counts(figures: Iterable[JsonValue]) -> bool:
    """Return whether a vendor's figures are an account: one is above zero, and each that is told can be a count.

    The one rule for all vendors. A figure below zero, a text, a truth value or a number beyond all windows is told by
    a server that does not count, so its other figures are worth no more.
    """
    told = [_count(figure) for figure in figures if figure is not None]
    return None not in told and any(told)


_USUAL_TIERS = frozenset({"auto", "default", "standard"})
_MOST = 2**40  # no window is nearly as large
_COUNTS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
_OWN = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
    | {"service_tier"}  # Anthropic's, and ours for who counts the cost
)
LIFETIMES = "cache_creation_token_details"  # LiteLLM's name for Anthropic's `cache_creation`
_OWN_PROMPT = frozenset(
    {"cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens", "text_tokens", LIFETIMES}
)


def _is_right(usage: JsonObject) -> bool:
    """Return whether a usage with OpenAI's own fields alone needs no other look: the quick way for nearly all."""
    prompt, completion, total = usage.get("prompt_tokens"), usage.get("completion_tokens"), usage.get("total_tokens")
    if type(prompt) is not int or type(completion) is not int or type(total) is not int:
        return False
    if total != prompt + completion or prompt <= 0 or total >= _MOST:
        return False
    cached, reasoning = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if cached and not (isinstance(cached, dict) and cached.keys() <= _OWN_PROMPT and _fits(cached, prompt)):
        return False
    return completion >= 0 and not (
        reasoning and (not isinstance(reasoning, dict) or (_count(reasoning.get("reasoning_tokens")) or 0) > completion)
    )


def _fits(cached: JsonObject, prompt: int) -> bool:
    read, written = cached.get("cached_tokens") or 0, cached.get("cache_write_tokens") or 0
    return type(read) is int and type(written) is int and read + written <= prompt


def groq_usage(data: JsonObject) -> JsonValue:
    """Return the usage of an answer or a chunk; Groq sends it as `x_groq.usage` too (its API reference)."""
    usage, groq = data.get("usage"), data.get("x_groq")
    return groq.get("usage") if not usage and isinstance(groq, dict) else usage


def _beside_prompt(usage: JsonObject, prompt: int, completion: int, total: int | None, cache: int) -> int:
    """Return how many tokens of the cache the prompt does not hold yet."""
    if cache > prompt:  # a part can't be more than its whole, whatever the total is the sum of
        return cache
    if not cache:
        return 0
    if total is not None and total in (prompt + completion, prompt + completion + cache):
        return total - prompt - completion
    # Anthropic's own names say that the cache is beside the input.
    return cache if "prompt_tokens" not in usage and "cache_read_input_tokens" in usage else 0


def _with_reasoning(usage: JsonObject, prompt: int, completion: int, total: int | None) -> tuple[int, int]:
    """Return the completion with its reasoning in it, and the reasoning.

    A total that is more than its parts says what is beside them. One that is their sum says that the reasoning is
    inside, except for a part that is more than its whole, and for Perplexity's, whose total leaves out the reasoning
    (sonar-deep-research, "Pricing": billed apart). Without a total the reasoning is counted beside: that may be too
    much, and is never too little.
    """
    reasoning = _first(usage, _REASONING) or 0
    rest = 0 if total is None else total - prompt - completion
    done = completion + max(rest, 0)
    if reasoning > done or (reasoning and (total is None or rest < 0 or (rest == 0 and _is_apart(usage)))):
        return completion + reasoning, reasoning
    return done, reasoning or max(rest, 0)


def _is_apart(usage: JsonObject) -> bool:
    """Return whether a usage is Perplexity's own, as it came: what we made of it says the reasoning in its place."""
    searched = "citation_tokens" in usage or "num_search_queries" in usage
    return searched and not _first(usage, _REASONING[:2])


def _rewritten(usage: JsonDict, prompt: int, completion: int, details: dict[str, int]) -> JsonDict:
    right: JsonDict = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    right |= _details(usage, "prompt_tokens_details", cached_tokens=details["cached"])
    if details["written"]:
        more = {**usage, **right}
        right |= _details(more, "prompt_tokens_details", cache_write_tokens=details["written"])
    right |= _details(usage, "completion_tokens_details", reasoning_tokens=details["reasoning"])
    wrong = any(type(usage.get(key)) is not type(value) or usage[key] != value for key, value in right.items())
    return {**usage, **right} if wrong else usage


def _details(usage: JsonObject, name: str, **counts: int) -> JsonDict:
    """Return the details with the counts in them; nothing if they say so already, or if there is nothing to say."""
    known = usage.get(name)
    known = known if isinstance(known, dict) else {}
    more = {key: count for key, count in counts.items() if count and known.get(key) != count}
    return {name: {**known, **more}} if more else {}


def _first(usage: JsonObject, paths: Iterable[tuple[str, ...]]) -> int | None:
    """Return the first count above zero among the paths; else a zero, if one is told."""
    found = None
    for path in paths:
        value: JsonValue = usage
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        count = _count(value)
        if count:
            return count
        found = count if found is None else found
    return found


def _count(value: JsonValue) -> int | None:
    count = whole_number(value)
    return count if count is not None and 0 <= count < _MOST else None
