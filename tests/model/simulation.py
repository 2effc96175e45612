"""A whole cluster in one process on a virtual clock: real services, failover, links and board; simulated wires.

One script is one history: everything random comes from its seed. The run is judged when it is over (oracle.py).
"""

import asyncio
import contextlib
import pathlib
import random
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from actors.answers.exchange import Exchange
from actors.breaker.circuit import Policy
from deployments.breaker_client.client import BreakerClient
from deployments.idempotency.answers_client import AnswersClient
from deployments.service.service import Service
from tests.clock import VirtualLoop, run_virtually
from tests.model.clients import Client, requests
from tests.model.cluster import Actor, Network, Permits, WatchedLink
from tests.model.figures import Figures, Wrong
from tests.model.oracle import Oracle
from tests.model.promises import DETECTED
from tests.model.script import MODEL, Command, Fault, Outage, Script
from tests.model.terms.book import Book
from tests.model.terms.clients import KeyedClient, TextClient
from tests.model.terms.judge import TermsJudge
from tests.model.terms.wires import TextWires
from tests.model.truth import Asked, Truth
from tests.model.wires import Wires
from tests.unit.world import layout_of

LONGEST = 800.0  # after the last request: deadlines are shorter
REST = 5.0
ORDER_SECONDS = 0.5  # how long a command may take


class Simulation:
    def __init__(self, script: Script):
        self.script = script
        self.figures = Figures(provider_faults=len(script.faults))
        self.truth = Truth(script)
        self.asked: list[Asked] = []
        self.opens: dict[Fault, float] = {}
        self.services: list[Service] = []
        self.began = 0.0
        self.books: list[Book] = []
        self.exchange = Exchange()

    def now(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self.began

    async def run(self) -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            self.folder = pathlib.Path(folder)
            return await self._run()

    async def _run(self) -> Figures:
        self.began = asyncio.get_running_loop().time()
        self._build()
        work = self._happenings()
        try:
            for service in self.services:
                service.breaker.start()
                await service.breaker.connected.wait()
            await self._clients()
            self._judge()
            await self._rest()
        finally:
            await _ended(work)
            for service in self.services:
                await service.breaker.close()
            for book in self.books:
                book.shut()
        return self.figures

    def _build(self) -> None:
        script = self.script
        layout = layout_of(script.config())
        self.wires = self._wires()
        self.lease = layout.config.policy().lease
        self.permits = Permits(self.lease, self.figures, self.now)
        for number in range(script.replicas):
            link = self._link(number, layout.config.policy())
            book = self._book(number)
            observers = [] if book is None else [book.note]
            self.services.append(Service(layout, link, self.wires, book, observers, answers=self._answers()))
        rng = random.Random(f"{script.seed}/actor")
        self.actor = Actor(self.services[0].breaker_config(), rng, self.truth, self.now)
        self.network = Network(script, self.actor, self.permits, self.figures, self.now)

    def _wires(self) -> Wires:
        if self.script.terms is None:
            return Wires(self.truth, self.asked, self.figures, self.now)
        return TextWires(self.truth, self.asked, self.figures, self.now, self.script.terms)

    def _book(self, number: int) -> Book | None:
        if self.script.terms is None:
            return None

        self.books.append(Book(self.folder / str(number), asyncio.get_running_loop().time))
        return self.books[-1]

    def _answers(self) -> AnswersClient | None:
        """The replicas share one table of answers."""
        if self.script.terms is None:
            return None

        async def call(method: str, *arguments: Any) -> Any:
            await asyncio.sleep(self.script.latency[0])
            return await getattr(self.exchange, method)(*arguments)

        async def connect() -> Callable[..., Awaitable[Any]]:
            return call

        return AnswersClient(connect)

    def _link(self, number: int, policy: Policy) -> BreakerClient:
        async def connect() -> Callable[..., Awaitable[Any]]:
            return await self.network.connect(number)

        draw = random.Random(f"{self.script.seed}/draw {number}").random
        link = WatchedLink(connect, policy, clock=asyncio.get_running_loop().time, draw=draw)
        link.permits, link.number = self.permits, number
        return link

    # -- what happens

    def _happenings(self) -> list["asyncio.Task[None]"]:
        """Everything but the clients."""
        script = self.script
        found = [self.actor.patrol(), self._outages()]
        found += [self._at(c.at, self._command, c) for c in script.commands]
        found += [self._at(s.at, self._stall, s.seconds) for s in script.stalls]
        found += [self._at(at, self._look, f) for f in script.faults for at in self._looks(f)]
        return [asyncio.create_task(each) for each in found]

    def _looks(self, fault: Fault) -> tuple[float, ...]:
        """When the circuit is looked at: as the fault ends, and when the last of its calls have."""
        return fault.end, fault.end + DETECTED.get(fault.kind, 1.0) + 2 * self.script.latency[1]

    async def _at(self, at: float, what: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        await asyncio.sleep(at - self.now())
        await what(*arguments)

    async def _outages(self) -> None:
        for outage in self.script.outages:
            await asyncio.sleep(outage.begin - self.now())
            self.figures.actor_faults[outage.kind] += 1
            if outage.replica is None:
                await self._absence(outage)

    async def _absence(self, outage: Outage) -> None:
        self.actor.stop()
        if outage.end < float("inf"):
            await asyncio.sleep(outage.end - self.now())
            self.actor.start()

    async def _stall(self, seconds: float) -> None:
        """Our process stands still, and with it everything in this world but its clock."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.now += seconds
        self.truth.stalls.append((self.now(), seconds))

    async def _command(self, command: Command) -> None:
        link = self.services[int(command.at) % len(self.services)].breaker
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ORDER_SECONDS):
                await link.call("command", command.verb, command.provider, command.seconds)

    async def _look(self, fault: Fault) -> None:
        seen = self.actor.board.snapshot(self.actor.now).get(f"{fault.provider}/{MODEL}")
        if seen is not None:
            self.opens[fault] = max(self.opens.get(fault, 0.0), self.now() + seen["retry_in"])

    async def _clients(self) -> None:
        terms, tasks = self.script.terms, set[asyncio.Task[None]]()
        kind = Client if terms is None else TextClient
        client = kind(self.services, self.figures, self.now, self.wires.open)
        keyed = (
            KeyedClient(self.services, self.books, self.figures, self.now, self.script.seed)
            if terms is not None
            else None
        )
        for asked in requests(self.script):
            if (wait := asked.began - self.now()) > 0:
                await asyncio.sleep(wait)
            self.asked.append(asked)
            task = asyncio.create_task((keyed if keyed is not None and asked.keyed else client).ask(asked))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=LONGEST + self.script.load.pauses[1])
        await _ended(list(tasks))

    # -- the end

    def _judge(self) -> None:
        Oracle(self.truth, self.asked, self.figures, self.opens).judge()
        if isinstance(self.wires, TextWires):
            TermsJudge(self.script, self.truth, self.asked, self.figures, self.books, self.wires.calls).judge()
        self.figures.wrongs = [replace(w, run=self.script.name) for w in self.figures.wrongs]
        if self.figures.counts:
            self.figures.runs.append(self.script.name)

    async def _rest(self) -> None:
        """Until every absence that ends has ended, and every permit has."""
        ends = [o.end for o in self.script.outages if o.end < float("inf")]
        await asyncio.sleep(max(0.0, max(ends, default=0.0) - self.now()) + self.lease + REST)
        held = [name for name, breaker in self.actor.board.breakers.items() if breaker.probing(self.actor.now)]
        self._leak(bool(held), f"permits are out of {held}")
        for number, service in enumerate(self.services):
            self._leak(any(service.breaker.under_way.values()), f"replica {number} has calls under way")

    def _leak(self, found: bool, what: str) -> None:
        if found:
            self.figures.wrong(Wrong("leaks", self.now(), None, None, what, self.script.name))


async def _ended(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended  # a world in which something of its own has failed proves nothing


def simulate(script: Script) -> Figures:
    return run_virtually(Simulation(script).run(), turns=10**9)
