"""Keeps headers from Ray Serve to which it would answer in our place, without a type. No Ray.

What it can't decode would be a 500, and is refused with a 400. The caller's deadline would be a 408 in plain text where
it is over before our own answer is there, so Serve does not see it: it is in the scope under HIDDEN.

Serve reads these headers as UTF-8 in each replica, ahead of every application (`_direct_ingress_asgi` in
ray/serve/_private/replica.py). deployment.py has Serve put `middlewares` around the server of our own replicas. The
environment is no place for it: there it would be for all applications of a cluster, and others can't import it.
"""

from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import BadRequest, error_object
from deployments.ingress.server.headers import with_headers

TIMEOUT_HEADER = "x-request-timeout-seconds"
HIDDEN = "breakwater.timeout"
DEADLINE = TIMEOUT_HEADER.encode()
# With `_` for `-`: Serve takes the last two in both spellings.
READ_BY_SERVE = frozenset(
    {
        *(b"x_request_id", b"x_request_timeout_seconds", b"x_request_disconnect_disabled", b"traceparent"),
        *(b"tracestate", b"x_session_id", b"serve_multiplexed_model_id"),
    }
)


_told: list[Callable[[ASGIApp], None]] = []


def on_server(tell: Callable[[ASGIApp], None]) -> None:
    """Have `tell` called with what Serve puts our middleware around, once it starts this process's server."""
    _told.append(tell)


def middlewares() -> list[Middleware]:
    """Return what Serve is to put around its server."""
    return [Middleware(Utf8Headers)]


class Utf8Headers:
    """Passes requests on whose headers Serve can decode, without their deadline, and answers the others with a 400."""

    def __init__(self, app: ASGIApp):
        self._app = app
        while _told:
            _told.pop()(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if not value.isascii() and name.replace(b"-", b"_") in READ_BY_SERVE and not _is_utf8(value):
                return await _refusal(name, scope, receive, send)
        return await self._app(without_deadline(scope), receive, send)


def without_deadline(scope: Scope) -> Scope:
    """Return the scope with the caller's deadline under HIDDEN, and not among its headers; itself, if it has none."""
    for name, value in scope.get("headers", ()):
        if name == DEADLINE:  # of a header that was sent twice the first counts
            headers = [header for header in scope["headers"] if header[0] != DEADLINE]
            return {**with_headers(scope, headers), HIDDEN: value.decode()}
    return scope


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _refusal(name: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    header = name.decode("latin-1")
    error = BadRequest(f"Invalid '{header}': it is not UTF-8.", header, "invalid_value")
    await JSONResponse(error_object(error), error.status)(scope, receive, send)
