"""The ingress's end of a multiplexed connection, and one call on it as its reader sees it. No Ray.

`server.py` is the other end.

- A call that its reader gives up is cancelled at the replica by a message after the call itself: the connection keeps
  the order.
- A slow reader has its stream held: the replica stops to send. Frames that arrive all the same are kept up to a limit,
  beyond which the stream fails. A reader that takes nothing for long loses its call: the replica ends it, and says so
  after the frames that it has sent.
- A long call goes in parts, between which other calls are sent: pickled whole by Ray's own way it would stop this
  process and the replica's for a tenth of a second. `long_calls.py` says how.
- When a connection ends, each of its calls fails as `lost`.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from actors.process import SHARING
from deployments.errors import AttemptFailed, failed
from deployments.rpc.framing import FramedConnection
from deployments.rpc.in_flight import InFlightCounts
from deployments.rpc.long_calls import PART_BYTES, Apart, CallFrame, frames_of
from deployments.rpc.port import ReplyMessage, is_last
from deployments.rpc.server import PIECE_BYTES, Item, ServerMessage

HOLD_BYTES = 256 * 1024  # unread bytes of a stream: beyond them the replica is told to hold it
PART_PAUSE = 0.001  # seconds, while the replica has not read what was sent before
STUCK_SECONDS = 0.05  # of such waiting, after which the connection takes no new calls
# Without a sign of life, of which there is one each second: first a replica gets no new calls, then it counts as gone.
QUIET_SECONDS, SILENT_SECONDS = 2.0, 5.0
MAX_UNREAD_BYTES = 16 * 1024 * 1024  # beyond them the stream fails


class ClientStream:
    """An async iterator of a call's items. Its owner closes it."""

    def __init__(self, number: int, is_stream: bool, connection: "Connection"):
        self.number = number
        self.is_stream = is_stream  # the reader of a whole answer is never slow, so it is never held
        self.held = False
        self.size = 0  # unread bytes
        self._connection = connection
        self._items: deque[Item] = deque()
        self._ended = False
        self._error: AttemptFailed | None = None
        self._ready: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        self._items.append(item)
        if isinstance(item, bytes):
            self.size += len(item)
        else:
            self._ended = is_last(item)
        self._wake()

    def fail(self, error: AttemptFailed) -> None:
        """End the stream with an error, after the items that have arrived."""
        self._error = self._error or error
        self._wake()

    async def __anext__(self) -> Item:
        """Return all bytes that have arrived, or the call's last item. Raises AttemptFailed."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        if not isinstance(self._items[0], bytes):
            return self._items.popleft()
        parts = []
        while self._items and isinstance(part := self._items[0], bytes):
            parts.append(part)
            self._items.popleft()
        self.size = 0
        if self.held:
            self.held = False
            self._connection.hold(self.number, held=False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_reply(self, on_piece: Callable[[], None] | None = None) -> ReplyMessage:
        """Return the reply of a whole answer, whose body may have arrived in parts. Raises AttemptFailed.

        `on_piece` is called when the replica says that pieces of the answer have come to it.
        """
        try:
            parts: list[bytes] = []
            while isinstance(item := await self.__anext__(), bytes) or not is_last(item):
                if isinstance(item, bytes):
                    parts.append(item)
                elif on_piece is not None:
                    on_piece()
            reply = cast(ReplyMessage, item)
            return {**reply, "body": b"".join([*parts, reply.get("body", b"")])} if parts else reply
        finally:
            self.release()

    async def aclose(self) -> None:
        self.release()

    def release(self) -> None:
        """Give the call up, if it has not ended: its reader takes no more."""
        self._connection.release(self, self._ended)

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


class Connection:
    """The ingress's end of one connection to a replica, and the calls on it."""

    def __init__(
        self,
        replica: str,
        capacity: int,
        framed: FramedConnection,
        in_flight: InFlightCounts,
        *,
        parts: bool = False,
        apart: bool = False,
        beats: bool = False,
    ):
        self.replica = replica
        self.capacity = capacity  # calls at a time
        self.takes_parts, self.takes_apart = parts, apart  # older replicas do not
        self._beats = beats
        self.streams: dict[int, ClientStream] = {}
        self.used_at = self.confirmed_at = self.heard_at = asyncio.get_running_loop().time()
        self.confirmed_in = 0  # the number of the last of Serve's answers that named this replica
        self.closed = asyncio.Event()
        self._in_flight = in_flight
        self._loop = asyncio.get_running_loop()
        self._framed = framed
        self._numbers = itertools.count(1)
        self._new_calls: list[CallFrame] = []
        self._long_calls: deque[tuple[int, Iterator[CallFrame]]] = deque()  # what is left of each, the first under way
        self._part_waits_since: float | None = None
        self._cancelled: list[int] = []
        self._holds: dict[int, bool] = {}
        self._flush_scheduled = False
        framed.listen(self._on_message, self._on_lost)

    @property
    def open(self) -> bool:
        stuck = self._part_waits_since is not None and self._loop.time() - self._part_waits_since > STUCK_SECONDS
        return not self._framed.closed and not self._framed.full and not stuck

    def begin(self, verb: str, call: bytes | Apart) -> ClientStream:
        """Send a call that is pickled or taken apart, and return the stream of its items."""
        stream = ClientStream(next(self._numbers), verb == "stream", self)
        self.streams[stream.number] = stream
        self.used_at = self._loop.time()
        self._in_flight.begin(self.replica)
        if isinstance(call, Apart) or (self.takes_parts and len(call) > PART_BYTES):
            self._long_calls.append((stream.number, frames_of(stream.number, verb, call)))
            if len(self._long_calls) == 1:
                self._loop.call_soon(self._send_part)
        else:
            self._new_calls.append((stream.number, verb, call))
            self._flush_soon()
        return stream

    def _send_part(self) -> None:
        """Send the next part of the first long call. A call that was given up has no more parts."""
        while self._long_calls and self._long_calls[0][0] not in self.streams:
            self._long_calls.popleft()
        if not self._long_calls or self._framed.closed:
            self._part_waits_since = None
            return
        if self._framed.unsent > PART_BYTES:
            if self._part_waits_since is None:
                self._part_waits_since = self._loop.time()
            self._loop.call_later(PART_PAUSE, self._send_part)
            return
        self._part_waits_since = None
        if (frame := next(self._long_calls[0][1], None)) is None:
            self._long_calls.popleft()
        else:
            self._framed.send(([frame], [], {}))
        if self._long_calls:
            self._loop.call_soon(self._send_part)

    def hold(self, number: int, *, held: bool) -> None:
        """Tell the replica to hold a stream, or to go on with it."""
        self._holds[number] = held
        self._flush_soon()

    def release(self, stream: ClientStream, ended: bool) -> None:
        """Forget a call, and cancel it at the replica unless it has ended."""
        if self.streams.pop(stream.number, None) is None:
            return
        self._in_flight.end(self.replica)
        self.used_at = self._loop.time()
        if not ended:
            self._cancelled.append(stream.number)
            self._flush_soon()

    def close(self) -> None:
        self._framed.close()

    def is_quiet(self, now: float) -> bool:
        """Return whether signs of life are missing, so that a new call should have another replica."""
        return self._beats and now - self.heard_at > QUIET_SECONDS

    def is_silent(self, now: float) -> bool:
        """Return whether the replica stands still for long, or its node can't be reached."""
        return self._beats and now - self.heard_at > SILENT_SECONDS

    def give_up(self) -> None:
        """Close the connection to a silent replica. Its calls fail as `lost`: that is no fault of the provider."""
        self._fail_all(f"the provider's replica has given no sign of life for {SILENT_SECONDS:g} s")
        self._in_flight.avoid(self.replica, time.monotonic())
        self.close()

    def _flush_soon(self) -> None:
        """Send one message with all that is queued in this turn of the event loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send in pieces, as the other end does. Cancellations and holds follow the calls that they concern."""
        self._flush_scheduled = False
        *pieces, last = _split_calls(self._new_calls)
        for piece in pieces:
            self._framed.send((piece, [], {}))
        self._framed.send((last, self._cancelled, self._holds))
        self._new_calls, self._cancelled, self._holds = [], [], {}

    def _on_message(self, message: ServerMessage) -> None:
        in_flight, items = message
        self.heard_at = now = self._loop.time()
        SHARING.note(len(self.streams), now)
        self._in_flight.learn(self.replica, in_flight, time.monotonic())
        for number, item in items:
            if (stream := self.streams.get(number)) is not None:  # else its reader has given it up
                stream.put(item)
                if stream.size > HOLD_BYTES and stream.is_stream:
                    self._hold_or_fail(stream)

    def _hold_or_fail(self, stream: ClientStream) -> None:
        if stream.size > MAX_UNREAD_BYTES:
            stream.fail(failed("lost", f"its reader left {MAX_UNREAD_BYTES // 2**20} MiB of the stream unread"))
            self.release(stream, ended=False)
        elif not stream.held:
            stream.held = True
            self.hold(stream.number, held=True)

    def _on_lost(self) -> None:
        self._fail_all("the provider's replica went away")
        self.closed.set()

    def _fail_all(self, why: str) -> None:
        for stream in list(self.streams.values()):
            stream.fail(failed("lost", why))


def _split_calls(calls: list[CallFrame]) -> list[list[CallFrame]]:
    """Split calls into at least one piece, each of at most PIECE_BYTES unless a single call is larger."""
    pieces: list[list[CallFrame]] = [[]]
    size = 0
    for call in calls:
        size += len(call[2])
        if pieces[-1] and size > PIECE_BYTES:
            pieces.append([])
            size = len(call[2])
        pieces[-1].append(call)
    return pieces
