"""The ingress's end of the breaker actor: the last sight, permits, and reports on their way.

No request waits for the actor, but for a probe's permit: for 50 ms, or for twice as long as the actor is known to
take, so that a slow actor keeps no healed target away. While the actor can't be asked the last sight goes on to be
used, and our own word beside it (own_word.py): it leaves out what fails here, and tries what is due.

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

from actors.breaker.circuit import Policy, State
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.plan import UNSEEN, Candidate, Plan, Seen, Skipped, plan, received, skip
from actors.breaker.registry import report_of
from actors.metrics import Meter, NoMeter
from deployments.breaker_client.flowing import FLOW_SECONDS, Flows
from deployments.breaker_client.last_seen import last_seen
from deployments.breaker_client.local_breaker import OwnWord
from deployments.breaker_client.permits import Line, Permit, Permits
from deployments.breaker_client.response_times import Times
from deployments.breaker_client.stalls import LAG, Silence

log = logging.getLogger(f"ray.serve.{__name__}")

ActorCall = Callable[..., Awaitable[Any]]

ASK_SECONDS, ASK_MOST = 0.05, 2.5  # how long a permit is waited for: usually, and where the actor is known to be slow
AWAY_SECONDS = 5.0  # without a word of the actor: then it can't be asked
PING_SECONDS = 2.0  # without a word of ours: then we say that there is none
SHORTEST_WAIT = 0.001  # of seconds: what is left of a time that is as good as over
REPORT_SECONDS = 0.5  # how long a success may wait to be told; whatever moves a circuit never waits
BEAT_SECONDS = 0.1
FIRST_PAUSE = 0.05  # before the actor is tried again; doubles to a second
BUFFER = 10_000  # reports kept while the actor is away
_MERGES = (Verdict.OK, Verdict.STARTED, Verdict.FLOWING)
_QUIET = (*_MERGES, Verdict.NEUTRAL, Verdict.REFUSED)  # moves no circuit, but for a probe's


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
        self._own = OwnWord(policy)
        self._permits = Permits(self._ask, self.release, self._wake)
        self._line = Line()
        self._latency = 0.0  # how long the actor takes to answer, in seconds
        self._contact_at = self._listened_at = clock()
        self._replica = secrets.token_hex(8)
        self._number = 0
        self._buffer: deque[dict[str, Any]] = deque()
        self._mergeable: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._urgent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.connected = asyncio.Event()
        self.moved = asyncio.Event()  # set, and replaced by another, when the actor has said something new
        self.silence = Silence()
        self.flows = Flows()
        self.times = Times()
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        self._policy = policy
        self._own.set_policy(policy)

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
        began = self._clock()
        try:
            answer = await self._actor(method, *arguments)
        except BaseException:
            self._meter.add("breakwater_actor_calls_total", (method, "failed"))
            raise
        self._meter.add("breakwater_actor_calls_total", (method, "ok"))
        self._heard_at = self._clock()
        if method != "watch":  # which is answered when there is something to say
            took = self._heard_at - began
            self._latency = max(took, 0.7 * self._latency + 0.3 * took)
        return answer

    def sample(self) -> None:
        """Tell the meter what is under way, and how fresh the order is."""
        for provider, number in self.under_way.items():
            self._meter.set("breakwater_in_flight", (provider,), number)
        self._meter.set("breakwater_order_age_seconds", (), self._clock() - self._heard_at)
        self._meter.set("breakwater_reports_waiting", (), len(self._buffer))

    async def close(self) -> None:
        self._permits.close()
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

    @property
    def cut_off(self) -> bool:
        """Can the actor not be asked? While we did not listen ourselves, its silence says nothing."""
        if self._actor is None:
            return True
        now = self._clock()
        return now - self._heard_at > AWAY_SECONDS and now - self._listened_at <= LAG

    def plan(self, row: Sequence[str], *, draw: float | None = None) -> Plan:
        """The row's candidates now. Nothing is taken by looking.

        `draw` decides where those stand whose share still grows; it is drawn if it is not given.
        """
        now = self._clock()
        quiet = [target for target in row if self.silence.quiet(target, now)]
        return plan(row, self._view(), now, self._policy, self.draw() if draw is None else draw, quiet)

    def draw(self) -> float:
        return self._draw()

    def _view(self) -> Mapping[str, Seen]:
        seen = self._own.view(self._seen, cut_off=self.cut_off) if self._own else self._seen
        mine = [target for target in self._permits.kept if target in seen]
        # The probe that is out is ours, and nobody uses it yet.
        return {**seen, **{t: replace(seen[t], probing_until=0.0) for t in mine}} if mine else seen

    def skipped(self, target: str, why: str, retry_in: float | None = None) -> Skipped:
        """That target, left out for a reason of our own."""
        return skip(target, self._view().get(target, UNSEEN), self._clock(), why, retry_in)

    async def permit(self, candidate: Candidate, who: object = None) -> Permit | None:
        """The leave to call a candidate now: `{epoch, incarnation}`, and `lease` or `trial` if it is a probe.

        Taken when its turn has come; None if somebody else probes it or waits for it longer than `who`, or nobody may.
        """
        plain = {"epoch": candidate.epoch, "incarnation": self.incarnation}
        if not candidate.probe:
            return plain
        target, panic = candidate.target, candidate.panic
        if not self._line.may(who, target):
            return None
        ours = self._own.holds(target) and self._seen.get(target, UNSEEN).state is State.CLOSED
        if not (ours or self.cut_off):
            wait = max(ASK_SECONDS, min(2 * self._latency, ASK_MOST))
            permit, answered = await self._permits.take(target, wait, panic=panic)
            if permit is not None or answered or not self.cut_off:
                return permit
        trial = self._own.take(target, self._seen.get(target, UNSEEN), self._clock(), panic=panic)
        return None if trial is None else {**plain, "trial": trial}

    async def _ask(self, target: str, name: str, panic: bool) -> dict[str, Any] | None:
        permit: dict[str, Any] | None = await self.call("ask", target, name, panic)
        return permit

    async def hope(self, who: object, targets: Sequence[str], seconds: float, probe_seconds: float) -> bool:
        """Wait until something new is known; False if there is nothing, or nothing more, to hope for.

        There is while one of these is due or being probed, for `probe_seconds` at most, or may be probed early.
        `who` keeps its place in the line, by which permits are asked for, until it leaves it.
        """
        now, view = self._clock(), self._view()
        known = {t: view[t] for t in targets if t in view and not view[t].isolated(now)}
        if any(s.to_be_probed(now) or self._permits.awaited(target) for target, s in known.items()):
            seconds = probe_seconds
        elif not any(s.panicky for s in known.values()):
            return False
        if seconds <= SHORTEST_WAIT or not self._line.enter(who, targets):
            return False
        due = min((s.open_until - now for s in known.values() if s.rests(now)), default=seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, due)):
                await self.moved.wait()
                # Hundreds may wait: each looks first whether it is worth to walk its row again.
                while not self._may_ask(who, targets):
                    await self.moved.wait()
        return True

    def _may_ask(self, who: object, targets: Sequence[str]) -> bool:
        """Is one of these closed now, or may be probed, and nobody waits for it longer?"""
        now, view = self._clock(), self._view()
        for target in targets:
            s = view.get(target, UNSEEN)
            if s.isolated(now) or s.probing(now):
                continue
            free = self._line.may(who, target) and not self._permits.awaited(target)
            if s.state is State.CLOSED or (free and (s.panicky or not s.rests(now))):
                return True
        return False

    def leave(self, who: object) -> None:
        """It waits no longer."""
        self._line.leave(who)

    def _wake(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    # What a request tells.

    def report(
        self,
        target: str,
        permit: Mapping[str, Any],
        outcome: Outcome,
        ms: float,
        *,
        whole: bool = False,
        verdict: Verdict | None = None,
        began: float | None = None,
    ) -> None:
        """How an attempt ended. `permit` holds the epoch and incarnation it was made under.

        `verdict`: what it says of the target, if not what the table says. `began`: when, on the link's clock.
        """
        details: dict[str, Any] = {"kind": outcome.kind, "ms": ms, "whole": whole, "began": began}
        if outcome.kind != "ok":
            details |= {
                "status": outcome.status,
                "code": outcome.code,
                "message": outcome.message[:200],
                "retry_after": outcome.retry_after,
                "at": time.time(),
            }
        self.report_item(target, permit, verdict or outcome.verdict, _leased(details, permit))

    def release(self, target: str, permit: Permit) -> None:
        """Give back a permit that was not used."""
        if permit.get("trial"):
            self._own.release(target, permit["trial"], self._clock())
        elif permit.get("lease"):
            self.report_item(target, permit, Verdict.UNUSED, {"kind": "unused", "ms": 0.0, "lease": permit["lease"]})

    def report_started(self, target: str, permit: Permit, began: float | None = None) -> None:
        """The first content of a stream came, or a probe is still under way."""
        details = {"kind": "started", "ms": 0.0, "began": began}
        self.report_item(target, permit, Verdict.STARTED, _leased(details, permit))

    def report_flowing(self, target: str, permit: Permit, began: float, seconds: float) -> None:
        """Streams of it have flowed for so many seconds together; the oldest began then."""
        details = {"kind": "flowing", "ms": 0.0, "began": began, "seconds": seconds}
        self.report_item(target, permit, Verdict.FLOWING, _leased(details, permit))

    def report_item(self, target: str, permit: Permit, verdict: Verdict, details: Mapping[str, Any]) -> None:
        self._note_on_our_own(target, permit, verdict, details)
        key = (target, permit["incarnation"], permit["epoch"], verdict)
        plain = verdict in _MERGES and not details.get("lease")
        if plain and (known := self._mergeable.get((*key, details.get("whole")))):
            _merge(known, verdict, details)
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
        quiet = next((i for i in self._buffer if i["verdict"] in _QUIET), None)
        self._buffer.remove(quiet) if quiet is not None else self._buffer.popleft()
        self._mergeable.clear()

    def _note_on_our_own(self, target: str, permit: Permit, verdict: Verdict, details: Mapping[str, Any]) -> None:
        if not self._own.heeds(target, verdict, probe=bool(details.get("lease"))):
            return
        seen, trial = self._seen.get(target), permit.get("trial")
        current = seen is not None and (permit["epoch"], permit["incarnation"]) == (seen.epoch, self.incarnation)
        if verdict is Verdict.UNUSED or not (current or trial):
            return
        item = {**details, "epoch": 0, "verdict": verdict, "lease": trial}
        now = self._clock()
        if details.get("began") is not None:
            item["age"] = now - details["began"]
        closed = seen is not None and seen.state is State.CLOSED
        self._own.note(target, report_of(item, now), now, closed=closed, probe=bool(details.get("lease")))

    # The loops.

    async def _watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if self._actor is None:
                    self._actor = await self._connect()
                if not self._take(await self._call("watch", self._version)):
                    raise ConnectionError("an older incarnation")
                self.connected.set()
                pause = FIRST_PAUSE
            except Exception as error:
                if pause == FIRST_PAUSE:  # once an absence, not once a try
                    log.warning("the breaker actor is away: %s", type(error).__name__)
                self._actor = None
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)

    def _take(self, answer: Mapping[str, Any]) -> bool:
        """Take a sight; False for one of an older incarnation, that does not know yet that it has a successor."""
        version = (int(answer["version"][0]), int(answer["version"][1]))
        if self._version is not None and version < self._version:
            return False
        self.set_policy(Policy(**answer["policy"]))
        fresh = received(answer["targets"], self._clock())
        for target, seen in fresh.items():
            before = self._seen.get(target)
            if self._version is None or before is None or before.epoch != seen.epoch or version[0] != self._version[0]:
                self._own.forget(target)  # the actor's word replaces ours once it has moved
        self._seen, self._version = fresh, version
        self._permits.changed()
        self._wake()
        return True

    async def _listen(self) -> None:
        flowed_at = self._clock()
        while True:
            now = self._clock()
            if (gap := now - self._listened_at) > LAG:
                self._heard_at += gap  # we could not hear it
            self._listened_at = now
            self.silence.beat(now)
            if now - flowed_at >= FLOW_SECONDS:
                flowed_at = now
                self._tell_flows(now)
            await asyncio.sleep(BEAT_SECONDS)

    def _tell_flows(self, now: float) -> None:
        flows, seconds = self.flows.take(now)
        for (target, *_), flow in flows.items():
            self.report_flowing(target, flow.permit, flow.oldest, seconds * flow.count)

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
            if self._actor is None or not (batch or self._clock() - self._contact_at >= PING_SECONDS):
                continue
            if not batch:
                self._number += 1
            try:
                self._contact_at = now = self._clock()
                async with asyncio.timeout(5):
                    await self._call("report", self._replica, self._number, [_aged(item, now) for item in batch])
                batch = []
            except Exception as error:
                # The same number again: the actor takes it once.
                log.info("reports wait: %s", type(error).__name__)


def _leased(details: dict[str, Any], permit: Permit) -> dict[str, Any]:
    if permit.get("lease"):
        details["lease"] = permit["lease"]
    return details


def _merge(known: dict[str, Any], verdict: Verdict, more: Mapping[str, Any]) -> None:
    """Another like it: the newest of successes counts, the oldest of streams that flow."""
    known["count"] += 1
    known["ms"] += more["ms"]
    pick = min if verdict is Verdict.FLOWING else max
    times = [x for x in (known.get("began"), more.get("began")) if x is not None]
    known["began"] = pick(times, default=None)
    if "seconds" in more:
        known["seconds"] += more["seconds"]


def _aged(item: Mapping[str, Any], now: float) -> dict[str, Any]:
    """For another process's clock: how long ago it began."""
    told = {key: value for key, value in item.items() if key != "began"}
    return told if item.get("began") is None else {**told, "age": now - item["began"]}
