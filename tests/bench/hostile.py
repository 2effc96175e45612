"""What hostile bodies cost their neighbours: how long others wait, what is lost, how much memory is taken.

    uv run python -m tests.bench.hostile [--only NAME] [--seconds 6] [--hold 75]

Fifty requests a second go on all the time, each counted from when it was due. `wait` is how much longer the 99th of a
hundred took than without an attack. Memory is the highest of the processes' sums while it lasts, less what it was.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import uvloop

from tests.bench.attacks import BODIES, HOLDS
from tests.bench.figures import Sample, percentile
from tests.bench.load import Pool, open_loop, request_bytes
from tests.bench.processes import ended, memory_of
from tests.bench.scenarios import WHOLE_50
from tests.bench.systems import Place, System, breakwater, upstream
from tests.cluster.conftest import ROOT, free_port

RATE = 50
WATCHED = ("ingress", "provider, first", "haproxy")


def beside(system: System, seconds: float, attack: str | None = None) -> tuple[list[Sample], dict[str, Any]]:
    """Ask fifty times a second while the attack goes on. Return the samples, and what the attack says."""
    command = [sys.executable, "-m", "tests.bench.attacks", str(attack), str(system.port), str(seconds)]
    with contextlib.ExitStack() as stack:
        if attack is not None:
            attacking = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        samples = uvloop.run(_asked(system, seconds))
        found = {} if attack is None else json.loads(attacking.communicate(timeout=120)[0])
    return samples, found


async def _asked(system: System, seconds: float) -> list[Sample]:
    pool = Pool(system.port, request_bytes(system.port, system.headers, WHOLE_50.body()), WHOLE_50.words)
    await pool.open(8)
    async with asyncio.timeout(seconds + 60):
        samples = await open_loop(pool.send, RATE, seconds)
    pool.close()
    return samples


@contextlib.contextmanager
def watched(system: System) -> Iterator[dict[str, float]]:
    """The most megabytes that each kind of process has held meanwhile, beyond what it held before."""
    before, most, over = memory_of(system.session), dict[str, float](), threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for role, size in memory_of(system.session).items():
                if role in WATCHED:
                    most[role] = max(most.get(role, 0.0), size - before.get(role, 0.0))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def line(name: str, samples: list[Sample], calm: float, most: dict[str, float], found: dict[str, Any]) -> str:
    totals = [sample.total * 1000 for sample in samples]
    lost = sum(not sample.whole for sample in samples)
    p99 = percentile(totals, 0.99)
    memory = ", ".join(f"{role} {size:+.0f}" for role, size in most.items())
    closed = found.get("closed_after")
    said = f"{found.get('statuses', {})}" + (f", the last closed after {closed:.0f} s" if closed else "")
    figures = f"{p99:.0f} | {p99 - calm:+.0f} | {max(totals):.0f} | {lost} of {len(samples)}"
    return f"| {name} | {figures} | {memory} | {said} |"


def run(chosen: argparse.Namespace, folder: pathlib.Path) -> None:
    with contextlib.ExitStack() as stack:
        ports = free_port(), free_port()
        for port in ports:
            stack.enter_context(upstream(port, folder, None))
        system = stack.enter_context(breakwater(Place(folder, None, ports)))
        beside(system, 3.0)
        calm = percentile([sample.total * 1000 for sample in beside(system, chosen.seconds)[0]], 0.99)
        print(f"Without an attack the 99th of a hundred takes {calm:.0f} ms, of which the provider takes 50.\n")
        print("| attack | p99, ms | wait, ms | longest, ms | lost | memory, MB | its answers |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for name in [*BODIES, *HOLDS]:
            if chosen.only in name:
                seconds = chosen.seconds if name in BODIES else chosen.hold
                with watched(system) as most:
                    samples, found = beside(system, seconds, name)
                print(line(name, samples, calm, most, found), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile")
    parser.add_argument("--only", default="", help="attacks whose name has this")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each body (6)")
    parser.add_argument("--hold", type=float, default=75.0, help="seconds of connections that are held open (75)")
    chosen = parser.parse_args()
    return ended(lambda folder: run(chosen, folder))


if __name__ == "__main__":
    sys.exit(main())
