"""What a model costs, and what an attempt has cost. Pure.

Prices are US dollars for a million tokens, as the vendors write them. The configuration's go before the vendors' own
list prices. Costs are whole nano-dollars: a single token of a cheap model costs less than a micro-dollar.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal

from deployments.config.ledger import Price, Rate, TierPrice, Unpriced
from deployments.newest import Newest
from deployments.usage.rates import NOTHING, Rates, Tokens, cost_at
from deployments.vendor_prices.table import vendor_price

PICOS = 1_000_000  # a dollar for a million tokens is a micro-dollar, or so many pico-dollars, for one
_MOST_LOOKED_UP = 1024  # a client names models as it likes


class PriceList:
    """By target (`provider/model`), or by the provider's own model id wherever it runs. The target wins.

    `windows` are the targets' context windows in tokens, where they are known: no prompt is estimated above them.
    `unpriced` says how a target without a price counts. `ours` are providers that nobody bills us for: without a price
    they count as nothing. `addresses` are the URLs of the vendors' APIs by provider, whose list prices are known.
    `base_models` are the vendors' own ids of targets that have other names here, and `tiers` the vendors' tiers of
    providers whose requests are not served by the usual one.
    """

    def __init__(
        self,
        prices: Mapping[str, Price],
        windows: Mapping[str, int] | None = None,
        *,
        unpriced: Unpriced = "refuse",
        ours: Collection[str] = (),
        addresses: Mapping[str, str] | None = None,
        base_models: Mapping[str, str] | None = None,
        tiers: Mapping[str, str] | None = None,
    ):
        self._base_models = base_models or {}
        self.tiers: Mapping[str, str] = tiers or {}
        self.windows: Mapping[str, int] = windows or {}
        self._rates = {name: rates_of(price) for name, price in prices.items()}
        self._others = rates_of(unpriced) if isinstance(unpriced, Price) else None
        self._covers_all = unpriced != "refuse"
        self._ours = frozenset(ours)
        self._addresses = addresses or {}
        self._listed: Newest[tuple[str, str], Rates | None] = Newest(_MOST_LOOKED_UP)
        for address in list(self._addresses.values())[:1]:
            vendor_price(address, "")  # to read the list takes some 20 ms, which no request should wait

    def rates(self, provider: str, model: str) -> Rates | None:
        """Return what a token costs; None if that is unknown."""
        known = self._rates.get(f"{provider}/{model}") or self._rates.get(model) or self._list_price(provider, model)
        return known if known is not None or provider in self._ours else self._others

    def _list_price(self, provider: str, model: str) -> Rates | None:
        name = provider, model
        if name not in self._listed and (address := self._addresses.get(provider)) is not None:
            found = vendor_price(address, self.base_model(provider, model))
            self._listed[name] = None if found is None else rates_of(Price.model_validate(found))
        return self._listed.get(name)

    def base_model(self, provider: str, model: str) -> str:
        """Return the vendor's own id of a target's model."""
        return self._base_models.get(f"{provider}/{model}", model) if self._base_models else model

    def covers(self, provider: str, model: str) -> bool:
        """Return whether a limit of cost can count this model."""
        return self._covers_all or provider in self._ours or self.rates(provider, model) is not None

    def cost(self, provider: str, model: str, tokens: Tokens) -> int | None:
        """Return nano-dollars, rounded half up; None if there is no price."""
        rates = self.rates(provider, model)
        return None if rates is None else cost_at(rates, tokens)

    def free(self, provider: str, model: str) -> bool:
        """Return whether this model costs nothing, whatever it is asked."""
        return self.rates(provider, model) == NOTHING


def rates_of(price: Price) -> Rates:
    """Return a price with what it leaves unsaid."""
    return _rates(price, {name: _rates(tier, {}) for name, tier in price.service_tiers.items()})


def _rates(price: Rate, tiers: Mapping[str, Rates]) -> Rates:
    above = sorted(price.above.items(), reverse=True) if isinstance(price, TierPrice) else []
    written = _or(price.cache_write, price.input)
    return Rates(
        input=_picos(price.input),
        output=_picos(price.output),
        cached=_picos(_or(price.cached, price.input)),
        written=_picos(written),
        written_1h=_picos(_or(price.cache_write_1h, written)),
        reasoning=_picos(_or(price.reasoning, price.output)),
        audio_input=_picos(_or(price.audio_input, price.input)),
        audio_output=_picos(_or(price.audio_output, price.output)),
        above=tuple((least, _rates(higher, {})) for least, higher in above),
        tiers=tiers,
    )


def _or(part: Decimal | None, whole: Decimal) -> Decimal:
    return whole if part is None else part


def _picos(dollars: Decimal) -> int:
    return round(dollars * PICOS)
