"""What an ingress counts: of each request that is over, and once a second of what is under way. No Ray.

All labels are words of the configuration or of ours: what a client or a provider chose becomes `other`.
"""

from collections.abc import Iterable

from actors.breaker.plan import provider_of
from actors.ledger.rows import NANOS
from actors.metrics import Meter
from deployments.telemetry.request_record import Ended, Step

OTHER, NONE = "other", "none"
_TOKENS = ("in", "out", "cached", "reasoning")


class Metrics:
    """`rows` and `targets` are those of the configuration: of any other no name is told."""

    def __init__(self, meter: Meter, rows: Iterable[str], targets: Iterable[str]):
        self._meter = meter
        self._rows = frozenset(rows)
        self._targets = {target: (provider_of(target), target.partition("/")[2]) for target in targets}

    def __call__(self, ended: Ended) -> None:
        """One request is over."""
        meter, row = self._meter, ended.row if ended.row in self._rows else OTHER
        provider = NONE if ended.target is None else provider_of(ended.target)
        meter.add("breakwater_requests_total", (row, ended.caller.door, provider, ended.outcome))
        if ended.outcome in ("deadline_exceeded", "deadline"):
            meter.add("breakwater_deadline_misses_total", (row,))
        if ended.first is not None and ended.stream:
            meter.observe("breakwater_first_token_seconds", (row, provider), ended.first / 1000)
        if ended.outcome == "ok":
            meter.observe("breakwater_request_seconds", (row, provider), ended.ms / 1000)
        if ended.added is not None:
            meter.observe("breakwater_added_seconds", (ended.caller.door,), ended.added / 1000)
        self._steps(ended.steps)

    def _steps(self, steps: tuple[Step, ...]) -> None:
        before: Step | None = None
        for step in steps:
            provider = provider_of(step.target)
            if (why := step.skipped) is None:
                self._attempt(step)
                if before is not None:
                    way = provider_of(before.target), provider, _reason(before)
                    self._meter.add("breakwater_failovers_total", way)
            else:
                self._meter.add("breakwater_skips_total", (provider, _plain(why)))
            before = step

    def _attempt(self, step: Step) -> None:
        labels = self._targets.get(step.target) or (provider_of(step.target), OTHER)
        meter = self._meter
        meter.add("breakwater_attempts_total", (*labels, step.outcome, step.verdict or NONE))
        if not (used := step.used):
            return
        for kind in _TOKENS:
            if amount := used[f"tokens_{kind}"]:
                meter.add("breakwater_tokens_total", (*labels, kind), amount)
        if used["cost"] is None:
            meter.add("breakwater_unpriced_total", labels)
        else:
            meter.add("breakwater_cost_usd_total", labels, used["cost"] / NANOS)


def _reason(step: Step) -> str:
    return step.outcome if step.skipped is None else _plain(step.skipped)


def _plain(why: str) -> str:
    """Without the field that a tier has no use for: a client may name any."""
    return "unsupported" if why.startswith("unsupported ") else why
