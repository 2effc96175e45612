"""What is counted, the names in one place. Pure.

Ray exports each under `ray_` and its name, with a label `application`. Labels are names of the configuration
and words of ours: no tenant, no agent, nothing that a client or a provider chose. `model` is a model of the
configuration, or `other`; `provider` is a provider of it, `functions` (of other apps), or `none`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_OWN_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0)


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    kind: Kind
    labels: Labels
    what: str
    boundaries: tuple[float, ...] = ()


def _counter(what: str, *labels: str) -> MetricDefinition:
    return MetricDefinition("counter", labels, what)


def _gauge(what: str, *labels: str) -> MetricDefinition:
    return MetricDefinition("gauge", labels, what)


def _seconds(what: str, *labels: str, boundaries: tuple[float, ...] = _SECONDS) -> MetricDefinition:
    return MetricDefinition("histogram", labels, what, boundaries)


_TARGET = ("provider", "model", "place")  # the place is empty where the provider has none

_SITE = ("provider", "place")

METRICS: Mapping[str, MetricDefinition] = {
    # of an ingress: requests
    "breakwater_requests_total": _counter(
        "requests that are over, by who answered and how they ended", "row", "door", "provider", "outcome"
    ),
    "breakwater_request_seconds": _seconds("until the whole answer, of requests that were answered", "row", "provider"),
    "breakwater_first_token_seconds": _seconds("until the first content of a stream", "row", "provider"),
    "breakwater_added_seconds": _seconds(
        "our own part of the time to the first content", "door", boundaries=_OWN_SECONDS
    ),
    "breakwater_refused_total": _counter("requests refused by a limit before anybody was asked", "code"),
    "breakwater_deadline_misses_total": _counter("requests whose time was over before an answer", "row"),
    # of an ingress: attempts
    "breakwater_attempts_total": _counter("attempts that are over", *_TARGET, "outcome", "verdict"),
    "breakwater_whole_streamed_total": _counter(
        "attempts for whole answers that came as streams", "provider", "outcome"
    ),
    "breakwater_continued_total": _counter(
        "attempts that went on behind an answer that broke off in mid-stream",
        *("row", "from", "to", "method", "outcome"),
    ),
    "breakwater_hedges_total": _counter(
        "second legs: won, lost or failed, by whom they were sent to", "row", "provider", "result"
    ),
    "breakwater_idempotent_total": _counter(
        "requests with an idempotency key, and those that an SDK sent again: new, joined, replayed, taken_over, "
        "reused (for another request), unavailable",
        "result",
    ),
    "breakwater_skips_total": _counter("candidates that were not asked", "provider", "why"),
    "breakwater_failovers_total": _counter("moves from one candidate to the next", "from", "to", "reason"),
    "breakwater_tokens_total": _counter(
        "tokens: in, out, cached (of those in), reasoning (of those out)", *_TARGET, "kind"
    ),
    "breakwater_cost_usd_total": _counter("what attempts have cost, in US dollars, where it is known", *_TARGET),
    "breakwater_unpriced_total": _counter("attempts whose cost is not known", *_TARGET),
    "breakwater_provider_info": _gauge(
        "1 for a provider that can be called, 0 for one that is left out", "provider", "kind"
    ),
    "breakwater_slow_targets": _gauge(
        "targets that take far longer than they usually do, as this ingress replica sees it", "provider"
    ),
    "breakwater_limit": _gauge(
        "calls that a target may have at once, as this ingress replica has found out; none where there is no limit",
        *_TARGET,
    ),
    "breakwater_waiting": _gauge("requests that wait for room at their targets, at this ingress replica"),
    "breakwater_shed_total": _counter("requests refused because they would have waited for too long", "priority"),
    "breakwater_in_flight": _gauge("attempts under way, by this ingress replica", "provider"),
    # of an ingress: its two actors
    "breakwater_actor_calls_total": _counter("calls of the breaker actor", "method", "result"),
    "breakwater_order_age_seconds": _gauge("since the breaker actor was last heard by this ingress replica"),
    "breakwater_reports_waiting": _gauge("reports that are not with the breaker actor yet"),
    "breakwater_ledger_lag_seconds": _gauge("age of the oldest row that is not in the store yet"),
    "breakwater_ledger_lag_rows": _gauge("lines that are not in the store yet"),
    "breakwater_ledger_missing_journals": _gauge("replicas that are gone, and whose journals nobody has found"),
    "breakwater_ledger_dropped_total": _counter(
        "lines that are lost: the journal was full, or they were damaged, refused, or of a deleted day"
    ),
    # of a provider's replica, where its credential expires
    "breakwater_credential_age_seconds": _gauge("since the credential in use was fetched", *_SITE),
    "breakwater_credential_left_seconds": _gauge("until the credential expires; negative once it has", *_SITE),
    "breakwater_credential_failures_total": _counter("fetches of a new credential that failed", *_SITE),
    # of the breaker actor
    "breakwater_state": _gauge(
        "1 for the state that a circuit is in: closed, half_open, open, due (to be probed), isolated", *_TARGET, "state"
    ),
    "breakwater_transitions_total": _counter("changes of a circuit's state", *_TARGET, "to", "reason"),
    "breakwater_probes_total": _counter(
        "probes: granted, passed, failed, throttled, misconfigured, released, lost", *_TARGET, "result"
    ),
    "breakwater_late_reports_total": _counter("reports of an earlier epoch, which decide nothing", *_TARGET),
    "breakwater_incarnation": _gauge("the breaker actor's number: it grows with each start"),
}


class Meter(Protocol):
    """Labels are values in the figure's own order."""

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None: ...

    def set(self, name: str, labels: Labels, value: float) -> None: ...

    def observe(self, name: str, labels: Labels, value: float) -> None: ...


class MeterOfReplica(Meter, Protocol):
    async def run(self, sample: Callable[[], None]) -> None:
        """Once a second: have the gauges sampled, and hand everything on."""


class NoMeter:
    """Counts nothing."""

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        pass

    def set(self, name: str, labels: Labels, value: float) -> None:
        pass

    def observe(self, name: str, labels: Labels, value: float) -> None:
        pass
