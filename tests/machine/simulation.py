"""A whole cluster in one process on a virtual clock: real failover, link and board; simulated wires.

Four ingress replicas, three providers that break in seven ways, one breaker actor that crashes, loses
its node, freezes or is cut off, and a network that delays, loses and repeats messages. Everything that
is random comes from the seed; the same seed is the same history.
"""

import asyncio
import contextlib
import random
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.board import Board
from actors.breaker import Policy
from actors.outcome import Outcome
from deployments.board_link import BoardLink
from deployments.config import Layout
from deployments.door import Door
from deployments.errors import NoAnswer
from deployments.wire import DONE, check_request, chunk, completion, dump
from tests.pure.world import ARGS, HEAD, REQUEST, layout_of

REPLICAS = 4
FAULTS = ("refuse", "500", "429", "hang", "mid-stream", "stall", "flaky")
ACTOR_FAULTS = {"crash": 0.95, "node": 14.3, "freeze": 64.0}  # seconds until the next incarnation answers


@dataclass
class Figures:
    """What a run has shown; runs add up."""

    requests: int = 0
    lost: int = 0  # no answer although a target was healthy all the time
    broken_streams: int = 0
    most_probes: int = 0  # of one target at one time
    probes: int = 0
    calls: int = 0
    calls_into_dead: int = 0
    asks: int = 0
    provider_faults: int = 0
    actor_faults: int = 0
    failover: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: "Figures") -> None:
        for name in ("requests", "lost", "broken_streams", "probes", "calls", "calls_into_dead", "asks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.provider_faults += other.provider_faults
        self.actor_faults += other.actor_faults
        self.most_probes = max(self.most_probes, other.most_probes)
        for fault, seconds in other.failover.items():
            self.failover.setdefault(fault, []).extend(seconds)

    def table(self) -> str:
        lines = [f"{name}: {value}" for name, value in asdict(self).items() if name != "failover"]
        for fault, seconds in sorted(self.failover.items()):
            p95 = sorted(seconds)[int(0.95 * (len(seconds) - 1))]
            middle = statistics.median(seconds)
            lines.append(f"time to failover, {fault}: p50 {middle:.2f} s, p95 {p95:.2f} s, n {len(seconds)}")
        return "\n".join(lines)


class Providers:
    """A hop to providers that break. `fault` of a provider is None while it is healthy."""

    def __init__(self, rng: random.Random, figures: Figures, names: Iterable[str]):
        self.rng = rng
        self.figures = figures
        self.fault: dict[str, str | None] = dict.fromkeys(names)
        self.since: dict[str, float] = dict.fromkeys(names, 0.0)

    def set(self, name: str, fault: str | None) -> None:
        self.fault[name] = fault
        self.since[name] = asyncio.get_running_loop().time()

    def _begin(self, name: str) -> str | None:
        fault = self.fault[name]
        if fault == "flaky" and self.rng.random() < 0.7:
            fault = None
        self.figures.calls += 1
        self.figures.calls_into_dead += fault is not None
        return fault

    async def _fail(self, fault: str | None) -> dict[str, Any] | None:
        match fault:
            case "refuse":
                await asyncio.sleep(0.001)
                return {"outcome": asdict(Outcome("connect"))}
            case "500" | "flaky":
                await asyncio.sleep(0.05)
                return {"outcome": asdict(Outcome("server_error", status=500))}
            case "429":
                await asyncio.sleep(0.02)
                return {"outcome": asdict(Outcome("throttled", status=429, retry_after=5.0))}
            case "hang":
                await asyncio.sleep(10)
                return {"outcome": asdict(Outcome("first_token"))}
        return None

    async def complete(self, provider: str, call: Mapping[str, Any]) -> dict[str, Any]:
        fault = self._begin(provider)
        if (failure := await self._fail(fault)) is not None:
            return failure
        await asyncio.sleep(self.rng.uniform(0.2, 0.6))
        if fault in ("mid-stream", "stall"):
            return {"outcome": asdict(Outcome("broken"))}
        return {"body": dump(completion(HEAD, "hello", "stop", None)), "usage": None}

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | dict[str, Any], None]:
        fault = self._begin(provider)
        if (failure := await self._fail(fault)) is not None:
            yield failure
            return
        for number in range(10):
            await asyncio.sleep(self.rng.uniform(0.05, 0.15))
            yield chunk(HEAD, {"content": f"{provider}{number} "})
            if fault == "mid-stream" and number == 4:
                yield {"outcome": asdict(Outcome("broken", content=True))}
                return
            if fault == "stall" and number == 4:
                await asyncio.sleep(15)
                yield {"outcome": asdict(Outcome("idle", content=True))}
                return
        yield {"usage": None, "tail": b""}


class Actor:
    """The breaker actor's methods with incarnations and a checkpoint, as breaker_actor.py has them."""

    def __init__(self, config: Mapping[str, Any], rng: random.Random):
        self.config, self.rng = config, rng
        self.saved: dict[str, Any] = {}
        self.saved_at = 0.0
        self.incarnation = 0
        self.up = asyncio.Event()
        self.start()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def start(self) -> None:
        self.incarnation += 1
        self.board = Board(Policy(**self.config["policy"]), incarnation=self.incarnation)
        self.board.expect(self.config["targets"], self.now)
        if self.saved:
            self.board.restore(self.now, self.saved, self.now - self.saved_at)
        self.changed = asyncio.Event()
        self.version = -1
        self.publish()
        self.up.set()

    def stop(self) -> None:
        self.up.clear()
        self.changed.set()

    def publish(self) -> None:
        if self.version != self.board.version:
            self.saved, self.saved_at = self.board.snapshot(self.now), self.now
            self.version = self.board.version
            self.changed.set()
            self.changed = asyncio.Event()

    async def call(self, method: str, *arguments: Any) -> Any:
        mine = self.incarnation
        if not self.up.is_set():
            raise ConnectionError("the actor is away")
        if method == "watch":
            [seen] = arguments
            while seen == (self.incarnation, self.board.version):
                await self.changed.wait()
                if not self.up.is_set() or self.incarnation != mine:
                    raise ConnectionError("the actor died")
            return {
                "version": (self.incarnation, self.board.version),
                "policy": asdict(self.board.policy),
                "targets": self.board.sight(self.now),
            }
        self.board.tick(self.now, self.rng.random())
        result = None
        if method == "ask":
            target, name, panic = arguments
            permit = self.board.ask(self.now, target, name, panic=panic)
            result = permit and {**permit, "incarnation": self.incarnation}
        elif method == "report":
            self.board.batch(self.now, *arguments, self.rng.random())
        self.publish()
        return result


class WatchedLink(BoardLink):
    """Tells the oracle which probes are out."""

    out: dict[str, set[str]]
    figures: Figures

    async def ask(self, target: str, *, panic: bool = False) -> dict[str, Any] | None:
        permit = await super().ask(target, panic=panic)
        if permit is not None:
            self.figures.probes += 1
            self.out[target].add(permit["lease"])
            self.figures.most_probes = max(self.figures.most_probes, len(self.out[target]))
        return permit

    def report_item(self, target: str, permit: Mapping[str, Any], verdict: Any, details: Mapping[str, Any]) -> None:
        if details.get("lease") and verdict.value != "started":
            self.out[target].discard(details["lease"])
        super().report_item(target, permit, verdict, details)


class Simulation:
    def __init__(self, seed: int, seconds: float, *, actor_faults: bool = True):
        self.rng = random.Random(seed)
        self.seconds = seconds
        self.actor_faults = actor_faults
        self.figures = Figures()
        self.cut_off: dict[int, float] = {}  # replica -> until when it can't reach the actor
        self.pending: dict[str, tuple[str, float]] = {}  # provider -> (fault, since): failover not seen yet

    async def run(self) -> Figures:
        layout = layout_of(ARGS)
        self.providers = Providers(self.rng, self.figures, layout.usable)
        self.actor: Actor | None = None
        doors = [self._door(i, layout) for i in range(REPLICAS)]
        self.actor = Actor(doors[0].board_config(), self.rng)
        for door in doors:
            door.link.start()
            await door.link.connected.wait()
        work = [asyncio.create_task(self._provider_nemesis())]
        if self.actor_faults:
            work.append(asyncio.create_task(self._actor_nemesis()))
        await self._clients(doors)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for door in doors:
            await door.link.close()
        return self.figures

    def _door(self, number: int, layout: Layout) -> Door:
        async def connect() -> Callable[..., Awaitable[Any]]:
            await asyncio.sleep(0.001)
            if not self.actor or not self.actor.up.is_set() or self._is_cut_off(number):
                raise ConnectionError("no actor")
            return lambda method, *arguments: self._over_the_network(number, method, *arguments)

        clock = asyncio.get_running_loop().time
        link = WatchedLink(connect, layout.config.policy(), clock=clock, draw=self.rng.random)
        link.out, link.figures = self._out(layout), self.figures
        return Door(layout, link, self.providers)

    def _out(self, layout: Layout) -> dict[str, set[str]]:
        if not hasattr(self, "out"):
            self.out: dict[str, set[str]] = {t: set() for row in layout.rows().values() for t in row}
        return self.out

    def _is_cut_off(self, number: int) -> bool:
        return self.cut_off.get(number, 0.0) > asyncio.get_running_loop().time()

    async def _over_the_network(self, number: int, method: str, *arguments: Any) -> Any:
        assert self.actor is not None
        self.figures.asks += method == "ask"
        slow = self.rng.random() < 0.01
        await asyncio.sleep(0.3 if slow else self.rng.uniform(0.0005, 0.003))
        if self._is_cut_off(number) or self.rng.random() < 0.01:
            raise ConnectionError("the message was lost")
        result = await self.actor.call(method, *arguments)
        if method != "watch" and self.rng.random() < 0.01:
            result = await self.actor.call(method, *arguments)  # it was sent twice
        if method != "watch" and self.rng.random() < 0.01:
            raise ConnectionError("the answer was lost")
        return result

    async def _provider_nemesis(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 30))
            name = self.rng.choice(["aws", "aws", "openai"])
            if self.providers.fault[name] is not None:
                continue
            fault = self.rng.choice(FAULTS)
            self.figures.provider_faults += 1
            self.providers.set(name, fault)
            if name == "aws" and fault not in ("flaky", "stall", "mid-stream"):
                self.pending[name] = (fault, asyncio.get_running_loop().time())
            await asyncio.sleep(self.rng.uniform(5, 60))
            self.pending.pop(name, None)
            self.providers.set(name, None)

    async def _actor_nemesis(self) -> None:
        assert self.actor is not None
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 25))
            self.figures.actor_faults += 1
            if self.rng.random() < 0.3:
                until = asyncio.get_running_loop().time() + self.rng.uniform(2, 60)
                self.cut_off[self.rng.randrange(REPLICAS)] = until
                continue
            self.actor.stop()
            await asyncio.sleep(ACTOR_FAULTS[self.rng.choice(list(ACTOR_FAULTS))])
            self.actor.start()

    async def _clients(self, doors: list[Door]) -> None:
        end = asyncio.get_running_loop().time() + self.seconds
        tasks = []
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.rng.expovariate(20))
            tasks.append(asyncio.create_task(self._client(self.rng.choice(doors), self.rng.random() < 0.5)))
        await asyncio.gather(*tasks)

    async def _client(self, door: Door, stream: bool) -> None:
        self.figures.requests += 1
        began = asyncio.get_running_loop().time()
        request = check_request({**REQUEST, "stream": stream})
        try:
            if stream:
                answer = await door.failover.stream(request, door.deadline())
                target, made = answer.target, answer.trail.made
                data = b""
                try:
                    async with contextlib.aclosing(answer.frames()) as frames:
                        async for part in frames:
                            data += part
                finally:
                    await answer.close()
                whole = data.endswith(DONE)
                assert whole != (b'"error"' in data), "sealed as whole, or ended without a word"
                assert data.count(target.partition("/")[0].encode()) >= 5, "content of somebody else"
                self.figures.broken_streams += not whole
            else:
                done = await door.failover.complete(request, door.deadline())
                target, made = done.target, done.trail.made
        except NoAnswer:
            healthy = [n for n, f in self.providers.fault.items() if f is None and self.providers.since[n] <= began]
            self.figures.lost += bool(healthy)
            return
        self._note_failover(began, target, made)

    def _note_failover(self, began: float, target: str, made: int) -> None:
        """The first request that began after a fault and went to the next at once."""
        fault, since = self.pending.get("aws", ("", 0.0))
        if fault and began >= since and not target.startswith("aws") and made == 1:
            self.figures.failover.setdefault(fault, []).append(began - since)
            del self.pending["aws"]
