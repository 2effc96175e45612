"""The routes of the status page: the page itself, and what it shows, once or live. No Ray.

The page needs no key. Where no other route needs one either, what it shows first is in the page itself: else it would
be empty until its first event. It may run only its own script and style, may connect only to us, and can't be
framed.
"""

import asyncio
import base64
import contextlib
import hashlib
import pathlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.openai_api.chat import dump
from deployments.service.auth import Identity
from deployments.status_page.feed import STREAM_SECONDS, Feed

if TYPE_CHECKING:
    from deployments.service.service import Service

STUCK_SECONDS = 10.0  # after the end of its stream; then a reader that has not taken all is cut off
DATA_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
FIRST_SECONDS = 0.2  # that a page waits for what it shows first
_FIRST = b'<script type="application/json" id="first"></script>'
PAGE = pathlib.Path(__file__).with_name("status.html").read_bytes()


def page_headers(page: bytes) -> Mapping[str, str]:
    """Return the response headers of the page, with the hashes of its inline scripts and styles."""

    def hashes(tag: bytes) -> str:
        inline = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in inline)

    policy = {
        "default-src": "'none'",
        "script-src": hashes(b"script"),
        "style-src": hashes(b"style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }


class StatusRoutes:
    """The handlers of the routes. The table of routes says who may call each: see ingress/http.py."""

    def __init__(self, service: "Service"):
        self._feed = Feed(service)
        self._authenticator = service.authenticator
        self._headers = page_headers(PAGE)

    async def page(self, _: Request, __: Identity) -> Response:
        if not self._authenticator.open:
            return Response(PAGE, media_type="text/html", headers=self._headers)
        page = PAGE.replace(_FIRST, await self._first())
        return Response(page, media_type="text/html", headers={**self._headers, **DATA_HEADERS})

    async def _first(self) -> bytes:
        """Return what the page shows before its first event; nothing where that takes longer than the page."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                shown = dump(await self._feed.snapshot())
        except TimeoutError:
            return _FIRST
        return _FIRST.replace(b"><", b">" + shown.replace(b"<", b"\\u003c") + b"<")

    async def status(self, _: Request, __: Identity) -> Response:
        return JSONResponse(await self._feed.snapshot(), headers=DATA_HEADERS)

    async def events(self, _: Request, __: Identity) -> Response:
        self._feed.admit()
        return _Events(self._feed)


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
