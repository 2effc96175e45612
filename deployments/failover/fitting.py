"""In which form each target of a request may be asked for it, and the error where none may or can. No Ray."""

import logging
from typing import TYPE_CHECKING

from actors.breaker.outcomes import Outcome
from deployments.errors import NO_PRICE, OUT_OF_SCOPE, NoAnswer, OutOfScope
from deployments.failover.tried import Tried
from deployments.openai_api.chat import Request
from deployments.routing.refusals import Refusals
from deployments.routing.request_fit import RequestFit, thing_at
from deployments.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from deployments.routing.model_rows import ModelRows

log = logging.getLogger(f"ray.serve.{__name__}")


class Fitting:
    """`refusals` are the hints that targets have refused here; what can't be asked is noted in `tried`."""

    def __init__(self, rows: "ModelRows", refusals: Refusals, request: Request, record: RequestRecord, tried: Tried):
        self._rows, self._refusals, self._request, self._record = rows, refusals, request, record
        self._tried = tried

    def fits(self) -> dict[str, RequestFit]:
        """Return the request for each target that may be asked and can take it.

        Raises NoAnswer, a 400, if none can, and OutOfScope if none may: then the request ends before any attempt.
        """
        found: dict[str, RequestFit] = {}
        lacking, within, scope = None, False, self._record.scope
        if not (scope or self._record.barred or self._refusals) and (takers := self._rows.takers(self._request)):
            return dict.fromkeys(takers, RequestFit(self._request.body))
        for target, first_fit in self._rows.fits(self._request, scope):
            if first_fit.outside:
                self._tried.pass_over(target, f"{OUT_OF_SCOPE} {', '.join(sorted(scope))}")
                continue
            within = True
            if target in self._record.barred:
                self._tried.pass_over(target, NO_PRICE)
                continue
            if first_fit.bug is not None:
                log.error("A bug of ours kept a request from %s", target, exc_info=first_fit.bug)
                self._tried.spoil(target)
                continue
            fit = self._without_refused(target, first_fit)
            if fit.lacks:
                lacking = lacking or fit
                self._tried.pass_over(target, f"unsupported {', '.join(fit.lacks)}")
            else:
                found[target] = fit
        if scope and not within:
            raise self._out_of_scope(scope)
        if not (found or self._tried.failures) and lacking is not None:
            raise self._unsupported(lacking)
        return found

    def _out_of_scope(self, scope: frozenset[str]) -> OutOfScope:
        known = ", ".join(self._rows.tags) or "none"
        names = "', '".join(sorted(scope))
        return OutOfScope(f"No target of '{self._request.model}' has the tags '{names}' (known tags: {known}).")

    def _unsupported(self, fit: RequestFit) -> NoAnswer:
        """Return the error of a request that no target can take. `fit` is that of the first."""
        param, native = fit.lacks[0], self._request.native
        message = f"No provider of '{self._request.model}' can take {thing_at(param, self._request.body)}."
        if fit.demands:
            lost = f"No provider gets '{param}' of this request, and nothing of it may be left out."
            message = lost if native is None else native.demands.get(param, lost)
        error = NoAnswer(message, self._record.entries, Outcome("unsupported", status=400, param=param))
        error.in_clients_words = bool(fit.demands)
        return error

    def _without_refused(self, target: str, fit: RequestFit) -> RequestFit:
        if not self._refusals:
            return fit
        conceded = self._refusals.adapt(target, fit.body)
        if conceded.body is not fit.body:
            fit = self._rows.without_hints(self._request, fit, conceded)
        if fit.extras:
            extras = self._refusals.adapt(target, fit.extras)
            fit = self._rows.without_extras(self._request, fit, extras)
        return fit
