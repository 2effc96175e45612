"""One request that goes the short way: its body has arrived, and its answer is written with as few writes as can be.

No Ray.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_VALUE_RE, STATUS_LINE

from deployments.ingress.body.bodies import WHOLE_BODY
from deployments.ingress.server.headers import add_header, first_headers

if TYPE_CHECKING:
    from deployments.ingress.server.protocol import DirectProtocol

Endpoint = Callable[[Request], Awaitable[Response]]

CLIENT_LEFT = 499  # the status that Serve counts for a client that has left before its answer was whole
_REQUEST_ID = b"x-request-id"
_LAST_CHUNK = b"0\r\n\r\n"


class _Silent:
    """Stands for the event by which uvicorn wakes a request that waits for its body: this one has it."""

    @staticmethod
    def set() -> None:
        pass


class Exchange:
    """A request and its answer, in the place of uvicorn's cycle: it has what uvicorn's protocol asks a cycle for."""

    message_event = _Silent

    def __init__(self, protocol: "DirectProtocol", scope: Scope, endpoint: Endpoint, *, keep_alive: bool):
        self.disconnected = self.response_complete = False
        self.keep_alive = keep_alive
        self.task: asyncio.Task[None] | None = None
        self.scope = scope  # its WHOLE_BODY is there once that has arrived
        self._endpoint = endpoint
        self._protocol = protocol
        self._request_id = b""
        self._status = 0
        self._head: bytes | None = None  # until it is written with what follows
        self._chunked = False

    async def run(self) -> None:
        """Answer, and have it counted, however it ends."""
        protocol = self._protocol
        counts, request_id = protocol.direct.counts, self._with_request_id()
        began = time.perf_counter()
        await counts.begin(request_id)
        try:
            await self._send(await self._endpoint(Request(self.scope, self._receive)))
            if not (self.response_complete or self.disconnected):
                protocol.transport.close()  # its client would wait for the rest
        except asyncio.CancelledError:
            if not self.disconnected:
                protocol.transport.close()
                raise
            self._status = CLIENT_LEFT
        except Exception:
            protocol.transport.close()  # what was sent of the answer is not whole
            raise
        finally:
            counts.end(self._status, (time.perf_counter() - began) * 1000)
            self._forget()

    def _forget(self) -> None:
        """Let go of the body, which an idle connection would keep, and of the task, which has us."""
        self.task = None
        self.scope.pop(WHOLE_BODY, None)

    def _with_request_id(self) -> str:
        """Return the client's name of the request; one that has none gets one, as from Serve."""
        if (named := first_headers(self.scope).get(_REQUEST_ID)) is not None:
            self._request_id = named
            return named.decode()
        made = self._protocol.direct.counts.new_request_id()
        self._request_id = made.encode()
        add_header(self.scope, _REQUEST_ID, self._request_id)
        return made

    async def _receive(self) -> Message:
        if (body := self.scope.pop(WHOLE_BODY, None)) is None:
            await asyncio.Event().wait()  # who leaves has the task cancelled
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, response: Response) -> None:
        if type(response).__call__ is not Response.__call__:
            await response(self.scope, self._receive, self._send_message)
            return
        body = bytes(response.body)
        await self._writable()
        self._write(self._head_of(response.status_code, response.raw_headers) + body)
        self._complete()

    async def _send_message(self, message: Message) -> None:
        """Take one message of ASGI. The head goes with the first bytes of the body, if those come in the same turn."""
        if message["type"] == "http.response.start":
            head = self._head_of(message["status"], message["headers"])
            self._chunked = not any(name == b"content-length" for name, _ in message["headers"])
            self._head = head[:-2] + b"transfer-encoding: chunked\r\n\r\n" if self._chunked else head
            self._protocol.loop.call_soon(self._write_head)
            return
        await self._writable()
        body, last = message.get("body", b""), not message.get("more_body", False)
        if self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if last:
                body += _LAST_CHUNK
        if self._head is not None:
            body, self._head = self._head + body, None
        if body:
            self._write(body)
        if last:
            self._complete()

    def _write_head(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            self._write(head)

    def _head_of(self, status: int, headers: Any) -> bytes:
        self._status = status
        fields = [*headers, (_REQUEST_ID, self._request_id)]
        if HEADER_VALUE_RE.search(b"".join([value for _, value in fields])):
            raise ValueError("A header of the answer holds a control character.")
        closes = (b"connection", b"close") in fields
        if closes or not self.keep_alive:
            self.keep_alive = False
            if not closes:
                fields.append((b"connection", b"close"))
        lines = b"\r\n".join([b": ".join(field) for field in fields])
        return b"".join([STATUS_LINE[status], self._protocol.default_lines(), lines, b"\r\n\r\n"])

    async def _writable(self) -> None:
        if self._protocol.flow.write_paused and not self.disconnected:
            await self._protocol.flow.drain()

    def _write(self, data: bytes) -> None:
        if not self.disconnected:
            self._protocol.transport.write(data)

    def _complete(self) -> None:
        self.response_complete = True
        if self.disconnected:
            return
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()
