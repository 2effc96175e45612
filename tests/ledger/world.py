"""Ingress links and a ledger desk on a virtual clock: real journals, a real SQLite file, no Ray."""

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limits, Refusal
from actors.ledger.questions.usage import usage
from actors.ledger.single_writer.writer import LedgerWriter
from deployments.config.ledger import Accounting
from deployments.usage.budget import Reservation
from deployments.usage.ledger_client import LedgerClient
from deployments.usage.prices import PriceList
from deployments.usage.records import UsageRecord
from tests.clock import run_virtually

START = 1_790_000_000.0
OK = Outcome("ok", content=True)
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
PRICES = PriceList(Accounting.model_validate({"prices": {"gpt": {"input": 2, "output": 8}}}).prices)


async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    """Instead of a thread: its work would be done at no moment of the virtual clock."""
    return work(*arguments)


@dataclass
class DeskInProcess:
    """The way to the desk: it can be away, and it can lose its answers."""

    config: dict[str, Any]
    away: bool = False
    loses_answers: bool = False
    seconds: float = 0.0
    writes: int = 0
    started: list[LedgerWriter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        clock = asyncio.get_running_loop().time
        self.desk = LedgerWriter(
            self.config, wall=lambda: START + clock() - 1000, clock=clock, writing=at_once, reading=at_once
        )
        self.started.append(self.desk)

    async def __call__(self, method: str, *arguments: Any) -> Any:
        if self.away:
            raise ConnectionError("killed")
        self.writes += method == "write"
        answer = await getattr(self.desk, method)(*arguments)
        await asyncio.sleep(self.seconds)
        if self.loses_answers:
            raise ConnectionError("the answer was lost")
        return answer

    async def stop(self) -> None:
        for desk in {*self.started, self.desk}:  # also those that died: the kernel would have closed their files
            await desk.configure({})  # leaves its store


@dataclass
class World:
    folder: pathlib.Path
    actor: DeskInProcess
    links: list[LedgerClient] = field(default_factory=list)

    @property
    def now(self) -> float:
        return START + asyncio.get_running_loop().time() - 1000

    def replica(
        self,
        *,
        start: bool = True,
        most: int = 64 * 1024 * 1024,
        limits: Limits | None = None,
        node: str = "journal",
        actor: "DeskInProcess | None" = None,
    ) -> LedgerClient:
        """Begin a replica; `node` names the disk that its journal is on."""

        async def connect() -> Callable[..., Awaitable[Any]]:
            if (actor or self.actor).away:
                raise ConnectionError("killed")
            return actor or self.actor

        clock = asyncio.get_running_loop().time
        link = LedgerClient(
            connect,
            self.folder / node,
            prices=PRICES,
            limits=limits,
            most=most,
            host=node,
            wall=lambda: self.now,
            clock=clock,
        )
        self.links.append(link)
        if start:
            link.start()
        return link

    async def kill(self, link: LedgerClient) -> None:
        """What is left of a replica after kill -9: its journal, and a lock that the kernel has freed."""
        for task in link._tasks:
            task.cancel()
        await asyncio.gather(*link._tasks, return_exceptions=True)
        os.close(link._journal._lock)
        for segment in link._journal._segments:
            if segment.path is not None:
                os.close(segment.fd)
        self.links.remove(link)

    async def settle(self) -> None:
        """Until every row is at the store, and the dead are buried."""
        await asyncio.sleep(10)

    async def usage(
        self, filters: dict[str, Any] | None = None, group_by: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        return await self.actor.desk.usage(filters or {}, group_by)

    async def total(self) -> dict[str, Any]:
        return (await self.usage())[0]


async def admitted(link: LedgerClient, tenant: str = "acme", tokens: int = 0, cost: int = 0) -> Reservation | None:
    """Hold this for a request; None if it may not begin."""
    answer = await link.admit(tenant, None, tokens, cost)
    assert answer is not None, "it has no limit"
    return None if isinstance(answer, Refusal) else answer


def asked(link: LedgerClient, **details: Any) -> UsageRecord:
    return link.begin(**{"tenant": "acme", "model_row": "default", **details})


def answered(link: LedgerClient, target: str = "openai/gpt", **details: Any) -> None:
    asked(link, **details).open(target).settle(OK, USAGE)


@contextlib.asynccontextmanager
async def world(folder: pathlib.Path) -> AsyncIterator[World]:
    actor = DeskInProcess({"url": f"sqlite:///{folder / 'usage.sqlite3'}?timeout=0.05", "journals": None})
    w = World(folder, actor)
    try:
        yield w
    finally:
        for link in w.links:
            await link.close()
        await w.actor.stop()


def in_world(test: Callable[..., Awaitable[None]]) -> Callable[[pathlib.Path], None]:
    """The test runs in a world of its own, on a virtual clock."""

    def run(tmp_path: pathlib.Path) -> None:
        async def main() -> None:
            async with world(tmp_path) as w:
                await test(w)

        run_virtually(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


__all__ = ["OK", "USAGE", "DeskInProcess", "World", "admitted", "answered", "asked", "in_world", "usage", "world"]
