"""Many calls over one connection: what becomes of one of them is its own."""

import asyncio
import pickle
import time
from collections import deque
from contextlib import aclosing
from typing import Any

import pytest

from deployments.errors import AttemptFailed
from deployments.rpc.admission import Capacity
from deployments.rpc.client import POOLED_BYTES, _pickle_call
from deployments.rpc.connection import HOLD_BYTES, MAX_UNREAD_BYTES, Connection
from deployments.rpc.framing import connect
from deployments.rpc.long_calls import PART, PART_BYTES
from deployments.rpc.pool import (
    RETRY_SECONDS,
)
from deployments.rpc.server import BACKLOG_BYTES, PIECE_BYTES, READER_SECONDS
from tests.io.rpc_world import END, FRAME, NODE, World, flowing, frames_in, on, rest


def test_calls_of_one_turn_go_in_one_message() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        sent = []
        connection._framed.send, send = lambda message: (sent.append(message), send(message)), connection._framed.send  # type: ignore[func-returns-value, method-assign, assignment]
        await asyncio.gather(*[world.complete(str(number)) for number in range(20)])
        assert [len(calls) for calls, _, _ in sent if calls] == [20]

    on(main)


def test_the_only_call_never_waits() -> None:
    async def main(world: World) -> None:
        now = asyncio.get_running_loop().time
        await world.connection()
        began = now()
        await world.complete("first")
        await world.complete("second")
        assert frames_in(await world.read("stream", every=0.0)) == 3
        assert now() == began

    on(main)


def test_frames_of_many_streams_share_messages_and_the_first_of_each_waits_for_none() -> None:
    async def main(world: World) -> None:
        loop = asyncio.get_running_loop()
        connection = await world.connection()
        heard: list[float] = []
        messages = 0
        deal = connection._on_message

        def counted(message: Any) -> None:
            nonlocal messages
            messages += 1
            deal(message)

        connection._framed._on_message = counted

        async def one(number: int) -> None:
            await asyncio.sleep(number * 0.00037)
            began = loop.time()
            stream = await flowing(world, 1, name=str(number), frames=50)
            heard.append(loop.time() - began)
            await stream.aclose()

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


def test_usage_among_the_frames_ends_no_stream_and_delays_no_first_frame() -> None:
    async def main(world: World) -> None:
        await asyncio.gather(*(world.read(f"warm-{i}", frames=2) for i in range(40)))
        neighbours = [asyncio.create_task(world.read(f"next-{i}", frames=200)) for i in range(40)]
        await asyncio.sleep(0.5)
        clock, stream = asyncio.get_running_loop().time, await world.stream("teller", "tells")
        began = clock()
        assert await anext(stream) == {"told": {"prompt_tokens": 7}}
        assert await anext(stream) == FRAME
        assert clock() - began < 0.002, "the clock is virtual: this is the batches' interval, no machine's speed"
        assert await rest(stream) == [{"told": {"prompt_tokens": 8}}, FRAME, END]
        await asyncio.gather(*neighbours)

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
        stream = await world.stream("whole")
        await asyncio.sleep(1)
        assert len(await rest(stream)) == 2
        connection = await world.connection()
        assert (connection._cancelled, connection._new_calls) == ([], [])

    on(main)


@pytest.mark.parametrize("what", ["control_call", "connection", "replica"])
def test_a_lane_that_breaks_ends_each_call_on_it_by_itself(what: str) -> None:
    async def main(world: World) -> None:
        streams = [await flowing(world, 1, name=str(n), frames=1000) for n in range(3)]
        late = asyncio.create_task(world.complete("late", "waits"))
        await asyncio.sleep(0.02)
        connection = await world.connection()
        if what == "control_call":
            world.cut.set()
        elif what == "connection":
            connection.close()
        else:
            next(iter(world.server._connections.values())).closed.set()
        for task in (*map(asyncio.create_task, map(rest, streams)), late):
            with pytest.raises(AttemptFailed) as caught:
                await task
            assert caught.value.outcome.kind == "lost"
        await asyncio.sleep(0.1)
        assert not world.upstream.open
        world.cut.clear()
        await asyncio.sleep(RETRY_SECONDS)
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
        assert slow.size < HOLD_BYTES * 2
        assert world.upstream.given["slow"] < 100
        size = len(frame) + sum(len(item) for item in await rest(slow) if isinstance(item, bytes))
        assert size == 3000 * len(frame)

    on(main)


def test_a_slow_reader_that_cannot_be_held_ends_at_the_bound_and_alone() -> None:
    async def main(world: World) -> None:
        slow = await flowing(world, 1, name="slow", frame=b"x" * PIECE_BYTES, frames=100, every=0.001)
        slow.held = True  # as if its replica had been told already
        fast = asyncio.create_task(world.read("fast", frames=20))
        await asyncio.sleep(1)
        assert (await fast)[-1] == END
        size = slow.size
        with pytest.raises(AttemptFailed):
            await rest(slow)
        assert size <= MAX_UNREAD_BYTES + 2 * PIECE_BYTES

    on(main)


def test_an_ingress_that_does_not_read_fills_no_memory() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        stand_still(connection)
        streams = [await world.stream(str(n), frame=b"x" * PIECE_BYTES, frames=100, every=0.001) for n in range(3)]
        await asyncio.sleep(5)
        assert sum(world.upstream.given.values()) < 30
        connection._framed._transport.resume_reading()  # type: ignore[union-attr]
        for stream in streams:
            assert (await rest(stream))[-1] == END

    on(main)


def gone(item: Any) -> bool:
    """Is it the last word of a call whose reader read nothing for too long?"""
    outcome = item["outcome"]
    return (outcome["kind"], outcome["content"], outcome["message"]) == (
        "cancelled",
        True,
        f"the client read nothing for {READER_SECONDS:g} s",
    )


def test_readers_that_stop_hold_no_room_for_ever_and_read_what_had_come_when_they_come_back() -> None:
    frame = b"x" * PIECE_BYTES

    async def main(world: World) -> None:
        stopped = [await flowing(world, 1, name=str(n), frame=frame, frames=1000) for n in range(16)]
        await asyncio.sleep(READER_SECONDS - 1)
        assert len(world.upstream.open) == 16
        await asyncio.sleep(2)
        assert not world.upstream.open
        assert (await world.complete("next"))["name"] == "next"
        for stream in stopped:
            *frames, last = await rest(stream)
            assert len(b"".join(frames)) >= HOLD_BYTES  # type: ignore[arg-type]
            assert gone(last)

    on(main, Capacity("replica", calls=16, queue=0, node=NODE))


def test_a_reader_that_takes_something_now_and_then_keeps_its_call() -> None:
    async def main(world: World) -> None:
        began = asyncio.get_running_loop().time()
        slow = await flowing(world, 1, name="slow", frame=b"x" * PIECE_BYTES, frames=5)
        size = PIECE_BYTES
        while isinstance(item := await anext(slow), bytes):
            size += len(item)
            await asyncio.sleep(READER_SECONDS * 0.3)
        await slow.aclose()
        assert asyncio.get_running_loop().time() - began > READER_SECONDS
        assert (size, item) == (5 * PIECE_BYTES, END)

    on(main)


def test_a_reader_that_stops_and_leaves_ends_its_call_at_once() -> None:
    async def main(world: World) -> None:
        stopped = await flowing(world, 1, name="stopped", frame=b"x" * PIECE_BYTES, frames=1000)
        await asyncio.sleep(10)
        await stopped.aclose()
        await asyncio.sleep(0.1)
        assert not world.upstream.open

    on(main)


def test_no_timer_is_set_for_a_frame_whose_reader_keeps_up() -> None:
    async def main(world: World) -> None:
        await world.connection()
        loop = asyncio.get_running_loop()
        timers: list[float] = []
        call_at = loop.call_at
        loop.call_at = lambda when, *more, **named: (timers.append(when - loop.time()), call_at(when, *more, **named))[
            1
        ]  # type: ignore[method-assign]
        assert frames_in(await world.read("stream", frames=100, every=0.005)) == 100
        assert max(timers) < 60

    on(main)


def stand_still(connection: Connection) -> None:
    """As an ingress that reads nothing, and whose timers do not fire either."""
    connection._beats = False
    connection._framed._transport.pause_reading()  # type: ignore[union-attr]


@pytest.mark.parametrize("seconds", [READER_SECONDS - 1, READER_SECONDS + 1])
def test_an_ingress_that_reads_nothing_for_long_loses_the_calls_that_wait_for_it(seconds: float) -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        stand_still(connection)
        streams = [await world.stream(str(n), frame=b"x" * PIECE_BYTES, frames=100, every=0.001) for n in range(3)]
        await asyncio.sleep(seconds)
        kept = seconds < READER_SECONDS
        assert bool(world.upstream.open) is kept
        connection._framed._transport.resume_reading()  # type: ignore[union-attr]
        items = [await rest(stream) for stream in streams]
        assert sum(len(item) for of in items for item in of if isinstance(item, bytes)) >= BACKLOG_BYTES
        assert [of[-1] == END if kept else gone(of[-1]) for of in items] == [True] * 3

    on(main)


def test_a_whole_answer_that_nobody_reads_for_long_ends_typed_too() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        stand_still(connection)
        long = asyncio.create_task(world.complete("long", size=PIECE_BYTES * 100))
        await asyncio.sleep(READER_SECONDS + 1)
        assert not world.upstream.open
        connection._framed._transport.resume_reading()  # type: ignore[union-attr]
        assert gone(await long)

    on(main)


def test_many_large_calls_of_one_turn_go_in_messages_of_bounded_size_and_all_arrive() -> None:
    """A message beyond the pipe's bound would end the lane, and each call on it."""

    async def main(world: World) -> None:
        connection = await world.connection()
        sizes = []
        connection._framed.send, send = (  # type: ignore[method-assign]
            lambda message: (sizes.append(sum(len(call[2]) for call in message[0])), send(message))[1],
            connection._framed.send,
        )
        calls = [world.complete(str(n), pad="x" * 255_000) for n in range(60)]
        answers = await asyncio.gather(*calls)
        assert [answer["name"] for answer in answers] == [str(n) for n in range(60)]
        assert max(sizes) <= PIECE_BYTES

    on(main)


def test_a_call_that_is_given_up_in_the_turn_in_which_it_began_is_told_after_it() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        large = {"does": "waits", "pad": b"x" * (PIECE_BYTES // 2)}
        streams = [connection.begin("stream", pickle.dumps({"name": str(n), **large})) for n in range(10)]
        for stream in streams:
            await stream.aclose()
        await asyncio.sleep(0.1)
        assert not world.upstream.open
        assert not next(iter(world.server._connections.values())).streams

    on(main)


def test_a_long_answer_goes_in_pieces_and_comes_whole() -> None:
    async def main(world: World) -> None:
        answer, _ = await asyncio.gather(world.complete("long", size=PIECE_BYTES * 5 + 7), world.complete("short"))
        assert len(answer["body"]) == PIECE_BYTES * 5 + 7

    on(main)


def test_many_answers_that_come_at_once_go_in_messages_of_bounded_size() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        sizes = []
        deal = connection._on_message

        def measured(message: Any) -> None:
            sizes.append(sum(len(item["body"]) for _, item in message[1]))
            deal(message)

        connection._framed._on_message = measured
        await asyncio.gather(*(world.complete(str(n), size=PIECE_BYTES // 3) for n in range(50)))
        assert max(sizes) <= PIECE_BYTES

    on(main)


def test_calls_run_wait_and_are_refused_by_their_number() -> None:
    async def main(world: World) -> None:
        await world.connection()
        answers = [asyncio.create_task(world.complete(str(n), after=1)) for n in range(27)]
        await asyncio.sleep(0.5)
        assert (world.server.admission.running, world.server.admission.waiting) == (20, 5)
        replies = await asyncio.gather(*answers)
        assert [r.get("outcome", {}).get("kind") for r in replies] == [None] * 25 + ["busy"] * 2
        assert (world.server.admission.running, world.server.admission.waiting) == (0, 0)

    on(main, Capacity("replica", calls=20, queue=5, node=NODE))


def test_calls_with_a_handle_call_of_their_own_take_room_too() -> None:
    async def main(world: World) -> None:
        await world.connection()
        async with world.server.admission.admit_handle_call():
            others = [asyncio.create_task(world.complete(str(n), after=2)) for n in range(14)]
            await world.complete("quick")
            assert world.in_flight.of("replica", time.monotonic()) == 15
            others.append(asyncio.create_task(world.complete("last", after=2)))
            await asyncio.sleep(0.1)
            waiting = asyncio.create_task(world.complete("waiting"))
            await asyncio.sleep(0.1)
            assert "waiting" not in world.upstream.began
            assert world.server.admission.total == 17
        assert (await waiting)["name"] == "waiting"
        await asyncio.gather(*others)

    on(main, Capacity("replica", calls=16, node=NODE))


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

    on(main, Capacity("replica", calls=16, node=NODE))


@pytest.mark.parametrize("dies", [False, True])
def test_calls_that_run_and_wait_and_are_given_up_at_once_leave_no_room_taken_or_given(dies: bool) -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        streams = [connection.begin("stream", pickle.dumps({"name": str(n), "does": "waits"})) for n in range(26)]
        await asyncio.sleep(0.1)
        assert (world.server.admission.running, world.server.admission.waiting) == (16, 10)
        if dies:
            connection.close()
        for stream in streams:
            await stream.aclose()
        await asyncio.sleep(0.1)
        assert (world.server.admission.running, world.server.admission.waiting) == (0, 0)

    on(main, Capacity("replica", calls=16, node=NODE))


def test_a_call_that_somebody_below_cancels_has_an_end() -> None:
    async def main(world: World) -> None:
        stream = await world.stream("cancelled", "cancels")
        assert [item["outcome"]["kind"] for item in await rest(stream) if isinstance(item, dict)] == ["lost"]

    on(main)


def test_a_full_pipe_says_nothing_of_our_own_lateness() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        much = asyncio.create_task(world.read("much", frame=b"x" * 100_000, frames=200, every=0.001))
        other = asyncio.create_task(world.read("other", frames=3, every=10))
        await asyncio.sleep(0.01)
        connection._framed._transport.pause_reading()  # type: ignore[union-attr]
        await asyncio.sleep(5)
        connection._framed._transport.resume_reading()  # type: ignore[union-attr]
        given = world.upstream.given["much"]
        assert given < 150, "the pipe was never full"
        await asyncio.sleep(0.01)
        assert world.upstream.given["much"] > given, "the pipe takes no more"
        assert world.server._interval._mean_lateness < 0.01
        await asyncio.gather(much, other)

    on(main)


def test_an_ingress_that_dies_ends_all_its_calls() -> None:
    async def main(world: World) -> None:
        async with aclosing(world.server.serve("other", NODE)) as said:
            hello = await anext(said)
            ended = asyncio.ensure_future(anext(said, None))
            pipe = await connect(hello["address"], hello["secret"])
            calls = [(n, "stream", pickle.dumps({"name": str(n), "does": "waits"})) for n in range(5)]
            pipe.send((calls, [], {}))
            await asyncio.sleep(0.1)
            assert len(world.upstream.open) == 5
            pipe.close()
            assert await ended is None
        assert not world.upstream.open

    on(main)


# Long calls.

LONG = 20 * PART_BYTES


def messages_of(connection: Any) -> list[Any]:
    sent: list[Any] = []
    connection._framed.send, send = lambda message: (sent.append(message), send(message)), connection._framed.send
    return sent


def test_a_long_call_goes_in_parts_and_others_pass_between_them() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        sent = messages_of(connection)
        long = asyncio.create_task(world.complete("long", text="x" * LONG))
        async with asyncio.timeout(5):
            while not any(verb == PART for calls, _, _ in sent for _, verb, _ in calls):  # noqa: ASYNC110 - in the same turns
                await asyncio.sleep(0)
        assert (await world.complete("short"))["name"] == "short"
        assert world.upstream.began == ["short"]
        assert (await long)["name"] == "long"
        parts = [len(data) for calls, _, _ in sent for _, _, data in calls]
        assert max(parts) <= PART_BYTES
        assert len(parts) >= LONG / PART_BYTES

    on(main)


def test_long_calls_arrive_whole_in_any_company() -> None:
    async def main(world: World) -> None:
        calls = [world.complete(f"{n}", does="echoes", text=str(n) * (PART_BYTES * n // 2 + 1)) for n in range(8)]
        for number, reply in enumerate(await asyncio.gather(*calls)):
            assert reply["body"] == b"%d" % number * (PART_BYTES * number // 2 + 1)
        [server] = world.server._connections.values()
        assert server._arriving == {}

    on(main)


def test_of_a_long_call_that_is_given_up_nothing_is_kept_and_the_next_goes_on() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        sent = messages_of(connection)
        given_up, kept = (
            asyncio.create_task(world.complete(name, does="echoes", text="x" * LONG)) for name in ("given up", "kept")
        )
        while not sent:  # noqa: ASYNC110 - in the same turns
            await asyncio.sleep(0)
        given_up.cancel()
        assert len((await kept)["body"]) == LONG
        [server] = world.server._connections.values()
        assert (server._arriving, connection._long_calls) == ({}, deque())
        assert world.upstream.began == ["kept"]

    on(main)


def test_the_parts_of_a_long_call_end_with_its_connection() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        long = asyncio.create_task(world.complete("long", text="x" * LONG))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        connection.close()
        with pytest.raises(AttemptFailed):
            await long
        await asyncio.sleep(1)
        assert (world.upstream.began, world.server._connections) == ([], {})

    on(main)


def test_an_older_replica_gets_no_parts() -> None:
    async def main(world: World) -> None:
        world.older = True
        connection = await world.connection()
        assert not connection.takes_parts
        sent = messages_of(connection)
        assert (await world.complete("long", text="x" * LONG))["name"] == "long"
        assert [len(calls) for calls, _, _ in sent if calls] == [1]
        call: Any = {"body": {"text": "x" * POOLED_BYTES}}
        assert _pickle_call(call, connection) is None  # by a handle call

    on(main)
