"""Messages both ways over one socket between two of our replicas: four bytes of length, then a pickle. No Ray.

A `Listener` takes one connection and closes: on its own node by a name that is no file and no port, from another node
by a port. Who connects says first the secret that it was told by handle: nothing is unpickled that a stranger sent.
"""

import asyncio
import contextlib
import hmac
import pickle
import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

Address = str | tuple[str, int]  # a name in Linux's abstract namespace, or a host and a port

SECRET_BYTES = 32
CONNECT_SECONDS = 5.0
MOST = 256 * 1024 * 1024  # bytes of one message
_LENGTH = struct.Struct("!I")


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

    def listen(self, heard: Callable[[Any], None], lost: Callable[[], None], flows: Callable[[], None]) -> None:
        """Who is told each message, once that there will be no more, and that a full pipe takes more again."""
        self._heard, self._lost, self._flows = heard, lost, flows
        if self.closed:
            self._end()
        else:
            self._deal()

    def send(self, message: Any) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.write(_LENGTH.pack(len(data)) + data)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def close(self) -> None:
        """What has been sent may be lost: nobody waits for it."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

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


def _nothing() -> None:
    pass


def _near() -> socket.socket:
    """Not by path: uvloop would end a name of the abstract namespace at its first byte."""
    near = socket.socket(socket.AF_UNIX)
    near.setblocking(False)
    return near


async def connected(address: Address, secret: bytes) -> Pipe:
    """Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        if isinstance(address, str):
            near = _near()
            await loop.sock_connect(near, f"\0{address}")
            _, pipe = await loop.create_unix_connection(Pipe, sock=near)
        else:
            _, pipe = await loop.create_connection(Pipe, *address)
    pipe.write(secret)
    return pipe


class Listener:
    """Takes one connection whose first word is `secret`."""

    def __init__(self) -> None:
        self.secret = secrets.token_bytes(SECRET_BYTES)
        self.address: Address = ""
        self._taken: asyncio.Future[Pipe] = asyncio.get_running_loop().create_future()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, host: str | None) -> AsyncGenerator["Listener", None]:
        """At a port of this host, or without one for this node alone."""
        listener, loop = cls(), asyncio.get_running_loop()
        if host is None:
            listener.address = f"breakwater-{secrets.token_hex(16)}"
            near = _near()
            near.bind(f"\0{listener.address}")
            server = await loop.create_unix_server(listener._greet, sock=near)
        else:
            server = await loop.create_server(listener._greet, host, 0)
            listener.address = (host, server.sockets[0].getsockname()[1])
        try:
            yield listener
        finally:
            server.close()
            listener._taken.cancel()

    async def accepted(self) -> Pipe:
        """Raises TimeoutError if nobody comes."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._taken

    def _greet(self) -> "_Greeting":
        return _Greeting(self.secret, self._taken)


class _Greeting(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    def __init__(self, secret: bytes, taken: "asyncio.Future[Pipe]"):
        self._secret = secret
        self._taken = taken
        self._said = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._timer = asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._said += data
        if len(self._said) < SECRET_BYTES:
            return
        self.connection_lost(None)
        if self._taken.done() or not hmac.compare_digest(self._said[:SECRET_BYTES], self._secret):
            self._transport.abort()
            return
        pipe = Pipe()
        self._transport.set_protocol(pipe)
        pipe.connection_made(self._transport)
        pipe.data_received(self._said[SECRET_BYTES:])
        self._taken.set_result(pipe)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
