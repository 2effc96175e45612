"""A replica that stands still, or whose node can't be reached, is known within seconds by its silence."""

import asyncio
import pickle

import pytest

from deployments.errors import AttemptFailed
from deployments.rpc.admission import Capacity
from deployments.rpc.connection import QUIET_SECONDS, SILENT_SECONDS
from deployments.rpc.in_flight import FRESH_SECONDS, InFlightCounts
from deployments.rpc.pool import REFRESH_SECONDS
from tests.clock import VirtualLoop
from tests.io.rpc_world import NODE, World, frames_in, on, rest


async def freeze(world: World) -> None:
    """Have the replica say nothing more, though its connection stays."""
    await world.complete("before")
    [server] = world.server._connections.values()
    assert server._framed is not None
    server._framed.send = lambda message: None  # type: ignore[method-assign]


def test_calls_of_a_replica_that_stands_still_are_lost_within_seconds_and_count_against_nobody() -> None:
    async def main(world: World) -> None:
        loop = asyncio.get_running_loop()
        connection = await world.connection()
        streams = [await world.stream(name, does="waits") for name in "ab"]
        await freeze(world)
        began = loop.time()
        for stream in streams:
            with pytest.raises(AttemptFailed, match="no sign of life for 5 s") as caught:
                await anext(stream)
            assert (caught.value.outcome.kind, caught.value.outcome.verdict) == ("lost", "neutral")
            await stream.aclose()
        assert loop.time() - began <= SILENT_SECONDS + 2 * REFRESH_SECONDS
        assert not connection.open

    on(main)


def test_new_calls_go_to_another_replica_as_soon_as_signs_are_missing() -> None:
    async def main(world: World) -> None:
        quiet = await world.connection()
        streams = [quiet.begin("stream", pickle.dumps({"name": "one", "does": "waits"}))]
        world.chosen = 1
        while len(world.pool._connections) < 2:
            world.pool.pick()
            await asyncio.sleep(REFRESH_SECONDS)
        [_, other] = world.pool._connections.values()
        streams.append(other.begin("stream", pickle.dumps({"name": "two", "does": "waits"})))
        [server] = world.server._connections.values()
        server._framed.send = lambda message: None  # type: ignore[union-attr, method-assign]
        await asyncio.sleep(QUIET_SECONDS + 0.5)
        assert {world.pool.pick() for _ in range(40)} == {other}
        assert quiet.open
        for stream in streams:
            await stream.aclose()

    on(main, Capacity("one", node=NODE), Capacity("two", node=NODE))


def test_a_provider_that_is_silent_for_long_is_no_replica_that_stands_still() -> None:
    async def main(world: World) -> None:
        answer = await world.complete("slow", after=100 * SILENT_SECONDS)
        assert answer["name"] == "slow"

    on(main)


def test_a_replica_of_the_version_before_gives_no_signs_and_is_not_given_up() -> None:
    async def main(world: World) -> None:
        world.older = True
        connection = await world.connection()
        await freeze(world)
        stream = await world.stream("old", does="waits")
        await asyncio.sleep(10 * SILENT_SECONDS)
        assert connection.open
        await stream.aclose()
        connection.close()

    on(main)


def test_an_ingress_that_stood_still_itself_takes_nobody_for_silent() -> None:
    async def main(world: World) -> None:
        connection = await world.connection()
        stream = await world.stream("long", frames=3, every=2 * SILENT_SECONDS)
        await anext(stream)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.now += 2 * SILENT_SECONDS  # and what the replica has sent meanwhile is not read yet
        await asyncio.sleep(REFRESH_SECONDS)
        assert connection.open
        assert frames_in(await rest(stream)) == 2

    on(main)


def test_a_silent_replica_is_the_last_that_a_call_by_handle_would_take() -> None:
    counts = InFlightCounts()
    counts.learn("busy", 200, 10.0)
    counts.learn("silent", 1, 10.0)
    counts.avoid("silent", 10.0)
    assert counts.of("silent", 11.0) > counts.of("busy", 11.0)
    counts.learn("silent", 3, 12.0)
    assert counts.of("silent", 12.0) == 3
    counts.avoid("silent", 13.0)
    assert counts.of("silent", 13.0 + FRESH_SECONDS) == 0
