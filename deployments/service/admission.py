"""May a request begin? The limits of its tenant and its key, and which of its targets they can count. No Ray.

A limit of cost can't count a target without a price. So such a target does not serve who has one, unless
`limits.unpriced` says how it counts.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from actors.breaker.plan import parts_of
from actors.ledger.budget import Refusal, subjects_of
from actors.metrics import Meter
from deployments.errors import CallerError, LimitReached, NotPriced
from deployments.openai_api.chat import Request
from deployments.routing.model_rules import highest_output
from deployments.usage.budget import Reservation
from deployments.usage.caller import Caller, limit_reached
from deployments.usage.prices import PriceList
from deployments.usage.share import COST, REQUESTS
from deployments.usage.worst_case import Route, worst_case

if TYPE_CHECKING:
    from deployments.routing.model_rows import ModelRows
    from deployments.usage.ledger_client import LedgerClient


@dataclass(frozen=True, slots=True)
class Admission:
    """`reservation` holds what the request may use; `barred` are targets that it can't be served by."""

    reservation: Reservation | None = None
    barred: frozenset[str] = frozenset()

    def withdraw(self) -> None:
        """Give back what is held for a request that did not begin."""
        if self.reservation is not None:
            self.reservation.release()


UNLIMITED = Admission()


async def admit(
    ledger: "LedgerClient", caller: Caller, request: Request, rows: "ModelRows", output_tokens: int, meter: Meter
) -> Admission:
    """Hold what a request may use at most. Raises LimitReached and NotPriced."""
    budget = ledger.budget
    sort = budget.dearest_limit(subjects_of(caller.tenant, caller.key_name)) if budget.limits else None
    if sort is None:
        return UNLIMITED
    try:
        routes, unpriced = _routes(rows, ledger.prices, request.models)
        barred = unpriced if sort == COST else frozenset()
        if barred and not routes:
            raise _not_priced(barred, request.model)
        tokens, cost = (0, 0) if sort == REQUESTS else worst_case(request.body, routes, output_tokens)
        answer = await ledger.admit(caller.tenant, caller.key_name, tokens, cost)
        if isinstance(answer, Refusal):
            raise limit_reached(answer)
    except (LimitReached, NotPriced) as error:
        meter.add("breakwater_refused_total", (str(error.code),))
        raise
    return Admission(answer, barred)


@lru_cache(maxsize=1024)
def _routes(rows: "ModelRows", prices: PriceList, models: tuple[str, ...]) -> tuple[tuple[Route, ...], frozenset[str]]:
    """Return the priced targets that a request may reach, and those that no limit of cost can count."""
    try:
        targets = rows.targets_of(models)
    except CallerError:
        targets = []  # the failover says so, and the ledger has a row of it
    unpriced = frozenset(target for target in targets if not prices.covers(*parts_of(target)))
    return tuple(_route(target, rows, prices) for target in targets if target not in unpriced), unpriced


def _route(target: str, rows: "ModelRows", prices: PriceList) -> Route:
    provider, model = parts_of(target)
    base = prices.base_model(provider, model)
    most = highest_output(rows.kind(target), base)
    return Route(base, prices.rates(provider, model), most, prices.windows.get(target), prices.tiers.get(provider))


def _not_priced(targets: frozenset[str], model: str) -> NotPriced:
    which = f"'{min(targets)}' has no price" if len(targets) == 1 else f"No target of '{model}' has a price"
    return NotPriced(f"{which}, so a caller with a monthly_cost can't use it: see prices, or limits.unpriced.")
