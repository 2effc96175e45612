"""Get or create one actor of one name, and replace it when it runs other code. Ray.

It alone makes the calls of Ray that wait for the control store, and those are never made on an event loop: while that
store is away they hang. An actor's constructor is the one exception, because until it has ended nobody can wait.

It must not know what the actor does: the actor has a method `hello(config)` that takes the application's
configuration and answers with `code`, the fingerprint of the source it runs. What must outlive the actor, and which
of two is the newer, lies in the cluster's key-value store: see `CheckpointStore`.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError
from ray.experimental import internal_kv

from actors.control_thread import CONTROL

log = logging.getLogger(__name__)

NAMESPACE = "breakwater"
SCHEMA = 2  # of the checkpoint
GONE_SECONDS = 3.0  # that an actor is gone before a replica makes another that is not of the newest version for sure
DRAIN_SECONDS = 5.0  # between two looks whether the node is drained
LOOP_STARTS, LOOP_SECONDS = 5, 60.0  # so many starts in so long: the checkpoint may be what kills us
# `ray start --labels breakwater=actors` marks the nodes that an actor runs on while there is one; else any will do.
PREFERRED: dict[str, Any] = {"label_selector": {"breakwater": "actors"}, "fallback_strategy": [{"label_selector": {}}]}


def code_fingerprint() -> str:
    """Return a hash of the actors' own source: a running actor with another one is stale."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class NamedActor:
    """One process's way to the application's actor of a role. Found once, its handle is good until the actor has died.

    `options` say where it must run; without them it runs on a PREFERRED node if there is one.
    Ray restarts the actor behind the handle, so one that is unavailable is not looked for again: while the control
    store is away nobody could find it.
    """

    def __init__(self, cls: type, app: str, role: str, **options: Any) -> None:
        self._remote: Any = ray.remote(cls)
        self._app = app
        self._role = role
        self._options = options
        self._handle: Any = None
        self._gone_since: float | None = None

    async def get_or_create(self, config: Mapping[str, object], *, newest: bool) -> Any:
        """Return the actor's handle when the actor has taken the config; create the actor if there is none.

        With `newest`, an actor that runs other code than ours is ended and replaced: only a replica that has just
        started may say so, because Serve starts replicas of the newest version only. Any other finds no actor for a
        moment when one is replaced. If it made one then, of its own version, that had to be replaced again. So it
        waits for GONE_SECONDS.

        Raises ConnectionError while there is no actor or the control store is away, and what Ray raises.
        """
        while True:
            if self._handle is None:
                self._handle = await CONTROL.run(f"find {self._role}", partial(self._find, config, newest))
            actor = self._handle
            try:
                who = await actor.hello.remote(config)
            except ActorDiedError:
                self._handle = None
                raise
            if not newest or who["code"] == code_fingerprint():
                return actor
            log.info("The %s actor runs other code than this replica. It is replaced.", self._role)
            self._handle = None
            await CONTROL.run(f"end {self._role}", partial(ray.kill, actor, no_restart=True))
            await asyncio.sleep(0.05)  # the name is freed a moment after the kill

    def _find(self, config: Mapping[str, object], newest: bool) -> Any:
        if not newest:
            try:
                found = ray.get_actor(f"{self._app}-{self._role}", namespace=NAMESPACE)
            except ValueError:
                self._wait_for_another(time.monotonic())
            else:
                self._gone_since = None
                return found
        return self._remote.options(
            name=f"{self._app}-{self._role}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            max_concurrency=10_000,
            **(self._options or PREFERRED),
        ).remote(self._app, config)

    def _wait_for_another(self, now: float) -> None:
        """Raise ConnectionError as long as a replica of the newest version may be about to make the actor."""
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < GONE_SECONDS:
            raise ConnectionError(f"there is no {self._role} actor")
        self._gone_since = None


def leave_with_node(role: str, last: Callable[[], None] | None = None) -> None:
    """Have this process end when its node is drained, so that Ray starts the actor on another node.

    A node that is drained waits for its actors, and nobody ends ours: it would stand still until its time is over (a
    quarter of an hour), and then take them with it all the same. `last` is done before. To be called by the actor's
    constructor.
    """
    node = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_leave, args=(role, node, last), name="draining", daemon=True).start()


def _leave(role: str, node: str, last: Callable[[], None] | None) -> None:
    while True:
        time.sleep(DRAIN_SECONDS)
        try:
            draining = ray._private.state.state.get_draining_nodes()
            leaves = node in draining and has_another(draining, ray.nodes())  # type: ignore[no-untyped-call]
        except Exception as error:
            log.debug("the %s actor can't tell whether its node is drained: %s", role, error)
            continue
        if leaves:
            log.warning("The node of the %s actor is drained. The actor ends, and Ray starts it on another.", role)
            with contextlib.suppress(Exception):
                if last is not None:
                    last()
            os._exit(1)  # Ray restarts an actor whose process dies; what must outlive that is in a store already


def has_another(draining: Collection[str], nodes: Collection[Mapping[str, Any]]) -> bool:
    """Return whether there is a living node that is not drained; `nodes` are as `ray.nodes()` has them."""
    return any(node["Alive"] and node["NodeID"] not in draining for node in nodes)


class CheckpointStore:
    """The actor's keys in the cluster's key-value store: claims of incarnations and checkpoints."""

    def __init__(self, app: str, store: Any = None):
        """`store` has the functions of Ray's `internal_kv`, which is the store where none is given."""
        self._prefix = f"{NAMESPACE}/{app}"
        self._store = internal_kv if store is None else store

    def claim(self, code: str = "") -> int:
        """Take and return the next incarnation number, for an actor that runs this code.

        Put-if-absent: of many claimants one gets it. An actor of other code than the one before has replaced that: it
        had not crashed. So the starts before are given a time that is long over, which earlier versions read too.
        """
        n = 1 + max(self._numbers("inc"), default=0)
        while self._store._internal_kv_put(self._key("inc", n), str(time.time()).encode(), overwrite=False):
            n += 1
        replaces = self._store._internal_kv_get(self._key("code", n - 1)) != code.encode()
        self._store._internal_kv_put(self._key("code", n), code.encode())
        for old in self._numbers("inc"):
            if old <= n - 2 * LOOP_STARTS:
                for kind in ("inc", "code", "checkpoint"):
                    self._store._internal_kv_del(self._key(kind, old))
            elif old < n and replaces:
                self._store._internal_kv_put(self._key("inc", old), b"0")
        return n

    def leave(self, n: int) -> None:
        """Have an incarnation that ends on purpose not count as a start that failed: see `crash_loop`."""
        self._store._internal_kv_put(self._key("inc", n), b"0")

    def succeeded(self, n: int) -> bool:
        """Return whether a later incarnation was claimed. Not only the next one counts: old claims are deleted."""
        return max(self._numbers("inc"), default=0) > n

    def crash_loop(self, n: int) -> bool:
        """Return whether the last `LOOP_STARTS` incarnations were claimed within `LOOP_SECONDS`, by one version.

        Ray restarts an actor for ever. Of a replacement by another version see `claim`.
        """
        first = self._store._internal_kv_get(self._key("inc", n - LOOP_STARTS + 1)) if n >= LOOP_STARTS else None
        return first is not None and time.time() - float(first) < LOOP_SECONDS

    def save(self, n: int, state: Mapping[str, object]) -> None:
        """Write the incarnation's checkpoint over its last one, as JSON. Raises what the store raises."""
        data = {"schema": SCHEMA, "wall": time.time(), **state}
        self._store._internal_kv_put(self._key("checkpoint", n), json.dumps(data).encode())

    def load(self, n: int) -> dict[str, Any] | None:
        """Return the newest checkpoint of an earlier incarnation, with `schema` and `wall`; None if there is none."""
        for earlier in sorted((x for x in self._numbers("checkpoint") if x < n), reverse=True):
            data: dict[str, Any] = json.loads(self._store._internal_kv_get(self._key("checkpoint", earlier)))
            return data
        return None

    def _key(self, kind: str, n: int) -> bytes:
        return f"{self._prefix}/{kind}/{n:08d}".encode()

    def _numbers(self, kind: str) -> list[int]:
        keys = self._store._internal_kv_list(f"{self._prefix}/{kind}/".encode())
        return [int(key.rsplit(b"/", 1)[1]) for key in keys]
