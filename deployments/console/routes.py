"""The routes of the console: the page itself, what its first page shows, once or live, the setup, and alerts. No Ray.

The page needs no key. Where no other route needs one either, what it shows first is in the page itself: else it would
be empty until its first event. It may run only its own script and style, may connect only to us, and can't be
framed.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.console.alerts import FiringAlerts
from deployments.console.feed import STREAM_SECONDS, Feed
from deployments.console.page import HEADERS, PAGE, with_first
from deployments.console.setup import setup_of
from deployments.openai_api.chat import dump
from deployments.service.auth import Identity

if TYPE_CHECKING:
    from deployments.service.service import Service

STUCK_SECONDS = 10.0  # after the end of its stream; then a reader that has not taken all is cut off
DATA_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
FIRST_SECONDS = 0.2  # that a page waits for what it shows first


class ConsoleRoutes:
    """The handlers of the routes. The table of routes says who may call each: see ingress/http.py."""

    def __init__(self, service: "Service"):
        self._service = service
        self._feed = Feed(service)
        self._alerts = FiringAlerts()

    async def page(self, _: Request, __: Identity) -> Response:
        if not self._service.authenticator.open:
            return Response(PAGE, media_type="text/html", headers=HEADERS)
        return Response(await self._first(), media_type="text/html", headers={**HEADERS, **DATA_HEADERS})

    async def _first(self) -> bytes:
        """Return the page with what it shows before its first event; without, where that takes longer than a page."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                return with_first(dump(await self._feed.snapshot()))
        except TimeoutError:
            return PAGE

    async def status(self, _: Request, __: Identity) -> Response:
        return JSONResponse(await self._feed.snapshot(), headers=DATA_HEADERS)

    async def events(self, _: Request, __: Identity) -> Response:
        self._feed.admit()
        return _Events(self._feed)

    async def setup(self, _: Request, __: Identity) -> Response:
        """Answer with how each provider is set up, without any secret."""
        service = self._service
        policy = await service.operations.policy()
        return JSONResponse(setup_of(service.resolved, policy, service.ledger), headers=DATA_HEADERS)

    async def alerts(self, _: Request, __: Identity) -> Response:
        """Answer with the alerts of Prometheus that fire, where Prometheus is known."""
        return JSONResponse(await self._alerts.look(), headers=DATA_HEADERS)


class _Events(StreamingResponse):
    """A stream that counts as a page while it runs, and runs for a limited time, whatever its reader does."""

    def __init__(self, feed: Feed):
        self._feed = feed
        self._frames = feed.frames()
        super().__init__(self._frames, media_type="text/event-stream", headers=DATA_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError), self._feed.reading():
            async with asyncio.timeout(STREAM_SECONDS + STUCK_SECONDS), contextlib.aclosing(self._frames):
                await super().__call__(scope, receive, send)
