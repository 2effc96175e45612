"""Many calls over few connections: boarding.py, ride.py and lanes.py against each other, on real sockets.

The clock jumps; what lies in a socket is there at once.
"""

import asyncio
import contextlib
import itertools
import pickle
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

from deployments.admission import Room
from deployments.boarding import (
    AGAIN_SECONDS,
    FRESH_SECONDS,
    LINGER_SECONDS,
    LOOK_SECONDS,
    NARROW_SECONDS,
    OPEN_SECONDS,
    SHUN_SECONDS,
    SOON_SECONDS,
    Boarding,
)
from deployments.errors import AttemptFailed
from deployments.lanes import PIECE, Item, Lanes
from deployments.loads import FRESH_SECONDS as KNOWN_SECONDS
from deployments.loads import Loads
from deployments.pipe import ACCEPT_SECONDS, CONNECT_SECONDS, HALF, Address, Listener, connected, encrypted
from deployments.providers.base import failed
from deployments.ride import BEHIND, TOO_FAR_BEHIND, Ride, Way
from tests.clock import run_virtually

FRAME = b"data: {}\n\n"
END = {"usage": None, "tail": b""}
NODE, ELSEWHERE = "this node", "another"


class Upstream:
    """What a provider does: `call` names one of its methods. It knows which calls are open."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.began: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.given: dict[str, int] = {}

    async def run(self, verb: str, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        name = call["name"]
        self.began.append(name)
        self.open.add(name)
        try:
            async for item in getattr(self, call["does"])(call):
                self.given[name] = self.given.get(name, 0) + 1
                yield item
        finally:
            self.open.discard(name)

    async def answers(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        await asyncio.sleep(call.get("after", 0))
        yield {"body": b"x" * call.get("size", 3), "name": call["name"]}

    async def streams(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        for _ in range(call.get("frames", 3)):
            yield call.get("frame", FRAME)
            await asyncio.sleep(call.get("every", 0.005))
        yield END

    async def breaks(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield FRAME
        raise ZeroDivisionError("a bug")

    async def cancels(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        yield FRAME
        raise asyncio.CancelledError

    async def waits(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        await asyncio.Event().wait()
        yield END


class World:
    """One ingress and its provider's replicas; the first is chosen unless `chosen` says another."""

    def __init__(self, *rooms: Room):
        self.upstream = Upstream()
        self.rooms = list(rooms) or [Room("replica", node=NODE)]
        self.loads = Loads()
        self.replicas = [Lanes(self.upstream.run, lambda room=room: room) for room in self.rooms]  # type: ignore[misc]
        self.boarding = Boarding("openai", self.anchor, self.loads)
        self.chosen = 0
        self.anchors = 0  # that were asked for
        self.open = 0  # that last
        self.broken = False
        self.slow = 0.0  # seconds that an anchor takes to arrive
        self.node = NODE
        self.cut = asyncio.Event()
        self.swallowed: Address | None = None  # where connections that are made lead to nobody
        self.swallows = {0}  # to these replicas

    @contextlib.asynccontextmanager
    async def swallowing(self, near: bool = False) -> AsyncGenerator[socket.socket, None]:
        """As between nodes whose packets are dropped, or where nobody has the time to answer."""
        with socket.socket(socket.AF_UNIX) if near else socket.create_server(("127.0.0.1", 0)) as nobody:
            if near:
                nobody.bind("\0breakwater-test")
                nobody.listen()
            nobody.setblocking(False)
            self.swallowed = "breakwater-test" if near else nobody.getsockname()
            yield nobody
            self.swallowed = None

    @property
    def lanes(self) -> Lanes:
        return self.replicas[0]

    async def anchor(self) -> AsyncGenerator[Mapping[str, Any], None]:
        self.anchors += 1
        await asyncio.sleep(self.slow)
        if self.broken:
            raise failed("unreachable", "this provider's deployment is unavailable")
        self.open += 1
        try:
            async with aclosing(self.replicas[self.chosen].board("ingress", self.node)) as said:
                async for word in _until(said, self.cut):
                    if self.swallowed and self.chosen in self.swallows and "address" in word:
                        word["address"] = self.swallowed
                    yield pickle.loads(pickle.dumps(word))
        finally:
            self.open -= 1

    async def way(self) -> Way:
        """As soon as there is a lane."""
        way = self.boarding.way() or self.boarding.way() or await self.boarding.opened()
        assert way is not None
        return way

    async def complete(self, name: str, does: str = "answers", **more: Any) -> dict[str, Any]:
        way = await self.way()
        return await way.begin("chat", pickle.dumps({"name": name, "does": does, **more})).whole()

    async def stream(self, name: str, does: str = "streams", **more: Any) -> Ride:
        way = await self.way()
        return way.begin("stream", pickle.dumps({"name": name, "does": does, **more}))

    async def read(self, name: str, does: str = "streams", **more: Any) -> list[Item]:
        return await rest(await self.stream(name, does, **more))


async def _until(said: AsyncGenerator[Any, None], cut: asyncio.Event) -> AsyncGenerator[Any, None]:
    """As a handle call that may break."""
    while True:
        coming = asyncio.ensure_future(anext(said, None))
        cutting = asyncio.ensure_future(cut.wait())
        try:
            await asyncio.wait([coming, cutting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            cutting.cancel()
            if not coming.done():
                coming.cancel()
                await asyncio.wait([coming])
        if cut.is_set():
            raise failed("lost", "the provider's replica went away")
        if (word := coming.result()) is None:
            return
        yield word


async def rest(ride: Ride) -> list[Item]:
    """Up to the last word."""
    found: list[Item] = []
    try:
        while (item := await anext(ride, None)) is not None:
            found.append(item)
    finally:
        await ride.aclose()
    return found


def on(main: Callable[[World], Awaitable[Any]], *rooms: Room) -> Any:
    async def run() -> Any:
        world = World(*rooms)
        try:
            async with asyncio.timeout(1000):
                return await main(world)
        finally:
            await asyncio.sleep(LINGER_SECONDS + FRESH_SECONDS + 2 * LOOK_SECONDS)
            assert not world.upstream.open, "a call upstream is still open"
            assert not world.open, "an anchor is still open"
            assert not world.boarding._ways
            for lanes in world.replicas:
                assert (lanes.admission.running, lanes.admission.waiting, lanes.admission.all) == (0, 0, 0)

    return run_virtually(run())


def frames_in(items: list[Item]) -> int:
    assert items[-1] == END
    return b"".join(i for i in items if isinstance(i, bytes)).count(FRAME)


async def flowing(world: World, items: int, **more: Any) -> Ride:
    """A stream from which so many items were read."""
    ride = await world.stream(**more)
    for _ in range(items):
        await anext(ride)
    return ride


def test_where_calls_are_rare_there_is_no_lane() -> None:
    async def main(world: World) -> None:
        for _ in range(5):
            assert world.boarding.way() is None
            assert not world.boarding.opening
            await asyncio.sleep(SOON_SECONDS + 0.1)
        assert world.anchors == 0

    on(main)


def test_the_second_call_in_a_while_waits_for_the_lane_that_opens_and_all_after_it_take_that() -> None:
    async def main(world: World) -> None:
        assert world.boarding.way() is None
        world.slow = 0.01
        answers = await asyncio.gather(*[world.complete(f"call {n}") for n in range(20)])
        assert [a["name"] for a in answers] == [f"call {n}" for n in range(20)]
        assert (world.anchors, world.open) == (2, 1)  # the second found that there is no other
        assert len(world.upstream.began) == 20

    on(main)


def test_no_call_waits_for_long_where_no_lane_opens() -> None:
    async def main(world: World) -> None:
        world.slow = 10.0
        world.boarding.way()
        assert world.boarding.way() is None
        began = asyncio.get_running_loop().time()
        assert await world.boarding.opened() is None
        assert asyncio.get_running_loop().time() - began == pytest.approx(OPEN_SECONDS)
        world.slow = 0.0
        await asyncio.sleep(10)

    on(main)


def test_where_a_lane_fails_to_open_it_is_not_tried_with_each_call_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(world: World) -> None:
        world.broken = True
        for _ in range(30):
            assert world.boarding.way() is None
            assert await world.boarding.opened() is None
            await asyncio.sleep(AGAIN_SECONDS / 10)
        assert 3 <= world.anchors <= 4
        world.broken = False
        await asyncio.sleep(AGAIN_SECONDS / 2)
        assert (await world.complete("now"))["name"] == "now"

    on(main)
    assert len([record for record in caplog.records if "openai: a lane could not be opened" in record.message]) == 1


def test_a_replica_with_little_room_has_no_lane() -> None:
    async def main(world: World) -> None:
        for _ in range(30):
            assert (world.boarding.way() or await world.boarding.opened()) is None
            await asyncio.sleep(NARROW_SECONDS / 20)
        assert world.anchors == 2

    on(main, Room("replica", calls=4, node=NODE))


def test_calls_of_one_turn_go_in_one_message() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        sent = []
        way._pipe.send, send = lambda message: (sent.append(message), send(message)), way._pipe.send  # type: ignore[func-returns-value, method-assign, assignment]
        await asyncio.gather(*[world.complete(str(number)) for number in range(20)])
        assert [len(calls) for calls, _, _ in sent if calls] == [20]

    on(main)


def test_the_only_call_never_waits() -> None:
    async def main(world: World) -> None:
        now = asyncio.get_running_loop().time
        await world.way()
        began = now()
        await world.complete("first")
        await world.complete("second")
        assert frames_in(await world.read("stream", every=0.0)) == 3
        assert now() == began

    on(main)


def test_frames_of_many_streams_share_messages_and_the_first_of_each_waits_for_none() -> None:
    async def main(world: World) -> None:
        loop = asyncio.get_running_loop()
        way = await world.way()
        heard: list[float] = []
        messages = 0
        deal = way._heard

        def counted(message: Any) -> None:
            nonlocal messages
            messages += 1
            deal(message)

        way._pipe._heard = counted

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.00037)
            began = loop.time()
            ride = await flowing(world, 1, name=str(number), frames=50)
            heard.append(loop.time() - began)
            await ride.aclose()

        async def whole(number: int) -> int:
            await asyncio.sleep(number * 0.00037)
            return b"".join(i for i in await world.read(f"whole {number}", frames=50) if isinstance(i, bytes)).count(
                FRAME
            )

        counts, _ = await asyncio.gather(
            asyncio.gather(*[whole(n) for n in range(40)]), asyncio.gather(*[one(n) for n in range(5)])
        )
        assert counts == [50] * 40
        assert max(heard) <= 0.0011
        assert messages < 40 * 51 / 5

    on(main)


def test_a_call_that_is_given_up_ends_upstream_and_its_neighbours_go_on() -> None:
    async def main(world: World) -> None:
        other = asyncio.create_task(world.read("other", frames=100))
        leaving = await flowing(world, 1, name="leaving", frames=100)
        await leaving.aclose()
        await asyncio.sleep(0.1)
        assert world.upstream.open == {"other"}
        assert frames_in(await other) == 100

    on(main)


@pytest.mark.parametrize("turns", range(8))
def test_a_call_that_is_given_up_at_any_moment_leaves_nothing_behind(turns: int) -> None:
    async def main(world: World) -> None:
        other = asyncio.create_task(world.read("other", frames=30))
        leaving = asyncio.create_task(world.complete("leaving", "waits"))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        await asyncio.sleep(0.1)
        assert world.upstream.open <= {"other"}
        assert frames_in(await other) == 30

    on(main)


def test_what_has_come_before_a_reader_leaves_is_not_told_to_the_replica() -> None:
    async def main(world: World) -> None:
        ride = await world.stream("whole")
        await asyncio.sleep(1)
        assert len(await rest(ride)) == 2
        way = await world.way()
        assert (way._drop, way._calls) == ([], [])

    on(main)


@pytest.mark.parametrize("what", ["anchor", "connection", "replica"])
def test_a_lane_that_breaks_ends_each_call_on_it_by_itself(what: str) -> None:
    async def main(world: World) -> None:
        streams = [await flowing(world, 1, name=str(n), frames=1000) for n in range(3)]
        late = asyncio.create_task(world.complete("late", "waits"))
        await asyncio.sleep(0.02)
        way = await world.way()
        if what == "anchor":
            world.cut.set()
        elif what == "connection":
            way.close()
        else:
            next(iter(world.lanes._open.values())).over.set()
        for task in (*map(asyncio.create_task, map(rest, streams)), late):
            with pytest.raises(AttemptFailed) as caught:
                await task
            assert caught.value.outcome.kind == "lost"
        await asyncio.sleep(0.1)
        assert not world.upstream.open
        world.cut.clear()
        await asyncio.sleep(AGAIN_SECONDS)
        assert (await world.complete("after"))["name"] == "after"

    on(main)


def test_what_one_call_raises_never_touches_another() -> None:
    async def main(world: World) -> None:
        broken, whole = await asyncio.gather(world.read("broken", "breaks"), world.read("whole"))
        assert broken[0] == FRAME
        assert broken[1]["outcome"]["kind"] == "unclassified"  # type: ignore[index]
        assert frames_in(whole) == 3

    on(main)


def test_a_slow_reader_is_held_and_the_others_flow() -> None:
    async def main(world: World) -> None:
        frame = b"x" * 8192
        slow = await flowing(world, 1, name="slow", frame=frame, frames=3000, every=0.0001)
        assert (await world.read("fast", frames=200))[-1] == END
        await asyncio.sleep(30)
        assert slow.size < BEHIND * 2
        assert world.upstream.given["slow"] < 100
        size = len(frame) + sum(len(item) for item in await rest(slow) if isinstance(item, bytes))
        assert size == 3000 * len(frame)

    on(main)


def test_a_slow_reader_that_cannot_be_held_ends_at_the_bound_and_alone() -> None:
    async def main(world: World) -> None:
        slow = await flowing(world, 1, name="slow", frame=b"x" * PIECE, frames=100, every=0.001)
        slow.held = True  # as if its replica had been told already
        fast = asyncio.create_task(world.read("fast", frames=20))
        await asyncio.sleep(1)
        assert (await fast)[-1] == END
        size = slow.size
        with pytest.raises(AttemptFailed):
            await rest(slow)
        assert size <= TOO_FAR_BEHIND + 2 * PIECE

    on(main)


def test_an_ingress_that_does_not_read_fills_no_memory() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        way._pipe._transport.pause_reading()  # type: ignore[union-attr]
        rides = [await world.stream(str(n), frame=b"x" * PIECE, frames=100, every=0.001) for n in range(3)]
        await asyncio.sleep(5)
        assert sum(world.upstream.given.values()) < 30
        way._pipe._transport.resume_reading()  # type: ignore[union-attr]
        for ride in rides:
            assert (await rest(ride))[-1] == END

    on(main)


def test_a_replica_that_does_not_read_gets_no_more_calls() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        await world.complete("first")
        lane = next(iter(world.lanes._open.values()))
        lane._pipe._transport.pause_reading()  # type: ignore[union-attr]
        calls = [asyncio.create_task(world.complete(str(n), more="x" * PIECE)) for n in range(3)]
        await asyncio.sleep(0.1)
        assert world.boarding.way() is None
        lane._pipe._transport.resume_reading()  # type: ignore[union-attr]
        await asyncio.gather(*calls)
        assert world.boarding.way() is way

    on(main)


def test_a_long_answer_goes_in_pieces_and_comes_whole() -> None:
    async def main(world: World) -> None:
        answer, _ = await asyncio.gather(world.complete("long", size=PIECE * 5 + 7), world.complete("short"))
        assert len(answer["body"]) == PIECE * 5 + 7

    on(main)


def test_many_answers_that_come_at_once_go_in_messages_of_bounded_size() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        sizes = []
        deal = way._heard

        def measured(message: Any) -> None:
            sizes.append(sum(len(item["body"]) for _, item in message[1]))
            deal(message)

        way._pipe._heard = measured
        await asyncio.gather(*(world.complete(str(n), size=PIECE // 3) for n in range(50)))
        assert max(sizes) <= PIECE

    on(main)


def test_calls_run_wait_and_are_refused_by_their_number() -> None:
    async def main(world: World) -> None:
        await world.way()
        answers = [asyncio.create_task(world.complete(str(n), after=1)) for n in range(27)]
        await asyncio.sleep(0.5)
        assert (world.lanes.admission.running, world.lanes.admission.waiting) == (20, 5)
        replies = await asyncio.gather(*answers)
        assert [r.get("outcome", {}).get("kind") for r in replies] == [None] * 25 + ["busy"] * 2
        assert (world.lanes.admission.running, world.lanes.admission.waiting) == (0, 0)

    on(main, Room("replica", calls=20, line=5, node=NODE))


def test_calls_with_a_handle_call_of_their_own_take_room_too() -> None:
    async def main(world: World) -> None:
        await world.way()
        with world.lanes.admission.by_itself():
            others = [asyncio.create_task(world.complete(str(n), after=2)) for n in range(14)]
            await world.complete("quick")
            assert world.loads.of("replica", time.monotonic()) == 15
            others.append(asyncio.create_task(world.complete("last", after=2)))
            await asyncio.sleep(0.1)
            waiting = asyncio.create_task(world.complete("waiting"))
            await asyncio.sleep(0.1)
            assert "waiting" not in world.upstream.began
            assert world.lanes.admission.all == 17
        assert (await waiting)["name"] == "waiting"
        await asyncio.gather(*others)

    on(main, Room("replica", calls=16, node=NODE))


def test_a_call_that_is_given_up_in_line_takes_nobodys_turn() -> None:
    async def main(world: World) -> None:
        first = [asyncio.create_task(world.complete(f"first {n}", after=1)) for n in range(16)]
        await asyncio.sleep(0.1)
        leaving = asyncio.create_task(world.complete("leaving"))
        last = asyncio.create_task(world.complete("last"))
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.gather(*first)
        assert (await last)["name"] == "last"
        assert "leaving" not in world.upstream.began

    on(main, Room("replica", calls=16, node=NODE))


@pytest.mark.parametrize("dies", [False, True])
def test_calls_that_run_and_wait_and_are_given_up_at_once_leave_no_room_taken_or_given(dies: bool) -> None:
    async def main(world: World) -> None:
        way = await world.way()
        rides = [way.begin("stream", pickle.dumps({"name": str(n), "does": "waits"})) for n in range(26)]
        await asyncio.sleep(0.1)
        assert (world.lanes.admission.running, world.lanes.admission.waiting) == (16, 10)
        if dies:
            way.close()
        for ride in rides:
            await ride.aclose()
        await asyncio.sleep(0.1)
        assert (world.lanes.admission.running, world.lanes.admission.waiting) == (0, 0)

    on(main, Room("replica", calls=16, node=NODE))


def test_a_call_that_somebody_below_cancels_has_an_end() -> None:
    async def main(world: World) -> None:
        ride = await world.stream("cancelled", "cancels")
        assert [item["outcome"]["kind"] for item in await rest(ride) if isinstance(item, dict)] == ["lost"]

    on(main)


def test_a_replica_that_does_not_answer_takes_no_lane_from_the_others() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        await asyncio.sleep(0)
        world.slow = 10**6  # whoever is asked from now on stands still
        for _ in range(100):
            await world.complete("call")
            assert world.boarding.way() is way
            await asyncio.sleep(0.2)
        world.slow = 0.0

    on(main)


def test_a_burst_finds_every_replica_before_one_is_full() -> None:
    async def main(world: World) -> None:
        await world.way()
        for _ in range(4):
            world.chosen = (world.chosen + 1) % 4
            world.boarding._ask(asyncio.get_running_loop().time())
            await world.boarding.opened()
        rides = []
        for number in range(100):
            way = await world.way()
            rides.append(way.begin("stream", pickle.dumps({"name": str(number), "does": "waits"})))
        await asyncio.sleep(0.1)
        running = [lanes.admission.running for lanes in world.replicas]
        assert running == pytest.approx([17, 28, 28, 28], abs=4)
        assert not any(lanes.admission.waiting for lanes in world.replicas)
        for ride in rides:
            await ride.aclose()

    on(main, *(Room(str(n), calls=17 if n == 0 else 100, node=NODE) for n in range(4)))


def test_serve_is_asked_until_it_names_a_replica_that_is_known() -> None:
    async def main(world: World) -> None:
        plain = world.anchor

        def next_one() -> AsyncGenerator[Mapping[str, Any], None]:
            world.chosen = min(world.anchors, 3)
            return plain()

        world.boarding._anchor = next_one
        await world.way()
        await asyncio.sleep(LOOK_SECONDS / 2)
        assert (world.anchors, world.open) == (5, 4)

    on(main, *(Room(str(n), node=NODE) for n in range(4)))


async def by_handle(world: World, calls: int) -> int:
    """How many of so many short calls, one after another, had no lane."""
    handled = 0
    for number in range(calls):
        if (way := world.boarding.way()) is None:
            handled += 1
        else:
            await way.begin("chat", pickle.dumps({"name": str(number), "does": "answers"})).whole()
        await asyncio.sleep(0.02)
    return handled


def connections_of(listening: socket.socket) -> int:
    made = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            made += 1
    return made


def naming(world: World, *replicas: int) -> None:
    """Serve names these in turns from now on."""
    turns, plain = itertools.cycle(replicas), world.anchor

    def anchor() -> AsyncGenerator[Mapping[str, Any], None]:
        world.chosen = next(turns)
        return plain()

    world.boarding._anchor = anchor


def test_a_node_that_cannot_be_reached_takes_no_lane_from_the_others_and_gets_its_part_by_handle() -> None:
    async def main(world: World) -> None:
        await world.way()
        await asyncio.sleep(LOOK_SECONDS)
        naming(world, 0, 1)
        world.swallows = {1}
        async with world.swallowing() as nobody:
            assert 300 < await by_handle(world, 1000) < 700
            assert 1 <= connections_of(nobody) <= 1000 * 0.02 / SHUN_SECONDS + 1
        naming(world, 0)
        await by_handle(world, 500)
        assert await by_handle(world, 100) == 0

    on(main, Room("near", node=NODE), Room("far", node=NODE, host="127.0.0.1"))


def test_a_replica_that_may_have_no_lane_takes_what_the_others_have_no_room_for() -> None:
    async def main(world: World) -> None:
        await world.way()
        naming(world, 1, 0)
        await by_handle(world, 60)
        waiting = [way for way in (world.boarding.way() for _ in range(200)) if way is not None][:16]
        rides = [way.begin("stream", pickle.dumps({"name": "x", "does": "waits"})) for way in waiting]
        assert len(rides) == 16
        assert await by_handle(world, 50) == 50
        for ride in rides:
            await ride.aclose()

    on(main, Room("near", calls=16, node=NODE), Room("far", node=ELSEWHERE))


def test_a_replica_that_stops_gets_no_calls_though_no_lane_leads_to_the_others() -> None:
    async def main(world: World) -> None:
        await world.way()
        naming(world, 1)
        await by_handle(world, int((FRESH_SECONDS + 2) / 0.02))
        assert await by_handle(world, 50) == 50

    on(main, Room("near", node=NODE), Room("far", node=ELSEWHERE))


def test_while_serve_answers_seldom_nobody_counts_as_forgotten() -> None:
    async def main(world: World) -> None:
        naming(world, 0, 1, 2)
        await world.way()
        await asyncio.sleep(LOOK_SECONDS)
        world.slow = FRESH_SECONDS / 2  # and each is named by every third answer
        for _ in range(120):
            assert await by_handle(world, 10) == 0
            assert all(map(world.boarding._affirmed, world.boarding._ways.values()))
        world.slow = 0.0

    on(main, *(Room(str(n), node=NODE) for n in range(3)))


def test_one_slow_connection_on_a_node_costs_its_lane_a_second_and_no_more() -> None:
    async def main(world: World) -> None:
        async with world.swallowing(near=True):
            world.boarding.way()
            world.boarding.way()
            await asyncio.sleep(CONNECT_SECONDS + 0.01)
        await asyncio.sleep(AGAIN_SECONDS)
        assert (await world.complete("now"))["name"] == "now"

    on(main)


def test_serve_is_not_asked_with_each_call_while_a_pipe_is_full() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        await world.complete("first")
        lane = next(iter(world.lanes._open.values()))
        lane._pipe._transport.pause_reading()  # type: ignore[union-attr]
        calls = [asyncio.create_task(world.complete(str(n), more="x" * PIECE)) for n in range(3)]
        await asyncio.sleep(0)
        came = world.anchors
        for _ in range(100):
            await asyncio.sleep(0.01)
            assert world.boarding.way() is None
            await world.boarding.opened()
        assert world.anchors <= came + 4
        lane._pipe._transport.resume_reading()  # type: ignore[union-attr]
        await asyncio.gather(*calls)
        assert world.boarding.way() is way

    on(main)


def test_a_replica_that_stands_still_after_its_word_keeps_nobody_from_asking() -> None:
    async def main(world: World) -> None:
        await world.way()

        async def still() -> AsyncGenerator[Mapping[str, Any], None]:
            world.anchors += 1
            yield {"replica": "replica", "room": 100, "under_way": 0}
            await asyncio.sleep(10**6)

        plain, world.boarding._anchor = world.boarding._anchor, still
        came = world.anchors
        for _ in range(40):
            await world.complete("call")
            await asyncio.sleep(LOOK_SECONDS / 2)
        assert world.anchors > came + 10
        world.boarding._anchor = plain

    on(main)


def test_where_no_node_can_be_reached_few_calls_wait() -> None:
    async def main(world: World) -> None:
        waited = 0
        async with world.swallowing():
            for _ in range(300):
                waited += world.boarding.way() is None and world.boarding.opening
                await asyncio.sleep(0.01)
        assert waited < 40

    on(main)


def test_a_full_pipe_says_nothing_of_our_own_lateness() -> None:
    async def main(world: World) -> None:
        way = await world.way()
        much = asyncio.create_task(world.read("much", frame=b"x" * 100_000, frames=200, every=0.001))
        other = asyncio.create_task(world.read("other", frames=3, every=10))
        await asyncio.sleep(0.01)
        way._pipe._transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.sleep(5)
        way._pipe._transport.resume_reading()  # type: ignore[union-attr]
        given = world.upstream.given["much"]
        assert given < 150, "the pipe was never full"
        await asyncio.sleep(0.01)
        assert world.upstream.given["much"] > given, "the pipe takes no more"
        assert world.lanes._spacing._late < 0.01
        await asyncio.gather(much, other)

    on(main)


def test_an_ingress_that_dies_ends_all_its_calls() -> None:
    async def main(world: World) -> None:
        async with aclosing(world.lanes.board("other", NODE)) as said:
            hello = await anext(said)
            ended = asyncio.ensure_future(anext(said, None))
            pipe = await connected(hello["address"], hello["secret"])
            calls = [(n, "stream", pickle.dumps({"name": str(n), "does": "waits"})) for n in range(5)]
            pipe.send((calls, [], {}))
            await asyncio.sleep(0.1)
            assert len(world.upstream.open) == 5
            pipe.close()
            assert await ended is None
        assert not world.upstream.open

    on(main)


def test_a_lane_that_stays_empty_ends_with_its_anchor() -> None:
    async def main(world: World) -> None:
        await world.complete("only")
        await asyncio.sleep(LINGER_SECONDS - 0.01)
        assert world.open == 1
        await asyncio.sleep(2 * LOOK_SECONDS)
        assert world.open == 0
        assert world.lanes.under_way() == 0

    on(main)


def test_serve_is_asked_again_while_calls_come_and_not_after() -> None:
    async def main(world: World) -> None:
        for number in range(100):
            await world.complete(str(number), after=0.1)
        came = world.anchors
        assert 10 <= came <= 10 / LOOK_SECONDS + 2
        waiting = await world.stream("long", frames=2, every=60)
        await asyncio.sleep(60)
        assert world.anchors <= came + 2
        await rest(waiting)

    on(main)


def test_a_replica_that_serve_sends_to_no_more_gets_no_new_calls_and_ends_those_it_has() -> None:
    async def main(world: World) -> None:
        long = await flowing(world, 1, name="long", frames=3, every=FRESH_SECONDS * 3)
        world.chosen = 1
        for _ in range(int(FRESH_SECONDS * 3)):
            await world.complete("short")
            await asyncio.sleep(0.5)
        old, new = world.replicas
        assert old.under_way() == 1
        assert {(await world.way()).replica for _ in range(20)} == {"new"}
        assert (await rest(long))[-1] == END
        await world.complete("short")
        await asyncio.sleep(LOOK_SECONDS + 0.01)
        assert (world.open, old._open) == (1, {})
        assert new._open

    on(main, Room("old", node=NODE), Room("new", node=NODE))


def test_of_two_replicas_the_one_with_fewer_calls_takes_the_next() -> None:
    async def main(world: World) -> None:
        async def busy(replica: int, calls: int) -> list[Ride]:
            world.chosen = replica
            world.boarding._ask(asyncio.get_running_loop().time())
            await world.boarding.opened()
            way = world.boarding._ways[world.rooms[replica].replica]
            return [way.begin("stream", pickle.dumps({"name": "x", "does": "waits"})) for _ in range(calls)]

        rides = [*await busy(0, 5), *await busy(1, 1)]
        for _ in range(4):
            way = await world.way()
            assert way.replica == "second"
            rides.append(way.begin("stream", pickle.dumps({"name": "x", "does": "waits"})))
        assert [world.loads.of(name, time.monotonic()) for name in ("first", "second")] == [5, 5]
        for ride in rides:
            await ride.aclose()

    on(main, Room("first", node=NODE), Room("second", node=NODE))


def test_an_ingress_on_another_node_comes_by_port_and_only_where_it_may() -> None:
    async def main(world: World) -> None:
        world.node = ELSEWHERE
        assert (await world.complete("far"))["name"] == "far"

    on(main, Room("replica", node=NODE, host="127.0.0.1"))

    async def alone(world: World) -> None:
        world.node = ELSEWHERE
        for _ in range(10):
            assert (world.boarding.way() or await world.boarding.opened()) is None
        assert world.anchors == 1

    on(alone, Room("replica", node=NODE))


async def over(reader: asyncio.StreamReader) -> bool:
    """Nothing came, and the connection has ended, one way or another."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


def test_who_does_not_know_the_secret_is_not_listened_to() -> None:
    async def main() -> None:
        async with Listener.open("127.0.0.1") as listener:
            assert isinstance(listener.address, tuple)
            reader, writer = await asyncio.open_connection(*listener.address)
            writer.write(b"?" * HALF + b"\0\0\0\x05what?")
            assert await over(reader)
            writer.close()
            silent, silence = await asyncio.open_connection(*listener.address)
            pipe = await connected(listener.address, listener.secret)
            taken = await listener.accepted()
            assert not taken.closed
            with pytest.raises(OSError, match="does not know"):
                await connected(listener.address, listener.secret)  # a second time
            await asyncio.sleep(ACCEPT_SECONDS)
            assert await over(silent)
            silence.close()
            pipe.close()
            taken.close()
        with pytest.raises(OSError, match="111"):
            await connected(listener.address, listener.secret)

    run_virtually(main())


@pytest.mark.parametrize("says", [b"", b"?" * HALF + b"\0\0\0\x05what?"])
def test_whoever_listens_in_its_place_is_not_believed(says: bytes) -> None:
    async def main() -> None:
        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readexactly(HALF))
            writer.write(says)
            assert await over(reader)
            writer.close()

        heard: list[bytes] = []
        secret = bytes(range(2 * HALF))
        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        with pytest.raises((OSError, TimeoutError)):
            await connected(server.sockets[0].getsockname(), secret)
        assert heard == [secret[:HALF]], "it was told the other half"
        server.close()
        await asyncio.sleep(0.1)

    run_virtually(main())


def test_a_message_that_is_too_long_ends_the_connection_at_both_ends() -> None:
    async def main() -> None:
        async with Listener.open(None) as listener:
            near, far = await connected(listener.address, listener.secret), await listener.accepted()
            ended: list[str] = []
            near.listen(print, lambda: ended.append("near"))
            far.listen(print, lambda: ended.append("far"))
            near._transport.write(b"\xff" * 8)  # type: ignore[union-attr]
            await asyncio.sleep(0.1)
            assert sorted(ended) == ["far", "near"]

    run_virtually(main())


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_no_port_of_ours_goes_around_rays_encryption(value: str) -> None:
    assert encrypted({"RAY_USE_TLS": value})
    assert not encrypted({"RAY_USE_TLS": "0"})
    assert not encrypted({})


def test_a_lane_opens_on_the_loop_that_ray_uses() -> None:
    async def main() -> None:
        world = World(Room("replica", node=NODE, host="127.0.0.1"))
        world.boarding.way()
        for node in (NODE, ELSEWHERE):
            world.node = node
            async with asyncio.timeout(20):
                while (way := world.boarding.way() or await world.boarding.opened()) is None:
                    pass
                answer = way.begin("chat", pickle.dumps({"name": node, "does": "answers", "size": PIECE * 2}))
                assert len((await answer.whole())["body"]) == PIECE * 2
                way.close()
                while world.boarding._anchors:
                    await asyncio.wait(world.boarding._anchors)

    uvloop.run(main())


def test_a_lane_to_which_nobody_comes_ends() -> None:
    async def main(world: World) -> None:
        said = world.lanes.board("ingress", NODE)
        assert "secret" in await anext(said)
        assert await anext(said, None) is None
        assert (await world.complete("after"))["name"] == "after"

    on(main)


def test_a_replicas_calls_are_known_for_a_while_and_go_down_as_they_end() -> None:
    async def main(world: World) -> None:
        streams = [asyncio.create_task(world.read(str(n), frames=10)) for n in range(5)]
        await asyncio.sleep(0.01)
        now = time.monotonic()
        assert world.loads.of("replica", now) == 5
        assert world.loads.of("another", now) == 0
        await asyncio.gather(*streams)
        assert world.loads.of("replica", now) == 0

    on(main)
    loads = Loads()
    loads.learn("full", 70, 100.0)
    assert loads.of("full", 100.0 + KNOWN_SECONDS / 2) == 70
    assert loads.of("full", 100.0 + KNOWN_SECONDS) == 0
