"""Any usage that a server may tell: its account adds up, is never too little, and stays what it is."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.openai_api.usage import account_of

Json = dict[str, Any]

FIGURES = st.none() | st.integers(0, 40) | st.sampled_from([0, 12.0, 17, 2**40 - 1])
NAMES = ("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "reasoning_tokens")
CACHES = ("cached_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "citation_tokens")
DETAILS = {
    "prompt_tokens_details": st.fixed_dictionaries({}, optional=dict.fromkeys(CACHES, FIGURES)),
    "completion_tokens_details": st.fixed_dictionaries({}, optional={"reasoning_tokens": FIGURES}),
}
USAGES = st.fixed_dictionaries({}, optional={**dict.fromkeys((*NAMES, *CACHES), FIGURES), **DETAILS})


@given(USAGES)
def test_an_account_adds_up_is_never_less_than_was_told_and_is_read_again_as_it_is(usage: Json) -> None:
    found = account_of(usage)
    if found is None:
        return
    prompt, completion = found["prompt_tokens"], found["completion_tokens"]
    assert found["total_tokens"] == prompt + completion >= (usage.get("total_tokens") or 0)
    assert prompt >= max(usage.get("prompt_tokens") or 0, 0)
    assert completion >= max(usage.get("completion_tokens") or 0, 0)
    assert ((found.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0) <= completion
    if found["total_tokens"] < 2**40:
        assert account_of(found) == found
