"""A request that is over as spans: its own, and one for each attempt. Pure.

Who was skipped is a moment of the request's span. Tenant and agent stand there too, for whoever looks for a
tenant's requests, and go no further: neither to a provider's replica nor to a provider.
"""

from collections.abc import Iterator, Mapping

from actors.breaker.outcomes import ENDINGS
from actors.breaker.plan import provider_of
from actors.ledger.rows import NANOS
from deployments.telemetry.request_record import AttemptRecord, RequestSummary
from deployments.telemetry.spans import Span, SpanEvent, Value, nanoseconds, tidy
from deployments.telemetry.trace_context import Trace

ROUTES: Mapping[str, str] = {"chat": "/v1/chat/completions", "embed": "/v1/embeddings"}
FINE = frozenset({"ok", "cancelled"})  # outcomes that are nobody's error


def of_request(ended: RequestSummary, trace: Trace) -> list[Span]:
    root = Span(
        f"POST {ROUTES[trace.verb]}" if ended.caller.door == "http" else f"handle {trace.verb}",
        "server",
        trace.place,
        trace.began,
        trace.began + nanoseconds(ended.ms),
        tidy({**_of_service(ended, trace), **_of_request(ended)}),
        tuple(_moments(ended, trace.began)),
        _error(ended),
    )
    return [root, *(_attempt(step, trace, number) for number, step in enumerate(ended.attempts, 1))]


def _of_service(ended: RequestSummary, trace: Trace) -> dict[str, object]:
    if ended.caller.door != "http":
        return {}
    route = ROUTES[trace.verb]
    return {
        "http.request.method": "POST",
        "http.route": route,
        "url.path": route,
        "url.scheme": "http",
        "http.response.status_code": 200 if ended.first is not None else ended.status,
    }


def _of_request(ended: RequestSummary) -> dict[str, object]:
    cost = ended.used.get("cost")
    return {
        "breakwater.request_id": ended.request_id,
        "breakwater.x_request_id": ended.caller.request_id,
        "breakwater.door": ended.caller.door,
        "breakwater.row": ended.row,
        "breakwater.stream": ended.stream,
        "breakwater.outcome": ended.outcome,
        "breakwater.attempts": len(ended.attempts),
        "breakwater.target": ended.target,
        "breakwater.first_token_ms": ended.first,
        "breakwater.added_ms": ended.added,
        "breakwater.cost_usd": None if cost is None else cost / NANOS,
        "breakwater.tenant": ended.caller.tenant,
        "breakwater.agent": ended.caller.agent,
        "error.type": ended.outcome if _error(ended) else None,
    }


def _error(ended: RequestSummary) -> str | None:
    """Why a request counts as failed: a 4xx is an answer."""
    failed = ended.outcome not in FINE if ended.status is None else ended.status >= 500
    return why(ended.outcome) if failed else None


def why(outcome: str) -> str:
    """Words of ours; what a provider said may repeat what it was asked."""
    return ENDINGS[outcome].why if outcome in ENDINGS else outcome


def _moments(ended: RequestSummary, began: int) -> Iterator[SpanEvent]:
    for step in ended.steps:
        if step.skipped is not None:
            yield SpanEvent("skipped", began + nanoseconds(step.at), _of_skipped(step))
    if ended.stream and ended.first is not None:
        yield SpanEvent("first token", began + nanoseconds(ended.first), {})


def _of_skipped(step: AttemptRecord) -> dict[str, Value]:
    return tidy(
        {
            "breakwater.target": step.target,
            "breakwater.why": step.skipped,
            "breakwater.state": step.state,
            "breakwater.epoch": step.epoch,
            "breakwater.retry_in_seconds": step.retry_in,
        }
    )


def _attempt(step: AttemptRecord, trace: Trace, number: int) -> Span:
    began, failed = trace.began + nanoseconds(step.at), step.outcome not in FINE
    attributes = {
        "breakwater.attempt": number,
        "breakwater.target": step.target,
        "breakwater.outcome": step.outcome,
        "breakwater.verdict": step.verdict,
        "breakwater.probe": step.probe,
        "breakwater.epoch": step.epoch,
        "breakwater.first_token_ms": step.first,
        "http.response.status_code": step.status,
        "error.type": step.outcome if failed else None,
    }
    return Span(
        f"attempt {provider_of(step.target)}",
        "client",
        trace.place.below(number),
        began,
        began + nanoseconds(step.ms or 0.0),
        tidy(attributes),
        error=why(step.outcome) if failed else None,
    )
