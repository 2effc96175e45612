"""Functions of other apps under our circuits: the plan before a call, and the reports after it. No Ray.

The caller runs the functions itself. It asks here for their order, and reports how each ended. A function runs
under the circuit of its provider's model in a row, so that it shares the health that our own calls measure. Where
the row has no such model, it runs under `provider/functions`, which is isolated and recovered with the provider.

A plan without a probe may be used again for `fresh_seconds`, so that most healthy calls need no plan. A permit for a
probe is exclusive, so it is taken only for the first candidate. A later candidate that is a probe has no permit yet
(`probe`): when its turn comes, the caller asks for a plan of this function alone.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from actors.breaker.messages import Permit, is_exclusive
from actors.breaker.outcomes import ENDINGS, Guilt, Outcome, Verdict
from actors.breaker.plan import FUNCTIONS, model_of, provider_of, site_of, target_of
from deployments.config.base.section import Strict
from deployments.errors import BadRequest
from deployments.failover.candidates import Candidates
from deployments.failover.tried import Tried
from deployments.openai_api.json_types import JsonObject
from deployments.service.answers import FunctionPlan, Nothing, PlannedFunction
from deployments.service.operations import ACTOR_SECONDS
from deployments.telemetry.request_record import RequestRecord

if TYPE_CHECKING:
    from deployments.service.service import Service

log = logging.getLogger(f"ray.serve.{__name__}")
T = TypeVar("T")

FRESH_SECONDS = 1.0
# How long a plan waits for the end of a running probe: a client waits two seconds for its plan.
PROBE_WAIT_SECONDS = 1.5
MOST = 64  # functions in one call
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CallReport(Strict):
    """How one call of a function ended, as its caller reports it.

    `epoch`, `incarnation`, `lease` and `trial` are the permit of the plan, as it was.
    """

    target: Text
    epoch: int
    incarnation: int
    kind: str  # of the outcome; `started`: a probe still runs; `unused`: the permit is given back
    lease: str | None = None
    trial: str | None = None
    ms: Seconds = 0.0  # milliseconds of the call
    status: int | None = None  # HTTP status, where there was one
    message: Annotated[str, Field(max_length=2000)] = ""
    retry_after: Seconds | None = None  # as the provider named it
    first: bool = True  # the first function that was called for its request

    @property
    def permit(self) -> Permit:
        """Return the permit of the call."""
        return {"epoch": self.epoch, "incarnation": self.incarnation, "lease": self.lease, "trial": self.trial}


_Planned = list[tuple[str, Permit | None]]  # targets, each with its permit if it has one


_NAMES: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[Text], Field(min_length=1, max_length=MOST)])
_REPORTS: TypeAdapter[list[CallReport]] = TypeAdapter(list[CallReport])


class Functions:
    def __init__(self, service: "Service"):
        self._service = service

    async def begin(self, names: object, primary: object = None, model: object = None) -> FunctionPlan:
        """Return which functions to call, in order, each with its permit. Raises BadRequest, UnknownModel.

        `names` are providers; `provider/anything` has a circuit of its own beside the provider's. `primary` is the
        name to call first, `model` a row's name.
        """
        wanted = self._ordered(_checked(_NAMES, names, "provider_functions"), primary, self._row(model))
        allowed = {name: target for name, target in wanted.items() if self._in_mode(name)}
        await self._expect(list(allowed.values()))
        tried = Tried(RequestRecord())
        candidates = Candidates(self._service.breaker, self._service.failover.rows, list(allowed.values()), tried)
        first, others = await self._permit_first(candidates)
        names_of = {target: name for name, target in allowed.items()}
        config = self._service.resolved.config
        return {
            "candidates": [
                PlannedFunction(name=names_of[target], target=target, permit=permit, probe=permit is None)
                for target, permit in [*first, *others]
            ],
            "skipped": [*self._out_of_mode(wanted), *tried.record.entries],
            "retry_in_seconds": candidates.retry_in,
            "fresh_seconds": 0.0 if any(permit and is_exclusive(permit) for _, permit in first) else FRESH_SECONDS,
            "lease_seconds": config.policy().lease,
            "timeout_seconds": float(config.timeouts.timeout_seconds),
        }

    async def _permit_first(self, candidates: Candidates) -> tuple[_Planned, _Planned]:
        """Return the first candidate with its permit, and the others. Both are empty if none can be called."""
        breaker, clock = self._service.breaker, asyncio.get_running_loop().time
        until = clock() + PROBE_WAIT_SECONDS
        try:
            while True:
                while (turn := candidates.next()) is not None:
                    if (permit := await breaker.permit(turn.candidate, candidates)) is not None:
                        candidates.ask(turn)
                        return [(turn.candidate.target, permit.copy())], self._others(candidates)
                    candidates.refuse(turn)
                if not await breaker.hope(candidates, candidates.left, until - clock(), until - clock()):
                    return [], []
                candidates.again()
        finally:
            breaker.leave(candidates)

    def _others(self, candidates: Candidates) -> _Planned:
        plain = self._service.breaker.plain_permit
        return [(c.target, None if c.probe else plain(c)) for c in candidates.candidates()]

    async def report(self, ended: object) -> Nothing:
        """Report how calls ended: a list of `CallReport`s. An unknown target is ignored. Raises BadRequest."""
        for item in _checked(_REPORTS, ended, "ended"):
            if item.kind == "started":
                self._service.breaker.report_started(item.target, item.permit)
                continue
            if item.kind == "unused":
                self._service.breaker.release(item.target, item.permit)
                continue
            if item.kind not in ENDINGS:
                raise BadRequest(f"Invalid 'kind': {item.kind!r} is not one of {', '.join(ENDINGS)}.", "kind")
            outcome = Outcome(item.kind, status=item.status, message=item.message[:200], retry_after=item.retry_after)
            verdict = Verdict.NEUTRAL if self._is_callers_own(item, outcome) else None
            began = self._service.breaker.now() - item.ms / 1000
            self._service.breaker.report(
                item.target, item.permit, outcome, item.ms, whole=True, verdict=verdict, began=began
            )
            labels = FUNCTIONS, FUNCTIONS, "", outcome.kind, outcome.verdict.value
            self._service.meter.add("breakwater_attempts_total", labels)
        return {}

    def _is_callers_own(self, item: CallReport, outcome: Outcome) -> bool:
        """Return whether a failure says nothing of the provider.

        A refused key is the caller's own. And where one function after another fails alike, the call itself is
        at fault, not the providers.
        """
        of_ours = item.target in self._service.targets
        alike = bool(outcome.ending.alike) and not item.first and not item.lease
        return alike or (of_ours and outcome.ending.guilt is Guilt.US)

    def _row(self, model: object) -> Mapping[str, str]:
        """Return the targets of a row by provider. Raises UnknownModel."""
        rows = self._service.failover.rows
        name = model or rows.default
        if not isinstance(name, str) or name not in rows.names:
            raise rows.unknown(str(name))
        found = dict[str, str]()
        for target in rows.of(name):
            found.setdefault(provider_of(target), target)  # a provider's own name means the first of its places
            found[site_of(target)] = target
        return found

    def _ordered(self, names: list[str], primary: object, row: Mapping[str, str]) -> dict[str, str]:
        """Return each name's target: the primary's first, then in the order of the row, the configuration, `names`."""
        if primary is not None and primary not in names:
            raise BadRequest(f"Invalid 'primary_provider': {primary!r} has no function.", "primary_provider")
        order = list(dict.fromkeys([*row, *(tier.name for tier in self._service.resolved.tiers)]))
        ranks = {name: at for at, name in enumerate(order)}
        ranked = sorted(names, key=lambda n: (n != primary, ranks.get(provider_of(n), len(order))))
        wanted = {name: self._target(name, row) for name in ranked}
        if len(set(wanted.values())) < len(names):
            raise BadRequest("Invalid 'provider_functions': two of them share one circuit.", "provider_functions")
        return wanted

    def _target(self, name: str, row: Mapping[str, str]) -> str:
        provider, slash, rest = name.partition("/")
        if not slash:
            return row.get(name) or target_of(name, FUNCTIONS)
        return name if name in self._service.targets else target_of(provider, f"{FUNCTIONS}/{rest}")

    def _in_mode(self, name: str) -> bool:
        config = self._service.resolved.config
        return provider_of(name) not in config.providers or provider_of(name) in config.tier_names()

    def _out_of_mode(self, wanted: Mapping[str, str]) -> list[JsonObject]:
        why = f"skipped: not in mode {self._service.resolved.config.mode}"
        out = [(name, target) for name, target in wanted.items() if not self._in_mode(name)]
        return [{"provider": provider_of(t), "model": model_of(t), "outcome": why} for _, t in out]

    async def _expect(self, targets: list[str]) -> None:
        """Have a circuit made for each unknown target. Without the breaker actor they run without one."""
        breaker = self._service.breaker
        if all(breaker.knows(target) for target in targets):
            return
        try:
            async with asyncio.timeout(ACTOR_SECONDS):
                await breaker.call("expect", targets)
        except Exception as error:
            log.info("functions run without new circuits, the breaker actor did not answer: %s", type(error).__name__)


def _checked(adapter: TypeAdapter[T], value: object, name: str) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join([name, *(str(part) for part in first["loc"])])
        raise BadRequest(f"Invalid '{param}': {first['msg']}.", param, "invalid_value") from None
