"""Whenever a client leaves, the probe that it was leaves no lease behind."""

import asyncio

import pytest

from tests.clock import run_virtually
from tests.unit.test_endings import opened_by_cut_streams
from tests.unit.test_failover import read, stream
from tests.unit.test_probes import flows
from tests.unit.world import world


@pytest.mark.parametrize("kind", ["whole", "breaks"])
def test_cancel_at_every_instant_of_a_probe(kind: str) -> None:
    async def one(at: float) -> None:
        async with world() as w:
            await opened_by_cut_streams(w)
            s = w.provider("aws")
            if kind == "whole":
                flows(s, 1.0)
            else:
                s.words, s.pace, s.after = ["w"] * 10, 0.1, 5
            s.seconds = 0.2

            async def go() -> None:
                await read(await stream(w))

            t = asyncio.create_task(go())
            await asyncio.sleep(at)
            t.cancel()
            await asyncio.gather(t, return_exceptions=True)
            await w.settle()
            b = w.actor.board.breakers["aws/haiku"]
            assert (b.leases, b.ghosts) == ((), ()), at

    for i in range(0, 160, 4):
        run_virtually(one(i * 0.01))
