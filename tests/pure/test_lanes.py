"""Many calls in one handle call: boarding.py and lanes.py against each other, with a clock that jumps."""

import asyncio
import pickle
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from deployments.admission import Room
from deployments.boarding import BATCH, BEHIND, HOLD_SECONDS, TOO_FAR_BEHIND, WAIT_SECONDS, Boarding
from deployments.errors import AttemptFailed
from deployments.lanes import LINGER_SECONDS, PIECE, Boarded, Item, Lanes, Message
from deployments.loads import FRESH_SECONDS, Loads
from deployments.providers.base import failed
from tests.clock import run_virtually

FRAME = b"data: {}\n\n"
END = {"usage": None, "tail": b""}


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

    async def waits(self, call: Mapping[str, Any]) -> AsyncGenerator[Item, None]:
        await asyncio.Event().wait()
        yield END


class Way:
    """One ingress and one replica, and what lies between them."""

    def __init__(self, room: Room | None = None):
        self.upstream = Upstream()
        self.room = room or Room("replica")
        self.loads = Loads()
        self.lanes = Lanes(self.upstream.run, lambda: self.room)
        self.boarding = Boarding(self.send, self.tell, lambda _: None, self.loads)
        self.batches: list[list[Boarded]] = []
        self.messages: list[Message] = []
        self.told: list[tuple[list[int], Mapping[int, float]]] = []
        self.deaf = 0  # so many words are lost
        self.slow = 0.0  # seconds that a batch takes to arrive
        self.cut = asyncio.Event()

    async def send(self, batch: int, calls: list[Boarded]) -> AsyncGenerator[Message, None]:
        self.batches.append(calls)
        await asyncio.sleep(self.slow)
        async with aclosing(self.lanes.board("ingress", batch, calls)) as messages:
            while True:
                coming: asyncio.Future[Message] = asyncio.ensure_future(anext(messages))  # type: ignore[arg-type]
                cut = asyncio.ensure_future(self.cut.wait())
                try:
                    await asyncio.wait([coming, cut], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    cut.cancel()
                    if not coming.done():
                        coming.cancel()
                        await asyncio.wait([coming])
                if self.cut.is_set():
                    raise failed("lost", "the provider's replica went away")
                try:
                    message = coming.result()
                except StopAsyncIteration:
                    return
                self.messages.append(pickle.loads(pickle.dumps(message)))
                yield self.messages[-1]

    async def tell(self, drop: list[int], hold: Mapping[int, float]) -> None:
        self.told.append((drop, hold))
        if self.deaf:
            self.deaf -= 1
            return
        self.lanes.tell("ingress", drop, hold)

    def complete(self, name: str, does: str = "answers", **more: Any) -> Awaitable[dict[str, Any]]:
        return self.boarding.complete("chat", pickle.dumps({"name": name, "does": does, **more}))

    def stream(self, name: str, does: str = "streams", **more: Any) -> AsyncGenerator[Item, None]:
        return self.boarding.stream(pickle.dumps({"name": name, "does": does, **more}))

    async def read(self, name: str, does: str = "streams", **more: Any) -> list[Item]:
        return [item async for item in self.stream(name, does, **more)]


async def _into(found: list[Item], items: AsyncGenerator[Item, None]) -> None:
    async for item in items:
        found.append(item)


def on(main: Callable[[Way], Awaitable[Any]], room: Room | None = None) -> Any:
    async def run() -> Any:
        way = Way(room)
        try:
            return await main(way)
        finally:
            await asyncio.sleep(LINGER_SECONDS * 2 + 1)
            assert not way.upstream.open, "a call upstream is still open"
            assert not way.boarding._rides

    return run_virtually(run())


def test_calls_of_one_turn_go_as_one_batch_and_each_gets_its_own_answer() -> None:
    async def main(way: Way) -> None:
        answers = await asyncio.gather(*[way.complete(f"call {n}") for n in range(20)])
        assert [a["name"] for a in answers] == [f"call {n}" for n in range(20)]
        assert [len(batch) for batch in way.batches] == [20]

    on(main)


def test_the_first_call_never_waits_and_the_next_waits_a_millisecond_at_most() -> None:
    async def main(way: Way) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        await way.complete("first")
        assert now() == began
        await way.complete("second")
        assert now() - began <= 0.0021

    on(main)


async def calls_at(way: Way, seconds: list[float]) -> list[int]:
    """How many calls each batch had, if calls begin at these instants."""

    async def one(number: int, at: float) -> None:
        await asyncio.sleep(at)
        await way.complete(str(number))

    await asyncio.gather(*[one(number, at) for number, at in enumerate(seconds)])
    return [len(batch) for batch in way.batches]


def test_where_many_come_those_that_come_while_a_batch_is_under_way_are_the_next() -> None:
    async def main(way: Way) -> None:
        way.slow = 0.015
        rush = [0.0] * 20  # so many are to be expected again
        assert await calls_at(way, [*rush, 0.003, 0.006, 0.009, 0.016]) == [20, 3, 1]

    on(main)


def test_a_batch_that_does_not_arrive_keeps_nobody_for_long() -> None:
    async def main(way: Way) -> None:
        way.slow = 0.5
        assert await calls_at(way, [*[0.0] * 20, 0.003, WAIT_SECONDS - 0.001, WAIT_SECONDS + 0.003]) == [20, 2, 1]

    on(main)


def test_a_batch_that_fails_keeps_nobody_either() -> None:
    async def main(way: Way) -> None:
        way.slow = 0.01
        rush = [asyncio.create_task(way.complete(str(number))) for number in range(20)]
        await asyncio.sleep(0.005)
        way.slow = 0.0
        late, began = asyncio.create_task(way.complete("late")), asyncio.get_running_loop().time()
        await asyncio.sleep(0.001)
        for call in rush:
            call.cancel()  # with all its calls the batch is given up
        assert (await late)["name"] == "late"
        assert asyncio.get_running_loop().time() - began < 0.005

    on(main)


def test_where_few_come_nobody_waits_for_a_batch_to_arrive() -> None:
    async def main(way: Way) -> None:
        way.slow = 0.2
        assert await calls_at(way, [n * 0.03 for n in range(6)]) == [1] * 6

    on(main)


def test_a_later_batch_boards_the_lane_that_is_open() -> None:
    async def main(way: Way) -> None:
        first = asyncio.create_task(way.read("first", frames=20))
        await asyncio.sleep(0.02)
        assert len(await way.read("second")) == 4
        assert len(await first) == 21
        hellos = [m for m in way.messages if isinstance(m, dict)]
        assert len(way.batches) == 2
        assert len({hello["lane"] for hello in hellos}) == 1

    on(main)


def test_frames_of_many_streams_share_messages_and_the_first_of_each_waits_for_none() -> None:
    async def main(way: Way) -> None:
        loop = asyncio.get_running_loop()
        heard: list[float] = []

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.00037)
            began = loop.time()
            async for item in way.stream(str(number), frames=50):
                if item == FRAME:
                    heard.append(loop.time() - began)
                    break
            else:
                return

        async def whole(number: int) -> int:
            await asyncio.sleep(number * 0.00037)
            return len(await way.read(f"whole {number}", frames=50))

        counts, _ = await asyncio.gather(
            asyncio.gather(*[whole(n) for n in range(40)]), asyncio.gather(*[one(n) for n in range(5)])
        )
        assert counts == [51] * 40
        assert max(heard) <= 0.0011
        assert len(way.messages) < 40 * 51 / 5

    on(main)


def test_a_call_that_is_given_up_ends_upstream_and_its_neighbours_go_on() -> None:
    async def main(way: Way) -> None:
        other = asyncio.create_task(way.read("other", frames=100))
        leaving = way.stream("leaving", frames=100)
        assert await anext(leaving) == FRAME
        await leaving.aclose()
        await asyncio.sleep(0.1)
        assert way.upstream.open == {"other"}
        assert len(await other) == 101

    on(main)


@pytest.mark.parametrize("lost", [1, 3])
def test_a_word_that_is_lost_is_said_again_when_something_still_comes(lost: int) -> None:
    async def main(way: Way) -> None:
        other = asyncio.create_task(way.read("other", frames=2000))
        leaving = way.stream("leaving", frames=2000)
        await anext(leaving)
        way.deaf = lost
        await leaving.aclose()
        await asyncio.sleep(0.6 * lost + 0.1)
        assert way.upstream.open == {"other"}
        assert len(await other) == 2001

    on(main)


def test_where_no_word_arrives_the_lane_ends_with_its_last_reader() -> None:
    async def main(way: Way) -> None:
        leaving = way.stream("leaving", frames=2000)
        await anext(leaving)
        way.deaf = 1000
        await leaving.aclose()
        await asyncio.sleep(2)
        assert not way.upstream.open

    on(main)


@pytest.mark.parametrize("turns", range(8))
def test_a_call_that_is_given_up_at_any_moment_leaves_nothing_behind(turns: int) -> None:
    async def main(way: Way) -> None:
        other = asyncio.create_task(way.read("other", frames=30))
        leaving = asyncio.create_task(way.complete("leaving", "waits"))
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        await asyncio.sleep(0.1)
        assert way.upstream.open <= {"other"}
        assert len(await other) == 31

    on(main)


def test_a_lane_that_breaks_ends_each_call_on_it_by_itself() -> None:
    async def main(way: Way) -> None:
        streams = [asyncio.create_task(way.read(str(n), frames=1000)) for n in range(3)]
        await asyncio.sleep(0.02)
        late = asyncio.create_task(way.complete("late", "waits"))
        await asyncio.sleep(0.02)
        way.cut.set()
        for task in (*streams, late):
            with pytest.raises(AttemptFailed) as caught:
                await task
            assert caught.value.outcome.kind == "lost"
        assert not way.upstream.open
        way.cut.clear()
        assert (await way.complete("after"))["name"] == "after"

    on(main)


def test_what_one_call_raises_never_touches_another() -> None:
    async def main(way: Way) -> None:
        broken, whole = await asyncio.gather(way.read("broken", "breaks"), way.read("whole"))
        assert broken[0] == FRAME
        assert broken[1]["outcome"]["kind"] == "unclassified"  # type: ignore[index]
        assert whole == [FRAME, FRAME, FRAME, END]

    on(main)


def test_a_slow_reader_is_held_and_the_others_flow() -> None:
    async def main(way: Way) -> None:
        frame = b"x" * 8192
        slow = way.stream("slow", frame=frame, frames=3000, every=0.0001)
        await anext(slow)
        assert len(await way.read("fast", frames=200)) == 201
        await asyncio.sleep(HOLD_SECONDS * 5)
        ride = next(iter(way.boarding._rides.values()))
        assert ride.size < BEHIND * 2
        assert way.upstream.given["slow"] < 100
        size = len(frame)
        async for item in slow:
            size += len(item) if isinstance(item, bytes) else 0
        assert size == 3000 * len(frame)

    on(main)


def test_a_slow_reader_whose_hold_is_lost_ends_at_the_bound_and_alone() -> None:
    async def main(way: Way) -> None:
        way.deaf = 10**6
        slow = way.stream("slow", frame=b"x" * PIECE, frames=100, every=0.001)
        await anext(slow)
        fast = asyncio.create_task(way.read("fast", frames=20))
        await asyncio.sleep(1)
        assert len(await fast) == 21
        way.deaf = 0
        rest: list[Item] = []
        with pytest.raises(AttemptFailed):
            await _into(rest, slow)
        assert sum(map(len, rest)) <= TOO_FAR_BEHIND + 2 * PIECE

    on(main)


def largest(way: Way) -> int:
    """Bytes of the largest message."""
    sizes = [[len(i if isinstance(i, bytes) else i["body"]) for _, i in m] for m in way.messages if isinstance(m, list)]
    return max(sum(message) for message in sizes)


def test_a_long_answer_goes_in_pieces_and_comes_whole() -> None:
    async def main(way: Way) -> None:
        answer, _ = await asyncio.gather(way.complete("long", size=PIECE * 5 + 7), way.complete("short"))
        assert len(answer["body"]) == PIECE * 5 + 7
        assert largest(way) <= PIECE
        assert not way.told

    on(main)


def test_many_answers_that_come_at_once_go_in_messages_of_bounded_size() -> None:
    async def main(way: Way) -> None:
        await asyncio.gather(*(way.complete(str(n), size=PIECE // 3) for n in range(50)))
        assert largest(way) <= PIECE

    on(main)


def test_a_batch_has_a_bound_in_bytes() -> None:
    async def main(way: Way) -> None:
        await asyncio.gather(*[way.complete(str(n), more="x" * (BATCH // 3)) for n in range(7)])
        assert [len(batch) for batch in way.batches] == [2, 2, 2, 1]

    on(main)


def test_a_frame_too_large_for_a_message_ends_its_own_call() -> None:
    async def main(way: Way) -> None:
        large, whole = await asyncio.gather(way.read("large", frame=b"x" * 2000), way.read("whole"))
        assert large[-1]["outcome"]["kind"] == "lost"  # type: ignore[index]
        assert whole[-1] == END

    on(main, Room(message=1000))


def test_calls_run_wait_and_are_refused_by_their_number() -> None:
    async def main(way: Way) -> None:
        answers = [asyncio.create_task(way.complete(str(n), after=1)) for n in range(7)]
        await asyncio.sleep(0.5)
        assert (way.lanes.admission.running, way.lanes.admission.waiting) == (3, 2)
        replies = await asyncio.gather(*answers)
        assert [r.get("outcome", {}).get("kind") for r in replies] == [None] * 5 + ["busy"] * 2
        assert (way.lanes.admission.running, way.lanes.admission.waiting) == (0, 0)

    on(main, Room(calls=3, line=2))


def test_calls_with_a_handle_call_of_their_own_take_room_too() -> None:
    async def main(way: Way) -> None:
        with way.lanes.admission.by_itself():
            waiting = asyncio.create_task(way.complete("waiting"))
            await asyncio.sleep(0.1)
            assert way.upstream.began == []
            assert way.lanes.admission.all == 2
            assert way.loads.of("replica", time.monotonic()) == 2
        assert (await waiting)["name"] == "waiting"

    on(main, Room("replica", calls=1))


def test_a_call_that_is_given_up_in_line_takes_nobodys_turn() -> None:
    async def main(way: Way) -> None:
        first = asyncio.create_task(way.complete("first", after=1))
        await asyncio.sleep(0.1)
        leaving = asyncio.create_task(way.complete("leaving"))
        last = asyncio.create_task(way.complete("last"))
        await asyncio.sleep(0.1)
        leaving.cancel()
        assert (await first)["name"] == "first"
        assert (await last)["name"] == "last"
        assert way.upstream.began == ["first", "last"]

    on(main, Room(calls=1))


def test_an_ingress_that_dies_ends_all_its_calls() -> None:
    async def main(way: Way) -> None:
        calls = [(n, "stream", pickle.dumps({"name": str(n), "does": "waits"})) for n in range(5)]
        messages = way.lanes.board("other", 1, calls)
        assert await anext(messages) == {"lane": 1, "replica": "replica", "room": way.room.calls, "under_way": 5}
        await asyncio.sleep(0.1)
        assert len(way.upstream.open) == 5
        await messages.aclose()
        assert not way.upstream.open

    on(main)


def test_a_replicas_calls_are_known_for_a_while_and_go_down_as_they_end() -> None:
    async def main(way: Way) -> None:
        streams = [asyncio.create_task(way.read(str(n), frames=10)) for n in range(5)]
        await asyncio.sleep(0.01)
        now = time.monotonic()
        assert way.loads.of("replica", now) == 5
        assert way.loads.of("another", now) == 0
        await asyncio.gather(*streams)
        assert way.loads.of("replica", now) == 0

    on(main)
    loads = Loads()
    loads.learn("full", 70, 100.0)
    assert loads.of("full", 100.0 + FRESH_SECONDS / 2) == 70
    assert loads.of("full", 100.0 + FRESH_SECONDS) == 0


def test_a_lane_that_stays_empty_ends_without_an_error() -> None:
    async def main(way: Way) -> list[Message]:
        call = (1, "stream", pickle.dumps({"name": "only", "does": "streams"}))
        began = asyncio.get_running_loop().time()
        messages = [message async for message in way.lanes.board("ingress", 1, [call])]
        assert asyncio.get_running_loop().time() - began >= LINGER_SECONDS
        return messages

    assert on(main)[-1] == [(1, END)]
