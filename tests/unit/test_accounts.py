"""What servers say of tokens, in OpenAI's words: reasoning within the completion, the cache within the prompt."""

from typing import Any

import pytest

from deployments.openai_api.usage import account_of, groq_usage
from deployments.providers.bedrock.codec import usage_from as usage_of_bedrock
from deployments.providers.google.codec import usage_from as usage_of_google

Json = dict[str, Any]
PLAIN = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}

RIGHT: list[Json] = [
    PLAIN,
    {**PLAIN, "completion_tokens_details": {"reasoning_tokens": 5}, "prompt_tokens_details": {"cached_tokens": 12}},
    {**PLAIN, "completion_tokens_details": None, "prompt_tokens_details": None},
    {**PLAIN, "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4}},
    {**PLAIN, "queue_time": 0.1, "cost": 0.002},
    {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12},
]


@pytest.mark.parametrize("usage", RIGHT)
def test_a_usage_that_is_right_is_left_as_it_is(usage: Json) -> None:
    assert account_of(usage) is usage


UNKNOWN = [None, {}, [], 7, "much", {"prompt_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0}]
UNKNOWN += [{"prompt_tokens": -1, "total_tokens": True}, {"total_tokens": "12"}]


@pytest.mark.parametrize("usage", UNKNOWN)
def test_a_usage_without_a_count_is_unknown_and_not_zero(usage: Any) -> None:
    assert account_of(usage) is None


def reasoned(prompt: int, completion: int, total: int | None, reasoning: int | None) -> Json:
    usage: Json = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage |= {} if total is None else {"total_tokens": total}
    return usage | ({} if reasoning is None else {"completion_tokens_details": {"reasoning_tokens": reasoning}})


@pytest.mark.parametrize(
    ("usage", "completion"),
    [
        (reasoned(12, 1, 399, 386), 387),  # xAI: vercel/ai#12425
        (reasoned(21, 0, 81, 60), 60),  # Gemini through others: router-for-me/CLIProxyAPI#5733
        (reasoned(20, 198, 623, None), 603),  # and where nobody tells what the rest is: mozilla-ai/any-llm#1290
        (reasoned(12, 400, 412, 386), 400),  # OpenAI: within it, as the total says
        (reasoned(12, 386, 398, 386), 386),
        (reasoned(12, 400, None, 386), 786),  # nobody tells: better too much than too little
        (reasoned(12, 400, 13, 386), 786),  # a total that is less than its parts tells nothing
        (reasoned(10, 20, 35, 8), 25),  # a rest is told, whatever it is
        (reasoned(10, 5, 17, 50), 55),
        (reasoned(12, 10, None, 386), 396),  # a part can't be more than its whole
        ({**reasoned(12, 1, 399, None), "reasoning_tokens": 386}, 387),
    ],
)
def test_reasoning_is_a_part_of_the_completion_and_the_total_decides(usage: Json, completion: int) -> None:
    found = account_of(usage)
    assert found is not None
    assert found["completion_tokens"] == completion
    assert found["total_tokens"] == usage["prompt_tokens"] + completion


# Perplexity's of sonar-deep-research: its total leaves the reasoning out.
SEARCHED: Json = {"citation_tokens": 1017, "num_search_queries": 4, "reasoning_tokens": 30}


@pytest.mark.parametrize(("reasoning", "completion"), [(95305, 95803), (30, 528)])
def test_reasoning_that_a_vendor_bills_apart_is_counted_once(reasoning: int, completion: int) -> None:
    found = account_of({**reasoned(19, 498, 517, None), **SEARCHED, "reasoning_tokens": reasoning})
    assert found is not None
    assert found["completion_tokens"] == completion
    assert account_of(found) is found


CACHED: list[Json] = [
    {"prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 4},
    {"cached_tokens": 8},
    {"cache_read_input_tokens": 8},
    {"input_tokens_details": {"cached_tokens": 8}},
    {"prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 8},
    {"prompt_tokens_details": None, "cached_tokens": 8.0},
]


@pytest.mark.parametrize("spelling", CACHED)
def test_cached_tokens_are_found_in_every_spelling(spelling: Json) -> None:
    found = account_of({**PLAIN, **spelling})
    assert found is not None
    assert found["prompt_tokens_details"]["cached_tokens"] == 8
    assert (found["prompt_tokens"], found["total_tokens"]) == (12, 17)


@pytest.mark.parametrize(
    "spelling",
    [{"cache_creation_input_tokens": 6}, {"cache_write_tokens": 6}, {"cacheWriteInputTokens": 6}],
)
def test_cache_writes_are_kept(spelling: Json) -> None:
    found = account_of({**PLAIN, "cached_tokens": 2, **spelling})
    assert found is not None
    assert found["prompt_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 6}


@pytest.mark.parametrize(
    ("usage", "prompt"),
    [
        ({"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 8}, 12),  # Anthropic: beside it
        ({"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 17, "cache_read_input_tokens": 8}, 12),
        ({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "cache_read_input_tokens": 8}, 12),
        ({"prompt_tokens": 4, "completion_tokens": 5, "cached_tokens": 8}, 12),
        ({"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9, "cache_read_input_tokens": 8}, 12),
        (
            {
                "prompt_tokens": 4,
                "completion_tokens": 5,
                "total_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            12,
        ),
        ({"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}, 12),
    ],
)
def test_the_cache_is_a_part_of_the_prompt(usage: Json, prompt: int) -> None:
    found = account_of(usage)
    assert found is not None
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (prompt, 5, prompt + 5)


SPOILT = (-1, "4000", True, 4000.5, 2**40, [], {})


@pytest.mark.parametrize("figure", SPOILT)
def test_a_figure_that_can_be_no_count_leaves_every_vendors_usage_unknown(figure: Any) -> None:
    for name in PLAIN:
        assert account_of({**PLAIN, name: figure}) is None
    bedrock = {"inputTokens": 12, "cacheReadInputTokens": 4, "outputTokens": 5}
    for name in bedrock:
        assert usage_of_bedrock({**bedrock, name: figure}) is None
    google = {"promptTokenCount": 12, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 20}
    for name in google:
        assert usage_of_google({**google, name: figure}) is None


@pytest.mark.parametrize("zero", [0, None, 0.0])
def test_zeros_are_no_account_at_any_vendor(zero: Any) -> None:
    assert account_of(dict.fromkeys(PLAIN, zero)) is None
    assert usage_of_bedrock({"inputTokens": zero, "outputTokens": zero}) is None
    assert usage_of_google({"promptTokenCount": zero, "candidatesTokenCount": zero}) is None


def test_what_only_geminis_total_tells_is_counted() -> None:
    found = usage_of_google({"promptTokenCount": 10, "totalTokenCount": 35.0})
    assert found is not None
    assert found["completion_tokens"] == 25


def test_groqs_own_place_counts_where_the_usual_one_is_empty() -> None:
    assert groq_usage({"x_groq": {"usage": PLAIN}}) == PLAIN
    assert groq_usage({"usage": None, "x_groq": {"usage": PLAIN}}) == PLAIN
    assert groq_usage({"usage": PLAIN, "x_groq": {"id": "x"}}) == PLAIN
    assert groq_usage({"x_groq": {"id": "x"}}) is None
