"""One cell at one system: load it, and read the clocks of everybody before and after."""

import asyncio
import os
import time

import uvloop

from tests.bench.figures import Run
from tests.bench.load import Pool, closed_loop, open_loop, request_bytes
from tests.bench.processes import CannotRun, Clocks, busy_of
from tests.bench.scenarios import Ask, Cell
from tests.bench.systems import System

PATIENCE = 180.0  # seconds after its time within which a cell must have come to its end


def measured(system: System, upstream: System, cell: Cell, seconds: float) -> Run:
    """Asks for `seconds`, then waits for what is under way; CPU and rates are of the whole."""
    return uvloop.run(_measured(system, upstream, cell, seconds))


async def _measured(system: System, upstream: System, cell: Cell, seconds: float) -> Run:
    pool = Pool(system.port, request_bytes(system.port, system.headers, cell.ask.body()), cell.ask.words)
    await pool.open(cell.connections)
    clocks = Clocks(system.session if system is not upstream else None)
    below = Clocks(upstream.session)
    core = system.cores or set()
    busy = busy_of(core)
    load, began = time.process_time(), time.perf_counter()
    try:
        async with asyncio.timeout(seconds + PATIENCE):
            if cell.rate:
                samples = await open_loop(pool.send, cell.rate, seconds)
            else:
                samples = await closed_loop(pool.send, cell.connections, seconds, cell.spread)
    except TimeoutError:
        raise CannotRun(f"{system.name} did not come to an end of {cell.name}") from None
    took, load = time.perf_counter() - began, time.process_time() - load
    cpu, upstream_cpu = clocks.spent(), sum(below.spent().values())
    others = max(0.0, busy_of(core) - busy - sum(cpu.values())) if cpu else 0.0
    pool.close()
    return Run(samples, took, cpu, load, upstream_cpu, others)


def warmed(system: System, upstream: System, asks: list[Ask], seconds: float) -> None:
    for ask in asks:
        measured(system, upstream, Cell(ask, connections=8), seconds)


def at_rest(system: System, seconds: float) -> dict[str, float]:
    """CPU seconds a second by role while nobody asks."""
    clocks = Clocks(system.session)
    time.sleep(seconds)
    return {role: spent / seconds for role, spent in clocks.spent().items()}


def two_cores(pin: bool) -> tuple[set[int] | None, set[int] | None]:
    """One core for the load and the upstream, another for every system; None where nobody is pinned."""
    cores = sorted(os.sched_getaffinity(0))
    if not pin or len(cores) < 2:
        return None, None
    return {cores[0]}, {cores[-1]}
