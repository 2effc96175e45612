"""All that the doors and the replicas see of traces: ids when something begins, a word when it is over. Pure.

Nothing is written here: a span's making is put aside, for a thread that has time for it.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from deployments.providers.timing import Timing
from deployments.telemetry.call_spans import Asked
from deployments.telemetry.request_record import Ended
from deployments.telemetry.request_spans import of_request
from deployments.telemetry.spans import Span
from deployments.telemetry.trace_context import Sampler, Trace, entered, going_on

Telling = Callable[[], list[Span]]
_AS_TOLD = Sampler()


class Traces:
    """Of the deployment `name`, which is a provider of that `kind`, or the ingress.

    `put` takes what is to be written; `close` waits for it to be gone, but not for long.
    """

    def __init__(
        self,
        sampler: Sampler,
        put: Callable[[Telling], None],
        close: Callable[[], None] = lambda: None,
        *,
        name: str = "",
        kind: str = "",
    ):
        self._sampler = sampler
        self._put = put
        self._name, self._kind = name, kind
        self.close = close

    def begin(self, headers: Any, verb: str) -> Trace:
        """A request begins, in the trace that its caller's headers tell of or in one of its own."""
        return Trace(entered(headers, self._sampler), time.time_ns(), verb)

    def __call__(self, ended: Ended) -> None:
        """A request is over."""
        if (trace := ended.trace) is not None and trace.place.sampled:
            self._put(partial(of_request, ended, trace))

    def asked(self, call: Mapping[str, Any], timing: Timing, *, stream: bool = False) -> Asked | None:
        """A provider's replica is called; None if this call is not to be recorded."""
        above = going_on(call.get("trace"))
        if above is None:
            return None
        if not above.sampled:
            timing.trace = above.headers()
            return None
        place = entered(call["trace"], _AS_TOLD)
        timing.trace = place.below(1).headers()
        return Asked(place, self._name, self._kind, call, stream, timing, self._put)
