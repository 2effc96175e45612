"""Write the vendors' list prices that Breakwater ships, from genai-prices as it is pinned.

    uv run python -m tests.renew_prices [YEAR-MONTH-DAY]

The prices are those of the day that is named, by default the day that the file names already.
"""

import datetime
import json
import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from genai_prices import data, types

from deployments.vendor_prices.table import FILE

# What is priced by it, and its name in `prices` of the configuration. Others, such as searches and hours of audio, are
# nothing that an answer tells us.
NAMES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
# They have no API that a kind of ours asks.
NOT_ASKED = {"cursor", "elevenlabs", "github-copilot", "openai-decisions", "typesafe"}


def instant(day: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"{day}T12:00:00+00:00")


def made(day: str) -> dict[str, Any]:
    vendors = [_vendor(provider, instant(day)) for provider in data.providers if provider.id not in NOT_ASKED]
    return {"source": "genai-prices, MIT licence", "day": day, "vendors": vendors}


def _vendor(provider: types.Provider, now: datetime.datetime) -> dict[str, Any]:
    priced = [(_match(model.match), _price(model, now)) for model in provider.models]
    return {
        "vendor": provider.id,
        "address": provider.api_pattern,
        "falls_back": provider.fallback_model_providers or [],
        "models": [[match, price] for match, price in priced if price is not None],
    }


def _match(clause: Any) -> Any:
    if isinstance(clause, types.ClauseRegex):
        return "/" + clause.regex
    for sign, name in {"=": "equals", "^": "starts_with", "$": "ends_with", "*": "contains"}.items():
        if (text := getattr(clause, name, None)) is not None:
            return sign + text.lower()
    several = getattr(clause, "or_", None)
    return ["any", *map(_match, several)] if several is not None else ["all", *map(_match, clause.and_)]


def _price(model: types.ModelInfo, now: datetime.datetime) -> dict[str, Any] | None:
    """The price without what depends on the hour of the day; None if nothing is asked for a million tokens."""
    standard = _rates(model.get_prices(now))
    if standard is None:
        return None
    tiers = {variant.when["service_tier"] for variant in model.price_variants or () if "service_tier" in variant.when}
    by_tier = {tier: _rates(model.get_prices(now, {"service_tier": tier})) for tier in sorted(tiers)}
    others = {tier: rates for tier, rates in by_tier.items() if rates != standard}
    return {**standard, "service_tiers": others} if others else standard


def _rates(price: types.ModelPrice) -> dict[str, Any] | None:
    told = {ours: value for theirs, ours in NAMES.items() if (value := getattr(price, theirs, None)) is not None}
    if not {"input", "output"} & told.keys():
        return None
    starts = sorted({tier.start for value in told.values() for tier in _tiers(value)})
    rates: dict[str, Any] = _at(told, 0)
    return {**rates, "above": {str(start): _at(told, start + 1) for start in starts}} if starts else rates


def _at(told: Mapping[str, Any], tokens: int) -> dict[str, str]:
    prices = {"input": Decimal(0), "output": Decimal(0)}  # of vectors there is no output
    for name, value in told.items():
        over = [tier.price for tier in _tiers(value) if tokens > tier.start]
        prices[name] = over[-1] if over else getattr(value, "base", value)
    return {name: format(price.normalize(), "f") for name, price in prices.items()}


def _tiers(value: Any) -> Iterable[types.Tier]:
    return value.tiers if isinstance(value, types.TieredPrices) else ()


def text_of(table: Mapping[str, Any]) -> str:
    """One line for each model, so that a change can be read."""
    lines = []
    for vendor in table["vendors"]:
        models = ",\n".join("   " + json.dumps(model, separators=(",", ":")) for model in vendor["models"])
        head = json.dumps({**vendor, "models": []}, separators=(", ", ": "))
        lines.append(f"  {head[:-2]}\n{models}\n  ]}}")
    head = json.dumps({name: table[name] for name in ("source", "day")})
    return f'{head[:-1]}, "vendors": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> None:
    day = sys.argv[1] if len(sys.argv) > 1 else json.loads(FILE.read_bytes())["day"]
    FILE.write_text(text_of(made(day)))


if __name__ == "__main__":
    main()
