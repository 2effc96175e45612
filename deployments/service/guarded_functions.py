"""Functions of other apps under our circuits: the plan before them, and how they ended. No Ray.

The caller runs them itself; here it learns in which order, and tells what came of it. A function runs
under the circuit of its provider's model in a row, so that it shares what our own calls know; where
the row has none, under `provider/functions`, which is isolated and recovered with the provider.

A plan without a probe may be used again for `fresh_seconds`, so that a healthy call asks nothing. What is exclusive is
taken when it is used: a function that is a probe, and whose turn may come later, has no permit yet (`probe`), and who
comes to it asks for a plan of it alone.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from actors.breaker.messages import Permit
from actors.breaker.outcomes import ENDINGS, Guilt, Outcome, Verdict
from actors.breaker.plan import FUNCTIONS, provider_of, target_of
from deployments.config.settings import Strict
from deployments.errors import BadRequest
from deployments.failover.candidates import Candidates
from deployments.failover.tried import Tried
from deployments.service.operations import ACTOR_SECONDS
from deployments.service.service import Service
from deployments.telemetry.request_record import RequestRecord

log = logging.getLogger(f"ray.serve.{__name__}")
T = TypeVar("T")

FRESH_SECONDS = 1.0
HOPE_SECONDS = 1.5  # for a probe that is out: a plan must be there within the two seconds that a client waits for it
MOST = 64  # functions of one call
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Ended(Strict):
    """How one call of a function ended, or that its probe is `started` and still runs."""

    target: Text
    epoch: int
    incarnation: int
    kind: str
    lease: str | None = None
    trial: str | None = None
    ms: Seconds = 0.0
    status: int | None = None
    message: Annotated[str, Field(max_length=2000)] = ""
    retry_after: Seconds | None = None
    first: bool = True  # of its call

    @property
    def permit(self) -> Permit:
        return {"epoch": self.epoch, "incarnation": self.incarnation, "lease": self.lease, "trial": self.trial}


_Planned = list[tuple[str, dict[str, Any] | None]]  # targets, each with its permit if it has one


def _exclusive(permit: Mapping[str, Any]) -> bool:
    return bool(permit.get("lease") or permit.get("trial"))


_NAMES: TypeAdapter[list[str]] = TypeAdapter(Annotated[list[Text], Field(min_length=1, max_length=MOST)])
_ENDED: TypeAdapter[list[Ended]] = TypeAdapter(list[Ended])


class Functions:
    def __init__(self, service: Service):
        self._service = service

    async def begin(self, names: Any, primary: Any = None, model: Any = None) -> dict[str, Any]:
        """Which functions to call, in order, each with its permit. Raises BadRequest, UnknownModel.

        `names` are providers; `provider/anything` has a circuit of its own beside the provider's.
        """
        wanted = self._ordered(_checked(_NAMES, names, "provider_functions"), primary, self._row(model))
        allowed = {name: target for name, target in wanted.items() if self._in_mode(name)}
        await self._expect(list(allowed.values()))
        tried = Tried(RequestRecord())
        walk = Candidates(self._service.link, self._service.failover.rows, list(allowed.values()), tried)
        first, others = await self._first(walk)
        named = {target: name for name, target in allowed.items()}
        config = self._service.layout.config
        return {
            "candidates": [
                {"name": named[target], "target": target, "permit": permit, "probe": permit is None}
                for target, permit in [*first, *others]
            ],
            "skipped": [*self._out_of_mode(wanted), *tried.record.entries],
            "retry_in_seconds": walk.retry_in,
            "fresh_seconds": 0.0 if any(permit and _exclusive(permit) for _, permit in first) else FRESH_SECONDS,
            "lease_seconds": config.policy().lease,
            "timeout_seconds": float(config.timeouts.timeout_seconds),
        }

    async def _first(self, walk: Candidates) -> tuple[_Planned, _Planned]:
        """Whose turn it is, with its permit, and the others."""
        link, clock = self._service.link, asyncio.get_running_loop().time
        until = clock() + HOPE_SECONDS
        try:
            while True:
                while (turn := walk.next()) is not None:
                    if (permit := await link.permit(turn.candidate, walk)) is not None:
                        walk.ask(turn)
                        return [(turn.candidate.target, dict(permit))], self._others(walk)
                    walk.refuse(turn)
                if not await link.hope(walk, walk.left, until - clock(), until - clock()):
                    return [], []
                walk.again()
        finally:
            link.leave(walk)

    def _others(self, walk: Candidates) -> _Planned:
        plain = {"incarnation": self._service.link.incarnation}
        return [(c.target, None if c.probe else {**plain, "epoch": c.epoch}) for c in walk.candidates()]

    async def report(self, ended: Any) -> dict[str, Any]:
        """How calls ended. Raises BadRequest; a target that nobody knows is ignored."""
        for item in _checked(_ENDED, ended, "ended"):
            if item.kind == "started":
                self._service.link.report_started(item.target, item.permit)
                continue
            if item.kind == "unused":
                self._service.link.release(item.target, item.permit)
                continue
            if item.kind not in ENDINGS:
                raise BadRequest(f"Invalid 'kind': {item.kind!r} is not one of {', '.join(ENDINGS)}.", "kind")
            outcome = Outcome(item.kind, status=item.status, message=item.message[:200], retry_after=item.retry_after)
            verdict = Verdict.NEUTRAL if self._not_held_against(item, outcome) else None
            began = self._service.link.now() - item.ms / 1000
            self._service.link.report(
                item.target, item.permit, outcome, item.ms, whole=True, verdict=verdict, began=began
            )
            labels = FUNCTIONS, FUNCTIONS, outcome.kind, outcome.verdict.value
            self._service.meter.add("breakwater_attempts_total", labels)
        return {}

    def _not_held_against(self, item: Ended, outcome: Outcome) -> bool:
        """A key that is refused is the caller's own, and a call that makes everybody fail is no outage."""
        of_ours = item.target in self._service.targets
        alike = bool(outcome.ending.alike) and not item.first and not item.lease
        return alike or (of_ours and outcome.ending.guilt is Guilt.US)

    def _row(self, model: Any) -> Mapping[str, str]:
        """Provider to its own id, of a row. Raises UnknownModel."""
        rows = self._service.failover.rows
        name = model or rows.default
        if name not in rows.names:
            raise rows.unknown(str(name))
        return {provider_of(target): target for target in rows.of(name)}

    def _ordered(self, names: list[str], primary: Any, row: Mapping[str, str]) -> dict[str, str]:
        """Name to target: the primary, then the row's order, then the configuration's, then as they are given."""
        if primary is not None and primary not in names:
            raise BadRequest(f"Invalid 'primary_provider': {primary!r} has no function.", "primary_provider")
        order = list(dict.fromkeys([*row, *(tier.name for tier in self._service.layout.tiers)]))
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
        config = self._service.layout.config
        return provider_of(name) not in config.providers or provider_of(name) in config.tier_names()

    def _out_of_mode(self, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        why = f"skipped: not in mode {self._service.layout.config.mode}"
        out = [(name, target) for name, target in wanted.items() if not self._in_mode(name)]
        return [{"provider": provider_of(t), "model": t.partition("/")[2], "outcome": why} for _, t in out]

    async def _expect(self, targets: list[str]) -> None:
        """A target that nobody has seen gets its circuit; without the actor it runs without one."""
        link = self._service.link
        if all(link.knows(target) for target in targets):
            return
        try:
            async with asyncio.timeout(ACTOR_SECONDS):
                await link.call("expect", targets)
        except Exception as error:
            log.info("functions without a circuit: %s", type(error).__name__)


def _checked(adapter: TypeAdapter[T], value: Any, name: str) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join([name, *(str(part) for part in first["loc"])])
        raise BadRequest(f"Invalid '{param}': {first['msg']}.", param, "invalid_value") from None
