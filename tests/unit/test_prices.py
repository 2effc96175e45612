"""What an attempt costs, and how tokens are estimated that nobody counted."""

import random

import pytest
from pydantic import ValidationError

from deployments.config.ledger import Accounting
from deployments.openai_api.chat import Head, chunk
from deployments.usage.prices import PriceList, rates_of
from deployments.usage.rates import NOTHING, Tokens, most_at
from deployments.usage.token_estimate import DeliveredText, TokenEstimator

PRICES = Accounting.model_validate(
    {
        "prices": {
            "gpt": {"input": 2, "output": 8, "cached": 0.5},
            "azure/gpt": {"input": 3, "output": 9},
            "mini": {"input": 0.15, "output": 0.6, "cached": 0.0125},
            "smol": {"input": 0, "output": 0},
        }
    }
).prices
LIST = PriceList(PRICES)


def test_a_cost_is_exact_to_the_nano_dollar() -> None:
    assert LIST.cost("openai", "gpt", Tokens(1_000_000, 1_000_000)) == 10_000_000_000
    assert LIST.cost("openai", "gpt", Tokens(1000, 10, cached=400)) == 600 * 2000 + 400 * 500 + 10 * 8000
    assert LIST.cost("openai", "mini", Tokens(1, 0)) == 150
    assert LIST.cost("openai", "mini", Tokens(1, 0, cached=1)) == 13  # 12.5


def test_the_target_wins_over_the_model_and_cached_costs_as_input_if_it_is_not_said() -> None:
    assert LIST.cost("azure", "gpt", Tokens(10, 0, cached=10)) == 30_000


def test_an_unknown_price_is_an_unknown_cost() -> None:
    assert LIST.cost("openai", "other", Tokens(10, 10)) is None
    assert not LIST.free("openai", "other")
    assert (LIST.cost("local", "smol", Tokens(10, 10)), LIST.free("local", "smol")) == (0, True)


@pytest.mark.parametrize("wrong", [{"input": -1, "output": 1}, {"input": 1}, {"input": 1, "output": 1, "cache": 1}])
def test_a_wrong_price_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Accounting.model_validate({"prices": {"gpt": wrong}})


ALL = {
    "input": 10,
    "output": 100,
    "cached": 1,
    "cache_write": 12,
    "cache_write_1h": 20,
    "reasoning": 70,
    "audio_input": 30,
    "audio_output": 300,
}
SORTS = PriceList(
    Accounting.model_validate(
        {
            "prices": {
                "all": {**ALL, "above": {200: {"input": 20, "output": 200}, 1000: {"input": 40, "output": 400}}},
                "tiers": {"input": 10, "output": 10, "service_tiers": {"flex": {"input": 5, "output": 5}}},
            }
        }
    ).prices
)


@pytest.mark.parametrize(
    ("tokens", "dollars_a_million"),
    [
        (Tokens(100, 10), 100 * 10 + 10 * 100),
        (Tokens(100, 10, cached=40), 60 * 10 + 40 + 10 * 100),
        (Tokens(100, 10, cached=40, written=50, written_1h=20), 10 * 10 + 40 + 30 * 12 + 20 * 20 + 10 * 100),
        (Tokens(100, 10, audio_input=90, audio_output=4), 10 * 10 + 90 * 30 + 6 * 100 + 4 * 300),
        (Tokens(100, 10, reasoning=8), 100 * 10 + 2 * 100 + 8 * 70),
        (Tokens(100, 10, cached=900, written=900, reasoning=900), 100 + 10 * 70),
        (Tokens(200, 0), 200 * 10),
        (Tokens(201, 1), 201 * 20 + 200),
        (Tokens(1001, 1), 1001 * 40 + 400),
    ],
)
def test_each_sort_of_tokens_has_its_price(tokens: Tokens, dollars_a_million: int) -> None:
    assert SORTS.cost("x", "all", tokens) == dollars_a_million * 1000


@pytest.mark.parametrize(("tier", "dollars"), [(None, 10), ("flex", 5), ("scale", 10)])
def test_the_tier_that_served_it_has_its_price(tier: str | None, dollars: int) -> None:
    assert SORTS.cost("x", "tiers", Tokens(1, 0, tier=tier)) == dollars * 1000


def test_what_is_held_at_most_is_the_dearest_that_the_vendor_may_count() -> None:
    rates = SORTS.rates("x", "all")
    assert rates is not None
    assert most_at(rates, 100, 10) == (100 * 12 + 10 * 100) * 1000
    assert most_at(rates, 201, 10) == (201 * 20 + 10 * 200) * 1000
    assert rates_of(Accounting.model_validate({"prices": {"x": {"input": 0, "output": 0}}}).prices["x"]) == NOTHING


ADDRESSES = {"openai": "https://api.openai.com", "own": "http://127.0.0.1:8000/v1"}
LISTED = PriceList(PRICES, ours=["own"], addresses=ADDRESSES)


def test_a_vendors_list_price_stands_behind_the_configurations() -> None:
    assert LISTED.cost("openai", "gpt", Tokens(1, 0)) == 2000
    assert LISTED.cost("openai", "gpt-4o-mini", Tokens(1, 0)) == 150
    assert LISTED.cost("own", "gpt-4o-mini", Tokens(1, 0)) is None
    assert LISTED.cost("openai", "gpt-9-imagined", Tokens(1, 0)) is None
    assert PriceList({}, unpriced="free", addresses=ADDRESSES).cost("openai", "gpt-4o-mini", Tokens(1, 0)) == 150


def test_models_that_clients_name_are_remembered_within_a_bound() -> None:
    prices = PriceList({}, addresses=ADDRESSES)
    for number in range(3000):
        prices.rates("openai", f"imagined-{number}")
    assert len(prices._listed) <= 1024


HEAD = Head("chatcmpl-0123456789", 1, "gpt")
WORDS = ["the ", "capital ", "of ", "France ", "is ", "Paris", ", ", "a ", "considerable ", "city "]


def streamed(draw: random.Random, tokens: int, bundle: int = 1) -> DeliveredText:
    """A stream of so many tokens, `bundle` of them in a frame."""
    delivered, left = DeliveredText(), tokens
    while left > 0:
        some = min(left, bundle)
        left -= some
        delivered.add(chunk(HEAD, {"content": "".join(draw.choice(WORDS) for _ in range(some))}))
    return delivered


@pytest.mark.parametrize("bundle", [1, 7])
def test_cut_streams_are_estimated_within_five_percent_of_the_sum(bundle: int) -> None:
    draw, gauge = random.Random(6), TokenEstimator()
    for _ in range(30):
        tokens = draw.randint(20, 300)
        gauge.learn(streamed(draw, tokens, bundle), tokens)
    truth = [draw.randint(1, 300) for _ in range(200)]
    estimated = [gauge.tokens(streamed(draw, tokens, bundle)) for tokens in truth]
    assert abs(sum(estimated) - sum(truth)) <= 0.05 * sum(truth)


def test_where_a_frame_is_a_token_it_is_one_at_the_begin_of_an_answer_too() -> None:
    gauge, words = TokenEstimator(), [f" w{number}" for number in range(100)]  # the first ones are the shortest

    def said(words: list[str]) -> DeliveredText:
        delivered = DeliveredText()
        for word in words:
            delivered.add(chunk(HEAD, {"content": word}))
        return delivered

    for _ in range(20):
        gauge.learn(said(words), len(words))
    assert gauge.tokens(said(words[:10])) == 10


@pytest.mark.parametrize("opening", [{"role": "assistant", "content": "", "refusal": None}, {"role": "assistant"}, {}])
@pytest.mark.parametrize("word", [".", " w1", " capital"])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_first_frame_that_says_more_than_the_others_takes_no_text_from_them(
    opening: dict[str, str | None], word: str, batch: int
) -> None:
    delivered = DeliveredText()
    delivered.add(chunk(HEAD, opening) + chunk(HEAD, {"content": word}))
    for _ in range(20):
        delivered.add(chunk(HEAD, {"content": word}) * batch)
    assert delivered.text() == len(word) * (1 + 20 * batch)


def test_before_any_whole_answer_a_token_is_four_characters() -> None:
    delivered = DeliveredText()
    delivered.add(chunk(HEAD, {"content": "x" * 400}))
    assert TokenEstimator().tokens(delivered) == 100


def test_nothing_delivered_is_no_token() -> None:
    assert TokenEstimator().tokens(DeliveredText()) == 0
