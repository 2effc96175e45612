"""A random history of many streams, from a seed: each byte has its place."""

import asyncio
import random

import pytest

from deployments.rpc.admission import Capacity
from tests.io.rpc_world import END, NODE, World, on


@pytest.mark.parametrize("seed", [7])
def test_of_three_hundred_streams_over_one_connection_each_has_its_own_bytes_in_order(seed: int) -> None:
    """Readers pause, stop and leave at random."""

    async def main(world: World) -> None:
        rnd = random.Random(seed)

        async def numbered(call):  # type: ignore[no-untyped-def]
            for number in range(call["frames"]):
                yield f"data: {call['name']} {number}\n\n".encode() * call["times"]
                if rnd.random() < 0.3:
                    await asyncio.sleep(rnd.random() * 0.01)
            yield END

        world.upstream.numbered = numbered  # type: ignore[attr-defined]

        async def one(name: str) -> bool:
            """Was it read to its end?"""
            frames, times = rnd.randrange(1, 40), rnd.choice([1, 1, 1, 30, 900])
            leaves = rnd.random() < 0.3
            ride = await world.stream(name, "numbered", frames=frames, times=times)
            data, last = b"", None
            expected = b"".join(f"data: {name} {number}\n\n".encode() * times for number in range(frames))
            try:
                while (item := await anext(ride, None)) is not None:
                    data, last = (data + item, last) if isinstance(item, bytes) else (data, item)
                    assert expected.startswith(data)
                    if rnd.random() < 0.1:
                        await asyncio.sleep(rnd.random())
                    if leaves and rnd.random() < 0.05:
                        return False
            finally:
                await ride.aclose()
            assert (data, last) == (expected, END)
            return True

        read = await asyncio.gather(*(one(f"s{number}") for number in range(300)))
        assert sum(read) > 200

    on(main, Capacity("replica", 2000, -1, node=NODE))
