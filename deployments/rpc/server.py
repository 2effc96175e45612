"""Many calls of one ingress over one connection: the side beside the provider. No Ray.

An ingress opens a *lane* by a handle call, so that Serve chooses the replica. The call says where to connect and
stays open as long as the lane: it is the lane's *anchor*, by which Serve knows that this replica is in use. Calls,
and what comes of them, go over the connection, gathered over all calls of the ingress, whenever they began.
The ingress ends a lane, by closing it; with it end all calls that it carries.
"""

import asyncio
import contextlib
import functools
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed, failed
from deployments.rpc.admission import Admission, Room
from deployments.rpc.batching import WIDE, Spacing
from deployments.rpc.framing import Listener, Pipe

Item = bytes | dict[str, Any]  # frames or a piece of a body; the last of each call is a dict
Boarded = tuple[int, str, bytes]  # a call's number, its verb (chat, embed or stream), and itself, pickled
# From the ingress: calls that begin, calls that it has given up, and whether it has room for what comes of others.
Wish = tuple[list[Boarded], list[int], Mapping[int, bool]]
Message = tuple[int, list[tuple[int, Item]]]  # to the ingress: calls under way here, and what has come
Run = Callable[[str, Mapping[str, Any]], AsyncGenerator[Item, None]]

PIECE = 1024 * 1024  # bytes of one message, if no single item is larger
BACKLOG = 8 * 1024 * 1024  # bytes that wait for an ingress that does not read
READER_SECONDS = 600.0  # a reader that takes nothing for so long loses its call: none may hold a room for ever
LEAST_ROOM = 16  # calls at a time: anchors take some of them


@dataclass(slots=True)
class Passage:
    """One call on a lane. While its reader is behind it is not `free`."""

    task: asyncio.Task[None]
    free: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: bool = False  # its reader is gone


class Lane:
    """What one ingress has under way here. `spacing` is between two messages while several calls share it."""

    def __init__(self, carry: Callable[["Lane", Boarded], Any], under_way: Callable[[], int], spacing: Spacing):
        self.passages: dict[int, Passage] = {}
        self.over = asyncio.Event()
        self._carry = carry
        self._under_way = under_way
        self._spacing = spacing
        self._loop = asyncio.get_running_loop()
        self._pipe: Pipe | None = None
        self._items: deque[tuple[int, Item]] = deque()
        self._size = 0
        self._come_at = self._left_at = self._due = 0.0
        self._soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._drained = asyncio.Event()
        self._left = asyncio.Event()

    def open(self, pipe: Pipe) -> None:
        self._pipe = pipe
        pipe.listen(self._wished, self.over.set, self._leave_now)

    def _wished(self, wish: Wish) -> None:
        """An unknown number is one that has ended."""
        calls, drop, wait = wish
        for call in calls:
            passage = Passage(self._loop.create_task(self._carry(self, call)))
            passage.free.set()
            self.passages[call[0]] = passage
            # Not in a `finally` of its own: a task that is cancelled before it begins has none.
            passage.task.add_done_callback(functools.partial(self._ended, call[0]))
        for number in drop:
            if (known := self.passages.get(number)) is not None:
                known.dropped = True
                known.task.cancel()
        for number, held in wait.items():
            if (known := self.passages.get(number)) is not None:
                (known.free.clear if held else known.free.set)()

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        passage = self.passages.pop(number)
        if task.cancelled() and not passage.dropped and not self.over.is_set():
            # Somebody below has cancelled it, and its reader still waits.
            self.end(number, failed("lost", "the call was cancelled").outcome)

    def end(self, number: int, outcome: Outcome) -> None:
        """The last word of a call that failed. It waits for nobody: each call has one at most, and it is small."""
        self._items.append((number, {"outcome": asdict(outcome)}))
        self._leave_now()

    async def put(self, number: int, item: Item, *, first: bool) -> None:
        """`first` of a stream: it waits for nobody. Raises AttemptFailed if an ingress reads nothing."""
        while self._size > BACKLOG:
            self._drained.clear()
            await _in_time(self._drained)
        now = self._loop.time()
        gap = self._spacing.seconds(now)
        if not self._items:
            self._come_at = now
        self._items.append((number, item))
        self._size += _size_of(item)
        if first or len(self.passages) == 1:
            self._leave_now()
        else:
            self._leave_at(max(self._come_at, self._left_at + gap), now)
        if not first and isinstance(item, bytes) and gap > WIDE:
            await self._left.wait()  # what comes until then is read at once

    def _leave_now(self) -> None:
        """With all that comes in this turn of the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._soon:
            self._soon, self._due = True, self._loop.time()
            self._loop.call_soon(self._leave)

    def _leave_at(self, due: float, now: float) -> None:
        if due <= now:
            self._leave_now()
        elif not self._soon and self._timer is None:
            self._due = due
            self._timer = self._loop.call_at(due, self._leave)

    def _leave(self) -> None:
        """All that has come, in pieces. What a full pipe leaves goes when it takes more."""
        self._soon, self._timer = False, None
        try:
            while self._items and self._pipe is not None and not self._pipe.full:
                now = self._loop.time()
                taken = self._take()
                self._pipe.send((self._under_way(), taken))
                self._spacing.left(now, sum(map(_frames_of, taken)), self._due)
                self._left_at = now
        except Exception:
            if self._pipe is not None:
                self._pipe.close()  # else what was taken would be missing, and nobody would know
            raise
        finally:
            left, self._left = self._left, asyncio.Event()
            left.set()

    def _take(self) -> list[tuple[int, Item]]:
        if self._size <= PIECE:
            taken, self._items, self._size = list(self._items), deque(), 0
            self._drained.set()
            return taken
        taken, size = [], 0
        while self._items:
            more = _size_of(self._items[0][1])
            if taken and size + more > PIECE:
                break
            size += more
            taken.append(self._items.popleft())
        self._size -= size
        self._drained.set()
        return taken

    async def close(self) -> None:
        """End every call that is still under way, and wait for it: its connection upstream is closed then."""
        self.over.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._pipe is not None:
            self._pipe.close()
        tasks = [passage.task for passage in self.passages.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Lanes:
    """All lanes of one replica, by the ingress that reads them."""

    def __init__(self, run: Run, room: Callable[[], Room]):
        self._run = run
        self._room = room
        self._open: dict[str, Lane] = {}
        self._spacing = Spacing()
        self.admission = Admission(room)

    async def board(self, ingress: str, node: str) -> AsyncGenerator[dict[str, Any], None]:
        """An anchor: says where an ingress on that node finds its lane, and lasts as long as the lane.

        `{replica, room, under_way, address, secret}`; without the last two where the ingress has a lane already, or
        may not or need not have one.
        """
        room = self._room()
        near = node == room.node
        if ingress in self._open or room.calls < LEAST_ROOM or not (near or room.host):
            yield self._hello()
            return
        lane = self._open[ingress] = Lane(self._travel, self.under_way, self._spacing)
        try:
            async with Listener.open(None if near else room.host) as listener:
                yield {**self._hello(), "address": listener.address, "secret": listener.secret}
                lane.open(await listener.accepted())
            await lane.over.wait()
        except TimeoutError:
            return  # an ingress that went away, or has no way to here: its calls come by handle
        finally:
            del self._open[ingress]
            await lane.close()

    def under_way(self) -> int:
        return self.admission.alone + sum(len(lane.passages) for lane in self._open.values())

    def _hello(self) -> dict[str, Any]:
        room = self._room()
        return {"replica": room.replica, "room": room.calls, "under_way": self.under_way()}

    async def _travel(self, lane: Lane, boarded: Boarded) -> None:
        number, verb, call = boarded
        try:
            await self.admission.enter()
            try:
                await self._carry(lane, number, self._run(verb, pickle.loads(call)))
            finally:
                self.admission.leave()
        except AttemptFailed as error:
            lane.end(number, error.outcome)
        except Exception as error:
            lane.end(number, failed("unclassified", f"{type(error).__name__}: {error}").outcome)

    async def _carry(self, lane: Lane, number: int, items: AsyncGenerator[Item, None]) -> None:
        first, free = True, lane.passages[number].free
        async with contextlib.aclosing(items):
            async for item in items:
                if not free.is_set():
                    await _in_time(free)
                if isinstance(item, bytes):
                    await lane.put(number, item, first=first)
                    first = False
                    continue
                for piece in _pieces(item):
                    await lane.put(number, piece, first=first and isinstance(piece, bytes))
                    first = False


async def _in_time(reader: asyncio.Event) -> None:
    """Until the reader takes something. Raises AttemptFailed `cancelled`: it counts as gone."""
    try:
        async with asyncio.timeout(READER_SECONDS):
            await reader.wait()
    except TimeoutError:
        if not reader.is_set():  # else we were late, not the reader
            raise failed("cancelled", f"its reader took nothing for {READER_SECONDS:g} s", content=True) from None


def _frames_of(one: tuple[int, Item]) -> int:
    return one[1].count(b"\n\n") if isinstance(one[1], bytes) else 1


def _size_of(item: Item) -> int:
    return len(item if isinstance(item, bytes) else item.get("body", b""))


def _pieces(item: dict[str, Any]) -> Iterator[Item]:
    """A long body goes as pieces, and then the answer without it."""
    if len(body := item.get("body", b"")) <= PIECE:
        yield item
        return
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]
    yield {**item, "body": b""}
