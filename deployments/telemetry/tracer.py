"""The tracer, through which ingress and provider replicas record spans: ids at a begin, spans at an end. Pure.

It makes no span itself: it puts a function that does into the batch processor, whose thread calls it.
"""

import time
from collections.abc import Callable
from functools import partial

from deployments.openai_api.json_types import JsonObject
from deployments.providers.http.timing import Timing
from deployments.telemetry.call_spans import CallSpans
from deployments.telemetry.request_record import RequestSummary
from deployments.telemetry.request_spans import request_spans
from deployments.telemetry.spans import Span
from deployments.telemetry.trace_context import Sampler, Trace, new_context, parse_context

SpanFactory = Callable[[], list[Span]]
_AS_PARENT = Sampler()


class Tracer:
    """The tracer of the deployment `name`, which is a provider of that `kind`, or the ingress.

    `put` takes what makes the spans. `close` waits a limited time until all are exported.
    """

    def __init__(
        self,
        sampler: Sampler,
        put: Callable[[SpanFactory], None],
        close: Callable[[], None] = lambda: None,
        *,
        name: str = "",
        kind: str = "",
    ):
        self._sampler = sampler
        self._put = put
        self._name, self._kind = name, kind
        self.close = close

    def begin(self, headers: object, verb: str) -> Trace:
        """Return the trace of a request that begins: that of its caller's headers, or a new one."""
        return Trace(new_context(headers, self._sampler), time.time_ns(), verb)

    def __call__(self, summary: RequestSummary) -> None:
        """Record the spans of a request that is over."""
        if (trace := summary.trace) is not None and trace.context.sampled:
            self._put(partial(request_spans, summary, trace))

    def begin_call(self, call: JsonObject, timing: Timing, *, stream: bool = False) -> CallSpans | None:
        """Return the spans of a call that begins in a provider's replica; None if it is not recorded.

        Either way `timing.trace` gets the headers with which the provider's server continues the trace.
        """
        parent = parse_context(call.get("trace"))
        if parent is None:
            return None
        if not parent.sampled:
            timing.trace = parent.headers()
            return None
        context = new_context(call["trace"], _AS_PARENT)
        timing.trace = context.child(1).headers()
        return CallSpans(context, self._name, self._kind, call, stream, timing, self._put)
