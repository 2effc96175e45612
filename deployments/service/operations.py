"""What an operator sees and orders: health, commands to the breaker, thresholds. No Ray."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from actors.breaker.plan import of_functions
from actors.breaker.registry import COMMANDS
from deployments.breaker_client.client import BreakerClient
from deployments.config.application import ResolvedConfig, Tier
from deployments.config.settings import Overrides
from deployments.errors import BadRequest, NotFound, Unavailable
from deployments.routing.model_rows import ModelRows
from deployments.service.arguments import positive_seconds
from deployments.service.health import external_providers, health_summary, provider_health, system_health
from deployments.usage.ledger_client import LedgerClient

log = logging.getLogger(f"ray.serve.{__name__}")

MAX_ISOLATION = 30 * 86_400.0
ACTOR_SECONDS = 0.5  # how long a question of health, or a command, waits for the breaker actor


class Operations:
    """`tables` are the model rows of chats and of embeddings."""

    def __init__(
        self,
        layout: ResolvedConfig,
        link: BreakerClient,
        tables: Sequence[ModelRows],
        ledger: LedgerClient | None = None,
    ):
        self._mode, self._tiers = layout.config.mode, layout.tiers
        self._link = link
        self._tables = tables
        self._ledger = ledger

    def tier(self, name: str) -> Tier:
        every = [*self._tiers, *external_providers(self._tiers, self._link.last_seen())]
        for tier in every:
            if tier.name == name:
                return tier
        known = ", ".join(t.name for t in every)
        raise NotFound(f"The provider '{name}' does not exist. Known providers: {known}.")

    async def health_summary(self) -> dict[str, Any]:
        targets, away = await self._targets()
        tiers = [*self._tiers, *external_providers(self._tiers, targets)]
        summary = health_summary(tiers, targets, actor_away=away)
        return summary if self._ledger is None else {**summary, "ledger": self._ledger.health()}

    async def system_health(self) -> dict[str, Any]:
        targets, _ = await self._targets()
        return system_health(self._mode, self._tiers, targets)

    async def provider_health(self, name: str) -> dict[str, Any]:
        tier = self.tier(name)
        targets, _ = await self._targets()
        return provider_health(tier, targets)

    async def command(self, verb: str, provider: str, seconds: Any = None) -> dict[str, Any]:
        """Isolate (for `seconds`, by default an hour), restore, recover or reset a provider; its health afterwards."""
        if verb not in COMMANDS:
            raise NotFound(f"No such command: {verb}. Known commands: {', '.join(COMMANDS)}.")
        tier = self.tier(provider)
        limit = None if seconds is None else positive_seconds(seconds, "seconds", MAX_ISOLATION)
        await self._ordered("command", verb, tier.name, limit)
        return await self.provider_health(provider)

    async def thresholds(self, changes: Any = None) -> dict[str, Any]:
        """The breaker's policy in force; `changes` are set over the config and kept, null takes one back."""
        if changes:
            try:
                checked = Overrides.model_validate(changes).model_dump(exclude_unset=True)
            except ValidationError as error:
                key = ".".join(str(part) for part in error.errors()[0]["loc"])
                raise BadRequest(f"Invalid '{key}': {error.errors()[0]['msg']}.", key) from None
            return dict(await self._ordered("override", checked))
        return dict((await self._told("health"))["policy"])

    async def _ordered(self, method: str, *arguments: Any) -> Any:
        """An operator's word holds here from the next request on; the other replicas hear of it in a moment."""
        answer = await self._told(method, *arguments)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ACTOR_SECONDS):
                await self._link.look()
        return answer

    async def _told(self, method: str, *arguments: Any) -> Any:
        try:
            return await self._actor(method, *arguments)
        except Exception as error:
            raise Unavailable(f"The breaker actor did not answer: {type(error).__name__}.") from error

    def ready(self) -> bool:
        """Can any row be answered, as far as we know?"""
        return any(
            (plan := self._link.plan(rows.of(n))).candidates or plan.panics for rows in self._tables for n in rows.names
        )

    async def _targets(self) -> tuple[dict[str, Any], bool]:
        """What is known of each target, and whether that is without the actor: its last sight then."""
        try:
            known, away = (await self._actor("health"))["targets"], False
        except Exception as error:
            log.warning("no health from the breaker actor: %s", type(error).__name__)
            known, away = self._link.last_seen(), True
        mine = {target for rows in self._tables for target in rows.targets}
        return {name: t for name, t in known.items() if name in mine or of_functions(name)}, away

    async def _actor(self, method: str, *arguments: Any) -> Any:
        async with asyncio.timeout(ACTOR_SECONDS):
            return await self._link.call(method, *arguments)
