"""The actor with its incarnations, and the network between it and the ingress replicas; who holds which permit.

The actor's methods are those of actors/breaker_actor.py over a real board. Items of reports are not looked into.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.breaker.circuit import Policy
from actors.breaker.plan import provider_of
from actors.breaker.registry import Registry
from deployments.breaker_client.client import BreakerClient
from tests.model.figures import Figures, Wrong
from tests.model.script import Outage, Script
from tests.model.truth import Isolation, Truth

PATROL_SECONDS = 1.0
POLL_SECONDS = (30.0, 60.0)
NO_WORD = 1e9  # an outage that never ends


class Actor:
    """One actor name: `start` is its next incarnation, from the last checkpoint."""

    def __init__(self, config: Mapping[str, Any], rng: random.Random, truth: Truth, now: Callable[[], float]):
        self.config, self.rng, self.truth, self.run_seconds = config, rng, truth, now
        self.saved: dict[str, Any] = {}
        self.saved_at = 0.0
        self.incarnation = 0
        self.start()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def start(self) -> None:
        self.incarnation += 1
        self.board = Registry(Policy(**self.config["policy"]), incarnation=self.incarnation)
        self.board.expect(self.config["targets"], self.now)
        if self.saved:
            self.board.restore(self.now, self.saved, self.now - self.saved_at)
        self.changed = asyncio.Event()
        self.published = -1
        self.publish()
        self.up = True

    def stop(self) -> None:
        self.up = False
        self.changed.set()

    def publish(self) -> None:
        if self.published != self.board.version:
            self.saved, self.saved_at = self.board.checkpoint(self.now), self.now
            self.published = self.board.version
            self.changed.set()
            self.changed = asyncio.Event()

    async def patrol(self) -> None:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            if self.up:
                self.board.tick(self.now, self.rng.random())
                self.publish()

    async def call(self, method: str, *arguments: Any) -> Any:
        if not self.up:
            raise ConnectionError("the actor is away")
        if method == "watch":
            return await self._watch(*arguments)
        result = getattr(self, f"_{method}")(*arguments)
        self.publish()
        return result

    async def _watch(self, seen: tuple[int, int] | None) -> dict[str, Any]:
        mine, until = self.incarnation, self.now + self.rng.uniform(*POLL_SECONDS)
        while seen == (self.incarnation, self.board.version) and self.now < until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self.changed.wait()
            if not self.up or self.incarnation != mine:
                raise ConnectionError("the actor died")
        return {
            "version": (self.incarnation, self.board.version),
            "policy": asdict(self.board.policy),
            "targets": self.board.snapshot(self.now),
        }

    def _ask(self, target: str, name: str, *more: Any, **named: Any) -> dict[str, Any] | None:
        panic = bool(more[0] if more else named.get("panic"))
        permit = self.board.ask(self.now, target, name, panic=panic)
        return permit and {**permit, "incarnation": self.incarnation}

    def _report(self, replica: str, number: int, items: list[dict[str, Any]]) -> int:
        self.board.batch(self.now, replica, number, items, self.rng.random())
        return number

    def on_trial(self, item: Mapping[str, Any]) -> bool:
        """Has this probe closed its circuit by beginning to answer? It is none any more then, as if it had flowed."""
        breaker = self.board.breakers.get(item["target"])
        return breaker is not None and bool(item.get("lease")) and breaker.trial == item.get("lease")

    def _release(self, target: str, lease: str) -> None:
        self.board.release(self.now, target, lease, self.rng.random())

    def _expect(self, targets: list[str]) -> None:
        self.board.expect(targets, self.now)

    def _hello(self, config: Mapping[str, Any]) -> None:
        self.board.policy = Policy(**config["policy"])

    def _command(self, verb: str, provider: str, seconds: float | None = None) -> int:
        """The truth notes what the actor has obeyed, and when: an order may be lost on its way."""
        at = self.run_seconds()
        self.truth.commands.append((at, verb, provider))
        for isolation in self.truth.isolations:
            if isolation.provider == provider and verb != "isolate":
                isolation.until = min(isolation.until, at)
        if verb == "isolate":
            self.truth.isolations.append(Isolation(provider, at, at + (seconds or 3600.0)))
        return self.board.command(self.now, verb, provider, seconds)


@dataclass(slots=True)
class Out:
    """A permit that an ingress has: until when it counts as out."""

    target: str
    replica: int
    until: float


@dataclass
class Permits:
    """Which permits are out. A renewal counts once the actor has taken a batch that was begun after it."""

    lease: float
    figures: Figures
    now: Callable[[], float]
    out: dict[str, Out] = field(default_factory=dict)
    _renewed: dict[int, list[str]] = field(default_factory=dict)  # replica: not in a batch yet
    _carried: dict[tuple[int, Any], list[str]] = field(default_factory=dict)  # replica, batch: renewals in it

    def granted(self, replica: int, permit: Mapping[str, Any], granted_at: float) -> None:
        now, name = self.now(), permit["lease"]
        if name in self.out:
            return
        self.figures.probes += 1
        self.out = {n: o for n, o in self.out.items() if o.until > now}
        beside = [n for n, o in self.out.items() if o.target == permit["target"]]
        self.out[name] = Out(permit["target"], replica, granted_at + self.lease)
        if beside and self.out[name].until > now:
            holders = [self.out[n].replica for n in beside]
            self.figures.wrong(Wrong("two_probes", now, replica, None, f"{permit['target']} beside {holders}"))

    def reported(self, replica: int, name: str, *, over: bool) -> None:
        if over:
            self.out.pop(name, None)
        elif name in self.out:
            self._renewed.setdefault(replica, []).append(name)

    def sent(self, replica: int, batch: Any) -> None:
        if (replica, batch) not in self._carried:
            self._carried[replica, batch] = self._renewed.pop(replica, [])

    def taken(self, replica: int, batch: Any) -> None:
        for name in self._carried.get((replica, batch), ()):
            if name in self.out:
                self.out[name].until = max(self.out[name].until, self.now() + self.lease)


class WatchedLink(BreakerClient):
    """Says which permits are given back."""

    permits: Permits
    number: int

    def report_item(self, target: str, permit: Mapping[str, Any], verdict: Any, details: Mapping[str, Any]) -> None:
        if details.get("lease"):
            self.permits.reported(self.number, details["lease"], over=verdict.value != "started")
        super().report_item(target, permit, verdict, details)


class Network:
    """Messages of one script's replicas to the actor: late, lost, sent twice, or into nowhere."""

    def __init__(self, script: Script, actor: Actor, permits: Permits, figures: Figures, now: Callable[[], float]):
        self.script, self.actor, self.permits, self.figures, self.now = script, actor, permits, figures, now
        self.rng = random.Random(f"{script.seed}/network")

    def outage(self, replica: int) -> Outage | None:
        now = self.now()
        for outage in self.script.outages:
            if outage.begin <= now < outage.end and outage.replica in (None, replica):
                return outage
        return None

    async def connect(self, replica: int) -> Callable[..., Awaitable[Any]]:
        await asyncio.sleep(self.script.latency[0])
        await self._reached(replica)
        return lambda method, *arguments, **named: self.call(replica, method, *arguments, **named)

    async def _reached(self, replica: int) -> None:
        if (outage := self.outage(replica)) is not None:
            if outage.hangs:
                await asyncio.sleep(min(outage.end - self.now(), NO_WORD))
            raise ConnectionError(f"no actor: {outage.kind}")

    async def _travel(self, replica: int) -> None:
        await asyncio.sleep(self.rng.uniform(*self.script.latency) / 2)
        await self._reached(replica)

    async def call(self, replica: int, method: str, *arguments: Any, **named: Any) -> Any:
        self.figures.asks += method == "ask"
        if method == "report":
            self.permits.sent(replica, arguments[:2])
        await self._travel(replica)
        if self.rng.random() < self.script.lost:
            raise ConnectionError("the message was lost")
        asked_at = self.now()
        result = await self.actor.call(method, *arguments, **named)
        if method in ("ask", "report") and self.rng.random() < self.script.twice:
            result = await self.actor.call(method, *arguments, **named)
        if method == "report":
            self.permits.taken(replica, arguments[:2])
            for item in arguments[2]:
                if self.actor.on_trial(item):
                    self.permits.reported(replica, item["lease"], over=True)
        return await self._answered(replica, method, arguments, result, asked_at)

    async def _answered(self, replica: int, method: str, arguments: Any, result: Any, asked_at: float) -> Any:
        try:
            await self._travel(replica)
            if method != "watch" and self.rng.random() < self.script.lost:
                raise ConnectionError("the answer was lost")
        except ConnectionError:
            if method == "ask" and result:
                self.actor.truth.refused_answers.append((self.now(), provider_of(arguments[0])))
            raise
        if method == "ask" and result:
            self.permits.granted(replica, result, asked_at)
        return result
