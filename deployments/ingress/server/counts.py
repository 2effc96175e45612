"""What Ray Serve counts of the requests that go the short way: how many at once, how many, with which end, how long.

Serve has no public way to say that a request came by another road than its own, so this uses the methods by which its
replica counts those that did come by it (`_direct_ingress_asgi` in ray/serve/_private/replica.py of the pinned version,
which a test holds). Where one is missing, or Serve is set to do more for each request than count it, requests go the
long way.
"""

import logging
import random
from typing import Any

from ray.serve import context
from ray.serve._private import tracing_utils
from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve._private.logging_utils import log_access_log_filter

from deployments.ingress.server.exchange import CLIENT_LEFT

_SERVES_LOG = logging.getLogger(SERVE_LOGGER_NAME)
log = logging.getLogger(f"ray.serve.{__name__}")


class ServeCounts:
    """Counts of one replica. `replica` is Serve's own object for it."""

    def __init__(self, replica: Any):
        self._replica = replica
        self._semaphore, self._metrics = replica._semaphore, replica._metrics_manager
        self._app, self._deployment = replica._deployment_id.app_name, replica._deployment_id.name
        self._request = RequestMetadata(
            request_id="",
            internal_request_id="",
            app_name=self._app,
            is_streaming=True,
            _http_method="POST",
            _request_protocol=RequestProtocol.HTTP,
            is_direct_ingress=True,
        )
        self._counts_alone, self._handlers = False, list[logging.Handler]()

    @property
    def prefix(self) -> str:
        route: str = self._replica._route_prefix or ""  # may change while the replica runs
        return route

    def has_room(self) -> bool:
        if self._handlers != _SERVES_LOG.handlers:  # at first, and when an operator has changed the log of a replica
            self._handlers = list(_SERVES_LOG.handlers)
            self._counts_alone = _counts_alone(self._replica)
        return self._counts_alone and not self._semaphore.locked()

    def new_request_id(self) -> str:
        """Return a name of Serve's form, a random UUID: `uuid.uuid4` takes three times as long."""
        bits = f"{random.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"

    async def begin(self, request_id: str) -> None:
        await self._semaphore.acquire()
        self._metrics.inc_num_ongoing_requests(self._request)
        # Lines of the log and calls by handle take the request's name from here.
        made = context._RequestContext(route=self.prefix, request_id=request_id, app_name=self._app)
        context._serve_request_context.set(made)  # type: ignore[arg-type]

    def end(self, status: int, ms: float) -> None:
        self._metrics.dec_num_ongoing_requests(self._request)
        self._semaphore.release()
        self._metrics.record_request_metrics(route=self.prefix, latency_ms=ms, is_error=status in (0, CLIENT_LEFT))
        if status:
            self._metrics.record_ingress_request_metrics(
                protocol=RequestProtocol.HTTP,
                method="POST",
                route=self.prefix,
                app_name=self._app,
                deployment_name=self._deployment,
                latency_ms=ms,
                is_error=status >= 400,
                status_code=str(status),
            )


def counts_around(app: Any) -> ServeCounts | None:
    """Return the counts of the replica in whose server `app` is; None, which the log tells, where it can't be found.

    `app` is what Serve has put our middleware around: what gives each request a name, around a method of the replica.
    """
    try:
        return ServeCounts(app._app.__self__)
    except AttributeError as error:
        log.warning("Serve is not as it was, so each request goes the long way, which costs more: %s", error)
        return None


def _counts_alone(replica: Any) -> bool:
    """Return whether Serve does no more for a request than count it: no line, no span, no time limit, no thread."""
    if tracing_utils.is_tracing_enabled() or replica._http_options.request_timeout_s is not None:
        return False
    if replica._user_callable_wrapper._run_user_code_in_separate_thread:
        return False
    return all(log_access_log_filter in handler.filters for handler in _SERVES_LOG.handlers)
