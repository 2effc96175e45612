"""The spans of a request that is over: its own, and one for each attempt. Pure.

A skipped target is an event of the request's span. Tenant and agent are attributes of that span alone, so that an
operator finds a tenant's requests. They go neither to a provider's replica nor to a provider.
"""

from collections.abc import Iterator, Mapping

from actors.breaker.outcomes import ENDINGS
from actors.breaker.plan import provider_of
from actors.ledger.rows import NANOS
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_record import RequestSummary
from deployments.telemetry.spans import Span, SpanEvent, Value, clean_attributes, nanoseconds
from deployments.telemetry.trace_context import Trace

ROUTES: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "embed": "/v1/embeddings",
    # Doors, whose requests are chats.
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
NO_ERRORS = frozenset({"ok", "cancelled"})  # outcomes that are nobody's error


def request_spans(summary: RequestSummary, trace: Trace) -> list[Span]:
    """Return the spans of a request, its own first."""
    root = Span(
        f"handle {trace.verb}" if (route := _route(summary, trace)) is None else f"POST {route}",
        "server",
        trace.context,
        trace.began,
        trace.began + nanoseconds(summary.ms),
        clean_attributes({**_http_attributes(summary, trace), **_request_attributes(summary)}),
        tuple(_events(summary, trace.began)),
        _error(summary),
    )
    # By the order in which they began, as their calls were told: of two legs the second may end first.
    numbered = ((record.number or at, record) for at, record in enumerate(summary.attempts, 1))
    return [root, *(_attempt_span(record, trace, number) for number, record in numbered)]


def _route(summary: RequestSummary, trace: Trace) -> str | None:
    """Return the route of a request; None if it came by handle."""
    door = summary.caller.door
    return None if door == "handle" else ROUTES.get(door) or ROUTES[trace.verb]


def _http_attributes(summary: RequestSummary, trace: Trace) -> dict[str, object]:
    if (route := _route(summary, trace)) is None:
        return {}
    return {
        "http.request.method": "POST",
        "http.route": route,
        "url.path": route,
        "url.scheme": "http",
        "http.response.status_code": 200 if summary.first_ms is not None else summary.status,
    }


def _request_attributes(summary: RequestSummary) -> dict[str, object]:
    cost = summary.used.get("cost")
    return {
        "breakwater.request_id": summary.request_id,
        "breakwater.x_request_id": summary.caller.request_id,
        "breakwater.door": summary.caller.door,
        "breakwater.row": summary.row,
        "breakwater.stream": summary.stream,
        "breakwater.outcome": summary.outcome,
        "breakwater.attempts": len(summary.attempts),
        "breakwater.target": summary.target,
        "breakwater.first_token_ms": summary.first_ms,
        "breakwater.added_ms": summary.added_ms,
        "breakwater.cost_usd": None if cost is None else cost / NANOS,
        "breakwater.tenant": summary.caller.tenant,
        "breakwater.agent": summary.caller.agent,
        "error.type": summary.outcome if _error(summary) else None,
    }


def _error(summary: RequestSummary) -> str | None:
    """Return why a request failed; None if it did not. An error of the client (4xx) is no failure."""
    failed = summary.outcome not in NO_ERRORS if summary.status is None else summary.status >= 500
    return error_text(summary.outcome) if failed else None


def error_text(outcome: str) -> str:
    """Return our own words for an outcome, because a provider's message may repeat the request."""
    return ENDINGS[outcome].why if outcome in ENDINGS else outcome


def _events(summary: RequestSummary, began: int) -> Iterator[SpanEvent]:
    for record in summary.records:
        if record.skipped is not None:
            yield SpanEvent("skipped", began + nanoseconds(record.at), _skipped_attributes(record))
    if summary.stream and summary.first_ms is not None:
        yield SpanEvent("first token", began + nanoseconds(summary.first_ms), {})


def _skipped_attributes(record: AttemptRecord) -> dict[str, Value]:
    return clean_attributes(
        {
            "breakwater.target": record.target,
            "breakwater.why": record.skipped,
            "breakwater.state": record.state,
            "breakwater.epoch": record.epoch,
            "breakwater.retry_in_seconds": record.retry_in,
        }
    )


def _attempt_span(record: AttemptRecord, trace: Trace, number: int) -> Span:
    began, failed = trace.began + nanoseconds(record.at), record.outcome not in NO_ERRORS
    attributes = {
        "breakwater.attempt": number,
        "breakwater.target": record.target,
        "breakwater.outcome": record.outcome,
        "breakwater.verdict": record.verdict,
        "breakwater.probe": record.probe,
        "breakwater.epoch": record.epoch,
        "breakwater.seam": record.seam or None,
        "breakwater.hedge": record.hedge or None,
        "breakwater.first_token_ms": record.first_ms,
        "http.response.status_code": record.status,
        "error.type": record.outcome if failed else None,
    }
    return Span(
        f"attempt {provider_of(record.target)}",
        "client",
        trace.context.child(number),
        began,
        began + nanoseconds(record.ms or 0.0),
        clean_attributes(attributes),
        error=error_text(record.outcome) if failed else None,
    )
