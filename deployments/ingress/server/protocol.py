"""The server's protocol: uvicorn's, but what is asked most goes a shorter way. No Ray.

The way through Serve costs three tasks, two requests' names, a dozen passes over the headers and two writes for each
request. A request that has nothing special is answered from here by the same handlers: in one task, and a whole answer
in one write. Serve counts it all the same (`counts.py`), so it scales, drains and shows what it always did.

What is special goes the long way: a large or unfinished body, one in chunks, an upgrade, a request behind one that is
still being answered, headers that only Serve or a browser's page needs, and any request while Serve has no room.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actors.process import SHARING
from deployments.ingress.body.bodies import WHOLE_BODY
from deployments.ingress.server.exchange import Endpoint, Exchange
from deployments.ingress.server.headers import Headers, first_headers
from deployments.ingress.server.unix_socket import is_unix, pid_behind
from deployments.ingress.server.utf8_headers import DEADLINE, without_deadline

MOST_BYTES = 64 * 1024  # of a body, as many as uvicorn holds before it stops to read
# Who sends one of these goes the long way. Serve reads the first four, and a page of another origin sends the fifth.
_SPECIAL = frozenset(
    {b"x-request-disconnect-disabled", b"traceparent", b"tracestate", b"serve_multiplexed_model_id", b"origin"}
    | {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}
)


class Counts(Protocol):
    """What Serve knows of the requests that go the short way."""

    @property
    def prefix(self) -> str:
        """Return the application's path, which those of its routes begin with: `/`, or `/llm`."""
        ...

    def has_room(self) -> bool:
        """Return whether a request may go the short way now."""
        ...

    def new_request_id(self) -> str: ...

    async def begin(self, request_id: str) -> None:
        """Count a request that is answered now."""
        ...

    def end(self, status: int, ms: float) -> None:
        """Count its end; the status is 0 if there was no answer."""
        ...


class Direct:
    """What goes the short way. `endpoints` is path to handler; `counts` is None until Serve's replica is known."""

    def __init__(self, endpoints: Mapping[str, Endpoint], counts: Counts | None = None):
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self.counts = cast(Counts, counts)

    def endpoint(self, url: bytes) -> Endpoint | None:
        """Return what answers at a path, if the replica has room now."""
        if self.counts is None:
            return None
        if (prefix := self.counts.prefix) not in ("", "/"):
            if not url.startswith(begin := prefix.encode()):
                return None
            url = url[len(begin) :]
        endpoint = self._endpoints.get(url)
        return endpoint if endpoint is not None and self.counts.has_room() else None


class DirectProtocol(HttpToolsProtocol):
    """One connection. `direct` belongs to the class: see `protocol_with`."""

    direct: Direct
    cycle: Any  # uvicorn's, or an Exchange

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._arriving: Exchange | None = None  # its head has arrived, and its body not yet
        self._parts: list[bytes] = []  # of that body
        self._default: tuple[object, bytes] = (None, b"")
        self._haproxy: int | None = None  # the pid of the HAProxy of this node whose connection this is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if is_unix(transport):
            # As by TCP: uvicorn believes what a proxy of this machine says of its client.
            self.client, self.server = ("127.0.0.1", 0), ("127.0.0.1", self.config.port)
            if (pid := pid_behind(transport)) is not None:
                self._haproxy = pid
                SHARING.connected(pid)

    def handle_websocket_upgrade(self) -> None:
        self._leave_haproxy()  # from now on another protocol has the connection
        super().handle_websocket_upgrade()

    def _leave_haproxy(self) -> None:
        if self._haproxy is not None:
            SHARING.disconnected(self._haproxy)
            self._haproxy = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._arriving is not None:  # it goes the long way
            parts, self._parts, self._arriving = self._parts, [], None
            if self.parser is not None and not self.transport.is_closing():
                super().on_headers_complete()
                for part in parts:
                    super().on_body(part)

    def on_headers_complete(self) -> None:
        endpoint = self.direct.endpoint(self.url)
        scope: Scope = {**self.scope}  # the long way gets its own as it is
        if endpoint is None or not self._is_plain(first_headers(scope)):
            super().on_headers_complete()
            return
        if DEADLINE in first_headers(scope):
            scope = without_deadline(scope)
        scope.update(method="POST", path=self._path(), raw_path=self.url, query_string=b"")
        self._arriving = Exchange(self, scope, endpoint, keep_alive=self.parser.should_keep_alive())

    def _path(self) -> str:
        return self.root_path + self.url.decode("ascii")

    def _is_plain(self, first: Headers) -> bool:
        parser, cycle = self.parser, self.cycle
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return False
        if not (cycle is None or cycle.response_complete) or self.limit_concurrency is not None:
            return False
        if not (_SPECIAL.isdisjoint(first) and b"".join([value for _, value in self.headers]).isascii()):
            return False
        size = first.get(b"content-length", b"")
        return size.isdigit() and 0 < int(size[:9]) <= MOST_BYTES

    def on_body(self, body: bytes) -> None:
        if self._arriving is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if (exchange := self._arriving) is None:
            super().on_message_complete()
            return
        parts, self._parts, self._arriving = self._parts, [], None
        exchange.scope[WHOLE_BODY] = parts[0] if len(parts) == 1 else b"".join(parts)
        self.cycle = exchange
        exchange.task = task = self.loop.create_task(exchange.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        self._parts, self._arriving = [], None
        super().connection_lost(exc)
        self._leave_haproxy()
        if isinstance(exchange := self.cycle, Exchange):
            self.cycle = None  # each of the two has the other: only the collector would free them
            if exchange.disconnected and exchange.task is not None:
                exchange.task.cancel()

    def default_lines(self) -> bytes:
        """Return the headers of every answer, which uvicorn makes anew each second."""
        headers = self.server_state.default_headers
        if self._default[0] is not headers:
            self._default = headers, b"".join([b"%b: %b\r\n" % field for field in headers])
        return self._default[1]


def protocol_with(direct: Direct) -> type[asyncio.Protocol]:
    """Return the protocol of a server whose requests to these endpoints go the short way."""
    return type("Direct", (DirectProtocol,), {"direct": direct})
