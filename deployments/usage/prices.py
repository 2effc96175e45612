"""What a model costs, and what an attempt has cost. Pure.

Prices are US dollars for a million tokens, as the vendors write them. Costs are whole nano-dollars: a
single token of a cheap model costs less than a micro-dollar.
"""

from collections.abc import Collection, Mapping

from deployments.config.ledger import Price, Unpriced

_PICOS = 1_000_000  # a dollar for a million tokens is a micro-dollar, or so many pico-dollars, for one
Rates = tuple[int, int, int]  # pico-dollars for one token: in, out, cached


class PriceList:
    """By target (`provider/model`), or by the provider's own model id wherever it runs. The target wins.

    `windows` are the targets' context windows in tokens, where they are known: no prompt is estimated above them.
    `unpriced` says how a target without a price counts. `ours` are providers that nobody bills us for: without a price
    they count as nothing.
    """

    def __init__(
        self,
        prices: Mapping[str, Price],
        windows: Mapping[str, int] | None = None,
        *,
        unpriced: Unpriced = "refuse",
        ours: Collection[str] = (),
    ):
        self.windows: Mapping[str, int] = windows or {}
        self._rates = {name: _rates(price) for name, price in prices.items()}
        self._others = _rates(unpriced) if isinstance(unpriced, Price) else None
        self._covers_all = unpriced != "refuse"
        self._ours = frozenset(ours)

    def rates(self, provider: str, model: str) -> Rates | None:
        """Return what a token costs; None if that is unknown."""
        known = self._rates.get(f"{provider}/{model}") or self._rates.get(model)
        return known if known is not None or provider in self._ours else self._others

    def covers(self, provider: str, model: str) -> bool:
        """Return whether a limit of cost can count this model."""
        return self._covers_all or provider in self._ours or self.rates(provider, model) is not None

    def cost(self, provider: str, model: str, tokens_in: int, tokens_out: int, cached: int = 0) -> int | None:
        """Return nano-dollars, rounded half up; None if there is no price. `cached` are part of `tokens_in`."""
        rates = self.rates(provider, model)
        return None if rates is None else cost_at(rates, tokens_in, tokens_out, cached)

    def free(self, provider: str, model: str) -> bool:
        """Return whether this model costs nothing, whatever it is asked."""
        return self.rates(provider, model) == (0, 0, 0)


def cost_at(rates: Rates, tokens_in: int, tokens_out: int, cached: int = 0) -> int:
    """Return nano-dollars, rounded half up."""
    of_input, of_output, of_cached = rates
    fresh = max(0, tokens_in - cached)
    return (fresh * of_input + min(cached, tokens_in) * of_cached + tokens_out * of_output + 500) // 1000


def _rates(price: Price) -> Rates:
    cached = price.input if price.cached is None else price.cached
    return int(price.input * _PICOS), int(price.output * _PICOS), int(cached * _PICOS)
