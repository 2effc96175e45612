"""The ingress's end of the breaker actor: the last sight, permits, and reports on their way.

No request waits for the actor, but for a probe's permit, and that for 50 ms at most. While the actor
is away the last sight goes on to be used; a target that fails here in the meantime is left out by a
circuit of our own on the same reducer, which may only take targets away, never add one.

No Ray here: the actor is a function `call(method, *arguments)`.
"""

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.breaker import Breaker, Policy, Report, State, step
from actors.figures import Meter, NoMeter
from actors.outcome import Outcome, Verdict
from actors.plan import UNSEEN, Plan, Seen, Skipped, plan, received, skip
from deployments.health import last_seen
from deployments.silence import Silence

log = logging.getLogger(f"ray.serve.{__name__}")

ActorCall = Callable[..., Awaitable[Any]]

ASK_SECONDS = 0.05
REPORT_SECONDS = 0.5  # how long a success may wait to be told; whatever moves a circuit never waits
BEAT_SECONDS = 0.1
FIRST_PAUSE = 0.05  # before the actor is tried again; doubles to a second
LOCAL_HOLD_SECONDS, LOCAL_CAP_SECONDS = 10.0, 60.0  # how long a target is left out on our own word alone
BUFFER = 10_000  # reports kept while the actor is away
_QUIET = (Verdict.OK, Verdict.STARTED, Verdict.NEUTRAL)


class BoardLink:
    def __init__(
        self,
        connect: Callable[[], Awaitable[ActorCall]],
        policy: Policy,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        most: int = BUFFER,
        meter: Meter | None = None,
    ):
        self._connect = connect
        self._meter = meter or NoMeter()
        self._heard_at = clock()
        self.under_way: Counter[str] = Counter()  # provider: attempts
        self._clock = clock
        self._draw = draw
        self._most = most
        self._actor: ActorCall | None = None
        self._version: tuple[int, int] | None = None
        self._seen: dict[str, Seen] = {}
        self._local: dict[str, Breaker] = {}  # only targets that failed here lately
        self._trials: dict[str, float] = {}  # of those, the ones that one caller tries, and until when
        self._replica = secrets.token_hex(8)
        self._number = 0
        self._buffer: deque[dict[str, Any]] = deque()
        self._mergeable: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._urgent = asyncio.Event()
        self._asking = False
        self._tasks: list[asyncio.Task[None]] = []
        self.connected = asyncio.Event()
        self.moved = asyncio.Event()  # set, and replaced by another, when the actor has said something new
        self.silence = Silence()
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        self._policy = policy
        # On our own word a target rests for shorter, then for twice as long each time, to a minute.
        self._local_policy = replace(policy, recovery_timeout=LOCAL_HOLD_SECONDS, recovery_cap=LOCAL_CAP_SECONDS)

    def start(self) -> bool:
        """Begin to watch and to report; False if that has begun. Needs a running loop."""
        if self._tasks:
            return False
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._deliver())]
        self._tasks.append(asyncio.create_task(self._listen()))
        return True

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor. Raises ConnectionError while it is away, and what the method raises."""
        if self._actor is None:
            raise ConnectionError("the breaker actor is away")
        return await self._call(method, *arguments)

    async def look(self) -> None:
        """Take what the actor says now. Its parked answer may hang on an incarnation that has just died."""
        self._take(await self.call("watch", None))

    async def _call(self, method: str, *arguments: Any) -> Any:
        assert self._actor is not None
        try:
            answer = await self._actor(method, *arguments)
        except BaseException:
            self._meter.add("breakwater_actor_calls_total", (method, "failed"))
            raise
        self._meter.add("breakwater_actor_calls_total", (method, "ok"))
        self._heard_at = self._clock()
        return answer

    def sample(self) -> None:
        """Tell the meter what is under way, and how fresh the order is."""
        for provider, number in self.under_way.items():
            self._meter.set("breakwater_in_flight", (provider,), number)
        self._meter.set("breakwater_order_age_seconds", (), self._clock() - self._heard_at)
        self._meter.set("breakwater_reports_waiting", (), len(self._buffer))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What a request asks.

    @property
    def incarnation(self) -> int:
        return self._version[0] if self._version else 0

    def now(self) -> float:
        return self._clock()

    def last_seen(self) -> dict[str, dict[str, Any]]:
        """What can be said of each target without the actor."""
        return last_seen(self._seen, self._clock())

    def knows(self, target: str) -> bool:
        return target in self._seen

    def plan(self, row: Sequence[str], *, taking: bool = True, draw: float | None = None) -> Plan:
        """The row's candidates now. `taking`: they will be called, so a trial on our own word is taken.

        `draw` decides where those stand whose share still grows; it is drawn if it is not given.
        """
        now = self._clock()
        seen = self._limited(now, row if taking else ()) if self._local else self._seen
        quiet = [target for target in row if self.silence.quiet(target, now)]
        return plan(row, seen, now, self._policy, self._draw() if draw is None else draw, quiet)

    def skipped(self, target: str, why: str) -> Skipped:
        """That target, left out for a reason of our own."""
        return skip(target, self._seen.get(target, UNSEEN), self._clock(), why)

    def _limited(self, now: float, taken: Sequence[str]) -> dict[str, Seen]:
        """The sight, without what we hold open ourselves; after its time one caller tries it."""
        seen = dict(self._seen)
        for target, breaker in list(self._local.items()):
            until = self._trials.get(target, 0.0) if breaker.state is State.CLOSED else breaker.open_until
            if now < until:
                was = seen.get(target, UNSEEN)
                if was.state is State.CLOSED:
                    seen[target] = replace(was, state=State.OPEN, open_until=until)
            elif breaker.state is State.OPEN and target in taken:
                # One more failure, and it rests for twice as long.
                almost = self._local_policy.failure_threshold - 1
                self._local[target] = Breaker(since=now, level=breaker.level, start_run=almost, stream_run=almost)
                self._trials[target] = now + LOCAL_CAP_SECONDS
        return seen

    async def ask(self, target: str, *, panic: bool = False) -> dict[str, Any] | None:
        """A permit to probe, or None: refused, too late, or somebody here is asking already."""
        if self._asking or self._actor is None:
            return None
        self._asking = True
        name = secrets.token_hex(8)
        asked = asyncio.ensure_future(self._call("ask", target, name, panic))
        try:
            async with asyncio.timeout(ASK_SECONDS):
                permit: dict[str, Any] | None = await asyncio.shield(asked)
                return permit
        except asyncio.CancelledError:
            self._give_back_late(asked, target)
            raise
        except Exception as error:
            log.info("no permit for %s: %s", target, type(error).__name__)
            self._give_back_late(asked, target)
            return None
        finally:
            self._asking = False

    def _give_back_late(self, asked: "asyncio.Future[Any]", target: str) -> None:
        """A permit that comes after its time is given back: nobody will use it."""

        def release(done: "asyncio.Future[Any]") -> None:
            if done.cancelled() or done.exception() or not done.result():
                return
            self.release(target, done.result())

        asked.add_done_callback(release)

    # What a request tells.

    def report(
        self,
        target: str,
        permit: Mapping[str, Any],
        outcome: Outcome,
        ms: float,
        *,
        whole: bool = False,
        neutral: bool = False,
    ) -> None:
        """How an attempt ended. `permit` holds the epoch and incarnation it was made under.

        `neutral`: whatever it was, it is not held against the target.
        """
        details: dict[str, Any] = {"kind": outcome.kind, "ms": ms, "whole": whole}
        if outcome.kind != "ok":
            details |= {
                "status": outcome.status,
                "code": outcome.code,
                "message": outcome.message[:200],
                "retry_after": outcome.retry_after,
                "at": time.time(),
            }
        if permit.get("lease"):
            details["lease"] = permit["lease"]
        self.report_item(target, permit, Verdict.NEUTRAL if neutral else outcome.verdict, details)

    def release(self, target: str, permit: Mapping[str, Any]) -> None:
        """Give back a permit that was not used."""
        self.report_item(target, permit, Verdict.NEUTRAL, {"kind": "cancelled", "ms": 0.0, "lease": permit["lease"]})

    def report_started(self, target: str, permit: Mapping[str, Any]) -> None:
        """The first content of a stream came."""
        details: dict[str, Any] = {"kind": "started", "ms": 0.0}
        if permit.get("lease"):
            details["lease"] = permit["lease"]
        self.report_item(target, permit, Verdict.STARTED, details)

    def report_item(self, target: str, permit: Mapping[str, Any], verdict: Verdict, details: Mapping[str, Any]) -> None:
        seen = self._seen.get(target)
        if seen is not None and (permit["epoch"], permit["incarnation"]) == (seen.epoch, self.incarnation):
            self._note_locally(target, verdict, details)
        key = (target, permit["incarnation"], permit["epoch"], verdict)
        plain = verdict in (Verdict.OK, Verdict.STARTED) and not details.get("lease")
        if plain and (known := self._mergeable.get((*key, details.get("whole")))):
            known["count"] += 1
            known["ms"] += details["ms"]
            return
        item = {
            "target": target,
            "incarnation": permit["incarnation"],
            "epoch": permit["epoch"],
            "verdict": verdict.value,
            "count": 1,
            **details,
        }
        if plain:
            self._mergeable[(*key, details.get("whole"))] = item
        else:
            # Successes on either side of a failure must not be counted as one.
            self._mergeable = {k: v for k, v in self._mergeable.items() if k[0] != target}
        self._buffer.append(item)
        if len(self._buffer) > self._most:
            self._drop_one()
        if verdict not in _QUIET or details.get("lease"):
            self._urgent.set()

    def _drop_one(self) -> None:
        """Forget the oldest success rather than any failure."""
        quiet = next((i for i in self._buffer if i["verdict"] in ("ok", "started", "neutral")), None)
        self._buffer.remove(quiet) if quiet is not None else self._buffer.popleft()
        self._mergeable.clear()

    def _note_locally(self, target: str, verdict: Verdict, details: Mapping[str, Any]) -> None:
        breaker = self._local.get(target)
        if breaker is None and verdict in _QUIET:
            return
        if verdict is not Verdict.STARTED:
            self._trials.pop(target, None)
        breaker = breaker or Breaker()
        message = Report(
            breaker.epoch, verdict, retry_after=details.get("retry_after"), whole=details.get("whole", False)
        )
        breaker = step(breaker, self._clock(), message, self._local_policy).breaker
        if breaker.state is State.CLOSED and not (breaker.start_run or breaker.stream_run):
            self._local.pop(target, None)
        else:
            self._local[target] = breaker

    # The loops.

    async def _watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if self._actor is None:
                    self._actor = await self._connect()
                self._take(await self._call("watch", self._version))
                self.connected.set()
                pause = FIRST_PAUSE
            except Exception as error:
                if pause == FIRST_PAUSE:  # once an absence, not once a try
                    log.warning("the breaker actor is away: %s", type(error).__name__)
                self._actor = None
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)

    def _take(self, answer: Mapping[str, Any]) -> None:
        version = (int(answer["version"][0]), int(answer["version"][1]))
        if self._version is not None and version < self._version:
            return  # an older incarnation that does not know yet that it has a successor
        self.set_policy(Policy(**answer["policy"]))
        fresh = received(answer["targets"], self._clock())
        for target, seen in fresh.items():
            before = self._seen.get(target)
            if self._version is None or before is None or before.epoch != seen.epoch or version[0] != self._version[0]:
                # The actor's word replaces ours once it has moved.
                self._local.pop(target, None)
                self._trials.pop(target, None)
        self._seen, self._version = fresh, version
        self.moved.set()
        self.moved = asyncio.Event()

    async def _listen(self) -> None:
        while True:
            self.silence.beat(self._clock())
            await asyncio.sleep(BEAT_SECONDS)

    async def _deliver(self) -> None:
        batch: list[dict[str, Any]] = []
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._urgent.wait()
            self._urgent.clear()
            if not batch and self._buffer:
                batch = list(self._buffer)
                self._buffer.clear()
                self._mergeable.clear()
                self._number += 1
            if not batch or self._actor is None:
                continue
            try:
                async with asyncio.timeout(5):
                    await self._call("report", self._replica, self._number, batch)
                batch = []
            except Exception as error:
                # The same number again: the actor takes it once.
                log.info("reports wait: %s", type(error).__name__)
