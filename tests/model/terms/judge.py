"""Judges of what the terms of a world promise: the ledger's rows, the budget, and texts that had to go on. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from actors.ledger.rows import AttemptRow
from deployments.latency.hedging import BURST
from deployments.telemetry.attempt_record import AttemptRecord
from tests.model.excuses import Excuses
from tests.model.figures import Figures, Wrong
from tests.model.promises import LONGEST_OPEN, RAMP
from tests.model.script import Script
from tests.model.terms.book import Book
from tests.model.terms.terms import Terms
from tests.model.truth import Asked, Truth

LOST_LEGS = ("lost", "failed")
LEAST_WAIT = 0.25  # seconds: within them many are let in, one after the other


class TermsJudge:
    """`calls` is request number to how many calls the wires have had."""

    def __init__(
        self,
        script: Script,
        truth: Truth,
        asked: list[Asked],
        figures: Figures,
        books: Sequence[Book],
        calls: Mapping[int, int],
    ):
        assert script.terms is not None
        self._script, self._truth, self._figures = script, truth, figures
        self._terms: Terms = script.terms
        self._asked, self._calls = asked, calls
        self._rows = dict[str, list[AttemptRow]]()
        self._records = dict[str, list[AttemptRecord]]()
        for book in books:
            self._rows |= book.rows()
            self._records |= {name: summary.attempts for name, summary in book.summaries.items()}

    def judge(self) -> None:
        legs = 0
        for asked in self._asked:
            records = self._records.get(asked.request_id, [])
            hedged = [record.hedge for record in records if record.hedge]
            legs += len(hedged)
            self._check(len(hedged) <= 1, "legs", asked, f"second legs: {hedged}")
            self._figures.seams += len(asked.seams)
            self._check(not asked.at_once or asked.told_apart, "legs", asked, f"calls at once: {asked.at_once}")
            self._judge_rows(asked, records)
            if asked.end == "broken":
                self._judge_text(asked)
        self._figures.second_legs += legs
        terms = self._terms
        most = (terms.hedging or 0.0) * len(self._asked) + BURST * self._script.replicas * len(self._script.rows)
        if legs > (most if terms.hedging is not None else 0):
            self._figures.wrong(Wrong("budget", 0.0, None, None, f"{legs} second legs of {most:.1f}"))
        self._judge_priorities()

    def _check(self, fine: bool, oracle: str, asked: Asked, what: str) -> None:
        if not fine:
            told = f"{what}; {asked.end} {asked.why}, steps {asked.steps()}, began {asked.began:.2f}"
            self._figures.wrong(Wrong(oracle, asked.decided or asked.began, asked.replica, asked.number, told))

    def _judge_rows(self, asked: Asked, records: list[AttemptRecord]) -> None:
        """Each call has one row, that has ended; what an answer has used is the sum of those that made it."""
        rows = sorted(self._rows.get(asked.request_id, []), key=lambda row: row.number)
        made = self._calls.get(asked.number, 0)
        if not asked.keyed:  # two tries may be two requests, where the first one has failed
            self._check(len(rows) == made, "rows", asked, f"{len(rows)} rows of {made} calls")
        self._check(all(r.state == "settled" for r in rows), "rows", asked, f"open: {[r.state for r in rows]}")
        lost = {record.number for record in records if record.hedge in LOST_LEGS}
        well = [row for row in rows if row.number in lost and row.kind == "ok"]
        self._check(not well, "rows", asked, "a second leg that has lost was whole")
        if asked.end == "ok" and asked.used is not None:
            used = sum(row.tokens_out for row in rows if row.number not in lost)
            self._check(used == asked.used, "rows", asked, f"rows have {used} tokens, its client heard {asked.used}")

    def _judge_text(self, asked: Asked) -> None:
        """A text that broke off had to go on, if a provider was well all the time, and nobody had asked it."""
        if not self._terms.continues or asked.ended is None or asked.deadline is not None or asked.pauses or asked.odd:
            return
        if len(asked.seams) >= 1 or not asked.provider:  # it goes on once
            return
        unproven = [
            e["provider"]
            for e in asked.entries()
            if e["outcome"] == "unverified" and e["provider"] not in self._terms.ignores
        ]
        self._check(not unproven, "lost", asked, f"{unproven} went on, and nobody believed it")
        since, until = asked.began - LONGEST_OPEN - RAMP, asked.ended
        excuses = Excuses(self._truth)
        tried = {e["provider"] for e in asked.entries() if not e["outcome"].startswith("skipped")}
        for name in asked.tiers:
            if name in tried or name in self._terms.ignores:
                continue
            calm = not self._truth.faulty(name, since, until) and not self._truth.isolated(name, since, until)
            ordered = any(p == name and since <= at <= until for at, _, p in self._truth.commands)
            slow = self._truth.need(asked, name) > 5.0 or self._truth.stalled(asked.began, until) > 0
            if calm and not ordered and not slow and not excuses.trouble(since, until):
                self._check(False, "lost", asked, f"{name} would have gone on")

    def _judge_priorities(self) -> None:
        """Batch work never comes before who is critical, has come earlier, and waits for the same targets."""
        if not self._terms.capacity:
            return
        batch = defaultdict[tuple[int, str], list[tuple[float, float]]](list)
        for asked in self._asked:
            if asked.priority == "batch" and (start := self._start(asked)) is not None:
                batch[asked.replica, asked.row].append((asked.began, start))
        for asked in self._asked:
            start = asked.ended if "Overloaded" in asked.why else self._start(asked)
            # One that was refused itself rests for a moment, and who waits for a probe stands in no line.
            alone = asked.steps() in ([f"{asked.provider}: ok"], [])
            if asked.priority != "critical" or start is None or not alone:
                continue
            before = [b for b in batch[asked.replica, asked.row] if asked.began < b[0] and b[1] < start - LEAST_WAIT]
            what = f"batch work that came later was let in: {before[:2]}, before {start}"
            self._check(not before, "starved", asked, what)

    def _start(self, asked: Asked) -> float | None:
        """When the call began that has answered it, where its provider takes so many at once."""
        if asked.provider not in self._terms.capacity or asked.keyed:
            return None
        records = (r for r in self._records.get(asked.request_id, []) if r.target.startswith(f"{asked.provider}/"))
        return next((asked.began + record.at / 1000 for record in records), None)
