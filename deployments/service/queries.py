"""What is known of requests that are over: one of them, and who used what. No Ray."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from actors.ledger.rows import QUESTIONS, unknown_in
from deployments.errors import BadRequest, BreakwaterError, NotFound, Unavailable, error_dict
from deployments.telemetry.explain import RecentRequests, from_ledger
from deployments.usage.ledger_client import LedgerClient

USAGE_SECONDS = 10.0  # how long a question of usage may take the ledger


class Queries:
    """`recent` are the last requests of this replica; all others are in the ledger, where there is one."""

    def __init__(self, recent: RecentRequests, ledger: LedgerClient | None):
        self._recent = recent
        self._ledger = ledger

    async def request(self, name: str) -> dict[str, Any]:
        """What a request went through, by our id or its `x-request-id`. Raises NotFound and Unavailable."""
        found = self._recent.find(name)
        if found is None and self._ledger is not None:
            try:
                async with asyncio.timeout(USAGE_SECONDS):
                    rows = await self._ledger.request(name)
            except Exception as error:
                raise Unavailable(f"The ledger did not answer: {type(error).__name__}.") from error
            found = None if rows is None else from_ledger(rows["request"], rows["attempts"])
        if found is None:
            raise NotFound(f"The request '{name}' is not known.")
        return dict(found)

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Who used what: see actors/ledger/queries.py. Raises BadRequest and Unavailable."""
        if (name := unknown_in(filters, group_by)) is not None:
            raise BadRequest(f"There is no '{name}' to ask the usage by. Known: {', '.join(QUESTIONS)}.", name)
        try:
            async with asyncio.timeout(USAGE_SECONDS):
                if self._ledger is None:
                    raise ConnectionError("no ledger")
                return await self._ledger.usage(filters, group_by)
        except Exception as error:
            raise Unavailable(f"The ledger did not answer: {type(error).__name__}.") from error

    async def usage_stats(self, tenant_id: str | None = None, agent_id: str | None = None) -> dict[str, Any]:
        """What a tenant, an agent, or all have used: in total, and by provider and model."""
        filters = {k: v for k, v in (("tenant", tenant_id), ("agent", agent_id)) if v is not None}
        try:
            total, *_ = await self.usage(filters) or [{}]
            models = await self.usage(filters, ["provider", "model"])
        except BreakwaterError as error:
            return error_dict(error)
        return {"tenant_id": tenant_id, "agent_id": agent_id, **total, "by_model": models}
