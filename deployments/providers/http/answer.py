"""One answer of a provider as it arrives on a connection of ours: its head, and its body in the parts that came.

No Ray. Errors are aiohttp's, as of its own answers.
"""

import asyncio
import zlib
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from deployments.providers.http.connection import HttpConnection

GATHER_SECONDS = 0.02  # how long parts wait for each other
MOST_UNREAD = 256 * 1024  # bytes; then the reader is woken, and nothing more is read until it comes
MOST_UNPACKED = 16 * 1024 * 1024  # bytes that one part may unpack to: more is an attack
# We ask for the first alone (pool.py). Some servers pack an answer that nobody asked to be packed.
_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}

RawHeaders = tuple[tuple[bytes, bytes], ...]


class HttpAnswer:
    """It has what `UpstreamResponse` needs of aiohttp's answer, and is its own `content`."""

    __slots__ = (
        "_begun",
        "_catching_up",
        "_connection",
        "_ended",
        "_error",
        "_gathering",
        "_parts",
        "_timer",
        "_unpack",
        "_unread",
        "_waiter",
        "raw_headers",
        "status",
        "url",
    )

    def __init__(self, connection: "HttpConnection", url: URL):
        self.url = url
        self.status = 0  # until the head has arrived
        self.raw_headers: RawHeaders = ()
        self._connection: HttpConnection | None = connection
        self._parts: list[bytes] = []
        self._unread = 0  # bytes
        self._begun = False  # whether some of the body was read
        self._catching_up = False  # what comes now was asked for, and is no sign that the reader is busy
        self._gathering = False
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._unpack: _Unpacking | None = None

    @property
    def content(self) -> "HttpAnswer":
        return self

    @property
    def headers(self) -> "CIMultiDict[str]":
        """Return the headers as text; the bytes of names and values are UTF-8 as for aiohttp."""
        return CIMultiDict((_text(name), _text(value)) for name, value in self.raw_headers)

    async def head(self) -> None:
        """Wait for the head. Raises aiohttp's errors."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    def at_eof(self) -> bool:
        return self._ended and not self._parts

    def gather(self) -> None:
        """Let the parts behind the first wait for each other: their reader wants the body whole."""
        self._gathering = True

    async def readany(self) -> bytes:
        """Return what has arrived and was not read, waiting for at least a byte; empty at the end."""
        if self._connection is not None and self._connection.held:
            await self._catch_up(self._connection)
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._wait()
        parts, self._parts, self._unread, self._begun = self._parts, [], 0, True
        if self._connection is not None and not self._connection.may_hold_early:
            self._connection.go_on()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _catch_up(self, connection: "HttpConnection") -> None:
        """Have what waits in the socket read, and then pause reading again until the reader comes back.

        A reader that was busy before is likely to be busy again. So one that comes now and then costs one read each
        time, whatever has arrived since.
        """
        self._catching_up = True
        try:
            connection.go_on()
            await asyncio.sleep(0)  # it comes in this turn of uvloop's loop; asyncio's own has it for the next reading
        finally:
            self._catching_up = False
        if self._parts and self._connection is not None and connection.may_hold_early:
            connection.hold()

    def close(self) -> None:
        """Let go of the answer. If its body has not ended, the connection can't be used again."""
        connection, self._connection = self._connection, None
        self._stop_timer()
        if connection is not None:
            connection.abort()

    # What the connection tells.

    def begin(self, status: int, headers: RawHeaders) -> None:
        self.raw_headers = headers
        for name, value in headers:
            if name == b"content-encoding" and (coding := value.strip().lower()) not in (b"", b"identity"):
                if coding not in _WINDOWS:
                    raise aiohttp.ClientPayloadError(f"Can not decode content-encoding: {coding.decode('latin-1')}")
                self._unpack = _Unpacking(_WINDOWS[coding])
        self.status = status
        self._wake()

    def put(self, part: bytes) -> None:
        if self._unpack is not None:
            part = self._unpack.take(part)
        if not part:
            return
        self._parts.append(part)
        self._unread += len(part)
        if self._gathering and self._begun and self._unread < MOST_UNREAD:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._wake)
            return
        if self._connection is not None and self._is_behind(self._connection):
            self._connection.hold()
        self._wake()

    def _is_behind(self, connection: "HttpConnection") -> bool:
        """Return whether the reader is busy: what comes until it asks again is then read in one go."""
        if self._unread >= MOST_UNREAD:
            return True
        return self._waiter is None and not self._catching_up and connection.may_hold_early

    def end(self) -> None:
        if self._unpack is not None and self._unpack.begun and not self._unpack.eof:
            self.fail(aiohttp.ClientPayloadError("Can not decode content-encoding: the body is cut off"))
            return
        self._ended, self._connection = True, None
        self._wake()

    def fail(self, error: Exception) -> None:
        """End it with an error, after what has arrived."""
        self._error, self._connection = self._error or error, None
        self._wake()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        self._stop_timer()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Unpacking:
    """A body that is packed, in one piece or in several, one behind the other (RFC 1952, 2.2)."""

    __slots__ = ("_piece", "_windows", "begun")

    def __init__(self, windows: int):
        self._windows, self.begun = windows, False
        self._piece = zlib.decompressobj(windows)

    @property
    def eof(self) -> bool:
        return self._piece.eof

    def take(self, part: bytes) -> bytes:
        self.begun, unpacked = True, b""
        try:
            while part:
                if self._piece.eof:
                    self._piece = zlib.decompressobj(self._windows)
                unpacked += self._piece.decompress(part, MOST_UNPACKED)
                if self._piece.unconsumed_tail or len(unpacked) > MOST_UNPACKED:
                    raise aiohttp.ClientPayloadError("Can not decode content-encoding: the body unpacks to too much")
                part = self._piece.unused_data
        except zlib.error as error:
            raise aiohttp.ClientPayloadError(f"Can not decode content-encoding: {error}") from None
        return unpacked


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
