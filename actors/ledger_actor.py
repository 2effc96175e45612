"""LedgerActor: the ledger's single writer with a patrol, one per application. The Ray shell and nothing else.

- Named and detached, as the breaker actor is: it outlives a redeploy.
- Its state is the store. A new start reads what it needs from there, and a call that is sent twice
  does what it does once, so it has no checkpoint; of two that run while a node is cut off, the store
  lets one write at a time.
- With SQLite it runs on the head node, where the file is.

It must not be asked on the way of a request.
"""

# Ray keeps an actor's class by this module's path and by the names of all its methods, private ones too. Who finds
# the actor by its name loads it so. Both are words between two versions: a change of one, or an annotation that is no
# string, keeps the next version from using and from replacing the actor of this one.
from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from actors.ledger.messages import (
    KEEP_ALL,
    Claims,
    FoundRequest,
    LedgerConfig,
    LedgerWhoAmI,
    StoreConfig,
    UsageRow,
    Viewer,
    WriteAnswer,
    WriterHealth,
)
from actors.process import tune_process
from actors.singleton import NamedActor, code_fingerprint, leave_with_node

log = logging.getLogger(__name__)

ROLE = "ledger"


class LedgerActor:
    """`config` is `{url_env, url, journals}`; a URL that holds a password is read from the environment here."""

    def __init__(self, app: str, config: LedgerConfig):
        # SQLAlchemy takes 0.15 s and 15 MB: each ingress knows this class, and only the actor needs the writer.
        from actors.ledger.single_writer.writer import PATROL_SECONDS, LedgerWriter

        tune_process()
        self._code = code_fingerprint()
        self._writer = LedgerWriter(_resolved(config))
        self._pause = PATROL_SECONDS
        self._patrol: asyncio.Task[None] | None = None
        if config["url_env"] is not None:  # else its store is a file of this node
            leave_with_node(ROLE)

    async def hello(self, config: LedgerConfig) -> LedgerWhoAmI:
        """Take the application's store; return who answers."""
        await self._writer.configure(_resolved(config))
        if self._patrol is None:
            self._patrol = asyncio.create_task(self._watch_over())
        return await self.whoami()

    async def whoami(self) -> LedgerWhoAmI:
        return {"pid": os.getpid(), "code": self._code}

    async def write(
        self,
        replica: str,
        number: int,
        data: bytes,
        subjects: Claims | Sequence[str] = (),
        host: str | None = None,
        *more: bytes,
    ) -> WriteAnswer:
        return await self._writer.write(replica, number, data, subjects, host, *more)

    async def bury(self, replica: str) -> bool:
        return await self._writer.bury(replica)

    async def usage(self, filters: Mapping[str, Any], group_by: Sequence[str] = ()) -> list[UsageRow]:
        return await self._writer.usage(filters, group_by)

    async def request(self, name: str, viewer: Viewer | None = None) -> FoundRequest | None:
        return await self._writer.request(name, viewer)

    async def health(self) -> WriterHealth:
        return await self._writer.health()

    async def _watch_over(self) -> None:
        while True:
            try:
                await self._writer.patrol()
            except Exception:
                log.exception("The ledger actor could not recover what dead replicas have left. It tries again.")
            await asyncio.sleep(self._pause)


def _resolved(config: LedgerConfig) -> StoreConfig:
    name = config["url_env"]
    # Without the variable the store is away, for that reason; the actor itself goes on.
    url = config["url"] if name is None else os.environ.get(name)
    missing = f"{name} is not set where the ledger actor runs"
    keep = config.get("keep", KEEP_ALL)  # an ingress of an earlier version says nothing of it
    return {"url": url, "missing": missing, "journals": config["journals"], "keep": keep}


def ledger_actor(app: str, config: LedgerConfig) -> NamedActor:
    """Return the way to the application's ledger actor."""
    where: dict[str, Any] = {"resources": {"node:__internal_head__": 0.001}} if config["url_env"] is None else {}
    return NamedActor(LedgerActor, app, ROLE, **where)
