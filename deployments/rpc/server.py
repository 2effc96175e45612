"""The replica's end of multiplexed connections: the calls of each ingress over one connection. No Ray.

An ingress opens a connection by a *control call*, a handle call, so that Serve chooses the replica. The reply says
where to connect, and the control call stays open as long as the connection: so Serve knows that this replica is in use.
Calls and their items go over the connection. Items are batched over all calls of the ingress, whenever those began.
The ingress ends a connection by closing it, and all calls on it end with it.
"""

import asyncio
import contextlib
import functools
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field

from actors.breaker.outcomes import Outcome
from actors.process import SHARING
from deployments.aio.turns import in_turns
from deployments.errors import AttemptFailed, failed
from deployments.providers.base import CallMessage
from deployments.rpc.admission import Admission, Capacity
from deployments.rpc.batching import LONG_INTERVAL, BatchInterval
from deployments.rpc.framing import FramedConnection, Listener
from deployments.rpc.long_calls import BEFORE_THE_LAST, Arriving, CallFrame
from deployments.rpc.port import (
    EndMessage,
    HelloMessage,
    LastFrames,
    PieceMessage,
    ReplyMessage,
    StreamItem,
    UsageMessage,
    outcome_message,
)

Item = StreamItem | ReplyMessage | PieceMessage  # frames or a part of a body; the last item of each call is a dict
Tell = Callable[[PieceMessage], None]
# From the ingress: new calls, numbers of cancelled calls, and the streams to hold (True) or to go on with (False).
ClientMessage = tuple[list[CallFrame], list[int], Mapping[int, bool]]
ServerMessage = tuple[int, list[tuple[int, Item]]]  # to the ingress: calls in flight here, and items by call number
Run = Callable[[str, CallMessage, Tell], AsyncGenerator[Item, None]]

PIECE_BYTES = 1024 * 1024  # of one message, unless a single item is larger
BEAT_SECONDS = 1.0  # the longest silence on a connection: then the replica says that it lives
BACKLOG_BYTES = 8 * 1024 * 1024  # that wait for an ingress that does not read
READER_SECONDS = 600.0  # without reading: then a reader loses its call, which would hold a slot for ever
MIN_CALLS = 16  # at a time: a replica that takes fewer has no connections, as control calls need some of them


@dataclass(slots=True)
class ServerStream:
    """One call on a connection. `free` is unset while its reader is slow."""

    task: asyncio.Task[None]
    free: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False  # the ingress has cancelled it


class ServerConnection:
    """The calls of one ingress. `interval` batches their items while several calls share the connection."""

    def __init__(
        self,
        run: Callable[["ServerConnection", CallFrame], Coroutine[object, object, None]],
        in_flight: Callable[[], int],
        interval: BatchInterval,
    ):
        self.streams: dict[int, ServerStream] = {}
        self.closed = asyncio.Event()
        self._arriving: dict[int, Arriving] = {}  # long calls that are not whole yet
        self._run = run
        self._in_flight = in_flight
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._framed: FramedConnection | None = None
        self._items: deque[tuple[int, Item]] = deque()
        self._size = 0
        self._queued_at = self._sent_at = 0.0
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()
        self._collected = asyncio.Event()
        self._waiting = 0  # streams that read no more until the next message is due

    def open(self, framed: FramedConnection) -> None:
        self._framed = framed
        framed.listen(self._on_message, self.closed.set, self._flush_soon)
        self._beat = self._loop.call_later(BEAT_SECONDS / 2, self._say_that_we_live)

    def _say_that_we_live(self) -> None:
        """Send a message without items if there was none for a while. A connection that is full says enough."""
        if self._framed is None or self._framed.closed:
            return
        if self._loop.time() - self._sent_at >= BEAT_SECONDS / 2 and not self._framed.full:
            self._framed.send((self._in_flight(), []))
        self._beat = self._loop.call_later(BEAT_SECONDS / 2, self._say_that_we_live)

    def _on_message(self, message: ClientMessage) -> None:
        """Take a message of the ingress. An unknown number belongs to a call that has ended."""
        calls, dropped, holds = message
        for frame in calls:
            if (call := self._whole(frame)) is None:
                continue
            stream = ServerStream(self._loop.create_task(self._run(self, call)))
            stream.free.set()
            self.streams[call[0]] = stream
            # Not in a `finally` of the task: a task that is cancelled before its first step has none.
            stream.task.add_done_callback(functools.partial(self._on_ended, call[0]))
        SHARING.note(len(self.streams), self._loop.time())
        for number in dropped:
            self._arriving.pop(number, None)
            if (known := self.streams.get(number)) is not None:
                known.dropped = True
                known.task.cancel()
        for number, held in holds.items():
            if (known := self.streams.get(number)) is not None:
                (known.free.clear if held else known.free.set)()

    def _whole(self, frame: CallFrame) -> CallFrame | None:
        """Return the call that a frame completes; None if more of it is to come."""
        number, verb, data = frame
        if verb not in BEFORE_THE_LAST and number not in self._arriving:
            return frame
        arriving = self._arriving.setdefault(number, Arriving())
        return (number, verb, self._arriving.pop(number)) if arriving.take(verb, data) else None

    def _on_ended(self, number: int, task: asyncio.Task[None]) -> None:
        stream = self.streams.pop(number)
        if task.cancelled() and not stream.dropped and not self.closed.is_set():
            # The provider's side has cancelled the task, and its reader still waits.
            self.end(number, failed("lost", "the call was cancelled in the provider's replica").outcome)

    def end(self, number: int, outcome: Outcome) -> None:
        """Send the last item of a call that failed. No backlog delays it: it is small, and there is one a call."""
        self._items.append((number, {"outcome": outcome_message(outcome)}))
        self._flush_soon()

    async def put(self, number: int, item: Item, *, first: bool) -> None:
        """Queue an item; the `first` of a stream is sent at once. Raises AttemptFailed if the ingress reads nothing.

        Where messages are far apart, it returns when the next one is due: what has arrived upstream until then is read
        at once, and goes with it. So what arrives waits for one message, and not for two.
        """
        while self._size > BACKLOG_BYTES:
            self._drained.clear()
            await _wait_for_reader(self._drained)
        gap = self._queue(number, item, first=first)
        if first or gap <= LONG_INTERVAL or len(self.streams) == 1:
            return
        if isinstance(item, bytes) and not isinstance(item, LastFrames):
            self._waiting += 1
            try:
                await self._collected.wait()
            finally:
                self._waiting -= 1

    def tell(self, number: int, message: PieceMessage) -> None:
        """Queue a message that no backlog delays: it is small, and seldom."""
        self._queue(number, message)

    def _queue(self, number: int, item: Item, *, first: bool = False) -> float:
        """Queue an item, and have it sent in time. Return the seconds between two messages now."""
        now = self._loop.time()
        gap = self._interval.seconds(now)
        if not self._items:
            self._queued_at = now
        self._items.append((number, bytes(item) if isinstance(item, LastFrames) else item))
        self._size += _size_of(item)
        if first or len(self.streams) == 1:
            self._flush_soon()
        else:
            self._flush_at(max(self._queued_at, self._sent_at + gap), now)
        return gap

    def _flush_soon(self) -> None:
        """Send all items that are queued in this turn of the event loop. Streams that wait for their time go on to."""
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush, self._loop.time())

    def _flush_at(self, due: float, now: float) -> None:
        if due <= now:
            self._flush_soon()
        elif not self._flush_scheduled and self._timer is None:
            self._timer = self._loop.call_at(due, self._collect, due)

    def _collect(self, due: float) -> None:
        """Have the streams that wait read what has come to them, which takes two turns of the loop, and send it."""
        self._timer = None
        if not self._waiting:
            self._flush(due)
            return
        self._flush_scheduled = True
        collected, self._collected = self._collected, asyncio.Event()
        collected.set()
        late = self._loop.time() - due
        self._loop.call_soon(self._loop.call_soon, self._flush_collected, late)

    def _flush_collected(self, late: float) -> None:
        self._flush(self._loop.time() - late)  # to read takes its time, which is no lateness of the loop

    def _flush(self, due: float) -> None:
        """Send all queued items, in pieces. The rest waits while the connection is full."""
        self._flush_scheduled = False
        try:
            while self._items and self._framed is not None and not self._framed.full:
                now = self._loop.time()
                batch = self._take_batch()
                self._framed.send((self._in_flight(), batch))
                self._interval.note_sent(now, sum(map(_frame_count, batch)), due)
                self._sent_at = now
        except Exception:
            if self._framed is not None:
                self._framed.close()  # else the items of this batch would be missing without a sign
            raise
        finally:
            if self._waiting:
                now = self._loop.time()
                self._flush_at(now + self._interval.seconds(now), now)

    def _take_batch(self) -> list[tuple[int, Item]]:
        if self._size <= PIECE_BYTES:
            batch, self._items, self._size = list(self._items), deque(), 0
            self._drained.set()
            return batch
        batch, size = [], 0
        while self._items:
            more = _size_of(self._items[0][1])
            if batch and size + more > PIECE_BYTES:
                break
            size += more
            batch.append(self._items.popleft())
        self._size -= size
        self._drained.set()
        return batch

    async def close(self) -> None:
        """Cancel every call that is in flight, and wait until each has closed its connection upstream."""
        self.closed.set()
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        if self._framed is not None:
            self._framed.close()
        tasks = [stream.task for stream in self.streams.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class ConnectionServer:
    """All connections of one replica, by ingress."""

    def __init__(self, run: Run, capacity: Callable[[], Capacity]):
        self._run = run
        self._capacity = capacity
        self._connections: dict[str, ServerConnection] = {}
        self._interval = BatchInterval()
        self.admission = Admission(capacity)

    async def serve(self, ingress: str, node: str) -> AsyncGenerator[HelloMessage, None]:
        """Answer a control call: yield a hello, and last as long as the connection.

        `ingress` is a unique name, and `node` the Ray node it runs on. The hello has no address where the ingress has
        a connection already, or where it may not or need not have one.
        """
        capacity = self._capacity()
        near = node == capacity.node
        if ingress in self._connections or capacity.calls < MIN_CALLS or not (near or capacity.host):
            yield self._hello()
            return
        connection = ServerConnection(self._run_call, self.in_flight, self._interval)
        self._connections[ingress] = connection
        try:
            async with Listener.open(None if near else capacity.host) as listener:
                yield {
                    **self._hello(),
                    "address": listener.address,
                    "secret": listener.secret,
                    "parts": True,
                    "apart": True,
                    "beats": True,
                }
                connection.open(await listener.accept())
            await connection.closed.wait()
        except TimeoutError:
            return  # the ingress has stopped, or can't connect to this node: its calls come by handle
        finally:
            del self._connections[ingress]
            await connection.close()

    def in_flight(self) -> int:
        return self.admission.handle_calls + sum(len(c.streams) for c in self._connections.values())

    def _hello(self) -> HelloMessage:
        capacity = self._capacity()
        return {"replica": capacity.replica, "room": capacity.calls, "under_way": self.in_flight()}

    async def _run_call(self, connection: ServerConnection, frame: CallFrame) -> None:
        number, verb, call = frame
        try:
            await self.admission.acquire()
            try:
                is_long = isinstance(call, Arriving)
                message: CallMessage = await in_turns(call.put_together()) if is_long else pickle.loads(call)
                message["is_long"] = is_long
                tell = functools.partial(connection.tell, number)
                await self._send_items(connection, number, self._run(verb, message, tell))
            finally:
                self.admission.release()
        except AttemptFailed as error:
            connection.end(number, error.outcome)
        except Exception as error:
            connection.end(number, failed("unclassified", f"{type(error).__name__}: {error}").outcome)

    async def _send_items(self, connection: ServerConnection, number: int, items: AsyncGenerator[Item, None]) -> None:
        first, free = True, connection.streams[number].free
        async with contextlib.aclosing(items):
            async for item in items:
                if not free.is_set():
                    await _wait_for_reader(free)
                if isinstance(item, bytes):
                    await connection.put(number, item, first=first)
                    first = False
                    continue
                for piece in _split_body(item):
                    await connection.put(number, piece, first=first and isinstance(piece, bytes))
                    first = first and not isinstance(piece, bytes)


async def _wait_for_reader(reader: asyncio.Event) -> None:
    """Wait until the reader reads again. Raises AttemptFailed `cancelled` after READER_SECONDS: it counts as gone."""
    try:
        async with asyncio.timeout(READER_SECONDS):
            await reader.wait()
    except TimeoutError:
        if not reader.is_set():  # else our event loop was late, not the reader
            raise failed("cancelled", f"the client read nothing for {READER_SECONDS:g} s", content=True) from None


def _frame_count(entry: tuple[int, Item]) -> int:
    return entry[1].count(b"\n\n") if isinstance(entry[1], bytes) else 1


def _size_of(item: Item) -> int:
    if isinstance(item, bytes):
        return len(item)
    return len(item["body"]) if "body" in item else 0


def _split_body(item: ReplyMessage | UsageMessage | PieceMessage | EndMessage) -> Iterator[Item]:
    """Yield a long body as pieces, and then the reply without it; any other item as it is."""
    if "body" not in item or len(body := item["body"]) <= PIECE_BYTES:
        yield item
        return
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
    yield {**item, "body": b""}
