"""The ingress's end of the breaker actor: the last snapshot, the plans that are made of it, and permits to probe.

No request waits for the actor, but for a probe's permit: for 50 ms, or for twice as long as the actor is known to
take, so that a slow actor keeps no healed target away. While the actor can't be asked the last snapshot goes on to be
used, and the local breaker beside it (local_breaker.py): it leaves out what fails here, and tries what is due.

No Ray here: the actor is a function `call(method, *arguments)`.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from actors.breaker.circuit import Policy, State, share
from actors.breaker.messages import Permit, ReportDetails, SeenHealth, Version, WatchAnswer
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.places import NO_PLACES
from actors.breaker.plan import (
    UNKNOWN_CIRCUIT,
    Candidate,
    CircuitSnapshot,
    Plan,
    Skipped,
    Target,
    parts_of,
    place_of,
    plan,
    provider_of,
    received,
    skip,
)
from actors.metrics import Meter, NoMeter
from deployments.breaker_client.actor_connection import ActorCall, ActorConnection
from deployments.breaker_client.cut_calls import CutCalls
from deployments.breaker_client.empty_answers import EmptyAnswers
from deployments.breaker_client.flowing import FLOW_SECONDS, FlowingStreams
from deployments.breaker_client.last_seen import last_seen
from deployments.breaker_client.local_breaker import LocalBreaker
from deployments.breaker_client.permits import Permits, ProbeQueue
from deployments.breaker_client.report_queue import BUFFER, ReportQueue, details_of, leased
from deployments.breaker_client.response_times import ResponseTimes
from deployments.breaker_client.stalls import BEAT, StallDetector
from deployments.breaker_client.waiting import may_ask, seconds_to_wait
from deployments.latency.latencies import Latencies
from deployments.overload.loads import Loads

log = logging.getLogger(f"ray.serve.{__name__}")

ASK_SECONDS, ASK_MOST = 0.05, 2.5  # how long a permit is waited for: usually, and where the actor is known to be slow
SHORTEST_WAIT = 0.001  # of seconds: what is left of a time that is as good as over
# What may hold for other places too: see actors/breaker/places.py.
_SHARED = (Verdict.FAILED_START, Verdict.THROTTLED, Verdict.MISCONFIGURED)
FIRST_PAUSE = 0.05  # before the actor is tried again; doubles to a second


class BreakerClient:
    """What one ingress replica knows of each target, and the one way by which its attempts are reported."""

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
        self._meter = meter or NoMeter()
        self._clock = clock
        self._draw = draw
        self._actor = ActorConnection(connect, clock, self._meter)
        self._version: Version | None = None
        self._seen: dict[Target, CircuitSnapshot] = {}
        self._own = LocalBreaker(policy)
        self._permits = Permits(self._ask, self.release, self._wake)
        self._line = ProbeQueue()
        self._tasks: list[asyncio.Task[None]] = []
        self.reports = ReportQueue(self._actor, clock, most=most)
        self.under_way: Counter[str] = Counter()  # provider: attempts
        self.connected = asyncio.Event()
        self.moved = asyncio.Event()  # set, and replaced by another, when the actor has said something new
        self.silence = StallDetector()
        self.flows = FlowingStreams()
        self.times = ResponseTimes()
        self.latencies = Latencies()
        self.loads = Loads()
        self.empty_answers = EmptyAnswers()
        self.cut_calls = CutCalls()
        self.places = NO_PLACES
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Plan by these thresholds; the local breaker takes them too."""
        self._policy = policy
        self._own.set_policy(policy)

    def start(self) -> bool:
        """Begin to watch and to report; False if that has begun. Needs a running loop."""
        if self._tasks:
            return False
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self.reports.run())]
        self._tasks.append(asyncio.create_task(self._listen()))
        return True

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call the actor. Raises ConnectionError while it is away, and what the method raises."""
        return await self._actor.call(method, *arguments)

    async def look(self) -> None:
        """Take the actor's snapshot now. Its parked answer may hang on an incarnation that has just died."""
        self._take(await self.call("watch", None))

    def sample(self) -> None:
        """Set the gauges of attempts under way, of the snapshot's age, and of reports that wait."""
        for provider, number in self.under_way.items():
            self._meter.set("breakwater_in_flight", (provider,), number)
        slow = Counter(provider_of(target) for target in self.latencies.slow_targets(self.listened()))
        for provider in self.under_way:
            self._meter.set("breakwater_slow_targets", (provider,), slow[provider])
        for target, limit in self.loads.known().items():
            self._meter.set("breakwater_limit", (*parts_of(target), place_of(target)), limit)
        self._meter.set("breakwater_waiting", (), len(self.loads.line))
        self._meter.set("breakwater_order_age_seconds", (), self._actor.age)
        self._meter.set("breakwater_reports_waiting", (), len(self.reports))

    async def close(self) -> None:
        """Stop, and give back permits that nobody used."""
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

    def listened(self) -> float:
        """Return the instant on the clock that stands still while our own loop does: a wait on it is a target's own."""
        return self.silence.listened(self._clock())

    def last_seen(self) -> dict[Target, SeenHealth]:
        """Return what can be said of each target without the actor."""
        return last_seen(self._seen, self._clock())

    def knows(self, target: Target) -> bool:
        return target in self._seen

    def plan(self, row: Sequence[Target], *, draw: float | None = None) -> Plan:
        """Return the row's candidates now. Nothing is taken by looking.

        `draw` decides where those stand whose share still grows; it is drawn if it is not given.
        """
        now = self._clock()
        quiet = [target for target in row if self.silence.quiet(target, now)] if self.silence else ()
        return plan(row, self._view(), now, self._policy, self.draw() if draw is None else draw, quiet)

    @property
    def may_be_slow(self) -> bool:
        """Whether any target may be slow: where none is ever waited for, none is."""
        return bool(self.latencies)

    def is_slow(self, target: Target) -> bool:
        """Return whether a target takes far longer than it usually does: see `latency`."""
        return self.latencies.slow(target, self.listened())

    def is_well(self, target: Target) -> bool:
        """Return whether a target may be asked by a second leg: closed, at full share, neither slow nor quiet."""
        now = self._clock()
        seen = self._view().get(target, UNKNOWN_CIRCUIT)
        if seen.state is not State.CLOSED or self.is_slow(target) or self.silence.quiet(target, now):
            return False
        policy = self._policy
        return share(seen.ramp_from, now, policy.slow_start, policy.slow_start_from) >= 1.0

    def try_slow(self, target: Target) -> bool:
        """Return whether a request is to ask a slow target first nevertheless, to see how it does. It then must."""
        return self.latencies.try_first(target, self.listened())

    def draw(self) -> float:
        return self._draw()

    def _view(self) -> Mapping[Target, CircuitSnapshot]:
        seen = self._own.view(self._seen, cut_off=self._actor.cut_off) if self._own else self._seen
        if not self._permits.kept:
            return seen
        mine = [target for target in self._permits.kept if target in seen]
        # The probe that is out is ours, and nobody uses it yet.
        return {**seen, **{t: replace(seen[t], probing_until=0.0) for t in mine}} if mine else seen

    def skipped(self, target: Target, why: str, retry_in: float | None = None) -> Skipped:
        """Return that target as one that is left out for a reason of our own."""
        return skip(target, self._view().get(target, UNKNOWN_CIRCUIT), self._clock(), why, retry_in)

    async def permit(self, candidate: Candidate, who: object = None) -> Permit | None:
        """Return the permit to call a candidate now, with `lease` or `trial` if it is a probe.

        It is taken when the candidate's turn has come. None if somebody else probes it or waits for it longer than
        `who`, or nobody may.
        """
        plain = self.plain_permit(candidate)
        if not candidate.probe:
            return plain
        target, panic = candidate.target, candidate.panic
        if not self._line.may(who, target):
            return None
        ours = self._own.holds(target) and self._seen.get(target, UNKNOWN_CIRCUIT).state is State.CLOSED
        if not (ours or self._actor.cut_off):
            wait = max(ASK_SECONDS, min(2 * self._actor.latency, ASK_MOST))
            permit, answered = await self._permits.take(target, wait, panic=panic)
            if permit is not None or answered or not self._actor.cut_off:
                return permit
        trial = self._own.take(target, self._seen.get(target, UNKNOWN_CIRCUIT), self._clock(), panic=panic)
        return None if trial is None else {**plain, "trial": trial}

    def plain_permit(self, candidate: Candidate) -> Permit:
        """Return the permit of a call that is no probe: it needs nobody's consent."""
        return {"epoch": candidate.epoch, "incarnation": self.incarnation}

    async def _ask(self, target: Target, name: str, panic: bool) -> Permit | None:
        permit: Permit | None = await self.call("ask", target, name, panic)
        return permit

    async def hope(self, who: object, targets: Sequence[Target], seconds: float, probe_seconds: float) -> bool:
        """Wait until something new is known; return False if it is not worth it: see waiting.py.

        `who` keeps its place in the line, by which permits are asked for, until it leaves it.
        """
        now, awaited = self._clock(), self._permits.awaited
        seconds, due = seconds_to_wait(self._view(), now, targets, awaited, seconds, probe_seconds)
        if seconds <= SHORTEST_WAIT or not self._line.enter(who, targets):
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, due)):
                await self.moved.wait()
                # Hundreds may wait: each looks first whether it is worth to walk its row again.
                while not self._may_ask(who, targets):
                    await self.moved.wait()
        return True

    def _may_ask(self, who: object, targets: Sequence[Target]) -> bool:
        first = partial(self._line.may, who)
        return may_ask(self._view(), self._clock(), targets, self._permits.awaited, first)

    def leave(self, who: object) -> None:
        """Take a request out of the line: it waits no longer."""
        self._line.leave(who)

    def _wake(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    # What a request tells.

    def report(
        self,
        target: Target,
        permit: Permit,
        outcome: Outcome,
        ms: float,
        *,
        whole: bool = False,
        verdict: Verdict | None = None,
        began: float | None = None,
    ) -> None:
        """Report how an attempt ended. `permit` holds the epoch and incarnation it was made under.

        `verdict`: what it says of the target, if not what the table says. `began`: when, on the client's clock.
        """
        plain = verdict is None and outcome.kind == "ok" and not (self._own or permit.get("lease"))
        if plain and self.reports.merge_success(target, permit, ms, whole=whole, began=began):
            return
        details = details_of(outcome, ms, permit, whole=whole, began=began)
        verdict = verdict or outcome.verdict
        self.report_item(target, permit, verdict, details)
        if self.places and verdict in _SHARED:
            for other in self.places.sharers(target, outcome, self._seen.keys()):
                self._report_shared(other, outcome, verdict, began)

    def _report_shared(self, target: Target, outcome: Outcome, verdict: Verdict, began: float | None) -> None:
        """Report that another place has failed in a way that holds for this one, which was not asked."""
        permit: Permit = {"epoch": self._seen[target].epoch, "incarnation": self.incarnation}
        details = details_of(outcome, 0.0, permit, began=began)
        details["shared"] = True
        self.report_item(target, permit, verdict, details)

    def release(self, target: Target, permit: Permit) -> None:
        """Give back a permit that was not used."""
        if trial := permit.get("trial"):
            self._own.release(target, trial, self._clock())
        elif lease := permit.get("lease"):
            self.report_item(target, permit, Verdict.UNUSED, {"kind": "unused", "ms": 0.0, "lease": lease})

    def report_started(self, target: Target, permit: Permit, began: float | None = None) -> None:
        """Report that the first content of a stream came, or that a probe is still under way."""
        details: ReportDetails = {"kind": "started", "ms": 0.0, "began": began}
        self.report_item(target, permit, Verdict.STARTED, leased(details, permit))

    def report_flowing(self, target: Target, permit: Permit, began: float, seconds: float) -> None:
        """Report that streams have flowed for so many seconds together, the oldest since `began`."""
        details: ReportDetails = {"kind": "flowing", "ms": 0.0, "began": began, "seconds": seconds}
        self.report_item(target, permit, Verdict.FLOWING, leased(details, permit))

    def report_item(self, target: Target, permit: Permit, verdict: Verdict, details: ReportDetails) -> None:
        """Queue a report for the actor, and take it into account here."""
        if self._own.heeds(target, verdict, probe=bool(details.get("lease"))):
            seen, now = self._seen.get(target), self._clock()
            self._own.note_report(target, permit, verdict, details, seen=seen, incarnation=self.incarnation, now=now)
        self.reports.add(target, permit, verdict, details)

    # The loops.

    async def _watch(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self._actor.open()
                if not self._take(await self.call("watch", self._version)):
                    raise ConnectionError("an older incarnation")
                self.connected.set()
                pause = FIRST_PAUSE
            except Exception as error:
                if pause == FIRST_PAUSE:  # once an absence, not once a try
                    log.warning(
                        "The breaker actor can't be asked (%s). Requests go on by its last snapshot; "
                        "the connection is tried again.",
                        type(error).__name__,
                    )
                self._actor.drop()
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)

    def _take(self, answer: WatchAnswer) -> bool:
        """Take a snapshot; return False for one of an older incarnation, which does not know its successor yet."""
        version = (int(answer["version"][0]), int(answer["version"][1]))
        if self._version is not None and version < self._version:
            return False
        self.set_policy(Policy(**answer["policy"]))
        fresh = received(answer["targets"], self._clock())
        for target, seen in fresh.items():
            before = self._seen.get(target)
            if self._version is None or before is None or before.epoch != seen.epoch or version[0] != self._version[0]:
                self._own.forget(target)  # the actor's word replaces ours once it has moved
            if before is not None and before.epoch != seen.epoch:
                self.latencies.begin_anew(target)
        self._own.keep(fresh)
        self._seen, self._version = fresh, version
        self._permits.changed()
        self._wake()
        return True

    async def _listen(self) -> None:
        flowed_at = self._clock()
        while True:
            now = self._clock()
            self._actor.listen(now)
            self.silence.beat(now)
            if now - flowed_at >= FLOW_SECONDS:
                flowed_at = now
                self._report_flows(now)
            await asyncio.sleep(BEAT)

    def _report_flows(self, now: float) -> None:
        flows, seconds = self.flows.take(now)
        for (target, *_), flow in flows.items():
            self.report_flowing(target, flow.permit, flow.oldest, seconds * flow.count)
