"""Length-prefixed framing between two of our replicas: messages both ways over one socket. No Ray.

A message is four bytes of length, then a pickle. A `Listener` accepts one connection and closes: on its own node by a
name that is neither a file nor a port (Linux's abstract namespace), from another node by a port. The client sends one
half of a secret that it got by handle, and the server answers with the other half: so neither end unpickles the bytes
of a stranger.
"""

import asyncio
import contextlib
import hmac
import pickle
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from deployments.rpc.port import Address

Picklable: TypeAlias = Any  # ClientMessage one way, ServerMessage the other

HALF_SECRET = 32  # bytes of a secret
CONNECT_SECONDS, ACCEPT_SECONDS = 1.0, 5.0
HANDSHAKE_SECONDS = 1.0  # for the proof of an end that has connected
MOST_HANDSHAKES = 64  # at once, of one listener: who comes beyond is refused before it says a word
HIGH_WATER = 1024 * 1024  # bytes that wait here before the connection counts as full
MAX_MESSAGE_BYTES = 256 * 1024 * 1024  # bytes of one message
_LENGTH = struct.Struct("!I")
# A connection between nodes ends after 25 s without a sign of the other end, idle or not. An ingress knows sooner that
# a replica is silent (connection.py); this is for the replica.
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 25_000}


def _nothing() -> None:
    pass


class FramedConnection(asyncio.Protocol):
    """One end of a connection. Messages that arrive before `listen` are kept."""

    def __init__(self) -> None:
        self.full = False  # the other end reads too slowly: further messages wait here
        self.closed = False
        self._on_message: Callable[[Picklable], None] | None = None
        self._on_lost: Callable[[], None] = _nothing
        self._on_writable: Callable[[], None] = _nothing
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def listen(
        self,
        on_message: Callable[[Picklable], None],
        on_lost: Callable[[], None],
        on_writable: Callable[[], None] = _nothing,
    ) -> None:
        """Set the callbacks: for each message, once for the end, and for each time a full connection drains."""
        self._on_message, self._on_lost, self._on_writable = on_message, on_lost, on_writable
        if self.closed:
            self._end()
        else:
            self._dispatch()

    def send(self, message: Picklable) -> None:
        if self._transport is not None and not self.closed:
            data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            self._transport.write(_LENGTH.pack(len(data)) + data)

    @property
    def unsent(self) -> int:
        """Return how many bytes wait here for the other end."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close at once. Messages that are not yet written are lost."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._on_message is not None:
            self._dispatch()

    def _dispatch(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= _LENGTH.size and not self.closed and self._on_message is not None:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_MESSAGE_BYTES:
                self.close()
                return
            at, end = at + _LENGTH.size, at + _LENGTH.size + length
            if len(buffer) < end:
                at -= _LENGTH.size
                break
            with memoryview(buffer) as view:
                message = pickle.loads(view[at:end])
            at = end
            self._on_message(message)
        del buffer[:at]

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._on_writable()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._on_message is not None:
            self._end()

    def _end(self) -> None:
        on_lost = self._on_lost
        self._on_message, self._on_lost, self._on_writable = None, _nothing, _nothing
        on_lost()


async def connect(address: Address, secret: bytes) -> FramedConnection:
    """Connect to a `Listener`. Raises OSError or TimeoutError, also if the other end does not know the secret."""
    loop = asyncio.get_running_loop()
    opening, answer = secret[:HALF_SECRET], secret[HALF_SECRET:]
    accepted: asyncio.Future[FramedConnection] = loop.create_future()

    def handshake() -> _Handshake:
        return _Handshake(answer, b"", accepted, opening)

    async with asyncio.timeout(CONNECT_SECONDS):
        if isinstance(address, str):
            with _closed_on_error(_local_socket()) as near:
                await loop.sock_connect(near, f"\0{address}")
                transport, _ = await loop.create_unix_connection(handshake, sock=near)
        else:
            with _closed_on_error(_tcp_socket(address[0])) as far:
                await loop.sock_connect(far, address)
                transport, _ = await loop.create_connection(handshake, sock=far)
        try:
            return await accepted
        except BaseException:
            transport.abort()
            accepted.cancel()
            raise


class Listener:
    """Accept one connection whose other end knows the secret."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(2 * HALF_SECRET)
        self.address: Address = ""
        self._accepted: asyncio.Future[FramedConnection] = asyncio.get_running_loop().create_future()
        self._handshakes: set[_Handshake] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, host: str | None) -> AsyncGenerator["Listener", None]:
        """Listen at a port of this host; without a host, for this node alone."""
        listener, loop = cls(), asyncio.get_running_loop()
        if host is None:
            listener.address = f"breakwater-{secrets.token_hex(16)}"
            with _closed_on_error(_local_socket()) as near:
                near.bind(f"\0{listener.address}")
                server = await loop.create_unix_server(listener._handshake, sock=near)
        else:
            with _closed_on_error(_tcp_socket(host)) as far:
                far.bind((host, 0))
                listener.address = (host, far.getsockname()[1])
                server = await loop.create_server(listener._handshake, sock=far)
        try:
            yield listener
        except BaseException:
            if listener._accepted.done() and not listener._accepted.cancelled():
                listener._accepted.result().close()
            raise
        finally:
            server.close()
            listener._accepted.cancel()

    async def accept(self) -> FramedConnection:
        """Return the connection. Raises TimeoutError after ACCEPT_SECONDS."""
        async with asyncio.timeout(ACCEPT_SECONDS):
            return await self._accepted

    def _handshake(self) -> "_Handshake":
        return _Handshake(self.secret[:HALF_SECRET], self.secret[HALF_SECRET:], self._accepted, others=self._handshakes)


class _Handshake(asyncio.Protocol):
    """A connection whose other end must prove first that it knows its half of the secret."""

    def __init__(
        self,
        expected: bytes,
        answer: bytes,
        accepted: "asyncio.Future[FramedConnection]",
        opening: bytes = b"",
        others: "set[_Handshake] | None" = None,
    ):
        self._expected = expected
        self._answer = answer
        self._accepted = accepted
        self._opening = opening
        self._received = b""
        self._others = set() if others is None else others  # that have not proved it yet
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._others) >= MOST_HANDSHAKES:
            self._transport.abort()
            return
        self._others.add(self)
        self._transport.write(self._opening)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        if self._transport.is_closing() or len(self._received) < HALF_SECRET:
            return
        if self._accepted.done() or not hmac.compare_digest(self._received[:HALF_SECRET], self._expected):
            self._transport.abort()
            return
        self._end()
        self._transport.write(self._answer)
        connection = FramedConnection()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(self._received[HALF_SECRET:])
        self._accepted.set_result(connection)

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        if self._opening and not self._accepted.done():
            self._accepted.set_exception(ConnectionRefusedError("the other end does not know the connection's secret"))

    def _end(self) -> None:
        self._others.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def is_encrypted(environ: Mapping[str, str]) -> bool:
    """Return whether Ray encrypts its connections between nodes. Then none of ours may bypass that."""
    return environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")  # as Ray reads it


@contextlib.contextmanager
def _closed_on_error(made: socket.socket) -> Iterator[socket.socket]:
    """Hand a socket over to a transport or a server, or close it if that fails."""
    try:
        yield made
    except BaseException:
        made.close()
        raise


def _local_socket() -> socket.socket:
    """Return a socket for one node. A path would not do: uvloop ends an abstract name at its first byte."""
    near = socket.socket(socket.AF_UNIX)
    near.setblocking(False)
    return near


def _tcp_socket(host: str) -> socket.socket:
    """Return a socket for two nodes, with keep-alive: the other end may vanish without a packet."""
    far = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    far.setblocking(False)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        far.setsockopt(socket.IPPROTO_TCP, option, value)
    return far
