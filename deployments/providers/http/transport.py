"""The HTTP transport to providers: aiohttp's connections under httpx2's errors.

An SDK decides where a call goes, with which credentials, and what its errors mean. Its own client, in pure Python and
with typed models, costs ten times as much as the bytes, so bodies are sent and read as bytes here. aiohttp opens each
connection, and a thin client of ours (`pool.py`) sends what nearly every call is over it. What is special goes by
aiohttp itself: long bodies, proxies, credentials in a URL, redirects. So do the calls that are left to an SDK: this
class is also the transport of the SDK's own client.
"""

import asyncio
import functools
import io
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import aiohttp
import httpx2
from yarl import URL

from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, failed, stalled
from deployments.providers.http.answer import HttpAnswer
from deployments.providers.http.connection import HttpConnection, NoHttp
from deployments.providers.http.pool import HttpPool
from deployments.providers.http.request_body import RequestBody
from deployments.providers.http.timing import current_timing, note_peer, note_sent

MAX_ANSWER = 64 * 1024 * 1024  # bytes: a longer one is no answer of a model
MAX_ERROR = 256 * 1024  # bytes of an error that are read: some repeat the request
_LONG_HEADER = 64 * 1024
_LONG_BODY = 1024 * 1024  # aiohttp sends it in parts
_MOVED = frozenset({307, 308})  # the others say to ask with GET, which no server of a model answers
_WRONG_REDIRECT = "the provider redirected to an invalid URL"


class Transport(httpx2.AsyncBaseTransport):
    """`connect` limits a new connection and the wait for one of the `connections`, each in seconds.

    Reads have no limit here. The caller keeps the limits of first token, idle and total, and ends a read by its
    cancellation or by closing the response.
    """

    def __init__(self, *, connect: float, connections: int, tls: ssl.SSLContext | None = None):
        self._connect, self._tls = connect, tls or httpx2.create_ssl_context()
        self._slots = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None
        self._pool = HttpPool(self._join)

    async def post(
        self, url: URL, headers: Mapping[str, str], body: RequestBody, *, follow: bool = False
    ) -> "UpstreamResponse":
        """Send a body and return the response, whose head has arrived. `follow` also follows redirects."""
        if not isinstance(body, bytes) or len(body) > _LONG_BODY or not self._is_plain(url):
            return await self._send("POST", url, headers, body, allow_redirects=follow)
        answer = await self._holding_slot(url, functools.partial(self._pool.post, url, headers, body))
        if follow and answer.status in _MOVED and "location" in answer.headers:
            return await self._follow(url, headers, body, answer)
        return answer

    async def _follow(
        self, url: URL, headers: Mapping[str, str], body: bytes, answer: "UpstreamResponse"
    ) -> "UpstreamResponse":
        """Send the request again to where its server has moved to. A key goes to no other server."""
        answer.close()
        try:
            target = url.join(URL(answer.headers["location"]))
            same = target.origin() == url.origin()
        except ValueError:
            raise httpx2.InvalidURL(_WRONG_REDIRECT) from None
        kept = headers if same else {name: value for name, value in headers.items() if name.lower() != "authorization"}
        return await self._send("POST", target, kept, body, allow_redirects=True)

    @staticmethod
    def _is_plain(url: URL) -> bool:
        return url.raw_user is None and proxy_of(url.scheme, url.host or "") is None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, body = URL(str(request.url), encoded=True), await request.aread()
        headers = request.headers.multi_items()
        answer = await self._send(
            request.method, url, headers, body, allow_redirects=False, auto_decompress=False
        )  # httpx2 does both itself
        return httpx2.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer), request=request)

    async def _send(self, method: str, url: URL, headers: Any, body: RequestBody, **options: Any) -> "UpstreamResponse":
        # aiohttp warns about long bytes, which it would write at once.
        data = io.BytesIO(body) if isinstance(body, bytes) and len(body) > _LONG_BODY else body
        proxy = proxy_of(url.scheme, url.host or "")
        ask = functools.partial(self._open().request, method, url, headers=headers, data=data, proxy=proxy, **options)
        return await self._holding_slot(url, ask)

    async def _holding_slot(
        self, url: URL, ask: "Callable[[], Awaitable[aiohttp.ClientResponse | HttpAnswer]]"
    ) -> "UpstreamResponse":
        """Ask once a connection may be used, which the response then holds."""
        note_peer(url.host, url.port)
        await self._acquire_slot()
        note_sent()
        answer = None
        try:
            made = await ask()
            if (timing := current_timing()) is not None and timing.joins and isinstance(made, HttpAnswer):
                made.gather()
            answer = UpstreamResponse(made, self._slots)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _as_httpx2_error(error) from error
        finally:
            if answer is None:
                self._slots.release()
        return answer

    async def _acquire_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # without waiting
            return
        timer = DeadlineTimer()
        try:
            with timer.until(asyncio.get_running_loop().time() + self._connect):
                await self._slots.acquire()
        except TimeoutError:
            raise httpx2.PoolTimeout("all connections are in use") from None
        finally:
            timer.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(self._connect, limit=0, ssl=self._tls, socket_factory=_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the connector keeps the only limit
                max_line_size=_LONG_HEADER,
                max_field_size=_LONG_HEADER,
            )
        return self._session

    async def _join(self, url: URL, protocol: HttpConnection) -> None:
        """Open a connection to a URL's host, and give its transport to the protocol."""
        session = self._open()
        request = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop(), ssl=self._tls)
        connector = session.connector
        assert isinstance(connector, _Connector)
        made = await connector._create_connection(request, [], session.timeout)
        transport: Any = made.transport
        if transport is None or transport.is_closing() or made.should_close:  # it has said something unasked
            raise aiohttp.ServerDisconnectedError
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    async def aclose(self) -> None:
        self._pool.close()
        if self._session is not None:
            await self._session.close()


class UpstreamResponse:
    """A response whose head has arrived. It holds a connection until its body ends or it is closed."""

    __slots__ = ("_content", "_response", "_slots", "status")

    def __init__(self, response: "aiohttp.ClientResponse | HttpAnswer", places: asyncio.Semaphore):
        self._response, self._content, self._slots = response, response.content, places
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self._response.raw_headers

    @property
    def ended(self) -> bool:
        return self._content.at_eof()

    async def read(self) -> bytes:
        """Return the unread bytes that have arrived, waiting for at least one; empty at the body's end."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _as_httpx2_error(error) from error

    async def whole(self) -> bytes:
        """Return the whole body. Raises AttemptFailed `malformed` if it is longer than MAX_ANSWER."""
        data = await self.read()
        if self._content.at_eof():
            return data
        parts, size = [data], len(data)
        while part := await self.read():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER:
                raise failed("malformed", f"the answer is longer than {MAX_ANSWER // 2**20} MiB", status=200)
        return b"".join(parts)

    async def beginning(self) -> bytes:
        """Return the body of an error, or the beginning of one that is longer than MAX_ERROR."""
        parts, size = [], 0
        while size < MAX_ERROR and (part := await self.read()):
            parts.append(part)
            size += len(part)
        return b"".join(parts)[:MAX_ERROR]

    async def for_sdk(self) -> httpx2.Response:
        """Return the response to a call that failed as an SDK knows it, which makes its error of it."""
        body = await self.beginning()
        headers = [(k, v) for k, v in self.headers.items() if k.lower() != "content-encoding"]
        request = httpx2.Request("POST", str(self._response.url))
        return httpx2.Response(self.status, headers=headers, content=body, request=request)

    def close(self) -> None:
        """Return the connection to the pool, or close it if the body has not ended."""
        self._response.close()
        if self._slots is not None:
            self._slots.release()
            self._slots = None  # type: ignore[assignment]


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: UpstreamResponse):
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._answer.read():
            yield data

    async def aclose(self) -> None:
        self._answer.close()


class _Connector(aiohttp.TCPConnector):
    """Drop connections that received bytes while unused, and record new ones in the timing of their call.

    It limits new connections itself: aiohttp's limit would take our own event loop's lag for the host's silence.
    """

    def __init__(self, seconds: float, **options: Any):
        super().__init__(**options)
        self._seconds = seconds

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        while True:
            connection = await super().connect(*args, **kwargs)
            # aiohttp would hand bytes that arrived between two calls to the next call.
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        connection = await self._within_limit(super()._create_connection(*args, **kwargs))
        # aiohttp's own tracing would report the same, for a tenth of a call's cost.
        if (timing := current_timing()) is not None:
            timing.note_connected()
        return connection

    async def _within_limit(self, connecting: Coroutine[Any, Any, Any]) -> Any:
        timer = DeadlineTimer()
        try:
            with timer.until(asyncio.get_running_loop().time() + self._seconds):
                return await connecting
        except TimeoutError as error:
            if timer.stalled:
                raise _EventLoopStalled from error
            raise
        finally:
            timer.close()


class _EventLoopStalled(aiohttp.ClientError):
    """The limit of a new connection passed while our own event loop stood still."""


class OwnLag(httpx2.ConnectTimeout):
    """The same error in a type that an SDK passes through."""


def _socket(info: Any) -> socket.socket:
    """Return a socket with keep-alive: a middlebox may cut a connection in the silence before a whole answer."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    return made


@functools.lru_cache(maxsize=64)
def proxy_of(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment names for a host. It is read once, as the SDKs read it."""
    if urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies()
    return named.get(scheme) or named.get("all")


def classify_transport_error(error: BaseException | None) -> AttemptFailed | None:
    """Return how a call ended with an error of its transport; None for any other error."""
    message = str(error) or "the connection to the provider failed"
    match error:
        case OwnLag():
            return stalled()
        case httpx2.PoolTimeout():
            return failed("busy", "all of our connections to this provider are in use")
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return failed("connect", message)
        case httpx2.TransportError():
            return failed("broken", message)
        case httpx2.InvalidURL() | httpx2.DecodingError():
            return failed("malformed", message)
        case RecursionError():  # of a parser, ours or an SDK's
            return failed("malformed", "the provider's answer is nested too deeply")
    return None


def _as_httpx2_error(error: Exception) -> httpx2.TransportError | httpx2.DecodingError | httpx2.InvalidURL:
    """Return aiohttp's error as the SDKs know it, with a message for people."""
    message = _explain(error)
    match error:
        case aiohttp.InvalidURL():
            return httpx2.InvalidURL(message)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx2.ProxyError(message)
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return httpx2.ConnectError(message)
        case _EventLoopStalled():
            return OwnLag(message)
        case TimeoutError():
            return httpx2.ConnectTimeout(message)
        case aiohttp.ClientPayloadError() if "decode" in str(error).lower():
            return httpx2.DecodingError(message)
        case aiohttp.ClientOSError():
            return httpx2.ReadError(message)
        case _:
            return httpx2.RemoteProtocolError(message)


def _explain(error: Exception) -> str:
    """Say what failed, without the repr of aiohttp's error."""
    match error:
        case aiohttp.InvalidURL():
            return _WRONG_REDIRECT
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refused the connection to the provider with HTTP {error.status}"
        case aiohttp.ClientConnectorCertificateError():
            return f"the TLS certificate of {error.host}:{error.port} is not valid"
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or type(error.os_error).__name__
            return f"the connection to {error.host}:{error.port} failed: {reason}"
        case aiohttp.ClientSSLError():
            return "the TLS handshake with the provider failed"
        case TimeoutError() | _EventLoopStalled():
            return "the connection to the provider was not open within the connect limit"
        case aiohttp.ClientPayloadError() if "decode" in str(error).lower():
            return "the provider's answer can't be decompressed"
        case aiohttp.ClientPayloadError() | aiohttp.ClientConnectionResetError():
            return "the provider closed the connection before the end of its answer"
        case aiohttp.ServerDisconnectedError():
            return "the provider closed the connection without an answer"
        case aiohttp.ClientOSError():
            return f"the connection to the provider broke off: {error.strerror or type(error).__name__}"
        case NoHttp():
            return f"the provider's answer is not valid HTTP ({error})"
        case _:
            return f"the provider's answer is not valid HTTP ({type(error).__name__})"
