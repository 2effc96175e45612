"""The answer's side of the ledger: whatever hangs below, answers come as they would without it, and no row is lost.

A service with its HTTP API over a real journal and a real SQLite file, on a virtual clock: to be late is to be seen.
"""

import asyncio
import contextlib
import pathlib
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import Limit, Limits
from deployments.ingress.http import build_http_api
from deployments.usage.ledger_client import LedgerClient
from tests.clock import run_virtually
from tests.ledger.world import PRICES
from tests.ledger.world import World as Ledger
from tests.ledger.world import world as ledger_world
from tests.unit.world import ARGS, REQUEST, World, world

HOUR = 3600.0
ANSWER_SECONDS = 0.5  # of each provider
TENANTS = [f"tenant{number}" for number in range(60)]
LIMITED = Limits({f"tenant:{name}": Limit(requests_per_minute=1000) for name in TENANTS})


@dataclass
class Steps:
    """By how much the wall clocks are wrong."""

    ingress: float = 0.0
    actor: float = 0.0


@dataclass
class Rig:
    w: World
    ledger: Ledger
    link: LedgerClient
    http: httpx2.AsyncClient
    steps: Steps = field(default_factory=Steps)
    asked: int = 0

    async def ask(self, **body: Any) -> float:
        """Ask for an answer, see that it is whole, and return how many seconds it took."""
        began = asyncio.get_running_loop().time()
        answer = await self.post("acme", **body)
        assert answer.status_code == 200, answer.text
        assert b"[DONE]" in answer.content if body.get("stream") else answer.json()["choices"]
        self.asked += 1
        return asyncio.get_running_loop().time() - began

    async def ask_as(self, tenant: str) -> tuple[float, float]:
        """Ask until a tenant gets an answer. Return the seconds of the longest try, and those until the last began."""
        clock, tries = asyncio.get_running_loop().time, list[float]()
        first = clock()
        while True:
            began = clock()
            answer = await self.post(tenant)
            tries.append(clock() - began)
            if answer.status_code == 200:
                self.asked += 1
                return max(tries), began - first
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1"), answer.text
            await asyncio.sleep(1)

    async def post(self, tenant: str, **body: Any) -> httpx2.Response:
        headers = {"content-type": "application/json", "x-tenant-id": tenant}
        return await self.http.post("/v1/chat/completions", json={**REQUEST, **body}, headers=headers)

    async def count(self) -> tuple[int, int]:
        """Return how many requests and attempts are in the store once all is well again."""
        await asyncio.sleep(60)
        health = self.link.health()
        assert (health["store"], health["journal"], health["dropped"], health["lag_rows"]) == ("up", "disk", 0, 0)
        total = await self.ledger.total()
        return total["requests"], total["attempts"]


@contextlib.asynccontextmanager
async def rig(folder: pathlib.Path, limits: Limits | None = None) -> AsyncIterator[Rig]:
    async with world(ARGS) as w, ledger_world(folder) as ledger:
        steps, clock = Steps(), asyncio.get_running_loop().time
        ledger.actor.desk._wall = lambda: ledger.now + steps.actor

        async def connect() -> Any:
            return ledger.actor

        link = LedgerClient(
            connect,
            folder / "journal",
            prices=PRICES,
            limits=limits,
            wall=lambda: ledger.now + steps.ingress,
            clock=clock,
        )
        ledger.links.append(link)
        link.start()
        w.service.ledger = link
        for script in w.hop.providers.values():
            script.seconds = ANSWER_SECONDS
        transport = httpx2.ASGITransport(build_http_api(w.service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            made = Rig(w, ledger, link, http, steps)
            await asyncio.sleep(1)
            yield made


Fault = Callable[[Rig], AbstractContextManager[None]]


@contextlib.contextmanager
def full_disk(r: Rig) -> Iterator[None]:
    """No file of this process may grow: neither the journal nor the store."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def locked_file(r: Rig) -> Iterator[None]:
    holder = sqlite3.connect(r.ledger.folder / "usage.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


@contextlib.contextmanager
def no_answer(r: Rig) -> Iterator[None]:
    """The ledger actor takes what comes, and answers nothing."""
    r.ledger.actor.seconds = 10 * HOUR
    try:
        yield
    finally:
        r.ledger.actor.seconds = 0.0


@contextlib.contextmanager
def actor_away(r: Rig) -> Iterator[None]:
    r.ledger.actor.away = True
    try:
        yield
    finally:
        r.ledger.actor.away = False


def stepped(whose: str, seconds: float) -> Fault:
    @contextlib.contextmanager
    def step(r: Rig) -> Iterator[None]:
        setattr(r.steps, whose, seconds)
        try:
            yield
        finally:
            setattr(r.steps, whose, 0.0)

    return step


CLOCKS = [stepped(whose, hours * HOUR) for whose in ("ingress", "actor") for hours in (-1, 1)]
NAMES = ["the ingress is an hour back", "the ingress is an hour ahead", "the actor is back", "the actor is ahead"]
FAULTS = [full_disk, locked_file, no_answer, actor_away, *CLOCKS]
SEEN = {
    full_disk: ("down", "memory"),
    locked_file: ("down", "disk"),
    no_answer: ("down", "disk"),
    actor_away: ("down", "disk"),
}
faults = pytest.mark.parametrize("fault", FAULTS, ids=["full disk", "locked", "no answer", "away", *NAMES])


@faults
def test_answers_are_no_later_than_without_a_ledger_and_no_row_is_lost(tmp_path: pathlib.Path, fault: Fault) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            await r.ask()
            with fault(r):
                for number in range(40):
                    took = await r.ask(stream=number % 2 == 1)
                    assert took == pytest.approx(ANSWER_SECONDS, abs=1e-6)
                    await asyncio.sleep(1)
                together = await asyncio.gather(*(r.ask() for _ in range(50)))
                assert max(together) == pytest.approx(ANSWER_SECONDS, abs=1e-6)
                health = r.link.health()
                assert (health["store"], health["journal"]) == SEEN.get(fault, ("up", "disk")), "the fault is felt"
            assert await r.count() == (r.asked, r.asked)

    run_virtually(main())


@faults
def test_failover_goes_on_and_each_attempt_has_its_row(tmp_path: pathlib.Path, fault: Fault) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            r.w.provider("aws").ends = [Outcome("server_error", status=500)]
            with fault(r):
                assert await r.ask() == pytest.approx(2 * ANSWER_SECONDS, abs=1e-6)
            assert await r.count() == (1, 2)

    run_virtually(main())


@faults
def test_where_a_limit_stands_a_tenant_of_whom_nothing_is_known_waits_for_a_second_and_comes_again_for_five(
    tmp_path: pathlib.Path, fault: Fault
) -> None:
    """Five seconds without a word the ledger is away, and this replica counts alone. Until then a 429 may say `1`."""

    async def main() -> None:
        async with rig(tmp_path, LIMITED) as r:
            with fault(r):
                took = await asyncio.gather(*(r.ask_as(name) for name in TENANTS))
                took += [await r.ask_as(name) for name in TENANTS[:20]]
            assert max(tried for tried, _ in took) <= ANSWER_SECONDS + 1.001
            assert max(waited for _, waited in took) <= 5.0 + 2.001
            assert await r.count() == (r.asked, r.asked)

    run_virtually(main())


def test_a_fault_in_the_middle_of_a_stream_breaks_no_answer_and_loses_no_row(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as r:
            aws = r.w.provider("aws")
            aws.words, aws.pace = ["w"] * 20, 1.0
            for fault in FAULTS:
                streaming = asyncio.create_task(r.ask(stream=True))
                await asyncio.sleep(5)
                with fault(r):
                    assert await streaming == pytest.approx(ANSWER_SECONDS + 20, abs=1e-6)
            assert await r.count() == (r.asked, r.asked)

    run_virtually(main())
