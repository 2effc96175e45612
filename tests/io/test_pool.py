"""Which lane a call takes, and when there are lanes."""

import asyncio
import contextlib
import itertools
import pickle
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
import uvloop

from deployments.rpc.admission import Capacity
from deployments.rpc.connection import STUCK_SECONDS, ClientStream
from deployments.rpc.framing import CONNECT_SECONDS
from deployments.rpc.in_flight import FRESH_SECONDS as KNOWN_SECONDS
from deployments.rpc.in_flight import InFlightCounts
from deployments.rpc.pool import (
    BACKOFF_SECONDS,
    FOLLOW_UP_SECONDS,
    FRESH_SECONDS,
    IDLE_SECONDS,
    OPEN_SECONDS,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    SMALL_REPLICA_SECONDS,
)
from deployments.rpc.server import PIECE_BYTES
from tests.io.rpc_world import ELSEWHERE, END, NODE, World, flowing, on, rest


def test_where_calls_are_rare_there_is_no_lane() -> None:
    async def main(world: World) -> None:
        for _ in range(5):
            assert world.pool.pick() is None
            assert not world.pool.opening
            await asyncio.sleep(FOLLOW_UP_SECONDS + 0.1)
        assert world.control_calls == 0

    on(main)


def test_the_second_call_in_a_while_waits_for_the_lane_that_opens_and_all_after_it_take_that() -> None:
    async def main(world: World) -> None:
        assert world.pool.pick() is None
        world.slow = 0.01
        answers = await asyncio.gather(*[world.complete(f"call {n}") for n in range(20)])
        assert [a["name"] for a in answers] == [f"call {n}" for n in range(20)]
        assert (world.control_calls, world.open) == (2, 1)  # the second found that there is no other
        assert len(world.upstream.began) == 20

    on(main)


def test_no_call_waits_for_long_where_no_lane_opens() -> None:
    async def main(world: World) -> None:
        world.slow = 10.0
        world.pool.pick()
        assert world.pool.pick() is None
        began = asyncio.get_running_loop().time()
        assert await world.pool.wait_and_pick() is None
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
            assert world.pool.pick() is None
            assert await world.pool.wait_and_pick() is None
            await asyncio.sleep(RETRY_SECONDS / 10)
        assert 3 <= world.control_calls <= 4
        world.broken = False
        await asyncio.sleep(RETRY_SECONDS / 2)
        assert (await world.complete("now"))["name"] == "now"

    on(main)
    failure = "openai: connection to a provider replica failed"
    assert len([record for record in caplog.records if failure in record.message]) == 1


def test_a_replica_with_little_room_has_no_lane() -> None:
    async def main(world: World) -> None:
        for _ in range(30):
            assert (world.pool.pick() or await world.pool.wait_and_pick()) is None
            await asyncio.sleep(SMALL_REPLICA_SECONDS / 20)
        assert world.control_calls == 2

    on(main, Capacity("replica", calls=4, node=NODE))


def test_a_replica_that_does_not_answer_takes_no_lane_from_the_others() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        await asyncio.sleep(0)
        world.slow = 10**6  # whoever is asked from now on stands still
        for _ in range(100):
            await world.complete("call")
            assert world.pool.pick() is connection
            await asyncio.sleep(0.2)
        world.slow = 0.0

    on(main)


def test_a_burst_finds_every_replica_before_one_is_full() -> None:
    async def main(world: World) -> None:
        await world.connection()
        for _ in range(4):
            world.chosen = (world.chosen + 1) % 4
            world.pool._ask(asyncio.get_running_loop().time())
            await world.pool.wait_and_pick()
        streams = []
        for number in range(100):
            connection = await world.connection()
            streams.append(connection.begin("stream", pickle.dumps({"name": str(number), "does": "waits"})))
        await asyncio.sleep(0.1)
        running = [server.admission.running for server in world.replicas]
        assert running == pytest.approx([17, 28, 28, 28], abs=4)
        assert not any(server.admission.waiting for server in world.replicas)
        for stream in streams:
            await stream.aclose()

    on(main, *(Capacity(str(n), calls=17 if n == 0 else 100, node=NODE) for n in range(4)))


def test_serve_is_asked_until_it_names_a_replica_that_is_known() -> None:
    async def main(world: World) -> None:
        plain = world.control_call

        def next_one() -> AsyncGenerator[Mapping[str, Any], None]:
            world.chosen = min(world.control_calls, 3)
            return plain()

        world.pool._control_call = next_one
        await world.connection()
        await asyncio.sleep(REFRESH_SECONDS / 2)
        assert (world.control_calls, world.open) == (5, 4)

    on(main, *(Capacity(str(n), node=NODE) for n in range(4)))


async def by_handle(world: World, calls: int) -> int:
    """How many of so many short calls, one after another, had no lane."""
    handled = 0
    for number in range(calls):
        if (connection := world.pool.pick()) is None:
            handled += 1
        else:
            await connection.begin("chat", pickle.dumps({"name": str(number), "does": "answers"})).read_reply()
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
    turns, plain = itertools.cycle(replicas), world.control_call

    def control_call() -> AsyncGenerator[Mapping[str, Any], None]:
        world.chosen = next(turns)
        return plain()

    world.pool._control_call = control_call


def test_a_node_that_cannot_be_reached_takes_no_lane_from_the_others_and_gets_its_part_by_handle() -> None:
    async def main(world: World) -> None:
        await world.connection()
        await asyncio.sleep(REFRESH_SECONDS)
        naming(world, 0, 1)
        world.swallows = {1}
        async with world.swallowing() as nobody:
            assert 300 < await by_handle(world, 1000) < 700
            assert 1 <= connections_of(nobody) <= 1000 * 0.02 / BACKOFF_SECONDS + 1
        naming(world, 0)
        await by_handle(world, 500)
        assert await by_handle(world, 100) == 0

    on(main, Capacity("near", node=NODE), Capacity("far", node=NODE, host="127.0.0.1"))


def test_a_replica_that_may_have_no_lane_takes_what_the_others_have_no_room_for() -> None:
    async def main(world: World) -> None:
        await world.connection()
        naming(world, 1, 0)
        await by_handle(world, 60)
        waiting = [connection for connection in (world.pool.pick() for _ in range(200)) if connection is not None][:16]
        streams = [connection.begin("stream", pickle.dumps({"name": "x", "does": "waits"})) for connection in waiting]
        assert len(streams) == 16
        assert await by_handle(world, 50) == 50
        for stream in streams:
            await stream.aclose()

    on(main, Capacity("near", calls=16, node=NODE), Capacity("far", node=ELSEWHERE))


def test_a_replica_that_stops_gets_no_calls_though_no_lane_leads_to_the_others() -> None:
    async def main(world: World) -> None:
        await world.connection()
        naming(world, 1)
        await by_handle(world, int((FRESH_SECONDS + 2) / 0.02))
        assert await by_handle(world, 50) == 50

    on(main, Capacity("near", node=NODE), Capacity("far", node=ELSEWHERE))


def test_while_serve_answers_seldom_nobody_counts_as_forgotten() -> None:
    async def main(world: World) -> None:
        naming(world, 0, 1, 2)
        await world.connection()
        await asyncio.sleep(REFRESH_SECONDS)
        world.slow = FRESH_SECONDS / 2  # and each is named by every third answer
        for _ in range(120):
            assert await by_handle(world, 10) == 0
            assert all(map(world.pool._is_fresh, world.pool._connections.values()))
        world.slow = 0.0

    on(main, *(Capacity(str(n), node=NODE) for n in range(3)))


def test_one_slow_connection_on_a_node_costs_its_lane_a_second_and_no_more() -> None:
    async def main(world: World) -> None:
        async with world.swallowing(near=True):
            world.pool.pick()
            world.pool.pick()
            await asyncio.sleep(CONNECT_SECONDS + 0.01)
        await asyncio.sleep(RETRY_SECONDS)
        assert (await world.complete("now"))["name"] == "now"

    on(main)


def test_a_replica_that_does_not_read_gets_no_more_calls_and_serve_is_not_asked_with_each() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        await world.complete("first")
        lane = next(iter(world.server._connections.values()))
        lane._framed._transport.pause_reading()  # type: ignore[union-attr]
        calls = [asyncio.create_task(world.complete(str(n), more="x" * PIECE_BYTES)) for n in range(3)]
        await asyncio.sleep(2 * STUCK_SECONDS)
        came = world.control_calls
        for _ in range(100):
            await asyncio.sleep(0.01)
            assert world.pool.pick() is None
            await world.pool.wait_and_pick()
        assert world.control_calls <= came + 4
        lane._framed._transport.resume_reading()  # type: ignore[union-attr]
        await asyncio.gather(*calls)
        assert world.pool.pick() is connection

    on(main)


def test_a_replica_that_stands_still_after_its_word_keeps_nobody_from_asking() -> None:
    async def main(world: World) -> None:
        await world.connection()

        async def still() -> AsyncGenerator[Mapping[str, Any], None]:
            world.control_calls += 1
            yield {"replica": "replica", "room": 100, "under_way": 0}
            await asyncio.sleep(10**6)

        plain, world.pool._control_call = world.pool._control_call, still
        came = world.control_calls
        for _ in range(40):
            await world.complete("call")
            await asyncio.sleep(REFRESH_SECONDS / 2)
        assert world.control_calls > came + 10
        world.pool._control_call = plain

    on(main)


def test_where_no_node_can_be_reached_few_calls_wait() -> None:
    async def main(world: World) -> None:
        waited = 0
        async with world.swallowing():
            for _ in range(300):
                waited += world.pool.pick() is None and world.pool.opening
                await asyncio.sleep(0.01)
        assert waited < 40

    on(main)


def test_a_lane_that_stays_empty_ends_with_its_anchor() -> None:
    async def main(world: World) -> None:
        await world.complete("only")
        await asyncio.sleep(IDLE_SECONDS - 0.01)
        assert world.open == 1
        await asyncio.sleep(2 * REFRESH_SECONDS)
        assert world.open == 0
        assert world.server.in_flight() == 0

    on(main)


def test_serve_is_asked_again_while_calls_come_and_not_after() -> None:
    async def main(world: World) -> None:
        for number in range(100):
            await world.complete(str(number), after=0.1)
        came = world.control_calls
        assert 10 <= came <= 10 / REFRESH_SECONDS + 2
        waiting = await world.stream("long", frames=2, every=60)
        await asyncio.sleep(60)
        assert world.control_calls <= came + 2
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
        assert old.in_flight() == 1
        assert {(await world.connection()).replica for _ in range(20)} == {"new"}
        assert (await rest(long))[-1] == END
        await world.complete("short")
        await asyncio.sleep(REFRESH_SECONDS + 0.01)
        assert (world.open, old._connections) == (1, {})
        assert new._connections

    on(main, Capacity("old", node=NODE), Capacity("new", node=NODE))


def test_of_two_replicas_the_one_with_fewer_calls_takes_the_next() -> None:
    async def main(world: World) -> None:
        async def busy(replica: int, calls: int) -> list[ClientStream]:
            world.chosen = replica
            world.pool._ask(asyncio.get_running_loop().time())
            await world.pool.wait_and_pick()
            connection = world.pool._connections[world.capacities[replica].replica]
            return [connection.begin("stream", pickle.dumps({"name": "x", "does": "waits"})) for _ in range(calls)]

        streams = [*await busy(0, 5), *await busy(1, 1)]
        for _ in range(4):
            connection = await world.connection()
            assert connection.replica == "second"
            streams.append(connection.begin("stream", pickle.dumps({"name": "x", "does": "waits"})))
        assert [world.in_flight.of(name, time.monotonic()) for name in ("first", "second")] == [5, 5]
        for stream in streams:
            await stream.aclose()

    on(main, Capacity("first", node=NODE), Capacity("second", node=NODE))


def test_an_ingress_on_another_node_comes_by_port_and_only_where_it_may() -> None:
    async def main(world: World) -> None:
        world.node = ELSEWHERE
        assert (await world.complete("far"))["name"] == "far"

    on(main, Capacity("replica", node=NODE, host="127.0.0.1"))

    async def alone(world: World) -> None:
        world.node = ELSEWHERE
        for _ in range(10):
            assert (world.pool.pick() or await world.pool.wait_and_pick()) is None
        assert world.control_calls == 1

    on(alone, Capacity("replica", node=NODE))


def test_a_lane_opens_on_the_loop_that_ray_uses() -> None:
    async def main() -> None:
        world = World(Capacity("replica", node=NODE, host="127.0.0.1"))
        world.pool.pick()
        for node in (NODE, ELSEWHERE):
            world.node = node
            async with asyncio.timeout(20):
                while (connection := world.pool.pick() or await world.pool.wait_and_pick()) is None:
                    pass
                answer = connection.begin(
                    "chat", pickle.dumps({"name": node, "does": "answers", "size": PIECE_BYTES * 2})
                )
                assert len((await answer.read_reply())["body"]) == PIECE_BYTES * 2
                connection.close()
                while world.pool._control_calls:
                    await asyncio.wait(world.pool._control_calls)

    uvloop.run(main())


def test_a_lane_to_which_nobody_comes_ends() -> None:
    async def main(world: World) -> None:
        said = world.server.serve("ingress", NODE)
        assert "secret" in await anext(said)
        assert await anext(said, None) is None
        assert (await world.complete("after"))["name"] == "after"

    on(main)


def test_a_replicas_calls_are_known_for_a_while_and_go_down_as_they_end() -> None:
    async def main(world: World) -> None:
        streams = [asyncio.create_task(world.read(str(n), frames=10)) for n in range(5)]
        await asyncio.sleep(0.01)
        now = time.monotonic()
        assert world.in_flight.of("replica", now) == 5
        assert world.in_flight.of("another", now) == 0
        await asyncio.gather(*streams)
        assert world.in_flight.of("replica", now) == 0

    on(main)
    loads = InFlightCounts()
    loads.learn("full", 70, 100.0)
    assert loads.of("full", 100.0 + KNOWN_SECONDS / 2) == 70
    assert loads.of("full", 100.0 + KNOWN_SECONDS) == 0
