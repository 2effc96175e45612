"""BreakerActor: one registry with a clock, an incarnation and a checkpoint.

- One actor per application, named and detached: it outlives a redeploy with what it knows.
- It runs on one event loop and never awaits between reading and writing the registry: one writer.
- A change that an ingress must see is checkpointed in the cluster's key-value store before it is
  published, so a restarted actor lets no call through that its predecessor held back. While that
  store is away nothing waits for it: no second actor can be started then.
- Each start claims the next *incarnation* number, exactly once over the whole cluster. Ray may run
  two actors of one name when a node is cut off; the older finds the newer's claim and exits.

It must not call a provider, and it must not be asked on the way of a healthy request.
"""

# Ray keeps an actor's class by this module's path and by the names of all its methods, private ones too. Who finds
# the actor by its name loads it so. Both are words between two versions: a change of one, or an annotation that is no
# string, keeps the next version from using and from replacing the actor of this one.
from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from actors.breaker.circuit import Policy
from actors.breaker.messages import (
    BreakerConfig,
    BreakerHealth,
    BreakerStatus,
    Change,
    Permit,
    PolicyFields,
    ReportItem,
    StoredCheckpoint,
    Version,
    WatchAnswer,
    WhoAmI,
)
from actors.breaker.plan import Target
from actors.breaker.registry import COMMANDS, Registry, state_of
from actors.checkpoint_writer import CheckpointWriter
from actors.control_thread import CONTROL
from actors.process import tune_process
from actors.ray_metrics import RayMeter
from actors.singleton import (
    LOOP_SECONDS,
    LOOP_STARTS,
    SCHEMA,
    CheckpointStore,
    NamedActor,
    code_fingerprint,
    leave_with_node,
)

log = logging.getLogger(__name__)

PATROL_SECONDS = 1.0  # between two looks for leases whose time is over, and for a successor
SAME_SECONDS = 0.05  # how old an answer may be that a watcher gets: it holds times from now on
CHANGES = 50  # of operators, that are remembered
POLL_SECONDS = (30.0, 60.0)  # a parked poll's time limit, drawn at random against a herd


class BreakerActor:
    """All methods are idempotent: a call that is sent twice does what it does once."""

    def __init__(self, app: str, config: BreakerConfig):
        tune_process()
        self._store = CheckpointStore(app)
        self._code = code_fingerprint()
        self._incarnation = self._store.claim(self._code)
        self._meter = RayMeter(app)
        self._registry = Registry(Policy(), incarnation=self._incarnation, meter=self._meter)
        self._configured: PolicyFields = {}  # the policy as the application's config has it
        self._overrides: PolicyFields = {}  # what an operator has set since; it wins, and it is kept
        self._changes: deque[Change] = deque(maxlen=CHANGES)  # by operators, the newest first
        self._targets: tuple[Target, ...] = ()  # of the application's config
        self._told: tuple[float, WatchAnswer] | None = None  # the last answer to a watcher, and when it was made
        self._changed = asyncio.Event()
        self._logged: dict[Target, str] = {}  # target: the state that the log has
        self._published = -1
        self._checkpoints = CheckpointWriter(lambda: self._registry.version, self._save)
        self._cut_off = False  # the log has it that the store can't be asked
        self._configure(config)
        self._restore()
        self._tasks: list[asyncio.Task[None]] = []
        leave_with_node("breaker", partial(self._store.leave, self._incarnation))

    def __repr__(self) -> str:
        """Return what Ray's dashboard shows beside the name, and what each log line begins with."""
        return f"incarnation {self._incarnation}"

    def _configure(self, config: BreakerConfig) -> None:
        log_hidden(self._overrides, self._configured, config["policy"])
        self._configured = dict(config["policy"])
        self._registry.policy = Policy(**{**self._configured, **self._overrides})
        self._targets = tuple(config["targets"])
        self._told = None  # it has the policy of before
        self._registry.expect(self._targets, time.monotonic())

    def _sample(self) -> None:
        self._registry.sample(time.monotonic(), self._targets)

    def _restore(self) -> None:
        if self._store.crash_loop(self._incarnation):
            log.error(
                "The breaker actor has started %d times within %g s. "
                "It starts without its checkpoint, with all circuits closed.",
                LOOP_STARTS,
                LOOP_SECONDS,
            )
            return
        try:
            found = cast(StoredCheckpoint | None, self._store.load(self._incarnation))
            if found is not None and found["schema"] == SCHEMA:
                self._registry.restore(time.monotonic(), found["board"], time.time() - found["wall"])
                self._overrides = dict(found["overrides"])
                self._changes.extend(found.get("changes", ()))
                log_hidden(self._overrides, {}, self._configured)
                self._registry.policy = Policy(**{**self._configured, **self._overrides})
            elif found is not None:
                log.error(
                    "The breaker's checkpoint has schema %s, and this version reads %d. "
                    "The actor starts with all circuits closed.",
                    found["schema"],
                    SCHEMA,
                )
        except Exception:
            # A start without memory beats a crash loop over a checkpoint that nobody can read.
            log.exception("The breaker's checkpoint can't be read. The actor starts with all circuits closed.")

    async def hello(self, config: BreakerConfig) -> WhoAmI:
        """Take the application's policy and targets; return who answers."""
        self._configure(config)
        await self._publish()
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._watch_over()))
            self._tasks.append(asyncio.create_task(self._meter.run(self._sample)))
        return await self.whoami()

    async def expect(self, targets: list[Target]) -> None:
        """Give these targets circuits too: functions of other apps run under circuits of their own."""
        self._registry.expect(targets, time.monotonic())
        await self._publish()

    async def whoami(self) -> WhoAmI:
        return {"pid": os.getpid(), "incarnation": self._incarnation, "code": self._code}

    async def watch(self, seen: Version | None) -> WatchAnswer:
        """Return the snapshot as soon as it is newer than `seen`, at the latest after the poll's time limit."""
        limit = random.uniform(*POLL_SECONDS)
        deadline = time.monotonic() + limit
        while seen is not None and tuple(seen) == self._version():
            left = deadline - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await self._changed.wait()
            except TimeoutError:
                break
        answer = snapshot_of(self, time.monotonic())
        await self._publish()  # nobody sees what a successor would not remember
        return answer

    async def ask(self, target: Target, name: str, panic: bool = False) -> Permit | None:
        """Return a permit to probe a target, or None."""
        if not await self._alone():
            return None
        grant = self._registry.ask(time.monotonic(), target, name, panic=panic)
        await self._publish()
        if grant is None:
            return None
        target, epoch, lease = grant["target"], grant["epoch"], grant["lease"]
        return {"target": target, "epoch": epoch, "lease": lease, "incarnation": self._incarnation}

    async def release(self, target: Target, lease: str) -> None:
        """Give back a permit that was not used."""
        self._registry.release(time.monotonic(), target, lease, random.random())
        await self._publish()

    async def report(self, replica: str, number: int, items: Sequence[ReportItem]) -> int:
        """Take a batch of reports in order, and return its number. A number that was taken is not taken again."""
        self._registry.batch(time.monotonic(), replica, number, items, random.random())
        await self._publish()
        return number

    async def command(self, verb: str, provider: str, seconds: float | None = None, by: str = "") -> int:
        """Isolate, restore, recover or reset a provider. Return how many targets it has."""
        if verb not in COMMANDS:
            raise ValueError(f"no such command: {verb}")
        moved = self._registry.command(time.monotonic(), verb, provider, seconds)
        note_change(self, by, f"{verb} {provider}", "" if seconds is None else f"for {seconds:g} s")
        await self._publish()
        return moved

    async def override(self, changes: Mapping[str, Any], by: str = "") -> PolicyFields:
        """Set thresholds by hand, over the config; a value of None takes one back. Return the policy in force."""
        merged = {k: v for k, v in {**self._overrides, **changes}.items() if v is not None}
        self._registry.policy = Policy(**{**self._configured, **merged})
        self._overrides = merged
        note_change(self, by, "thresholds", json.dumps(dict(changes)))
        await self._publish()
        return asdict(self._registry.policy)

    async def health(self) -> BreakerHealth:
        return {
            "incarnation": self._incarnation,
            "policy": asdict(self._registry.policy),
            "configured": self._configured,
            "overrides": self._overrides,
            "targets": self._registry.health(time.monotonic()),
            "changes": list(self._changes),
        }

    async def status(self) -> BreakerStatus:
        """Return health, and what each target has done in the last minutes."""
        return {**await self.health(), "trends": self._registry.histories(time.monotonic())}

    def _version(self) -> Version:
        return (self._incarnation, self._registry.version)

    async def _publish(self) -> None:
        """Save what has changed, or what could not be saved, and tell the log and those who watch."""
        await self._checkpoints.save(self._registry.version)
        if self._published != self._registry.version:
            self._published = self._registry.version
            self._say()
            self._changed.set()
            self._changed = asyncio.Event()

    def _say(self) -> None:
        """Write a log line for each circuit whose state has changed."""
        for target, breaker in self._registry.breakers.items():
            state = state_of(breaker)
            if self._logged.setdefault(target, state) != state:
                self._logged[target] = state
                fields = {"event": "transition", "target": target, "state": state, "reason": breaker.reason}
                log.warning("%s", json.dumps({**fields, "epoch": breaker.epoch, **self._registry.cause(target)}))
        if len(self._logged) > len(self._registry.breakers):  # functions of other apps have made way
            self._logged = {name: state_of(breaker) for name, breaker in self._registry.breakers.items()}

    async def _save(self) -> None:
        """Write a checkpoint of this moment, however long that takes."""
        state: StoredCheckpoint = {
            "schema": SCHEMA,
            "wall": time.time(),
            "board": self._registry.checkpoint(time.monotonic()),
            "overrides": self._overrides,
            "changes": list(self._changes),
        }
        await CONTROL.run("save", partial(self._store.save, self._incarnation, state), patient=True)

    async def _watch_over(self) -> None:
        while True:
            await asyncio.sleep(PATROL_SECONDS)
            try:
                self._registry.tick(time.monotonic(), random.random())
                await self._publish()
                await self._alone()
            except Exception:
                log.exception("The breaker actor could not end leases or look for a successor. It tries again.")

    async def _alone(self) -> bool:
        """Return whether no successor is known. One that is found ends this process.

        While the store can't be asked its last answer holds. Whoever grants no probe then would keep every open circuit
        open for as long as the cluster's head is away; of two actors on two sides of a cut, each grants its side one.
        """
        try:
            succeeded = await CONTROL.run("succeeded", partial(self._store.succeeded, self._incarnation))
        except Exception as error:
            if not self._cut_off:
                log.warning("The breaker actor can't look for a successor (%s). It goes on without.", error)
            self._cut_off = True
            return True
        self._cut_off = False
        if not succeeded:
            return True
        log.warning("Incarnation %d of the breaker actor has a successor. It exits.", self._incarnation)
        os._exit(0)  # Ray's own exit_actor works only inside a method call


def snapshot_of(actor: BreakerActor, now: float) -> WatchAnswer:
    """Return what watchers are told. A change wakes all of them at once, and all get the one answer.

    It is no method: Ray knows the actor by the names of those.
    """
    made = actor._told
    if made is None or made[1]["version"] != actor._version() or now - made[0] > SAME_SECONDS:
        policy, targets = asdict(actor._registry.policy), actor._registry.snapshot(now)
        made = actor._told = now, {"version": actor._version(), "policy": policy, "targets": targets}
    return made[1]


def note_change(actor: BreakerActor, by: str, what: str, detail: str) -> None:
    """Remember what an operator has changed, and have it saved.

    It is no method: Ray knows the actor by the names of those.
    """
    change: Change = {"at": round(time.time(), 3), "by": by or "unknown", "what": what, "detail": detail}
    log.warning("%s", json.dumps({"event": "changed", **change}))
    actor._changes.appendleft(change)
    actor._registry.version += 1


def log_hidden(overrides: PolicyFields, before: PolicyFields, after: PolicyFields) -> None:
    """Write a log line for each threshold that a new config changes in vain, because an operator has set it.

    It is no method: Ray knows the actor by the names of those.
    """
    for name, value in overrides.items():
        if after.get(name) not in (value, before.get(name)):
            fields = {"event": "override", "threshold": name, "configured": after.get(name), "in_force": value}
            log.warning("%s", json.dumps({**fields, "hint": f"PATCH /v1/breaker with {json.dumps({name: None})}"}))


def breaker_actor(app: str) -> NamedActor:
    """Return the way to the application's breaker actor. One that is replaced hands its checkpoint on."""
    return NamedActor(BreakerActor, app, "breaker")
