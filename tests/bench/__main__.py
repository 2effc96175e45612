"""The benchmark: our own beside *direct*, LiteLLM's proxy and Portkey's gateway, in turns, on the same core.

    uv run python -m tests.bench --quick
    uv run python -m tests.bench --json bench.json --plot bench.svg --memory --profile profiles

Prints tables in Markdown, and at the end the bars with what was measured. Portkey needs Node 20 and npm.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, NoReturn

from tests.bench.bars import OURS
from tests.bench.figures import figures
from tests.bench.measure import at_rest, measured, two_cores, warmed
from tests.bench.memory import measured_growth
from tests.bench.outage import KINDS, NONE, measured_outage
from tests.bench.plot import svg
from tests.bench.processes import CannotRun, memory_of
from tests.bench.profile import CELLS, profiled
from tests.bench.report import Result, markdown
from tests.bench.scenarios import FULL, QUICK
from tests.bench.systems import SYSTEMS, VERSIONS, Place, System, upstream
from tests.cluster.conftest import ROOT, free_port


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="four of the cells, twice a second each: about a minute")
    parser.add_argument("--rounds", type=int, help="of which the medians are shown (5; 2 if quick)")
    parser.add_argument("--seconds", type=float, help="of load in each cell of a round (1.5; 1 if quick)")
    parser.add_argument("--only", default="", help="cells whose name has this, such as 'c64' or '50 frames'")
    parser.add_argument("--without", default="", help="leave these out: litellm,portkey")
    parser.add_argument("--no-pin", action="store_true", help="let everybody run on every core")
    parser.add_argument("--no-outage", action="store_true", help="leave out the provider's outage")
    parser.add_argument("--memory", action="store_true", help="then 20,000 requests and 2,000 streams")
    parser.add_argument("--profile", type=pathlib.Path, metavar="FOLDER", help="then where our time goes, by py-spy")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures of all rounds")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="an SVG")
    parser.add_argument("--beside", type=pathlib.Path, metavar="FOLDER", help="another checkout of ours, in turns too")
    parser.add_argument("--plain", action="store_true", help="the same way in Ray Serve without ours, in turns too")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for ours, beside serve.env")
    parser.add_argument("--ingresses", type=int, default=1, help="replicas of our Ingress (1)")
    parser.add_argument("--replicas", type=int, default=1, help="replicas of our first provider (1)")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (1.0 if chosen.quick else 1.5)
    chosen.without = set(filter(None, chosen.without.split(",")))
    if chosen.beside is None:
        chosen.without.add("beside")
    if not chosen.plain:
        chosen.without.add("plain")
    if unknown := chosen.without - SYSTEMS.keys():
        parser.error(f"no such system: {', '.join(sorted(unknown))} (known: {', '.join(SYSTEMS)})")
    return chosen


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def all_started(chosen: argparse.Namespace, folder: pathlib.Path) -> Iterator[list[System]]:
    """The two upstreams first, then the systems."""
    bench, tested = two_cores(not chosen.no_pin)
    env = dict(pair.split("=", 1) for pair in chosen.env)
    with contextlib.ExitStack() as stack:
        made = []
        for name in ("first", "second"):
            (folder / name).mkdir()
            made.append(stack.enter_context(upstream(free_port(), folder / name, bench)))
        ports = (made[0].port, made[1].port)
        for name, start in SYSTEMS.items():
            if name not in chosen.without:
                say(f"starting {name}")
                (folder / name).mkdir()
                root = chosen.beside.resolve() if name == "beside" else ROOT
                place = Place(folder / name, tested, ports, root, env, chosen.ingresses, chosen.replicas)
                made.append(stack.enter_context(start(place)))
        if bench:
            os.sched_setaffinity(0, bench)
        yield made
        say("ending what was started")


def run(chosen: argparse.Namespace, folder: pathlib.Path) -> Result:
    cells = [cell for cell in (QUICK if chosen.quick else FULL) if chosen.only in cell.name]
    result = Result(about(chosen), cells)  # before we are pinned ourselves
    with all_started(chosen, folder) as (direct, _second, *systems):
        asks = list(dict.fromkeys(cell.ask for cell in cells))
        for system in systems:
            say(f"warming {system.name}")
            warmed(system, direct, asks, 0.5)
            result.resting[system.name] = at_rest(system, 2.0)
        before = {system.name: memory_of(system.session) for system in systems}
        for number in range(chosen.rounds):
            say(f"round {number + 1} of {chosen.rounds}")
            in_turn(result, direct, systems, chosen.seconds, number)
        result.memory = {system.name: (before[system.name], memory_of(system.session)) for system in systems}
        for ours in (system for system in systems if system.name == OURS):
            if not chosen.no_outage:
                say("outages")
                kinds = (NONE, *KINDS) * (1 if chosen.quick else 3)
                result.outages = [measured_outage(kind, ours, direct) for kind in kinds]
            if chosen.profile:
                say("profiles")
                chosen.profile.mkdir(parents=True, exist_ok=True)
                result.profiles = [profiled(ours, direct, cell, chosen.profile) for cell in CELLS]
            if chosen.memory:
                say("memory")
                result.grown = measured_growth(ours, direct)
    result.about["load average at the end"] = load_average()
    return result


def in_turn(result: Result, direct: System, systems: list[System], seconds: float, number: int) -> None:
    """One round: each cell at all systems one after another, each round another one first."""
    first = number % max(1, len(systems))
    for cell in result.cells:
        for system in (direct, *systems[first:], *systems[:first]):
            if system.name not in cell.without:
                if system is not direct:  # it has stood still while the others were asked
                    warmed(system, direct, [cell.ask], 0.25)
                result.add(cell, system.name, figures(measured(system, direct, cell, seconds)))


def about(chosen: argparse.Namespace) -> dict[str, Any]:
    bench, tested = two_cores(not chosen.no_pin)
    cores = os.cpu_count()
    where = "everybody on every core"
    if bench and tested:
        where = f"load and upstream on core {min(bench)}, each system with all its processes on core {min(tested)}"
    others = ", ".join(f"{name} {its_own}" for name, its_own in VERSIONS.items() if name not in chosen.without)
    return {
        "machine": f"{cores} cores, {platform.machine()}, Python {platform.python_version()}",
        "pinned": where,
        "versions": f"Ray {version('ray')}" + (f", {others}" if others else ""),
        "rounds": f"medians of {chosen.rounds} of {chosen.seconds:g} s, the systems in turns",
        "load average at the start": load_average(),
    }


def load_average() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)  # a shell's background job is told to ignore it, and whom it starts too
    try:
        with tempfile.TemporaryDirectory(prefix="breakwater-bench-") as folder:
            result = run(chosen, pathlib.Path(folder))
    except CannotRun as sentence:
        print(f"bench: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print("\n".join(markdown(result)))
    if chosen.json:
        chosen.json.write_text(json.dumps(result.json(), indent=1))
    if chosen.plot:
        chosen.plot.write_text(svg(result.medians()))
    return 0


def _leave(*_: object) -> NoReturn:
    """As on Ctrl-C: whoever was started is ended on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
