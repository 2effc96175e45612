"""How bytes reach a provider and come back: aiohttp's connections, httpx2's errors.

An SDK says where a call goes, as whom, and what its errors mean. What it would put between the socket
and us, a client in pure Python and typed models, costs ten times the bytes; here a body goes out and
comes in as bytes. The calls that are left to an SDK go over the same connections: this is also the
transport of its own client.
"""

import asyncio
import io
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Coroutine, Mapping
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2
from yarl import URL

from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, failed, stalled
from deployments.providers.timing import current_timing, note_peer

MAX_ANSWER = 64 * 1024 * 1024  # bytes; what is longer is no answer of a model
_LONG_HEADER = 64 * 1024


class Transport(httpx2.AsyncBaseTransport):
    """`connect` is the limit of a new connection, and of the wait for one of the `connections`.

    Reads have no limit here: first token, idle and total are kept by whoever calls, who ends what takes
    too long by being cancelled or by closing the answer.
    """

    def __init__(self, *, connect: float, connections: int, tls: ssl.SSLContext | None = None):
        self._connect, self._tls = connect, tls or httpx2.create_ssl_context()
        self._places = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, url: URL, headers: Mapping[str, str], body: bytes, *, follow: bool = False
    ) -> "UpstreamResponse":
        """Send a body. `follow`: also to where the answer redirects to."""
        return await self._sent("POST", url, headers, body, allow_redirects=follow)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, body = URL(str(request.url), encoded=True), await request.aread()
        headers = request.headers.multi_items()
        answer = await self._sent(
            request.method, url, headers, body, allow_redirects=False, auto_decompress=False
        )  # httpx2 does both itself
        return httpx2.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer), request=request)

    async def _sent(self, method: str, url: URL, headers: Any, body: bytes, **options: Any) -> "UpstreamResponse":
        note_peer(url.host, url.port)
        await self._place()
        answer = None
        # aiohttp warns of long bytes, which it would write at once.
        data = body if len(body) <= 2**20 else io.BytesIO(body)
        try:
            proxy = proxy_of(url.scheme, url.host or "")
            response = await self._opened().request(method, url, headers=headers, data=data, proxy=proxy, **options)
            answer = UpstreamResponse(response, self._places)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _in_httpx2(error) from error
        finally:
            if answer is None:
                self._places.release()
        return answer

    async def _place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()  # at once
            return
        patience = DeadlineTimer()
        try:
            with patience.until(asyncio.get_running_loop().time() + self._connect):
                await self._places.acquire()
        except TimeoutError:
            raise httpx2.PoolTimeout("all connections are in use") from None
        finally:
            patience.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(self._connect, limit=0, ssl=self._tls, socket_factory=_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # the connector has the one limit
                max_line_size=_LONG_HEADER,
                max_field_size=_LONG_HEADER,
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class UpstreamResponse:
    """An answer whose head has come. It holds a connection until its body has ended or it is closed."""

    __slots__ = ("_content", "_places", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, places: asyncio.Semaphore):
        self._response, self._content, self._places = response, response.content, places
        self.status, self.headers = response.status, response.headers

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self._response.raw_headers

    @property
    def ended(self) -> bool:
        return self._content.at_eof()

    async def read(self) -> bytes:
        """What has come of the body and was not read yet, at least something; nothing at its end."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _in_httpx2(error) from error

    async def whole(self) -> bytes:
        """The body, if it has an end that can be waited for."""
        data = await self.read()
        if self._content.at_eof():
            return data
        parts, size = [data], len(data)
        while part := await self.read():
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER:
                raise failed("malformed", f"the answer is larger than {MAX_ANSWER} bytes", status=200)
        return b"".join(parts)

    async def for_sdk(self) -> httpx2.Response:
        """The whole answer as the SDKs know it, to make their errors of."""
        body = await self.whole()
        headers = [(k, v) for k, v in self.headers.items() if k.lower() != "content-encoding"]
        request = httpx2.Request("POST", str(self._response.url))
        return httpx2.Response(self.status, headers=headers, content=body, request=request)

    def close(self) -> None:
        """Give the connection back, or end it if there is more to come."""
        self._response.close()
        if self._places is not None:
            self._places.release()
            self._places = None  # type: ignore[assignment]


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: UpstreamResponse):
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._answer.read():
            yield data

    async def aclose(self) -> None:
        self._answer.close()


class _Connector(aiohttp.TCPConnector):
    """Trusts no connection that spoke unasked, and notes new ones in the timing of the call that needed them.

    It keeps the limit of a new connection itself: aiohttp's would take our own lag for the host's silence.
    """

    def __init__(self, seconds: float, **options: Any):
        super().__init__(**options)
        self._seconds = seconds

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        while True:
            connection = await super().connect(*args, **kwargs)
            # aiohttp would give what came while nobody asked to whoever asks next.
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        made = await self._within_limit(super()._create_connection(*args, **kwargs))
        # aiohttp's own tracing would tell the same, for a tenth of what a call costs.
        if (timing := current_timing()) is not None:
            timing.note_connected()
        return made

    async def _within_limit(self, connecting: Coroutine[Any, Any, Any]) -> Any:
        patience = DeadlineTimer()
        try:
            with patience.until(asyncio.get_running_loop().time() + self._seconds):
                return await connecting
        except TimeoutError as error:
            if patience.stalled:
                raise _StoodStill from error
            raise
        finally:
            patience.close()


class _StoodStill(aiohttp.ClientError):
    """The limit of a connection passed while our own loop stood still."""


class OwnLag(httpx2.ConnectTimeout):
    """The same, as an SDK lets it through."""


def _socket(info: Any) -> socket.socket:
    """With keep-alive, so that the long silence before a whole answer is not cut on its way."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    return made


@lru_cache(maxsize=64)
def proxy_of(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host. It is read once, as the SDKs read it."""
    if urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies()
    return named.get(scheme) or named.get("all")


def unreached(error: BaseException | None) -> AttemptFailed | None:
    """What became of a call by the error of its transport; None if that is of another sort."""
    message = str(error) or type(error).__name__
    match error:
        case OwnLag():
            return stalled()
        case httpx2.PoolTimeout():
            return failed("busy", "our own connections to this provider are all in use")
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return failed("connect", message)
        case httpx2.TransportError():
            return failed("broken", message)
        case httpx2.InvalidURL() | httpx2.DecodingError():
            return failed("malformed", message)
    return None


def _in_httpx2(error: Exception) -> httpx2.TransportError | httpx2.DecodingError | httpx2.InvalidURL:
    """aiohttp's error as the SDKs know it."""
    message = str(error) or type(error).__name__
    match error:
        case aiohttp.InvalidURL():
            return httpx2.InvalidURL(message)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx2.ProxyError(message)
        case aiohttp.ClientConnectorError() | aiohttp.ClientSSLError():
            return httpx2.ConnectError(message)
        case _StoodStill():
            return OwnLag(message)
        case TimeoutError():
            return httpx2.ConnectTimeout(message)
        case aiohttp.ClientPayloadError() if "decode" in message.lower():
            return httpx2.DecodingError(message)
        case aiohttp.ClientOSError():
            return httpx2.ReadError(message)
        case _:
            return httpx2.RemoteProtocolError(message)
