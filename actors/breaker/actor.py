"""BreakerActor: one board with a clock, an incarnation and a checkpoint.

- One actor per application, named and detached: it outlives a redeploy with what it knows.
- It runs on one event loop and never awaits between reading and writing the board: one writer.
- A change that an ingress must see is checkpointed in the cluster's key-value store before it is
  published, so a restarted actor lets nothing through that the last one held back.
- Each start claims the next *incarnation* number, exactly once over the whole cluster. Ray may run
  two actors of one name when a node is cut off; the older finds the newer's claim and exits.

It must not call a provider, and it must not be asked on the way of a healthy request.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from actors.breaker.circuit import Policy
from actors.breaker.registry import COMMANDS, Board, state_of
from actors.ray_metrics import RayMeter
from actors.singleton import LOOP_SECONDS, LOOP_STARTS, SCHEMA, Vault, code_fingerprint, summon_actor

log = logging.getLogger(__name__)

PATROL_SECONDS = 1.0  # how often leases are ended and a successor is looked for
POLL_SECONDS = (30.0, 60.0)  # a parked poll's time limit, drawn at random against a herd


class BreakerActor:
    """All methods are idempotent: a call that is sent twice does what it does once."""

    def __init__(self, app: str, config: Mapping[str, Any]):
        self._vault = Vault(app)
        self._incarnation = self._vault.claim()
        self._code = code_fingerprint()
        self._meter = RayMeter(app)
        self._board = Board(Policy(), incarnation=self._incarnation, meter=self._meter)
        self._configured: dict[str, Any] = {}  # the policy as the application's config has it
        self._overrides: dict[str, Any] = {}  # what an operator has set since; it wins, and it is kept
        self._targets: tuple[str, ...] = ()  # of the application's config
        self._changed = asyncio.Event()
        self._said: dict[str, str] = {}  # target: the state that the log has
        self._published = self._saved = -1
        self._configure(config)
        self._restore()
        self._publish()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        """What Ray's dashboard shows beside its name, and its log lines begin with."""
        return f"incarnation {self._incarnation}"

    def _configure(self, config: Mapping[str, Any]) -> None:
        self._configured = dict(config["policy"])
        self._board.policy = Policy(**{**self._configured, **self._overrides})
        self._targets = tuple(config["targets"])
        self._board.expect(self._targets, time.monotonic())

    def _sample(self) -> None:
        self._board.sample(time.monotonic(), self._targets)

    def _restore(self) -> None:
        if self._vault.crash_loop(self._incarnation):
            log.error("alarm: %d starts within %g s: starting without the checkpoint", LOOP_STARTS, LOOP_SECONDS)
            return
        try:
            found = self._vault.load(self._incarnation)
            if found is not None and found["schema"] == SCHEMA:
                self._board.restore(time.monotonic(), found["board"], time.time() - found["wall"])
                self._overrides = dict(found["overrides"])
                self._board.policy = Policy(**{**self._configured, **self._overrides})
            elif found is not None:
                log.error("alarm: breaker checkpoint of schema %s: starting with all circuits closed", found["schema"])
        except Exception:
            # A start without memory beats a crash loop over a checkpoint that nobody can read.
            log.exception("alarm: breaker checkpoint unreadable: starting with all circuits closed")

    async def hello(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Take the application's policy and targets; who I am."""
        self._configure(config)
        self._publish()
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._watch_over()))
            self._tasks.append(asyncio.create_task(self._meter.run(self._sample)))
        return await self.whoami()

    async def expect(self, targets: list[str]) -> None:
        """Know these targets too: functions of other apps run under circuits of their own."""
        self._board.expect(targets, time.monotonic())
        self._publish()

    async def whoami(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "incarnation": self._incarnation, "code": self._code}

    async def watch(self, seen: tuple[int, int] | None) -> dict[str, Any]:
        """The sight as soon as it is newer than `seen`, at the latest after the poll's time limit."""
        limit = random.uniform(*POLL_SECONDS)
        deadline = time.monotonic() + limit
        while seen is not None and tuple(seen) == self._version():
            left = deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._changed.wait()
            except TimeoutError:
                break
        return {
            "version": self._version(),
            "policy": asdict(self._board.policy),
            "targets": self._board.sight(time.monotonic()),
        }

    async def ask(self, target: str, name: str, panic: bool = False) -> dict[str, Any] | None:
        """A permit to probe a target, or None. None too while we can't know that we are the only one."""
        if not self._alone():
            return None
        permit = self._board.ask(time.monotonic(), target, name, panic=panic)
        self._publish()
        return permit and {**permit, "incarnation": self._incarnation}

    async def release(self, target: str, lease: str) -> None:
        """Give back a permit that was not used."""
        self._board.release(time.monotonic(), target, lease, random.random())
        self._publish()

    async def report(self, replica: str, number: int, items: list[dict[str, Any]]) -> int:
        """Take a batch of reports in order. A batch whose number was taken already is not taken twice."""
        self._board.batch(time.monotonic(), replica, number, items, random.random())
        self._publish()
        return number

    async def command(self, verb: str, provider: str, seconds: float | None = None) -> int:
        """Isolate, restore, recover or reset a provider; how many targets that moved."""
        if verb not in COMMANDS:
            raise ValueError(f"no such command: {verb}")
        moved = self._board.command(time.monotonic(), verb, provider, seconds)
        self._publish()
        return moved

    async def override(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Set thresholds by hand, over the config; a value of None takes one back. The policy in force."""
        merged = {k: v for k, v in {**self._overrides, **changes}.items() if v is not None}
        self._board.policy = Policy(**{**self._configured, **merged})
        self._overrides = merged
        self._board.version += 1
        self._publish()
        return asdict(self._board.policy)

    async def health(self) -> dict[str, Any]:
        return {
            "incarnation": self._incarnation,
            "policy": asdict(self._board.policy),
            "overrides": self._overrides,
            "targets": self._board.health(time.monotonic()),
        }

    async def status(self) -> dict[str, Any]:
        """Health, and what each target has done lately."""
        return {**await self.health(), "trends": self._board.trends(time.monotonic())}

    def _version(self) -> tuple[int, int]:
        return (self._incarnation, self._board.version)

    def _publish(self) -> None:
        if self._published != self._board.version:
            self._published = self._board.version
            self._save()
            self._say()
            self._changed.set()
            self._changed = asyncio.Event()
        elif self._saved != self._board.version:
            self._save()  # the store was away

    def _say(self) -> None:
        """A line in the log for each circuit whose state has changed."""
        for target, breaker in self._board.breakers.items():
            state = state_of(breaker)
            if self._said.setdefault(target, state) != state:
                self._said[target] = state
                told = {"event": "transition", "target": target, "state": state, "reason": breaker.reason}
                log.warning("%s", json.dumps({**told, "epoch": breaker.epoch}))

    def _save(self) -> None:
        state = {"board": self._board.snapshot(time.monotonic()), "overrides": self._overrides}
        try:
            self._vault.save(self._incarnation, state)
        except Exception as error:
            # The store is away: what is known is still worth more to those who ask than nothing.
            log.error("no checkpoint could be written: %s", error)  # noqa: TRY400
        else:
            self._saved = self._board.version

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            try:
                self._board.tick(time.monotonic(), random.random())
                self._publish()
                self._alone()
            except Exception:
                log.exception("the breaker actor's patrol goes on")

    def _alone(self) -> bool:
        """Is there no successor? One that is found ends this process; a store that is away is no answer."""
        try:
            if not self._vault.succeeded(self._incarnation):
                return True
        except Exception as error:
            log.warning("can't look for a successor: %s", error)
            return False
        log.warning("incarnation %d has a successor: exiting", self._incarnation)
        os._exit(0)  # Ray's own exit_actor works only inside a method call


async def summon(app: str, config: Mapping[str, Any], *, newest: bool) -> Any:
    """The application's breaker actor, created if there is none.

    One that is replaced hands its checkpoint on; see singleton.summon_actor.
    """
    return await summon_actor(BreakerActor, app, "breaker", config, newest=newest)
