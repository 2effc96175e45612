"""Known bugs of restarts, seams, second legs, slow targets, joined streams and keys: each, in a copy, must be noticed.

uv run pytest -m mutants tests/model/test_lost_mutants.py
"""

import pathlib
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.model.copies import ROOT, copied, mutated

NEEDED = ("actors", "deployments", "tests", "pyproject.toml", "serve_config.yaml", "README.md")
ANSWER, HOLD = "deployments/failover/streams/answer.py", "deployments/failover/streams/hold.py"
KEPT, SEAM = "deployments/failover/streams/kept.py", "deployments/failover/streams/seam.py"
RACE, HEDGE = "deployments/failover/legs/race.py", "deployments/failover/legs/hedge.py"
BUDGET, SLOW = "deployments/latency/hedging.py", "deployments/latency/latencies.py"
ATTEMPT, WALK = "deployments/failover/attempt.py", "deployments/failover/candidates.py"
STITCH, REST = "deployments/continuation/stitch.py", "deployments/continuation/rest.py"
OPENING, DELIVERED = "deployments/failover/streams/opening.py", "deployments/failover/streams/delivered.py"
ASKED, READING = "deployments/failover/streams/rest.py", "deployments/ingress/reading.py"
TABLE, LEADING = "actors/answers/table.py", "deployments/idempotency/leading.py"
RECORDING, SHARING = "deployments/idempotency/recording.py", "deployments/idempotency/sharing.py"
RUN = "deployments/idempotency/led_run.py"
RESCUE, FAILOVER_RUN = "deployments/failover/streams/rescue.py", "deployments/failover/run.py"
JOIN, CALLS = "deployments/providers/joined/chat.py", "deployments/failover/calls.py"


@dataclass(frozen=True)
class LostMutant:
    """`tests` are the files under tests/ of which one must fail."""

    bug: str
    file: str
    text: str
    instead: str
    tests: str


MUTANTS = (
    LostMutant(
        "a first one that speaks again is answered with the other one's text too",
        RESCUE,
        "        if self._task is not None:\n            self._drop()",
        "        if self._task is not None:\n            pass",
        "property/test_rescue_races.py",
    ),
    LostMutant(
        "a client that leaves while the other is waited for leaves it running",
        ANSWER,
        "            rescued = await self._rescue.result()\n",
        "            rescue, self._rescue = self._rescue, None\n            rescued = await rescue.result()\n"
        "            self._rescue = rescue\n",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "a client that is cancelled twice leaves its request without an end",
        ANSWER,
        "            rescue.drop()\n",
        "            await rescue.close()\n",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "what a rescue opens with is counted twice",
        ANSWER,
        "        self._counted = rescued.has_text\n",
        "",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "a rescue costs nothing of the budget",
        HEDGE,
        "turn is not None and self._hedges.take(self._row, self._breaker.now()) else None",
        "turn is not None else None",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "who was let go can never be asked again",
        FAILOVER_RUN,
        "        self._candidates.back_to(before.asked)\n",
        "",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "a request has a rescue for each silence",
        FAILOVER_RUN,
        "return self._hedge is not None and not self._record.hedged",
        "return self._hedge is not None",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "our own standstill is a provider's silence",
        RESCUE,
        "now - self._due > LATE_SECONDS",
        "now - self._due > 1e9",
        "unit/test_rescue.py",
    ),
    LostMutant(
        "whatever was said is taken for a thought",
        KEPT,
        'all(map(is_thought, read_keys(choice.get("delta"))))',
        "True",
        "unit/test_restarts.py",
    ),
    LostMutant(
        "the first error is masked by the next one's",
        ANSWER,
        "yield self._parts.error_frame(outcome, self._attempt, explained)",
        "yield Parts().error_frame(outcome, self._attempt, explained)",
        "unit/test_restarts.py",
    ),
    LostMutant("a role comes again behind the seam", SEAM, 'name != "role" and ', "", "unit/test_restarts.py"),
    LostMutant(
        "a second id behind the seam", SEAM, "frames = frames.replace(old, new)", "pass", "unit/test_restarts.py"
    ),
    LostMutant(
        "the last usage is the last provider's alone",
        SEAM,
        "total = added(total, usage)",
        "pass",
        "unit/test_restarts.py",
    ),
    LostMutant("half a call is sent", HOLD, "or _CALLS.search(frames)", "", "unit/test_restarts.py"),
    LostMutant(
        "what was held back is sent with the next", ANSWER, "self._hold.drop()", "pass", "unit/test_restarts.py"
    ),
    LostMutant("a restart probes", WALK, "or (self.sure and candidate.probe)", "", "unit/test_restarts.py"),
    LostMutant(
        "the request ends with the first of its attempts",
        ANSWER,
        "self._attempt.end(outcome, over=False)\n        before",
        "self._attempt.end(outcome)\n        before",
        "unit/test_restarts.py",
    ),
    LostMutant("the loser is not let go", RACE, "leg.cancel()\n        gone", "gone", "unit/test_hedging.py"),
    LostMutant(
        "an answer that nobody takes stays open",
        RACE,
        "await _close(asked[0])\n        if self._leg",
        "pass\n        if self._leg",
        "unit/test_hedging.py",
    ),
    LostMutant("an error wins", RACE, "failed is None or self._leg is None or", "True or", "unit/test_hedging.py"),
    LostMutant(
        "a leg that won and broke off waits for one that is gone",
        RACE,
        " or self._winner is self._first",
        "",
        "unit/test_hedging.py",
    ),
    LostMutant(
        "the loser ends after the request",
        RACE,
        'self.second.end(Outcome("cancelled"), over=False)',
        "pass",
        "unit/test_hedging.py",
    ),
    LostMutant("the first leg never loses", RACE, "self._runner.cancel()", "pass", "unit/test_hedging.py"),
    LostMutant("the budget is ignored", BUDGET, "known.tokens < 1.0 or ", "", "unit/test_hedging.py"),
    LostMutant("a 429 does not calm", BUDGET, "or now - known.throttled_at < CALM_SECONDS", "", "unit/test_hedging.py"),
    LostMutant(
        "a target that is not well is hedged with",
        HEDGE,
        "self._breaker.is_well(target) and ",
        "",
        "unit/test_hedging.py",
    ),
    LostMutant(
        "the caller's no is not heard",
        "deployments/failover/run.py",
        "or not self._record.caller.hedge",
        "",
        "unit/test_hedging.py",
    ),
    LostMutant(
        "a late call counts twice",
        SLOW,
        '        if watched == "waiting":',
        "        if True:",
        "unit/test_latencies.py",
    ),
    LostMutant(
        "what is usual is learned from the slow",
        SLOW,
        "if not (long and was_slow):",
        "if True:",
        "unit/test_latencies.py",
    ),
    LostMutant(
        "a slow cloud is behind the local model",
        WALK,
        "or self.is_stand_in(c.target)",
        "",
        "unit/test_latencies.py",
    ),
    LostMutant("a call's index stays in a whole answer", JOIN, 'if k != "index"', "if True", "property/test_joined.py"),
    LostMutant(
        "pieces of a text are told once",
        JOIN,
        "value if once else had + value",
        "value",
        "property/test_joined.py",
    ),
    LostMutant(
        "a flowing answer has its share alone",
        CALLS,
        "timer.move(min(asyncio.get_running_loop().time() + silence, self._deadline.at))",
        "pass",
        "unit/test_pieces_of_whole_answers.py",
    ),
    LostMutant(
        "what broke off cost nothing",
        ATTEMPT,
        "self.usage.delivered(came)",
        "pass",
        "unit/test_pieces_of_whole_answers.py",
    ),
    LostMutant("one word proves it", STITCH, "(trusted or is_proof(text[at:]))", "True", "property/test_stitch.py"),
    LostMutant(
        "white space comes twice",
        STITCH,
        "        return rest[at:]\n\n    def _unf",
        "        return rest\n\n    def _unf",
        "property/test_stitch.py",
    ),
    LostMutant(
        "a word is gone on with that had ended",
        STITCH,
        "if space and at == 0 and",
        "if False and",
        "property/test_stitch.py",
    ),
    LostMutant(
        "quoted words prove it",
        STITCH,
        "if self._anchor in rest[:",
        "if False and self._anchor in rest[:",
        "property/test_stitch.py",
    ),
    LostMutant(
        "a rest that says nothing is one",
        STITCH,
        "if rest is None or not rest.strip():",
        "if rest is None:",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "what is not proven goes to the client",
        OPENING,
        "if (rest := self._stitch.add(text, last=last)) is None:\n            return None",
        "if (rest := text) is None:\n            return None",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "an answer that ends unproven is whole",
        ANSWER,
        'raise Unverified("the answer ended before it was known to go on")\n        if self._must',
        "pass\n        if self._must",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "a call that was begun is gone on with",
        DELIVERED,
        'all(key == "content" or is_thought(key) for key in read)',
        "True",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "the rest may be as long as the whole",
        REST,
        "max(1, int(made[name]) - used)",
        "made[name]",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "a refusal of a last turn is forgotten",
        ASKED,
        "self._until[target] = self._now() + REMEMBERED_SECONDS",
        "pass",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "who has nothing to add is ill",
        ASKED,
        'if outcome.kind == "empty" else outcome',
        'if outcome.kind == "none" else outcome',
        "unit/test_continuation.py",
    ),
    LostMutant(
        "the caller's no to going on is not heard",
        "deployments/failover/failover.py",
        " and record.caller.continues",
        "",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "frames stay kept",
        ANSWER,
        "self._kept.close()\n        self._reader",
        "pass\n        self._reader",
        "unit/test_continuation.py",
    ),
    LostMutant(
        "an answer is replayed across tenants",
        READING,
        "(caller.key_name, caller.tenant, request",
        "(caller.key_name, request",
        "unit/test_idempotency.py",
    ),
    LostMutant(
        "another body gets the answer too",
        TABLE,
        "if found.fingerprint != fingerprint:",
        "if False:",
        "unit/test_idempotency.py",
    ),
    LostMutant("an error is replayed", LEADING, "if not run.recording.whole or", "if", "unit/test_idempotency.py"),
    LostMutant("two lead one key", TABLE, "if found is None or lost:", "if True:", "unit/test_answers_table.py"),
    LostMutant(
        "a run that is over comes back", TABLE, 'told["run"] not in self._over and ', "", "unit/test_answers_table.py"
    ),
    LostMutant(
        "a run lives as long as its replica",
        TABLE,
        "known.heard = self._clock()\n            elif",
        "[setattr(r, 'heard', self._clock()) for r in self._runs.values()]\n            elif",
        "unit/test_answers_table.py",
    ),
    LostMutant(
        "a broken answer ends as a whole one",
        RECORDING,
        "if len(self.items) <= index and self.broken and not self.full:",
        "if False:",
        "unit/test_keys_under_faults.py",
    ),
    LostMutant(
        "a client that stops to read is read ahead of",
        RECORDING,
        "while self.size - self._read_bytes > MOST_AHEAD and not self.ahead:",
        "while False:",
        "unit/test_keys_under_faults.py",
    ),
    LostMutant(
        "who leaves in a claim leaves a run",
        SHARING,
        "self._keep(self._take_back(claiming, name))",
        "pass",
        "unit/test_keys_under_faults.py",
    ),
    LostMutant(
        "a run that is let go of is joined",
        RUN,
        "not self.stopped and (not self.recording.ended or self.recording.whole)",
        "True",
        "unit/test_keys_under_faults.py",
    ),
)


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.bug.replace(" ", "-"))
def test_the_mutant_is_noticed(mutant: LostMutant, tmp_path: pathlib.Path) -> None:
    copied(NEEDED, tmp_path)
    (tmp_path / mutant.file).write_text(mutated(mutant))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{mutant.tests}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, f"{mutant.bug}: lives\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert any(word in done.stdout for word in ("Error", "DID NOT RAISE", "RunsAway"))


def test_each_mutant_can_still_be_made() -> None:
    """In the default run: a mutant whose text has gone would be no gate."""
    for mutant in MUTANTS:
        assert mutated(mutant) != (ROOT / mutant.file).read_text()
        assert (ROOT / "tests" / mutant.tests).is_file()
