"""Messages both ways over one socket between two of our replicas: four bytes of length, then a pickle. No Ray.

A `Listener` takes one connection and closes: on its own node by a name that is no file and no port, from another node
by a port. Who connects says first one half of a secret that it was told by handle, and is answered with the other: so
neither unpickles what a stranger has sent.
"""

import asyncio
import contextlib
import hmac
import pickle
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, cast

Address = str | tuple[str, int]  # a name in Linux's abstract namespace, or a host and a port

HALF = 32  # bytes of a secret
CONNECT_SECONDS, ACCEPT_SECONDS = 1.0, 5.0
HIGH_WATER = 1024 * 1024  # bytes that wait here before it is said that the other end does not keep up
MOST = 256 * 1024 * 1024  # bytes of one message
_LENGTH = struct.Struct("!I")
# After so long without a sign of the other end a connection between nodes is over, idle or not.
_SILENT = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3, socket.TCP_USER_TIMEOUT: 25_000}


def _nothing() -> None:
    pass


class Pipe(asyncio.Protocol):
    """One end. What comes before anybody listens is kept."""

    def __init__(self) -> None:
        self.full = False  # the other end does not keep up: what is sent now waits here
        self.closed = False
        self._heard: Callable[[Any], None] | None = None
        self._lost: Callable[[], None] = _nothing
        self._flows: Callable[[], None] = _nothing
        self._transport: asyncio.Transport | None = None
        self._rest = bytearray()

    def listen(
        self, heard: Callable[[Any], None], lost: Callable[[], None], flows: Callable[[], None] = _nothing
    ) -> None:
        """Who is told each message, once that there will be no more, and that a full pipe takes more again."""
        self._heard, self._lost, self._flows = heard, lost, flows
        if self.closed:
            self._end()
        else:
            self._deal()

    def send(self, message: Any) -> None:
        if self._transport is not None and not self.closed:
            data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            self._transport.write(_LENGTH.pack(len(data)) + data)

    def close(self) -> None:
        """What has been sent may be lost: nobody waits for it."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._heard is not None:
            self._deal()

    def _deal(self) -> None:
        rest, at = self._rest, 0
        while len(rest) - at >= _LENGTH.size and not self.closed and self._heard is not None:
            (length,) = _LENGTH.unpack_from(rest, at)
            if length > MOST:
                self.close()
                return
            at, end = at + _LENGTH.size, at + _LENGTH.size + length
            if len(rest) < end:
                at -= _LENGTH.size
                break
            with memoryview(rest) as view:
                message = pickle.loads(view[at:end])
            at = end
            self._heard(message)
        del rest[:at]

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._flows()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._heard is not None:
            self._end()

    def _end(self) -> None:
        lost, self._heard, self._lost, self._flows = self._lost, None, _nothing, _nothing
        lost()


async def connected(address: Address, secret: bytes) -> Pipe:
    """Raises OSError or TimeoutError, also where whoever listens does not know the secret."""
    loop = asyncio.get_running_loop()
    said, answer = secret[:HALF], secret[HALF:]
    taken: asyncio.Future[Pipe] = loop.create_future()

    def greet() -> _Greeting:
        return _Greeting(answer, b"", taken, said)

    async with asyncio.timeout(CONNECT_SECONDS):
        if isinstance(address, str):
            with _handed_over(_near()) as near:
                await loop.sock_connect(near, f"\0{address}")
                transport, _ = await loop.create_unix_connection(greet, sock=near)
        else:
            with _handed_over(_far(address[0])) as far:
                await loop.sock_connect(far, address)
                transport, _ = await loop.create_connection(greet, sock=far)
        try:
            return await taken
        except BaseException:
            transport.abort()
            taken.cancel()
            raise


class Listener:
    """Takes one connection whose other end knows the secret."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(2 * HALF)
        self.address: Address = ""
        self._taken: asyncio.Future[Pipe] = asyncio.get_running_loop().create_future()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, host: str | None) -> AsyncGenerator["Listener", None]:
        """At a port of this host, or without one for this node alone."""
        listener, loop = cls(), asyncio.get_running_loop()
        if host is None:
            listener.address = f"breakwater-{secrets.token_hex(16)}"
            with _handed_over(_near()) as near:
                near.bind(f"\0{listener.address}")
                server = await loop.create_unix_server(listener._greet, sock=near)
        else:
            with _handed_over(_far(host)) as far:
                far.bind((host, 0))
                listener.address = (host, far.getsockname()[1])
                server = await loop.create_server(listener._greet, sock=far)
        try:
            yield listener
        except BaseException:
            if listener._taken.done() and not listener._taken.cancelled():
                listener._taken.result().close()
            raise
        finally:
            server.close()
            listener._taken.cancel()

    async def accepted(self) -> Pipe:
        """Raises TimeoutError if nobody comes."""
        async with asyncio.timeout(ACCEPT_SECONDS):
            return await self._taken

    def _greet(self) -> "_Greeting":
        return _Greeting(self.secret[:HALF], self.secret[HALF:], self._taken)


class _Greeting(asyncio.Protocol):
    """A connection whose other end has to show first that it knows its half of the secret."""

    def __init__(self, expected: bytes, answer: bytes, taken: "asyncio.Future[Pipe]", opening: bytes = b""):
        self._expected = expected
        self._answer = answer
        self._taken = taken
        self._opening = opening
        self._said = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._opening)
        self._timer = asyncio.get_running_loop().call_later(ACCEPT_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._said += data
        if len(self._said) < HALF:
            return
        if self._taken.done() or not hmac.compare_digest(self._said[:HALF], self._expected):
            self._transport.abort()
            return
        self._stop()
        self._transport.write(self._answer)
        pipe = Pipe()
        self._transport.set_protocol(pipe)
        pipe.connection_made(self._transport)
        pipe.data_received(self._said[HALF:])
        self._taken.set_result(pipe)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop()
        if self._opening and not self._taken.done():
            self._taken.set_exception(ConnectionRefusedError("whoever listened does not know the secret"))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def encrypted(environ: Mapping[str, str]) -> bool:
    """Does Ray encrypt what goes between nodes? Then nothing of ours goes around that."""
    return environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")  # as Ray reads it


@contextlib.contextmanager
def _handed_over(made: socket.socket) -> Iterator[socket.socket]:
    """To a transport or a server, or closed."""
    try:
        yield made
    except BaseException:
        made.close()
        raise


def _near() -> socket.socket:
    """Not by path: uvloop would end a name of the abstract namespace at its first byte."""
    near = socket.socket(socket.AF_UNIX)
    near.setblocking(False)
    return near


def _far(host: str) -> socket.socket:
    """One whose other end may vanish without a word."""
    far = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    far.setblocking(False)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _SILENT.items():
        far.setsockopt(socket.IPPROTO_TCP, option, value)
    return far
