"""How each provider is set up, as operators see it: credentials in words, places, models with their prices. Pure.

It holds no secret: a credential is told by where it was found.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypedDict

from actors.breaker.plan import target_of
from deployments.config.places import Tier
from deployments.openai_api.json_types import JsonObject
from deployments.usage.prices import PICOS

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig
    from deployments.usage.ledger_client import LedgerClient
    from deployments.usage.prices import PriceList


class CredentialSetup(TypedDict):
    found: bool
    source: str  # in words: a variable, a profile, a role


class PlaceSetup(TypedDict):
    name: str
    left_out: str | None
    credential: str | None


class ModelPrice(TypedDict):
    """US dollars for a million tokens."""

    input: float
    output: float


class ModelSetup(TypedDict):
    target: str
    model: str  # the provider's own id
    rows: list[str]  # that name it
    price: ModelPrice | None  # None: nobody here knows it


class ProviderSetup(TypedDict):
    name: str
    kind: str
    left_out: str | None
    credential: CredentialSetup
    places: list[PlaceSetup]
    models: list[ModelSetup]


class Setup(TypedDict):
    mode: str
    providers: list[ProviderSetup]
    breaker: JsonObject  # the thresholds in force


def setup_of(resolved: "ResolvedConfig", policy: JsonObject, ledger: "LedgerClient | None") -> Setup:
    """Return the setup of all providers, in order of preference. Prices are known where there is a ledger."""
    prices = None if ledger is None else ledger.prices
    providers = [_provider(tier, resolved, prices) for tier in resolved.tiers]
    return {"mode": resolved.config.mode, "providers": providers, "breaker": policy}


def _provider(tier: Tier, resolved: "ResolvedConfig", prices: "PriceList | None") -> ProviderSetup:
    places: list[PlaceSetup] = [
        {"name": place.name, "left_out": place.left_out, "credential": place.credential} for place in tier.places
    ]
    free = tier.name in resolved.fixed()
    return {
        "name": tier.name,
        "kind": tier.kind,
        "left_out": tier.left_out,
        "credential": {"found": tier.left_out is None, "source": tier.credential or ""},
        "places": places,
        "models": [
            _model(tier.name, model, rows, prices, free) for model, rows in _models(tier.name, resolved).items()
        ],
    }


def _model(provider: str, model: str, rows: list[str], prices: "PriceList | None", free: bool) -> ModelSetup:
    price = _price(provider, model, prices, free)
    return {"target": target_of(provider, model), "model": model, "rows": rows, "price": price}


def _models(provider: str, resolved: "ResolvedConfig") -> Mapping[str, list[str]]:
    """Return the rows of each model of a provider."""
    found: dict[str, list[str]] = {}
    for row, models in _rows(resolved):
        if (model := models.get(provider)) is not None:
            found.setdefault(model, []).append(row)
    return found


def _rows(resolved: "ResolvedConfig") -> Iterator[tuple[str, Mapping[str, str]]]:
    for rows in (resolved.config.chat_models(), resolved.config.embedding_models()):
        yield from rows.items()


def _price(provider: str, model: str, prices: "PriceList | None", free: bool) -> ModelPrice | None:
    rates = None if prices is None else prices.rates(provider, model)
    if rates is None:
        return {"input": 0.0, "output": 0.0} if free else None
    return {"input": rates.input / PICOS, "output": rates.output / PICOS}
