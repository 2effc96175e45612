"""What clients see of a provider's slow tail and of its brown-out, with hedging and without it, on a real cluster.

    uv run python -m tests.bench.tails [--seconds 90] [--rate 60]

The first provider answers after 300 ms, log-normally, and two calls in a hundred take 1.5 s and far more; the second
after 400 ms. Three rows have the same two providers: one without hedging, one with a budget of 0.02, one of 0.05. All
are asked side by side, at one rate. Then the first provider has its light tail alone, and then it is eight times as
slow as a whole for a minute: there the rule for slow targets helps, and no call is made for it.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop

from tests.bench.figures import Sample, percentile
from tests.bench.load import Pool, open_loop, request_bytes
from tests.bench.processes import CannotRun, ended
from tests.bench.scenarios import MODEL, Ask
from tests.bench.systems import Place, System, breakwater, post, upstream
from tests.cluster.conftest import free_port

ROWS: Mapping[str, float | None] = {"off": None, "2": 0.02, "5": 0.05}
ASK = Ask("one frame", frames=1)
MEDIANS = (300, 400)  # milliseconds


def with_rows(config: dict[str, Any]) -> None:
    """Give the application a row for each budget."""
    [app] = config["applications"]
    targets = app["args"]["models"][MODEL]
    app["args"]["models"] = {MODEL: targets, **{row: targets for row in ROWS}}
    terms = {"min_delay": 0.03, "max_prompt_tokens": 4000}
    app["args"]["rows"] = {row: {"hedging": {"budget": b, **terms}} for row, b in ROWS.items() if b is not None}


def order(provider: System, words: str) -> None:
    if post(provider, b"{}", f"/control?{words}") != 200:
        raise CannotRun("a provider takes no orders")


def body(row: str) -> bytes:
    return json.dumps({**json.loads(ASK.body()), "model": row}).encode()


async def _asked(system: System, rows: Sequence[str], rate: float, seconds: float) -> dict[str, list[Sample]]:
    pools = {row: Pool(system.port, request_bytes(system.port, system.headers, body(row)), 1) for row in rows}
    for pool in pools.values():
        await pool.open(16)
    loops = [open_loop(pool.send, rate / len(rows), seconds) for pool in pools.values()]
    found = await asyncio.gather(*loops)
    for pool in pools.values():
        pool.close()
    return dict(zip(pools, found, strict=True))


def ask(system: System, rows: Sequence[str], rate: float, seconds: float) -> dict[str, list[Sample]]:
    return uvloop.run(_asked(system, rows, rate, seconds))


def line(what: str, samples: Sequence[Sample], base: float | None) -> str:
    firsts = [sample.first * 1000 for sample in samples if sample.whole]
    extra = sum(sample.attempts - 1 for sample in samples) / len(samples)
    lost = sum(not sample.whole for sample in samples)
    p99 = percentile(firsts, 0.99)
    change = "" if base is None else f"{p99 / base - 1:+.0%}"
    p50 = percentile(firsts, 0.5)
    return f"| {what} | {p50:.0f} | {p99:.0f} | {change} | {extra:.2%} | {lost} of {len(samples)} |"


def show(title: str, found: Mapping[str, list[Sample]]) -> None:
    base = percentile([s.first * 1000 for s in found["off"] if s.whole], 0.99)
    for row, samples in found.items():
        name = f"{title}, {'no hedging' if row == 'off' else f'budget 0.0{row}'}"
        print(line(name, samples, None if row == "off" else base), flush=True)


def run(chosen: argparse.Namespace, folder: pathlib.Path) -> None:
    rate, seconds, rows = chosen.rate, chosen.seconds, list(ROWS)
    with contextlib.ExitStack() as stack:
        ports = free_port(), free_port()
        first, second = (stack.enter_context(upstream(port, folder, None)) for port in ports)
        system = stack.enter_context(breakwater(Place(folder, None, ports), edit=with_rows))
        order(first, f"median={MEDIANS[0]}&slow=0.02")
        order(second, f"median={MEDIANS[1]}")
        ask(system, rows, rate, 15.0)
        print("| | p50, ms | p99, ms | p99 | more calls | lost |\n|---|---|---|---|---|---|", flush=True)
        show("a tail of 2 %", ask(system, rows, rate, seconds))
        order(first, "slow=0")
        ask(system, rows, rate, 15.0)
        show("a light tail", ask(system, rows, rate, seconds))
        calm = ask(system, ["off"], rate, 60.0)["off"]
        order(first, "factor=8")
        brown = ask(system, ["off"], rate, 60.0)["off"]
        print(line("ordinary, no hedging", calm, None))
        late = percentile([s.first * 1000 for s in calm if s.whole], 0.99) * 8
        print(line("a minute eight times as slow", brown, late), flush=True)
        print("\nThe last one is compared with eight times the 99th of the ordinary minute.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tails")
    parser.add_argument("--seconds", type=float, default=90.0, help="of each figure (90)")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second, of all rows together (60)")
    chosen = parser.parse_args()
    return ended(lambda folder: run(chosen, folder))


if __name__ == "__main__":
    sys.exit(main())
