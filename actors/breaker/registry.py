"""The registry of all circuits under one policy, and each target's stats.

`Registry` is the actor's side: it owns the breakers, takes messages, counts, and remembers. What an
ingress makes of its snapshot is in plan.py. No clock, no I/O. Instants leave this module only as remaining
seconds, because no two processes share a monotonic clock and a wall clock may step.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from actors.breaker.circuit import (
    PANICKY,
    Ask,
    Breaker,
    Isolate,
    Lease,
    Message,
    Mode,
    Policy,
    Recover,
    Release,
    Report,
    Reset,
    Restore,
    State,
    Step,
    Tick,
    step,
)
from actors.breaker.history import History
from actors.breaker.messages import CircuitCheckpoint, ProbeGrant, ReportItem, Series, TargetHealth
from actors.breaker.outcomes import Verdict
from actors.breaker.plan import Target, TargetSnapshot, is_of, labels_of, of_functions, provider_of, site_of
from actors.metrics import Meter, NoMeter

COMMANDS: Mapping[str, Callable[[], Message]] = {
    "isolate": Isolate,
    "restore": Restore,
    "recover": Recover,
    "reset": Reset,
}
REPLICAS = 10_000  # ingress replicas whose last report number is remembered
GUESTS = 256  # circuits of functions: a name that is new at each call must not fill the registry
_SAYS_NOTHING = (Verdict.NEUTRAL, Verdict.REFUSED)
_GOES_ON = (Verdict.STARTED, Verdict.FLOWING)
_KEPT = ("kind", "status", "code", "message", "at")  # of an error


@dataclass(slots=True)
class TargetStats:
    """What a target has done since its last reset. Latencies are milliseconds of whole answers."""

    ok: int = 0
    failed: int = 0
    neutral: int = 0
    ms: float = 0.0
    late: int = 0
    probes: int = 0
    unclassified: int = 0  # errors of a kind that outcomes.py does not list
    last_error: dict[str, object] | None = None
    used_at: float = 0.0  # when somebody last asked for it or reported to it
    history: History = field(default_factory=History)

    @property
    def requests(self) -> int:
        return self.ok + self.failed


@dataclass(slots=True)
class Registry:
    """Every target's circuit under one policy. `version` counts the changes that an ingress must see."""

    policy: Policy
    breakers: dict[Target, Breaker] = field(default_factory=dict)
    stats: dict[Target, TargetStats] = field(default_factory=dict)
    version: int = 0
    incarnation: int = 0
    acked: dict[str, int] = field(default_factory=dict)  # ingress replica -> highest batch number taken
    meter: Meter = field(default_factory=NoMeter)

    def expect(self, targets: Iterable[Target], now: float = 0.0) -> None:
        """Give each of these targets a circuit. Those that have one keep its state.

        Functions of other apps have `GUESTS` circuits together. When there are more, a closed one without a failure,
        which holds nothing that would be missed, makes way; while there is none, the newcomer has no circuit.
        """
        for target in targets:
            if target not in self.breakers and (not of_functions(target) or self._room_for_a_guest()):
                self.breakers[target] = self._newcomer(target, now)
                self.stats[target] = TargetStats()
                self.version += 1
            if target in self.stats:
                self.stats[target].used_at = now

    def _room_for_a_guest(self) -> bool:
        guests = [target for target in self.breakers if of_functions(target)]
        if len(guests) < GUESTS:
            return True
        idle = [target for target in guests if _holds_nothing(self.breakers[target])]
        if not idle:
            return False
        longest = min(idle, key=lambda target: self.stats[target].used_at)
        del self.breakers[longest], self.stats[longest]
        return True

    def _newcomer(self, target: Target, now: float) -> Breaker:
        """Return a new target's circuit. If its provider is isolated, or its place, it is isolated too."""
        for name in dict.fromkeys((site_of(target), provider_of(target))):
            siblings = [b for t, b in self.breakers.items() if is_of(t, name)]
            if siblings and all(b.mode is Mode.ISOLATED for b in siblings):
                until = max(b.isolated_until for b in siblings)
                return Breaker(since=now, mode=Mode.ISOLATED, isolated_until=until)
        return Breaker(since=now)

    def cause(self, target: Target) -> dict[str, object]:
        """Return `{"error": ...}`, the last words of a provider whose circuit is open."""
        stats = self.stats.get(target)
        error = stats.last_error if stats is not None and self.breakers[target].state is State.OPEN else None
        return {} if error is None else {"error": {k: error.get(k) for k in _KEPT if k != "at"}}

    def ask(self, now: float, target: Target, name: str, *, panic: bool = False) -> ProbeGrant | None:
        """Grant a probe of `target`, or return None. The same name gets the same answer."""
        if target not in self.breakers:
            return None
        taken = self._take(now, target, Ask(name, panic))
        if taken.granted is None:
            return None
        self.meter.add("breakwater_probes_total", (*labels_of(target), "granted"))
        return {"target": target, "epoch": taken.breaker.epoch, "lease": taken.granted.name}

    def release(self, now: float, target: Target, lease: str, jitter: float = 0.0) -> None:
        """Give back a permit that was not used."""
        if target in self.breakers:
            self._take(now, target, Release(lease), jitter)
            self.meter.add("breakwater_probes_total", (*labels_of(target), "released"))

    def batch(self, now: float, replica: str, number: int, items: Iterable[ReportItem], jitter: float = 0.0) -> None:
        """Take a batch of reports, unless this replica's batch of that number was taken before."""
        if number <= self.acked.get(replica, 0):
            return
        self.acked.pop(replica, None)
        self.acked[replica] = number  # the newest last
        if len(self.acked) > REPLICAS:
            del self.acked[next(iter(self.acked))]
        for item in items:
            # A report of another incarnation is late by definition: no epoch is -1.
            ours = item.get("incarnation", self.incarnation) == self.incarnation
            self.report(now, item if ours else {**item, "epoch": -1}, jitter)

    def report(self, now: float, item: ReportItem, jitter: float = 0.0) -> None:
        """Take one report, or several equal ones as one. An unknown target is ignored."""
        target = item["target"]
        if target not in self.breakers:
            return
        if item["verdict"] == Verdict.UNUSED:
            self.release(now, target, item["lease"] or "", jitter)
            return
        message = report_of(item, now)
        stats = self.stats[target]
        stats.used_at = now
        if self._take(now, target, message, jitter).late and not item.get("shared"):
            stats.late += message.count
            self.meter.add("breakwater_late_reports_total", labels_of(target), message.count)
        self._count(now, target, message.verdict, item)

    def _count(self, now: float, target: Target, verdict: Verdict, item: ReportItem) -> None:
        stats = self.stats[target]
        count = item.get("count", 1)
        if verdict is Verdict.OK:
            stats.ok += count
            stats.ms += item.get("ms", 0.0)
            stats.history.note(now, ok=count, ms=item.get("ms", 0.0))
        elif verdict in _SAYS_NOTHING:
            stats.neutral += count
        elif verdict not in _GOES_ON:
            asked = 0 if item.get("shared") else count
            stats.failed += asked
            stats.history.note(now, failed=asked)
            stats.unclassified += item.get("kind") == "unclassified"
            stats.last_error = {key: value for key, value in item.items() if key in _KEPT and value is not None}
        if item.get("lease") and verdict not in _GOES_ON:
            stats.probes += 1
            self.meter.add("breakwater_probes_total", (*labels_of(target), _PROBED[verdict]))

    def command(self, now: float, verb: str, provider: str, seconds: float | None = None) -> int:
        """Isolate, restore, recover or reset every target of a provider, or of `provider#place`. Return how many.

        `seconds` is how long an isolation lasts.
        """
        message = Isolate(seconds) if verb == "isolate" and seconds is not None else COMMANDS[verb]()
        targets = [t for t in self.breakers if is_of(t, provider)]
        for target in targets:
            self._take(now, target, message)
            if verb == "reset":
                self.stats[target] = TargetStats()
        return len(targets)

    def tick(self, now: float, jitter: float = 0.0) -> None:
        """Let leases and isolations end whose time is over."""
        for target, breaker in self.breakers.items():
            if breaker.leases or breaker.ghosts or breaker.mode is Mode.ISOLATED:
                self._take(now, target, Tick(), jitter)

    def snapshot(self, now: float) -> dict[Target, TargetSnapshot]:
        """Return what an ingress needs of each target. Times are seconds from now, or ago."""
        return {
            target: {
                "state": b.state.value,
                "mode": b.mode.value,
                "epoch": b.epoch,
                "retry_in": max(0.0, b.open_until - now) if b.state is State.OPEN else 0.0,
                "reason": b.reason,
                "isolated_for": max(0.0, b.isolated_until - now) if b.mode is Mode.ISOLATED else 0.0,
                "probing_for": max(0.0, b.probing_until - now),
                "panicky": b.state is State.OPEN and b.reason in PANICKY,
                "ramped": None if b.ramp_from is None else now - b.ramp_from,
                "since": now - b.since,
            }
            for target, b in self.breakers.items()
        }

    def health(self, now: float) -> dict[Target, TargetHealth]:
        """Return all that is known of each target, for people and for the facade."""
        return {target: self._health(now, target) for target in self.breakers}

    def _health(self, now: float, target: Target) -> TargetHealth:
        b, t = self.breakers[target], self.stats[target]
        return {
            "state": b.state.value,
            "isolated": b.mode is Mode.ISOLATED,
            "isolated_for_seconds": round(max(0.0, b.isolated_until - now), 3) if b.mode is Mode.ISOLATED else 0.0,
            "share": round(b.share(now, self.policy), 3),
            "reason": b.reason,
            "epoch": b.epoch,
            "since_seconds": round(now - b.since, 3),
            "retry_in_seconds": round(max(0.0, b.open_until - now), 3) if b.state is State.OPEN else 0.0,
            "probing": b.probing(now),
            "consecutive_failures": max(b.start_run, b.stream_run),
            "requests": t.requests,
            "ok": t.ok,
            "failed": t.failed,
            "neutral": t.neutral,
            "probes": t.probes,
            "late_reports": t.late,
            "unclassified": t.unclassified,
            "ms": t.ms,
            "last_error": t.last_error,
        }

    def histories(self, now: float) -> dict[Target, Series]:
        """Return what each target has done in the last minutes, slot by slot: see history.py."""
        return {target: stats.history.series(now) for target, stats in self.stats.items()}

    def checkpoint(self, now: float) -> dict[Target, CircuitCheckpoint]:
        """Return the state that must outlive the process: JSON, instants as ages or remaining seconds.

        Runs and stats are left out: a run refills in three calls, and stats decide nothing.
        """
        return {target: _remaining(b, now) for target, b in self.breakers.items()}

    def restore(self, now: float, checkpoint: Mapping[Target, CircuitCheckpoint], elapsed: float) -> None:
        """Take over a checkpoint that is `elapsed` wall seconds old. Raises on one that it can't read.

        Elapsed time shortens an open time but never a lease: a wall clock may have stepped, and a
        probe set free too early would be a second one.
        """
        elapsed = max(0.0, elapsed)
        restored = {t: _revived(data, now, elapsed, self.policy) for t, data in checkpoint.items()}
        for target, breaker in restored.items():
            self.expect([target])
            self.breakers[target] = breaker
        self.version += 1

    def _take(self, now: float, target: Target, message: Message, jitter: float = 0.0) -> Step:
        before = self.breakers[target]
        taken = step(before, now, message, self.policy, jitter)
        self.breakers[target] = taken.breaker
        if _seen(before) != _seen(taken.breaker):
            self.version += 1
        self._meter_change(target, before, taken.breaker, message)
        return taken

    def _meter_change(self, target: Target, before: Breaker, after: Breaker, message: Message) -> None:
        if isinstance(message, Tick | Ask) and len(after.leases) < len(before.leases):
            self.meter.add("breakwater_probes_total", (*labels_of(target), "lost"))
        if (state := state_of(after)) != state_of(before):
            self.meter.add("breakwater_transitions_total", (*labels_of(target), state, _why(before, after)))

    def sample(self, now: float, targets: Iterable[Target]) -> None:
        """Set the gauges of these targets' states.

        Others have none: functions are other apps', and a target that left the configuration while it was open is no
        alarm.
        """
        self.meter.set("breakwater_incarnation", (), self.incarnation)
        for target in targets:
            breaker = self.breakers[target]
            mine = DUE if breaker.due(now) else state_of(breaker)
            for state in STATES:
                here = float(mine == state)
                self.meter.set("breakwater_state", (*labels_of(target), state), here)


ISOLATED = "isolated"
DUE = "due"  # open, but only because nobody has needed it since its time was over
STATES = (*(state.value for state in State), ISOLATED, DUE)
_PROBED: Mapping[Verdict, str] = {
    Verdict.OK: "passed",
    Verdict.FAILED_START: "failed",
    Verdict.FAILED_STREAM: "failed",
    Verdict.THROTTLED: "throttled",
    Verdict.MISCONFIGURED: "misconfigured",
    Verdict.NEUTRAL: "released",
    Verdict.REFUSED: "released",
}


def report_of(item: ReportItem, now: float) -> Report:
    """Return one item of a batch as the circuit takes it."""
    age = item.get("age")
    return Report(
        epoch=item["epoch"],
        verdict=Verdict(item["verdict"]),
        lease=item.get("lease"),
        retry_after=item.get("retry_after"),
        count=item.get("count", 1),
        whole=item.get("whole", False),
        began=None if age is None else now - age,
        seconds=item.get("seconds", 0.0),
    )


def _holds_nothing(b: Breaker) -> bool:
    """Return whether it is closed, with nothing that would be missed."""
    return b.usable and not (b.start_run or b.stream_run or b.leases or b.ghosts or b.level)


def state_of(b: Breaker) -> str:
    """Return the state, or `isolated`, as an operator reads it."""
    return ISOLATED if b.mode is Mode.ISOLATED else b.state.value


def _why(before: Breaker, after: Breaker) -> str:
    if Mode.ISOLATED in (before.mode, after.mode):
        return "manual"
    if after.state is State.OPEN:
        return after.reason
    if after.state is State.HALF_OPEN:
        return "manual" if after.reason == "manual" else "due"
    return "recovered" if before.state is State.HALF_OPEN else "manual"


def _seen(b: Breaker) -> tuple[object, ...]:
    return (b.epoch, b.open_until, b.leases, b.ghosts, b.isolated_until)


_REFILLS = ("start_run", "stream_run", "began_well", "ended_well", "broke_at", "ring", "panicked", "trial")
_KEPT_OF_CIRCUIT = [f.name for f in fields(Breaker) if f.name not in (*_REFILLS, "leases")]


def _remaining(b: Breaker, now: float) -> CircuitCheckpoint:
    data: dict[str, Any] = {name: getattr(b, name) for name in _KEPT_OF_CIRCUIT}
    data["open_until"] = max(0.0, b.open_until - now)
    data["isolated_until"] = max(0.0, b.isolated_until - now)
    data["ramp_from"] = None if b.ramp_from is None else now - b.ramp_from
    data["since"] = now - b.since
    # A probe that is out belongs to the process that granted it: here it can only be a ghost.
    data["ghosts"] = [{"name": x.name, "until": x.until - now} for x in (*b.leases, *b.ghosts)]
    return cast(CircuitCheckpoint, data)


def _revived(data: CircuitCheckpoint, now: float, elapsed: float, policy: Policy) -> Breaker:
    longest = max(policy.recovery_cap, policy.recovery_timeout, policy.throttle_max, policy.misconfigured_cap)
    left = min(float(data["open_until"]) - elapsed, longest * (1 + policy.jitter))
    ghosts = tuple(Lease(str(g["name"]), now + float(g["until"])) for g in data["ghosts"])
    fields: dict[str, Any] = {
        **data,
        "state": State(data["state"]),
        "mode": Mode(data["mode"]),
        "open_until": now + max(0.0, left),
        "isolated_until": now + max(0.0, float(data["isolated_until"]) - elapsed),
        "ramp_from": None if data["ramp_from"] is None else now - float(data["ramp_from"]) - elapsed,
        "since": now - float(data["since"]) - elapsed,
        "ghosts": ghosts,
    }
    breaker = Breaker(**fields)
    return replace(breaker, epoch=breaker.epoch + 1)
