"""Mutants of everything that a request meets, and the simulated worlds that each must die in.

As in mutants.py: one change each, and `dies_of` are the oracles that may notice it. They are grouped by the kind of
fault that the review of the core found, so that each kind has an oracle that sees it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WorldMutant:
    name: str
    bug: str
    file: str
    text: str
    instead: str
    profile: str
    dies_of: tuple[str, ...]


LINK, PERMITS, PLAN = (
    "deployments/breaker_client/client.py",
    "deployments/breaker_client/permits.py",
    "actors/breaker/plan.py",
)
WALK = "deployments/failover/candidates.py"
BREAKER, COMPARISON, STREAM = (
    "actors/breaker/circuit.py",
    "deployments/failover/attempts/comparison.py",
    "deployments/failover/streams/answer.py",
)
AVOIDABLE = ("lost", "moved_avoidable", "late_recovery")

WORLD_MUTANTS = [
    # Our own absence or lateness is booked on the target, or has no way round.
    WorldMutant(
        "W1",
        "while the actor is away nothing that was open is tried",
        LINK,
        "        trial = self._own.take(target,",
        "        trial = None and self._own.take(target,",
        "actor-away",
        AVOIDABLE,
    ),
    WorldMutant(
        "W2",
        "an isolation lasts on while the actor is away",
        PLAN,
        "return self.mode is Mode.ISOLATED and now < self.isolated_until",
        "return self.mode is Mode.ISOLATED",
        "isolated-actor-away",
        AVOIDABLE,
    ),
    WorldMutant(
        "W3",
        "our own lag is the provider's silence",
        "deployments/aio/deadline_timer.py",
        "if late > LATE and self._graces < MAX_GRACES:",
        "if late > 1e9 and self._graces < MAX_GRACES:",
        "long-stalls",
        (*AVOIDABLE, "broken"),
    ),
    WorldMutant(
        "W4",
        "a short stall of ours makes a target quiet",
        "deployments/breaker_client/stalls.py",
        "        return now - self._missed - self._late(now)\n",
        "        return now\n",
        "short-stalls",
        AVOIDABLE,
    ),
    WorldMutant(
        "W5",
        "a trial that went well closes nothing while the actor is away",
        "deployments/breaker_client/local_breaker.py",
        "if cut_off and was.state is not State.CLOSED:",
        "if False and was.state is not State.CLOSED:",
        "actor-away",
        AVOIDABLE,
    ),
    # What is exclusive is taken or refused when it is planned.
    WorldMutant(
        "W6",
        "whoever is due is asked in the first place only",
        WALK,
        "if may := candidates if all_may else [c for c in candidates if self._is_allowed(c)]:",
        "if may := [c for c in candidates if self._is_allowed(c) and not (c.probe and self._asked)]:",
        "second-tier-due",
        AVOIDABLE,
    ),
    WorldMutant(
        "W7",
        "nobody who merely failed is asked before its time",
        PLAN,
        "    panics = tuple(",
        "    panics = () and tuple(",
        "solo-long-probe",
        AVOIDABLE,
    ),
    WorldMutant(
        "W8",
        "nobody waits for the probe that is out",
        LINK,
        "        if seconds <= SHORTEST_WAIT or",
        "        if seconds <= 1e9 or",
        "second-tier-by-hand",
        AVOIDABLE,
    ),
    WorldMutant(
        "W9",
        "whoever has asked once asks for ever",
        PERMITS,
        "asked.add_done_callback(lambda _: self._asking.discard(target))",
        "pass",
        "slow-actor",
        AVOIDABLE,
    ),
    # The request's guilt is the target's, or the reverse.
    WorldMutant(
        "W10",
        "what all tiers say alike is held against each of them",
        COMPARISON,
        "alike = (h.telling and groups[h.group] > 1) or",
        "alike = (h.telling and groups[h.group] > 99) or",
        "poison-prompts",
        AVOIDABLE,
    ),
    WorldMutant(
        "W11",
        "a failure is charged before the request is over",
        COMPARISON,
        "return not outcome.content and (outcome.kind == _CUT or bool(outcome.ending.alike))",
        "return not outcome.content and outcome.kind == _CUT",
        "poison-prompts",
        AVOIDABLE,
    ),
    WorldMutant(
        "W12",
        "slow prompts of one client are three in a row",
        COMPARISON,
        "alike = (h.telling and groups[h.group] > 1) or",
        'alike = (h.telling and groups[h.group] > 1 and h.group == "bad") or',
        "slow-prompts",
        AVOIDABLE,
    ),
    WorldMutant(
        "W13",
        "a tier that hangs never opens while callers give deadlines",
        COMPARISON,
        "return Verdict.FAILED_START if slower and held.seconds >= held.enough else Verdict.NEUTRAL",
        "return Verdict.NEUTRAL",
        "hang-with-deadlines",
        ("waited", *AVOIDABLE),
    ),
    # What has begun is not counted, only what has ended.
    WorldMutant(
        "W14",
        "a tenth of failures is half of what has ended",
        BREAKER,
        "began=r.count, ended=r.count if r.whole else 0)",
        "began=0, ended=r.count if r.whole else 0)",
        "tenth-refused",
        AVOIDABLE,
    ),
    WorldMutant(
        "W15",
        "a probe that flows keeps all others out",
        BREAKER,
        '            return replace(_recovered(_drop(b, r.lease or ""), now), trial=r.lease or "")\n',
        "            return replace(b, leases=_renewed(b.leases, r.lease, now + policy.lease))\n",
        "solo-long-probe",
        AVOIDABLE,
    ),
    # Time of two, not of all.
    WorldMutant(
        "W16",
        "each tier may take all the time that is left",
        "deployments/failover/attempts/time_share.py",
        "    if tiers <= 1:\n",
        "    if tiers <= 99:\n",
        "time-left-over",
        ("waited", *AVOIDABLE),
    ),
    WorldMutant(
        "W17",
        "the time is kept for the last tier alone",
        "deployments/failover/attempts/time_share.py",
        "    return max(left / 2, 2 * left / (tiers + 1), min(1.5 * usual, 0.75 * left))\n",
        "    return 0.98 * left\n",
        "five-tiers",
        ("waited", *AVOIDABLE),
    ),
    # Nothing bounds, or forgets.
    WorldMutant(
        "W18",
        "a reader that takes nothing holds its provider for ever",
        "deployments/failover/streams/reader_watch.py",
        "        if self.frame_at is not None and until <= now:\n",
        "        if self.frame_at is not None and until <= now - 1e9:\n",
        "readers-that-stop",
        ("leaks",),
    ),
    WorldMutant(
        "W19",
        "a reader that has been given up is not let go upstream",
        STREAM,
        "        self._closing = asyncio.ensure_future(self._source.aclose())\n",
        "",
        "readers-that-stop",
        ("leaks",),
    ),
    # What is known is lost on the way.
    WorldMutant(
        "W20",
        "a throttle is an open circuit to who comes next",
        PLAN,
        '"throttled" if s.reason == "throttled" else "open"',
        '"open"',
        "all-throttle",
        ("status",),
    ),
    WorldMutant(
        "W21",
        "all throttle is a 503 for all but the first",
        "deployments/errors.py",
        'all(outcome.removeprefix("skipped: ") == "throttled" for outcome in outcomes)',
        'all(outcome == "throttled" for outcome in outcomes)',
        "all-throttle",
        ("status",),
    ),
    WorldMutant(
        "W22",
        "what one tier refuses ends the request",
        "deployments/failover/run.py",
        "return outcome.ending.failover and not self._tried.refused_alike",
        'return outcome.ending.failover and outcome.kind != "rejected"',
        "unfit-prompts",
        AVOIDABLE,
    ),
]
