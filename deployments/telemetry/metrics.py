"""What an ingress counts of each request that is over, and a provider's replica of its credential. No Ray.

All labels are words of the configuration or of ours: a name that a client or a provider chose becomes `other`.
"""

from collections.abc import Callable, Iterable

from actors.breaker.plan import labels_of, place_of, provider_of, site_of
from actors.ledger.rows import NANOS
from actors.metrics import Meter
from deployments.errors import OUT_OF_SCOPE, Overloaded
from deployments.providers.credentials.renewed import CredentialReport
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_record import RequestSummary

OTHER, NONE = "other", "none"
_NAMING = ("unsupported", OUT_OF_SCOPE)  # reasons that go on with what the client has named
_TOKEN_KINDS = ("in", "out", "cached", "reasoning")


class Metrics:
    """An observer that counts. `rows` and `targets` are the configured ones: no other name becomes a label."""

    def __init__(self, meter: Meter, rows: Iterable[str], targets: Iterable[str]):
        self._meter = meter
        self._rows = frozenset(rows)
        self._targets = {target: labels_of(target) for target in targets}

    def __call__(self, summary: RequestSummary) -> None:
        """Count one request that is over."""
        meter, row = self._meter, summary.row if summary.row in self._rows else OTHER
        provider = NONE if summary.target is None else provider_of(summary.target)
        meter.add("breakwater_requests_total", (row, summary.caller.door, provider, summary.outcome))
        if summary.outcome in ("deadline_exceeded", "deadline"):
            meter.add("breakwater_deadline_misses_total", (row,))
        if summary.outcome == Overloaded.code:
            meter.add("breakwater_shed_total", (summary.caller.priority,))
        if summary.first_ms is not None and summary.stream:
            meter.observe("breakwater_first_token_seconds", (row, provider), summary.first_ms / 1000)
        if summary.outcome == "ok":
            meter.observe("breakwater_request_seconds", (row, provider), summary.ms / 1000)
        if summary.added_ms is not None:
            meter.observe("breakwater_added_seconds", (summary.caller.door,), summary.added_ms / 1000)
        self._count_records(row, summary.records)

    def _count_records(self, row: str, records: tuple[AttemptRecord, ...]) -> None:
        previous: AttemptRecord | None = None
        for record in records:
            if (reason := record.skipped) is None:
                self._count_attempt(record)
                if record.hedge:
                    self._meter.add("breakwater_hedges_total", (row, provider_of(record.target), record.hedge))
                if previous is not None:
                    moved = site_of(previous.target), site_of(record.target), _failover_reason(previous)
                    self._meter.add("breakwater_failovers_total", moved)
                    if record.seam:
                        continued = row, *moved[:2], record.seam, record.outcome
                        self._meter.add("breakwater_continued_total", continued)
            else:
                labels = provider_of(record.target), _without_names(reason)
                self._meter.add("breakwater_skips_total", labels)
            previous = record

    def _count_attempt(self, record: AttemptRecord) -> None:
        labels = self._targets.get(record.target) or (provider_of(record.target), OTHER, place_of(record.target))
        meter = self._meter
        meter.add("breakwater_attempts_total", (*labels, record.outcome, record.verdict or NONE))
        if record.upstream is not None and record.upstream.get("streamed"):
            meter.add("breakwater_whole_streamed_total", (labels[0], record.outcome))
        if not (used := record.used):
            return
        for kind in _TOKEN_KINDS:
            if amount := used[f"tokens_{kind}"]:
                meter.add("breakwater_tokens_total", (*labels, kind), amount)
        if used["cost"] is None:
            meter.add("breakwater_unpriced_total", labels)
        else:
            meter.add("breakwater_cost_usd_total", labels, used["cost"] / NANOS)


class CredentialMetrics:
    """How old the credential of a provider is, or of one of its places. Call it once a second.

    `report` says how the credential stands.
    """

    def __init__(self, meter: Meter, provider: str, report: Callable[[], CredentialReport], place: str = ""):
        self._meter, self._labels, self._report = meter, (provider, place), report
        self._counted = 0

    def __call__(self) -> None:
        report = self._report()
        self._meter.add("breakwater_credential_failures_total", self._labels, report.failures - self._counted)
        self._counted = report.failures
        if report.age is not None and report.left is not None:
            self._meter.set("breakwater_credential_age_seconds", self._labels, report.age)
            self._meter.set("breakwater_credential_left_seconds", self._labels, report.left)


def _failover_reason(record: AttemptRecord) -> str:
    return record.outcome if record.skipped is None else _without_names(record.skipped)


def _without_names(reason: str) -> str:
    """Return the reason without the unsupported fields or the scope, because a client may name any."""
    return next((known for known in _NAMING if reason.startswith(f"{known} ")), reason)
