"""Closes the connection of a request that was answered before its body was read. No Ray.

An answer may not wait for a body that it does not need: a wrong key, a wrong type, a route that takes none. The server
(uvicorn) would then go on to read that body and throw it away, for as long as the client sends. Of a small one all is
there already, so its connection is kept.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALL = 64 * 1024  # bytes, as many as uvicorn holds before it stops to read (HIGH_WATER_LIMIT)
_CLOSE = (b"connection", b"close")


class UnreadBodies:
    """Passes requests on, and watches those whose body is large or of unknown length."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_small(scope):
            return await self._app(scope, receive, send)
        body = _Watched(receive, send)
        return await self._app(scope, body.receive, body.send)


class _Watched:
    """A request whose body is read to its end, or not, before its answer begins."""

    def __init__(self, receive: Receive, send: Send):
        self._receive, self._send = receive, send
        self._read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._read = self._read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._read:
            others = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
            message = {**message, "headers": [*others, _CLOSE]}
        await self._send(message)


def _is_small(scope: Scope) -> bool:
    length = b"0"
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            return False
    return length.isdigit() and len(length) < 18 and int(length) <= SMALL
