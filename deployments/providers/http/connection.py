"""One connection of HTTP/1.1 to a provider, for one request after another. No Ray.

What aiohttp makes of each request (an object of it, of its headers and of its writer, a task for its body, a parser of
its answer) costs more than the bytes do. Here a request is one write, and httptools reads its answer.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import aiohttp
import httptools
from yarl import URL

from deployments.providers.http.answer import HttpAnswer

_BODILESS = frozenset({204, 304})
MOST_HEAD = 256 * 1024  # bytes of all headers


class HttpConnection(asyncio.Protocol):
    """`free` is called each time when it may take another request, and `gone` once when it never may again."""

    def __init__(self, free: "Callable[[HttpConnection], None]", gone: "Callable[[HttpConnection], None]"):
        self.closed = False
        self.idle_since = 0.0
        self._free, self._gone = free, gone
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []  # of the body, from the bytes that are parsed now
        self.on_body = self._parts.append  # the parser calls it for each chunk, of which a stream has many
        self._parser = httptools.HttpResponseParser(self)
        self._answer: HttpAnswer | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._until_close = False  # the body ends with the connection
        self.held = False
        self.may_hold_early = False  # whether nothing is lost where reading pauses for long

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Where a server closes meanwhile, uvloop throws away what TLS has read and not handed on.
        self.may_hold_early = transport.get_extra_info("sslcontext") is None

    @property
    def closing(self) -> bool:
        return self.closed or self._transport is None or self._transport.is_closing()

    def ask(self, url: URL, request: bytes) -> HttpAnswer:
        """Send a request, and return its answer, of which nothing has arrived yet."""
        assert self._transport is not None
        self._head_size = 0
        self._answer = answer = HttpAnswer(self, url)
        self._transport.write(request)
        return answer

    def hold(self) -> None:
        """Read no more, until the answer's reader comes."""
        if self._transport is not None and not self.closed and not self.held:
            self.held = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self.held and self._transport is not None and not self.closed:
            self.held = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        self._answer = None
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if not self.closed:
            self.closed = True
            self._gone(self)

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        self.abort()
        if answer is not None:
            answer.fail(error)

    # What comes from the transport.

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # nobody has asked: it is nobody's answer
            return
        self._head_size += len(data)
        try:
            try:
                self._parser.feed_data(data)
            finally:
                self._hand_on()  # what came before an error too
        except aiohttp.ClientError as error:
            self._fail(error)
        except httptools.HttpParserCallbackError as error:
            wrong = error.__context__
            self._fail(wrong if isinstance(wrong, aiohttp.ClientError) else aiohttp.ClientPayloadError(str(wrong)))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(_no_http(error))
        else:
            if self._answer is not None and not self._answer.status and self._head_size > MOST_HEAD:
                self._fail(_no_http("the headers are too long"))

    def eof_received(self) -> None:
        """Have the transport close: `connection_lost` follows, and until then nobody else may be given this one."""
        if self._answer is None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._leave()
        if answer is None:
            return
        if not answer.status:
            answer.fail(_lost(exc))
        elif self._until_close and exc is None:
            answer.end()
        else:
            answer.fail(aiohttp.ClientPayloadError("Response payload is not completed"))

    # What comes from the parser.

    def on_message_begin(self) -> None:
        self._headers = []
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._answer is None or 100 <= status < 200:
            return
        framed = status in _BODILESS or any(n in (b"content-length", b"transfer-encoding") for n, _ in self._headers)
        self._until_close = not framed
        self._answer.begin(status, tuple(self._headers))

    def _hand_on(self) -> None:
        """Hand on what of the body has come at once: a stream has many chunks in one read."""
        if parts := self._parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            if self._answer is not None:
                self._answer.put(body)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:
            return  # an interim answer, such as `103 Early Hints`, comes before the answer
        self._hand_on()
        self._answer = None
        self.go_on()
        answer.end()
        if self._parser.should_keep_alive() and not self._until_close and self._all_sent():
            self._free(self)
        else:
            self.abort()

    def _all_sent(self) -> bool:
        """Return whether the request has gone out: some servers answer before they have read it."""
        return self._transport is not None and self._transport.get_write_buffer_size() == 0


class NoHttp(aiohttp.ClientError):
    """The bytes that came are no answer of HTTP. Its text says why."""


def _no_http(why: object) -> NoHttp:
    return NoHttp(str(why) or type(why).__name__)


def _lost(error: Exception | None) -> aiohttp.ClientError:
    if isinstance(error, OSError):
        return aiohttp.ClientOSError(*error.args)
    return aiohttp.ServerDisconnectedError()
