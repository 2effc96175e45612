"""The circuits that one ingress keeps by itself, on the breaker's own reducer. Pure.

They serve where the actor's word is missing or late:

- a target that fails *here* is left out here, though the actor's circuit is still closed;
- while the actor can't be asked, a target that is due is tried by our own decision: one *trial* at a time, and one
  that succeeds closes the circuit for us until the actor speaks again.

So a missing actor never adds a target that it holds open before its time, and never keeps one away for good.
"""

import secrets
from collections.abc import Container, Mapping
from dataclasses import replace

from actors.breaker.circuit import PANICKY, Ask, Breaker, Policy, Release, Report, State, step
from actors.breaker.messages import Permit, ReportDetails
from actors.breaker.outcomes import Verdict
from actors.breaker.plan import UNKNOWN_CIRCUIT, CircuitSnapshot, Target

HOLD_SECONDS, CAP_SECONDS = 10.0, 60.0  # how long a target is left out by our own decision alone
QUIET = (
    Verdict.OK,
    Verdict.STARTED,
    Verdict.FLOWING,
    Verdict.NEUTRAL,
    Verdict.REFUSED,
)  # moves no circuit, unless it is a probe's


class LocalBreaker:
    """The circuits of targets that have failed here lately, or that were tried here."""

    def __init__(self, policy: Policy) -> None:
        self._circuits: dict[Target, Breaker] = {}
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        # By our own decision a target rests for shorter, then for twice as long each time, to a minute.
        self._policy = replace(policy, recovery_timeout=HOLD_SECONDS, recovery_cap=CAP_SECONDS)

    def __bool__(self) -> bool:
        return bool(self._circuits)

    def holds(self, target: Target) -> bool:
        """Return whether it is we who keep it away."""
        own = self._circuits.get(target)
        return own is not None and own.state is not State.CLOSED

    def view(self, snapshot: Mapping[Target, CircuitSnapshot], *, cut_off: bool) -> Mapping[Target, CircuitSnapshot]:
        """Return the snapshot with our own circuits in it. `cut_off`: the actor can't be asked."""
        if not self._circuits:
            return snapshot
        seen = dict(snapshot)
        for target, own in self._circuits.items():
            was = seen.get(target, UNKNOWN_CIRCUIT)
            if own.state is State.CLOSED:
                if cut_off and was.state is not State.CLOSED:
                    seen[target] = replace(was, state=State.CLOSED, ramp_from=own.ramp_from, panicky=False)
            elif cut_off or was.state is State.CLOSED:
                seen[target] = replace(
                    was,
                    state=own.state,
                    open_until=own.open_until,
                    reason=own.reason,
                    probing_until=own.probing_until,
                    panicky=own.state is State.OPEN and own.reason in PANICKY,
                )
        return seen

    def take(self, target: Target, seen: CircuitSnapshot, now: float, *, panic: bool = False) -> str | None:
        """Take a trial of a target that is due; None if one is under way. `seen` is the actor's last snapshot of it."""
        own = self._circuits.get(target)
        if own is None or own.state is State.CLOSED:
            reason = seen.reason if seen.state is State.OPEN else ""
            own = Breaker(state=State.OPEN, since=now, open_until=seen.open_until, reason=reason)
        taken = step(own, now, Ask(secrets.token_hex(8), panic), self._policy)
        self._circuits[target] = taken.breaker
        return None if taken.granted is None else taken.granted.name

    def release(self, target: Target, trial: str, now: float) -> None:
        """Give back a trial that was not used."""
        if (own := self._circuits.get(target)) is not None:
            self._circuits[target] = step(own, now, Release(trial), self._policy).breaker

    def note_report(
        self,
        target: Target,
        permit: Permit,
        verdict: Verdict,
        details: ReportDetails,
        *,
        seen: CircuitSnapshot | None,
        incarnation: int,
        now: float,
    ) -> None:
        """Take what this ingress reports to the actor, if it belongs to what is `seen` now. See `heeds`."""
        trial = permit.get("trial")
        current = seen is not None and (permit["epoch"], permit["incarnation"]) == (seen.epoch, incarnation)
        if verdict is Verdict.UNUSED or not (current or trial):
            return
        report = Report(
            epoch=0,
            verdict=verdict,
            lease=trial,
            retry_after=details.get("retry_after"),
            whole=details.get("whole", False),
            began=details.get("began"),
            seconds=details.get("seconds", 0.0),
        )
        closed, probe = seen is not None and seen.state is State.CLOSED, bool(details.get("lease"))
        self.note(target, report, now, closed=closed, probe=probe)

    def heeds(self, target: Target, verdict: Verdict, *, probe: bool) -> bool:
        """Return whether such a report can matter. Of a target that is well here the good ones do not."""
        return probe or target in self._circuits or verdict not in QUIET

    def note(self, target: Target, report: Report, now: float, *, closed: bool, probe: bool = False) -> None:
        """Take a report of a call from here. `closed`: the actor holds its circuit closed. `probe`: by its permit.

        Its epoch is not looked at: the caller says whether it belongs to what we see now.
        """
        own = self._circuits.get(target)
        if own is None:
            # How a probe of the actor's ended is known here, though the actor may be away before it hears of it.
            proved = probe and not closed and report.verdict is Verdict.OK
            if report.verdict in QUIET and not proved:
                return
            run = 0 if closed else self._policy.failure_threshold - 1
            own = Breaker(since=now, start_run=run, stream_run=run)
        own = step(own, now, replace(report, epoch=own.epoch), self._policy).breaker
        if closed and own.state is State.CLOSED and not (own.start_run or own.stream_run or own.trial):
            self._circuits.pop(target, None)
        else:
            self._circuits[target] = own

    def forget(self, target: Target) -> None:
        """Forget a target: the actor has spoken of it."""
        self._circuits.pop(target, None)

    def keep(self, targets: Container[Target]) -> None:
        """Forget all others: the actor has no circuit of them any more."""
        for target in [name for name in self._circuits if name not in targets]:
            del self._circuits[target]
