"""LedgerActor: a ledger desk with a patrol, one per application. The Ray shell and nothing else.

- Named and detached, as the breaker actor is: it outlives a redeploy.
- Its state is the store. A new start reads what it needs from there, and a call that is sent twice
  does what it does once, so it has no checkpoint; of two that run while a node is cut off, the store
  lets one write at a time.
- With SQLite it runs on the head node, where the file is.

It must not be asked on the way of a request.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from actors.ledger.writer import PATROL_SECONDS, LedgerDesk
from actors.singleton import code_fingerprint, summon_actor

log = logging.getLogger(__name__)

ROLE = "ledger"


class LedgerActor:
    """`config` is `{url_env, url, journals}`; a URL that holds a password is read from the environment here."""

    def __init__(self, app: str, config: Mapping[str, Any]):
        self._code = code_fingerprint()
        self._desk = LedgerDesk(_resolved(config))
        self._patrol: asyncio.Task[None] | None = None

    async def hello(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Take the application's store; who I am."""
        await self._desk.configure(_resolved(config))
        if self._patrol is None:
            self._patrol = asyncio.create_task(self._watch_over())
        return await self.whoami()

    async def whoami(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "code": self._code}

    async def write(self, replica: str, number: int, data: bytes, subjects: Sequence[str] = ()) -> dict[str, Any]:
        return await self._desk.write(replica, number, data, subjects)

    async def bury(self, replica: str) -> bool:
        return await self._desk.bury(replica)

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[dict[str, Any]]:
        return await self._desk.usage(filters, group_by)

    async def request(self, name: str) -> dict[str, Any] | None:
        return await self._desk.request(name)

    async def health(self) -> dict[str, Any]:
        return await self._desk.health()

    async def _watch_over(self) -> None:
        while True:
            try:
                await self._desk.patrol()
            except Exception:
                log.exception("the ledger actor's patrol goes on")
            await asyncio.sleep(PATROL_SECONDS)


def _resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    name = config["url_env"]
    # Without the variable the store is away, for that reason; the actor itself goes on.
    url = config["url"] if name is None else os.environ.get(name)
    return {"url": url, "missing": f"{name} is not set where the ledger actor runs", "journals": config["journals"]}


async def summon_ledger(app: str, config: Mapping[str, Any], *, newest: bool) -> Any:
    """The application's ledger actor; see singleton.summon_actor."""
    where = {"resources": {"node:__internal_head__": 0.001}} if config["url_env"] is None else {}
    return await summon_actor(LedgerActor, app, ROLE, config, newest=newest, **where)
