"""Known bugs of other breakers, each as one change of ours: the file, the text, what stands there instead.

`dies_of` are the checks that may notice it. A mutant that dies of another check is no proof.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    bug: str
    file: str
    text: str
    instead: str
    dies_of: tuple[str, ...]


B, D = "breaker/circuit.py", "breaker/registry.py"

MUTANTS = [
    Mutant(
        "M1",
        "a success from before the trip counts",
        B,
        "current = r.epoch == b.epoch and b.mode is Mode.AUTO",
        "current = b.mode is Mode.AUTO",
        ("late-decides-nothing", "replay-is-nothing"),
    ),
    Mutant(
        "M2", "a stampede of probes", B, "not (due or early) or b.probing(now)", "not (due or early)", ("one-probe",)
    ),
    Mutant(
        "M3",
        "a neutral end keeps the permit",
        B,
        "if r.lease is not None and not flows:",
        "if r.lease is not None and not flows and r.verdict is not Verdict.NEUTRAL:",
        ("permit-comes-back", "comes-back"),
    ),
    Mutant(
        "M4",
        "a neutral end resets the run",
        B,
        "        case _:\n            return b\n\n\ndef _went_well",
        "        case _:\n            return replace(b, start_run=0, stream_run=0)\n\n\ndef _went_well",
        ("neutral-is-neutral",),
    ),
    Mutant(
        "M5",
        "a neutral end counts as a failure",
        B,
        "        case _:\n            return b\n\n\ndef _went_well",
        "        case _:\n            return replace(b, start_run=b.start_run + 1)\n\n\ndef _went_well",
        ("neutral-is-neutral",),
    ),
    Mutant(
        "M6",
        "a neutral probe closes",
        B,
        "        case _:\n            return _inconclusive(b, now, policy, jitter)\n",
        "        case _:\n            return _moved(b, now, **_FRESH)\n",
        ("neutral-probe-never-closes",),
    ),
    Mutant(
        "M7",
        "late failures extend the open time",
        B,
        "late=True)\n    return Step(b, late=True)\n",
        "late=True)\n    if b.state is State.OPEN and r.verdict is Verdict.FAILED_START:\n"
        "        b = replace(b, open_until=max(b.open_until, now + policy.recovery_timeout))\n"
        "    return Step(b, late=True)\n",
        ("late-failure-does-not-rearm",),
    ),
    Mutant(
        "M8",
        "a first token closes half-open",
        B,
        "            return replace(b, leases=_renewed(b.leases, r.lease, now + policy.lease))\n",
        "            return _moved(b, now, **_FRESH)\n",
        ("first-token-decides-nothing",),
    ),
    Mutant(
        "M8b",
        "a first token resets the run of streams",
        B,
        '"start_run": 0, "ring": ring}\n',
        '"start_run": 0, "stream_run": 0, "ring": ring}\n',
        ("first-token-keeps-stream-run",),
    ),
    Mutant(
        "M9",
        "a wall clock that steps back lengthens an open time",
        D,
        "        elapsed = max(0.0, elapsed)\n",
        "",
        ("restart-does-not-lengthen",),
    ),
    Mutant(
        "M10",
        "Retry-After is ignored",
        B,
        "    if r.retry_after is not None:\n",
        "    if r.retry_after is None and False:\n",
        ("delay-is-kept-and-capped",),
    ),
    Mutant(
        "M11",
        "Retry-After has no cap",
        B,
        "        hold = _clamp(r.retry_after, policy.throttle_min, policy.throttle_max)\n        return _opened",
        "        hold = r.retry_after\n        return _opened",
        ("delay-is-kept-and-capped",),
    ),
    Mutant(
        "M12",
        "a later delay shortens an earlier one",
        B,
        "        if until > b.open_until:\n",
        "        if until != b.open_until:\n",
        ("late-throttle-only-lengthens", "not-before"),
    ),
    Mutant(
        "M13",
        "a report that is sent twice counts twice",
        D,
        "        if number <= self.acked.get(replica, 0):\n            return\n",
        "",
        ("replay-is-nothing",),
    ),
    Mutant(
        "M13b",
        "a retried ask does not get its own permit",
        B,
        "        if lease.name == ask.name:\n",
        "        if lease.name == ask.name and False:\n",
        ("retried-ask-gets-its-permit",),
    ),
    Mutant(
        "M14",
        "the open time grows without a cap",
        B,
        "    hold = min(policy.recovery_timeout * 2.0 ** min(level - 1, 30), cap)\n",
        "    hold = policy.recovery_timeout * 2.0 ** min(level - 1, 30)\n",
        ("open-time-within-bounds",),
    ),
    Mutant(
        "M15",
        "traffic moves a target that an operator holds",
        B,
        "late=True)\n    return Step(b, late=True)\n",
        "late=True)\n    return Step(_moved(b, now, mode=Mode.AUTO) if r.verdict is Verdict.OK else b, late=True)\n",
        ("late-decides-nothing", "isolation-holds", "epoch-moves-with-state"),
    ),
    Mutant(
        "M16",
        "a restart forgets",
        D,
        "for t, data in checkpoint.items()}\n",
        'for t, data in checkpoint.items() if data["state"] != "open"}\n',
        ("state-survives",),
    ),
    Mutant(
        "M17",
        "a restart forgets the probes that are out",
        D,
        '[{"name": x.name, "until": x.until - now} for x in (*b.leases, *b.ghosts)]',
        "[]",
        ("one-probe",),
    ),
    Mutant(
        "M18",
        "429 counts as a failure",
        B,
        "            return _tripped(b, now, policy, jitter) if failed else b\n        case Verdict.THROTTLED:\n"
        "            return _throttled(b, now, r, policy, jitter)\n",
        "            return _tripped(b, now, policy, jitter) if failed else b\n        case Verdict.THROTTLED:\n"
        "            return replace(b, start_run=b.start_run + 1)\n",
        ("throttle-cools", "throttle-counts-nothing"),
    ),
    Mutant(
        "M19",
        "whoever is due behind a healthy target is left out when that fails",
        "breaker/plan.py",
        "elif s.probing(now):",
        "elif s.probing(now) or candidates or later:",
        ("no-avoidable-failure",),
    ),
    Mutant(
        "M20",
        "any report decides in half-open",
        B,
        "if current and b.state is State.HALF_OPEN and held:",
        "if current and b.state is State.HALF_OPEN:",
        ("late-decides-nothing", "replay-is-nothing"),
    ),
    Mutant(
        "M21",
        "the epoch moves with the window",
        B,
        "    return replace(b, **news)\n",
        "    return replace(b, epoch=b.epoch + (len(ring) > 1), **news)\n",
        ("epoch-moves-with-nothing-else",),
    ),
    Mutant(
        "M22",
        "the end of an old stream clears the run before content",
        B,
        'news = {"ended_well": _newest(b.ended_well, r.began), "ring": ring}',
        'news = {"ended_well": _newest(b.ended_well, r.began), "start_run": 0, "ring": ring}',
        ("stream-end-keeps-start-run",),
    ),
    Mutant(
        "M23",
        "a permit can be given back by one who never held it",
        B,
        "        case Release(lease):\n            return Step(_drop(b, lease))\n",
        "        case Release(lease):\n            return Step(replace(b, leases=()))\n",
        ("unknown-lease-changes-nothing", "one-probe"),
    ),
    # What the review of the core found: each kind of fault, where the board can see it.
    Mutant(
        "M24",
        "a permit that nobody used says something of the target",
        B,
        "        case Release(lease):\n            return Step(_drop(b, lease))\n",
        "        case Release(lease):\n            held = any(x.name == lease for x in b.leases)\n"
        "            b = _drop(b, lease)\n"
        "            return Step(_inconclusive(b, now, policy, jitter) if held else b)\n",
        ("unused-says-nothing",),
    ),
    Mutant(
        "M25",
        "a probe that is lost opens the circuit, though it may be we who were away",
        B,
        '    return _inconclusive(b, now, policy, jitter, "lost")\n',
        '    return _opened(b, now, policy.recovery_timeout * (1 + policy.jitter * jitter), "lost")\n',
        ("a-lost-probe-is-no-failure",),
    ),
    Mutant(
        "M26",
        "a 400 of a half-open target is a riddle",
        B,
        "        case Verdict.REFUSED:\n            return b  #",
        "        case Verdict.REFUSED:\n            return _inconclusive(b, now, policy, jitter)  #",
        ("an-answer-is-no-riddle",),
    ),
    Mutant(
        "M27",
        "slow prompts of one client are three in a row",
        B,
        "            in_row = not _overtaken(b.began_well, r.began)\n",
        "            in_row = True\n",
        ("overtaken-is-not-in-a-row", "slow-prompts-open-nothing"),
    ),
    Mutant(
        "M28",
        "what has begun is not in the ratio",
        B,
        "began=r.count, ended=r.count if r.whole else 0)",
        "ended=r.count if r.whole else 0)",
        ("a-part-is-not-the-half",),
    ),
    Mutant(
        "M29",
        "a probe that flows keeps all others out",
        B,
        '            return replace(_recovered(_drop(b, r.lease or ""), now), trial=r.lease or "")\n',
        "            return replace(b, leases=_renewed(b.leases, r.lease, now + policy.lease))\n",
        ("a-probe-that-flows-lets-others-in",),
    ),
    Mutant(
        "M30",
        "a probe that has closed its circuit by flowing still counts as one",
        B,
        'replace(_recovered(_drop(b, r.lease or ""), now), trial=r.lease or "")',
        'replace(_recovered(b, now), trial=r.lease or "")',
        ("a-probe-that-flows-is-none-any-more",),
    ),
    Mutant(
        "M31",
        "a stream that closed its circuit and breaks is forgotten",
        B,
        "    if b.trial and r.lease == b.trial:\n",
        "    if False and r.lease == b.trial:\n",
        ("a-broken-trial-opens",),
    ),
    Mutant(
        "M32",
        "streams that flow say nothing of those that break",
        B,
        "    return replace(b, stream_run=0, broke_at=0.0)\n\n\ndef _newest",
        "    return b\n\n\ndef _newest",
        ("older-streams-that-flow-end-the-run",),
    ),
    Mutant(
        "M33",
        "any stream that flows ends the run of those that break",
        B,
        "    if r.began is None or now - r.began <= b.broke_at:\n",
        "    if r.began is None:\n",
        ("what-flows-is-evidence",),
    ),
    Mutant(
        "M34",
        "whoever is due behind a healthy target is a probe that nobody may ask for",
        "breaker/plan.py",
        "(later or candidates).append(Candidate(target, s.epoch, probe=True))",
        "(later or candidates).append(Candidate(target, s.epoch, probe=not candidates))",
        ("only-the-closed-need-no-permit", "closed-only"),
    ),
    Mutant(
        "M35",
        "nobody who merely failed is asked before its time",
        "breaker/plan.py",
        "    return s.rests(now) and s.panicky",
        "    return False and s.panicky",
        ("no-avoidable-failure",),
    ),
    Mutant(
        "M36",
        "a provider that refuses us no longer is believed only when its stream has flowed",
        B,
        "case Verdict.STARTED if b.reason not in _REFUSALS:",
        "case Verdict.STARTED:",
        ("a-probe-that-flows-lets-others-in",),
    ),
    Mutant(
        "M37",
        "a first token closes the circuit of a provider that failed",
        B,
        "case Verdict.STARTED if b.reason not in _REFUSALS:",
        "case Verdict.STARTED if b.reason in _REFUSALS:",
        ("first-token-decides-nothing", "a-probe-that-flows-lets-others-in"),
    ),
]
