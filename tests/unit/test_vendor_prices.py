"""The vendors' list prices that we ship say what genai-prices says, which nobody here wrote."""

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import genai_prices
import pytest
from genai_prices import data
from pydantic import TypeAdapter

from deployments.config.ledger import Price
from deployments.config.providers import ProviderSettings
from deployments.usage.prices import rates_of
from deployments.usage.rates import Tokens, cost_at
from deployments.vendor_prices.table import FILE, vendor_price
from tests.renew_prices import NOT_ASKED, instant, made, text_of

DAY = json.loads(FILE.read_bytes())["day"]
ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "azure": "https://mine.openai.azure.com/openai/v1/",
    "anthropic": "https://api.anthropic.com",
    "aws": "https://bedrock-runtime.us-east-1.amazonaws.com",
    "google": "https://generativelanguage.googleapis.com",
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "deepseek": "https://api.deepseek.com",
    "x-ai": "https://api.x.ai/v1",
    "together": "https://api.together.xyz/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "openrouter": "https://openrouter.ai/api/v1",
}
NAMES = [
    *(
        "gpt-5",
        "gpt-5.6",
        "gpt-5.6-sol-2026-08-21",
        "gpt-5.2-20251211",
        "gpt-4o-audio-preview",
        "text-embedding-3-small",
    ),
    *("claude-opus-4-5-20251101", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-3-haiku-v1:0"),
    *("amazon.nova-pro-v1:0", "gemini-2.5-pro", "gemini-2.5-flash", "Gemini-2.5-PRO", "gemini-embedding-001"),
    *("llama-3.3-70b-versatile", "mistral-large-latest", "deepseek-chat", "grok-4", "openai/gpt-4o", "imagined"),
]


def test_the_file_is_what_the_library_makes_of_its_day() -> None:
    assert FILE.read_text() == text_of(made(DAY)), "run python -m tests.renew_prices"


@pytest.mark.parametrize("vendor", ADDRESSES)
def test_what_tokens_cost_is_what_the_library_says(vendor: str) -> None:
    draw, known = random.Random(7), 0
    models = next(one["models"] for one in made(DAY)["vendors"] if one["vendor"] == vendor)
    own = [name for match, _ in models for name in texts(match)]
    for name in [*NAMES, *draw.sample(own, min(40, len(own)))]:
        price = vendor_price(ADDRESSES[vendor], name)
        try:
            genai_prices.calc_price(genai_prices.Usage(), name, provider_id=vendor)
        except LookupError:
            assert price is None, name
            continue
        if price is None:
            continue  # priced by the hour, by pages or by searches alone
        rates = rates_of(Price.model_validate(price))
        for tier in (None, "flex", "priority"):
            known += 1
            tokens = drawn(draw, price, tier)
            theirs = genai_prices.calc_price(
                usage_of(tokens),
                name,
                provider_id=vendor,
                genai_request_timestamp=instant(DAY),
                price_context=None if tier is None else {"service_tier": tier},
            )
            nanos = theirs.total_price * 10**9
            # A few list prices have a third of a pico-dollar.
            assert abs(cost_at(rates, tokens) - nanos) <= 1 + nanos / 10**6, (name, tokens, theirs)
    assert known > 20


def texts(match: str | list[Any]) -> Iterator[str]:
    """The names, and the beginnings of names, for which a price is meant."""
    if isinstance(match, str):
        if match[0] in "=^":
            yield match[1:]
    else:
        for one in match[1:]:
            yield from texts(one)


def drawn(draw: random.Random, price: object, tier: str | None) -> Tokens:
    whole, done = draw.choice([1000, 250_000, 900_000]), draw.randint(0, 5000)
    cached, written = draw.randint(0, whole // 4), draw.randint(0, whole // 4)
    return Tokens(whole, done, cached, written, draw.randint(0, written), draw.randint(0, done), tier=tier)


def usage_of(tokens: Tokens) -> genai_prices.Usage:
    return genai_prices.Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        cache_write_1h_tokens=tokens.written_1h,
        output_reasoning_tokens=tokens.reasoning,
    )


@pytest.mark.parametrize(
    ("given", "vendor"),
    [
        ({"kind": "openai"}, "openai"),
        ({"kind": "openai", "base_url": "https://api.groq.com/openai/v1"}, "groq"),
        ({"kind": "openai", "base_url": "http://127.0.0.1:8000/v1"}, None),
        ({"kind": "bedrock", "region": "eu-west-1", "endpoint_url": "http://127.0.0.1:1"}, "aws"),
        ({"kind": "google"}, "google"),
        ({"kind": "google", "base_url": "http://127.0.0.1:1", "vertex": {"project": "my-project"}}, "google"),
        ({"kind": "openai", "vertex": {"project": "my-project"}}, "google"),
        ({"kind": "openai", "azure": {"endpoint": "https://gateway.example/llm"}}, "azure"),
        ({"kind": "anthropic"}, "anthropic"),
        ({"kind": "local"}, None),
    ],
)
def test_each_kind_says_who_bills_for_it(given: dict[str, Any], vendor: str | None) -> None:
    adapter: TypeAdapter[ProviderSettings] = TypeAdapter(ProviderSettings)
    address = adapter.validate_python(given).billing_address()
    found = [one["vendor"] for one in made(DAY)["vendors"] if address and re.match(one["address"], address)]
    assert found[:1] == ([] if vendor is None else [vendor])


def test_only_what_no_kind_asks_is_left_out() -> None:
    assert {provider.id for provider in data.providers} - {one["vendor"] for one in made(DAY)["vendors"]} == NOT_ASKED
