"""Many calls of one ingress in one stream of messages: the side beside the provider. No Ray.

An ingress sends its calls in batches. The first batch opens a *lane*: its handle call stays open, and what
comes of its calls goes out over it. A batch of the same ingress that comes while a lane is open boards that
one: its own handle call says which, and ends. So what goes back is gathered over all calls of an ingress,
whenever they began. A lane ends when it has been empty for a while; with it end all calls that it carries.
"""

import asyncio
import contextlib
import functools
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deployments.admission import Admission, Room
from deployments.errors import AttemptFailed
from deployments.providers.base import failed
from deployments.spacing import Spacing

Item = bytes | dict[str, Any]  # frames or a piece of a body; the last of each call is a dict
Boarded = tuple[int, str, bytes]  # a call's number, its verb (chat, embed or stream), and itself, pickled
Message = dict[str, Any] | list[tuple[int, Item]]  # first which lane it is, then what has come
Run = Callable[[str, Mapping[str, Any]], AsyncGenerator[Item, None]]

LINGER_SECONDS = 0.2  # an empty lane waits so long for the next batch
PIECE = 1024 * 1024  # bytes of one message, if no single item is larger
BACKLOG = 8 * 1024 * 1024  # bytes that wait for an ingress that does not read


@dataclass(slots=True)
class Passage:
    """One call on a lane. While its reader is behind it is held."""

    task: asyncio.Task[None] | None = None
    held_until: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, seconds: float) -> None:
        self.held_until = asyncio.get_running_loop().time() + seconds
        self.changed.set()

    async def free(self) -> None:
        clock = asyncio.get_running_loop().time
        while (left := self.held_until - clock()) > 0:
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.changed.wait()


class Lane:
    """What goes back to one ingress. `key` is the number of the batch that opened it.

    `spacing` is between two messages while several calls share it.
    """

    def __init__(self, key: int, spacing: Spacing):
        self.key = key
        self._spacing = spacing
        self.passages: dict[int, Passage] = {}
        self._items: deque[tuple[int, Item]] = deque()
        self._size = 0
        self._come = asyncio.Event()
        self._come_at = self._left_at = 0.0
        self._urgent = False
        self._pause: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._left = asyncio.Event()

    async def put(self, number: int, item: Item, *, first: bool) -> None:
        """`first` of a stream: it waits for nobody."""
        while self._size > BACKLOG:
            self._drained.clear()
            await self._drained.wait()
        if not self._items:
            self._come_at = asyncio.get_running_loop().time()
        self._items.append((number, item))
        self._size += _size_of(item)
        self._come.set()
        if first:
            self._urgent = True
            self._go_on()
        elif isinstance(item, bytes) and self._spacing.wide(asyncio.get_running_loop().time()):
            await self._left.wait()  # what comes until then is read at once

    def leave(self, number: int, _: object = None) -> None:
        del self.passages[number]
        self._come.set()

    async def next(self) -> list[tuple[int, Item]]:
        """All that has come, up to a piece; nothing when the lane is over."""
        loop = asyncio.get_running_loop()
        while not self._items:
            self._come.clear()
            if self.passages:
                await self._come.wait()  # the last to leave wakes it too
            elif not await self._lingers():
                return []
        due = max(self._come_at, self._left_at + self._spacing.seconds(loop.time()))
        if len(self.passages) > 1 and not self._urgent:
            await self._until(due)
        self._left_at = now = loop.time()
        left, self._left = self._left, asyncio.Event()
        left.set()
        taken = self._take()
        self._spacing.left(now, sum(map(_frames_of, taken)), None if self._urgent else due)
        self._urgent = False
        return taken

    async def _lingers(self) -> bool:
        """Is there a reason to stay?"""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._come.wait()
        return bool(self._items or self.passages)

    async def _until(self, due: float) -> None:
        """Or until a first frame comes."""
        loop = asyncio.get_running_loop()
        if due <= loop.time():
            return
        self._pause = loop.create_future()
        timer = loop.call_at(due, self._go_on)
        try:
            await self._pause
        finally:
            timer.cancel()
            self._pause = None

    def _go_on(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

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
        tasks = [p.task for p in self.passages.values() if p.task is not None]
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

    async def board(self, ingress: str, batch: int, calls: list[Boarded]) -> AsyncGenerator[Message, None]:
        """Run the calls. First what `_hello` says; the lane's own batch goes on with what comes."""
        lane = self._open.get(ingress)
        if lane is not None:
            self._start(lane, calls)
            yield self._hello(lane)
            return
        lane = self._open[ingress] = Lane(batch, self._spacing)
        try:
            self._start(lane, calls)
            yield self._hello(lane)
            while items := await lane.next():
                yield items
        finally:
            del self._open[ingress]
            await lane.close()

    def tell(self, ingress: str, drop: list[int], hold: Mapping[int, float]) -> None:
        """End these calls; send nothing of those for so many seconds. An unknown number is one that has ended."""
        lane = self._open.get(ingress)
        if lane is None:
            return
        for number in drop:
            if (passage := lane.passages.get(number)) is not None and passage.task is not None:
                passage.task.cancel()
        for number, seconds in hold.items():
            if (passage := lane.passages.get(number)) is not None:
                passage.hold(seconds)

    def _hello(self, lane: Lane) -> dict[str, Any]:
        room = self._room()
        under_way = self.admission.alone + sum(len(open_.passages) for open_ in self._open.values())
        return {"lane": lane.key, "replica": room.replica, "room": room.calls, "under_way": under_way}

    def _start(self, lane: Lane, calls: list[Boarded]) -> None:
        for number, verb, call in calls:
            passage = lane.passages[number] = Passage()
            passage.task = asyncio.create_task(self._travel(lane, number, passage, verb, call))
            # Not in a `finally` of its own: a task that is cancelled before it begins has none.
            passage.task.add_done_callback(functools.partial(lane.leave, number))

    async def _travel(self, lane: Lane, number: int, passage: Passage, verb: str, call: bytes) -> None:
        try:
            await self.admission.enter()
            try:
                await self._carry(lane, number, passage, self._run(verb, pickle.loads(call)))
            finally:
                self.admission.leave()
        except AttemptFailed as error:
            await lane.put(number, {"outcome": asdict(error.outcome)}, first=True)
        except Exception as error:
            outcome = failed("unclassified", f"{type(error).__name__}: {error}").outcome
            await lane.put(number, {"outcome": asdict(outcome)}, first=True)

    async def _carry(self, lane: Lane, number: int, passage: Passage, items: AsyncGenerator[Item, None]) -> None:
        first, most = True, self._room().message
        async with contextlib.aclosing(items):
            async for item in items:
                if passage.held_until:
                    await passage.free()
                if isinstance(item, bytes):
                    if len(item) > most:
                        raise failed("lost", "too large for one message between our replicas (see serve.env)")
                    await lane.put(number, item, first=first)
                    first = False
                    continue
                for piece in _pieces(item):
                    await lane.put(number, piece, first=first and isinstance(piece, bytes))
                    first = False


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
