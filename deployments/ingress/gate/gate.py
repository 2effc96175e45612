"""The gate: holds each request to its row of the table of routes, before its body is read. No Ray.

It looks in this order: from where the request comes, who sends it, which type its body has, and how long it is.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import TooLarge, Unauthorized, WrongContentType
from deployments.ingress.gate.origins import Origins
from deployments.ingress.gate.routes import Route
from deployments.ingress.server.headers import Headers, first_headers
from deployments.keys.wrong_keys import WrongKeys
from deployments.service.auth import ANONYMOUS, Access, Identity

if TYPE_CHECKING:
    from deployments.service.service import Service

Endpoint = Callable[[Request], Awaitable[Response]]
FORWARDED = "a proxy"
ANTHROPICS = b"x-api-key"


class Gate:
    """Lets requests in.

    Where keys are needed, `Host` and `Origin` are not looked at: no page can make a browser send a key. Who calls by
    handle runs code on the cluster, so he needs none.
    """

    def __init__(self, service: "Service", *, by_handle: bool = False):
        self._by_handle = by_handle
        self._authenticator, self._wrong_keys = service.authenticator, WrongKeys()
        config = service.resolved.config
        allowed = [] if config.cors is None else config.cors.origins
        self._origins = Origins(config.hosts, allowed) if service.authenticator.open else None

    def guard(self, route: Route) -> Endpoint:
        """Return the route's handler behind the gate."""

        async def endpoint(request: Request) -> Response:
            headers = first_headers(request.scope)
            try:
                identity = self._admit(route, headers)
            except Unauthorized:
                await self._hold(request, headers)
                _look_elsewhere(headers)
                raise
            if route.content_type is not None:
                check_body(route, headers)
            return await route.handler(request, identity)

        return endpoint

    def _admit(self, route: Route, headers: Headers) -> Identity:
        """Return who calls. Raises Unauthorized or Forbidden."""
        if self._by_handle and route.access is not Access.ADMIN:
            return ANONYMOUS
        # What anyone may see tells nothing, and people follow links to the console.
        if self._origins is not None and route.access is not Access.ANYONE:
            self._origins.check(headers)
        first, *others = _credentials(headers)
        try:
            return self._authenticator.admit(route.access, first, route.scope)
        except Unauthorized:
            for other in others:
                with contextlib.suppress(Unauthorized):
                    return self._authenticator.admit(route.access, other, route.scope)
            raise

    async def _hold(self, request: Request, headers: Headers) -> None:
        """Let those wait who try keys."""
        if any(map(self._authenticator.is_wrong, _credentials(headers))):
            await self._wrong_keys.hold(_address(request, headers))


def _address(request: Request, headers: Headers) -> str:
    """Return the address that sent a request; one for all that come with a word of a proxy, which anyone may invent.

    HAProxy as Serve starts it adds no such word of its own, and Serve's server believes the one that a client sends.
    """
    return FORWARDED if request.client is None or b"x-forwarded-for" in headers else request.client.host


# Where Azure and Google want a key.
_OTHERS = (b"api-key", b"x-goog-api-key", b"openai-api-key")


def _look_elsewhere(headers: Headers) -> None:
    """Raise Unauthorized, which says so, for a key in the header of another API."""
    if b"authorization" in headers or ANTHROPICS in headers:
        return
    for name in _OTHERS:
        if name in headers:
            raise Unauthorized(f"The key must be in 'Authorization: Bearer KEY', not in '{name.decode()}'.")


def _credentials(headers: Headers) -> list[str | None]:
    """Return what may hold the caller's key: `Authorization`, and the header of Anthropic's clients. Some send both."""
    found = headers.get(b"authorization")
    authorization = None if found is None else found.decode("latin-1")
    key = headers.get(ANTHROPICS, b"").strip()
    if not key:
        return [authorization]
    bearer = f"Bearer {key.decode('latin-1')}"
    return [bearer] if authorization is None else [authorization, bearer]


def check_body(route: Route, headers: Headers) -> None:
    """Raise WrongContentType or TooLarge if the headers announce a body that the route does not take."""
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given != route.content_type and given.partition(";")[0].strip().lower() != route.content_type:
        assert route.content_type is not None
        raise WrongContentType(given, route.content_type)
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > route.most_bytes:
        raise TooLarge(f"The request body is larger than {route.most_bytes} bytes.")
