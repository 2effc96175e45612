"""What a model costs, and what an attempt has cost. Pure.

Prices are US dollars for a million tokens, as the vendors write them. Costs are whole nano-dollars: a
single token of a cheap model costs less than a micro-dollar.
"""

from collections.abc import Mapping

from deployments.config.ledger import Price

_PICOS = 1_000_000  # a dollar for a million tokens is a micro-dollar, or so many pico-dollars, for one


class PriceList:
    """By target (`provider/model`), or by the provider's own model id wherever it runs. The target wins.

    `windows` are the targets' context windows in tokens, where they are known: no prompt is estimated above them.
    """

    def __init__(self, prices: Mapping[str, Price], windows: Mapping[str, int] | None = None):
        self.windows: Mapping[str, int] = windows or {}
        self._rates = {name: _rates(price) for name, price in prices.items()}

    def cost(self, provider: str, model: str, tokens_in: int, tokens_out: int, cached: int = 0) -> int | None:
        """Return nano-dollars, rounded half up; None if there is no price. `cached` are part of `tokens_in`."""
        rates = self._rates.get(f"{provider}/{model}") or self._rates.get(model)
        if rates is None:
            return None
        of_input, of_output, of_cached = rates
        fresh = max(0, tokens_in - cached)
        return (fresh * of_input + min(cached, tokens_in) * of_cached + tokens_out * of_output + 500) // 1000

    def free(self, provider: str, model: str) -> bool:
        """Return whether this model costs nothing, whatever it is asked."""
        return self._rates.get(f"{provider}/{model}", self._rates.get(model)) == (0, 0, 0)


def _rates(price: Price) -> tuple[int, int, int]:
    """Return pico-dollars for one token: in, out, cached."""
    cached = price.input if price.cached is None else price.cached
    return int(price.input * _PICOS), int(price.output * _PICOS), int(cached * _PICOS)
