"""Operators' API: health, commands to the breaker, thresholds. No Ray."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from actors.breaker.plan import PLACE, of_functions
from actors.breaker.registry import COMMANDS
from deployments.breaker_client.client import BreakerClient
from deployments.config.places import Tier
from deployments.config.sentences import key_of, sentence_of
from deployments.config.settings import Overrides
from deployments.errors import BadRequest, NotFound, Unavailable
from deployments.openai_api.json_types import JsonObject
from deployments.routing.model_rows import ModelRows
from deployments.service.answers import HealthSummary, ProviderHealth, SystemHealth, Thresholds
from deployments.service.arguments import parse_seconds
from deployments.service.health import external_providers, health_summary, provider_health, system_health

if TYPE_CHECKING:
    from deployments.config.resolved import ResolvedConfig
    from deployments.usage.ledger_client import LedgerClient

log = logging.getLogger(f"ray.serve.{__name__}")

BY_HANDLE = "a Python handle"
MAX_ISOLATION = 30 * 86_400.0  # seconds
ACTOR_SECONDS = 0.5  # how long a question of health waits for the breaker actor, before it is answered without it
COMMAND_SECONDS = 3.0  # how long an operator's command waits: given up, it may have been carried out all the same


class Operations:
    """`tables` are the model rows of chats and of embeddings."""

    def __init__(
        self,
        resolved: "ResolvedConfig",
        breaker: BreakerClient,
        tables: Sequence[ModelRows],
        ledger: "LedgerClient | None" = None,
    ):
        self._mode, self._tiers, self._policy = resolved.config.mode, resolved.tiers, resolved.config.policy
        self._breaker = breaker
        self._tables = tables
        self._ledger = ledger

    def find_tier(self, name: str) -> Tier:
        """Return the provider of this name, external providers included, or one place of it. Raises NotFound."""
        every = [*self._tiers, *external_providers(self._tiers, self._breaker.last_seen())]
        every += [Tier(f"{t.name}{PLACE}{p.name}", t.kind, p.left_out) for t in self._tiers for p in t.places]
        for tier in every:
            if tier.name == name:
                return tier
        known = ", ".join(t.name for t in every)
        raise NotFound(f"The provider '{name}' does not exist. Known providers: {known}.")

    async def health_summary(self) -> HealthSummary:
        """Return the health of all providers, and of the ledger if there is one."""
        targets, away = await self._target_health()
        tiers = [*self._tiers, *external_providers(self._tiers, targets)]
        summary = health_summary(tiers, targets, actor_away=away)
        if self._ledger is not None:
            ledger: Any = self._ledger.health()
            summary["ledger"] = ledger
        return summary

    async def system_health(self) -> SystemHealth:
        """Return the health of the service as a whole."""
        targets, _ = await self._target_health()
        return system_health(self._mode, self._tiers, targets)

    async def provider_health(self, name: str) -> ProviderHealth:
        """Return the health of one provider. Raises NotFound."""
        tier = self.find_tier(name)
        targets, _ = await self._target_health()
        return provider_health(tier, targets)

    async def command(self, verb: str, provider: str, seconds: object = None, by: str = BY_HANDLE) -> ProviderHealth:
        """Isolate, restore, recover or reset a provider, or one place of it, and return its health afterwards.

        An isolation lasts `seconds`, by default an hour. `by` says who it was. Raises NotFound, BadRequest and
        Unavailable.
        """
        if verb not in COMMANDS:
            raise NotFound(f"No such command: {verb}. Known commands: {', '.join(COMMANDS)}.")
        tier = self.find_tier(provider)
        limit = None if seconds is None else parse_seconds(seconds, "seconds", MAX_ISOLATION)
        await self._command_actor("command", verb, tier.name, limit, by)
        return await self.provider_health(provider)

    async def thresholds(self, changes: object = None, by: str = BY_HANDLE) -> Thresholds:
        """Set thresholds over the configuration's, and return the breaker's policy in force, with what was set so.

        `changes` maps names of thresholds to values; null takes an earlier change back. Without changes nothing is
        set. Raises BadRequest and Unavailable.
        """
        if changes:
            try:
                checked = Overrides.model_validate(changes).model_dump(exclude_unset=True)
            except ValidationError as error:
                raise BadRequest(f"Invalid threshold {sentence_of(error)}", key_of(error)) from None
            await self._command_actor("override", checked, by)
        return _thresholds(await self._ask_actor("health"))

    async def policy(self) -> JsonObject:
        """Return the thresholds in force; the configured ones while the breaker actor is away."""
        with contextlib.suppress(Exception):
            return dict((await self._call_actor("health"))["policy"])
        return asdict(self._policy())

    async def _command_actor(self, method: str, *arguments: object) -> Any:
        """Send a command, then fetch a new snapshot: the command holds here from the next request on.

        The other replicas get it with their long poll, in a moment.
        """
        answer = await self._ask_actor(method, *arguments)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ACTOR_SECONDS):
                await self._breaker.look()
        return answer

    async def _ask_actor(self, method: str, *arguments: object) -> Any:
        try:
            return await self._call_actor(method, *arguments, seconds=COMMAND_SECONDS)
        except Exception as error:
            message = f"The breaker actor did not answer within {COMMAND_SECONDS:g} s. Try again soon."
            if not isinstance(error, TimeoutError):
                message = "The breaker actor can't be reached. It is restarted by itself; try again soon."
            raise Unavailable(message) from error

    def ready(self) -> bool:
        """Return whether any row has a target that may be asked, as far as this replica knows."""
        return any(
            (plan := self._breaker.plan(rows.of(n))).candidates or plan.panics
            for rows in self._tables
            for n in rows.names
        )

    async def _target_health(self) -> tuple[Mapping[str, JsonObject], bool]:
        """Return each target's health, and whether the actor is away: then it is made from the last snapshot."""
        known: Mapping[str, JsonObject]
        try:
            known, away = (await self._call_actor("health"))["targets"], False
        except Exception as error:
            log.warning("no health from the breaker actor, the last snapshot is shown: %s", type(error).__name__)
            known, away = self._breaker.last_seen(), True
        mine = {target for rows in self._tables for target in rows.targets}
        return {name: t for name, t in known.items() if name in mine or of_functions(name)}, away

    async def _call_actor(self, method: str, *arguments: object, seconds: float = ACTOR_SECONDS) -> Any:
        async with asyncio.timeout(seconds):
            return await self._breaker.call(method, *arguments)


def _thresholds(health: JsonObject) -> Thresholds:
    """Return the answer from the breaker actor's health. An actor of an earlier version names no `configured`."""
    configured = health.get("configured", {})
    overrides = {n: {"value": value, "configured": configured.get(n)} for n, value in health["overrides"].items()}
    answer: Any = {**health["policy"], "overrides": overrides, "changes": health.get("changes", [])}
    thresholds: Thresholds = answer
    return thresholds
