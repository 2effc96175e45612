"""What the whole application takes while nobody asks: memory, CPU and processes, with four clouds and the local model.

    uv run python -m tests.bench.rest [ROUNDS] [--env NAME=VALUE]... [--roles]

It starts `serve run` with all of Ray's processes, with serve.env, and with `deployments/ops/small.env` behind it. They
run in turns: beside each other they would share memory. Memory is the proportional set size. `--env` is for each.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass

import yaml

from tests.bench.processes import Clocks, members, memory_of, running
from tests.bench.start import READY, config_for, environment_for, wait_until
from tests.cluster.conftest import ROOT, free_port

SETTLE_SECONDS, SECONDS = 10.0, 20.0  # until nothing of the start is left; and what is looked at then
# Nobody is asked, so any word is a key.
KEYS = ("OPENAI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CLOUDS = {**dict.fromkeys(KEYS, "none"), "AWS_REGION": "us-east-1"}
SYSTEMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "all of Ray": ({"BREAKWATER_RAY_PROCESSES": "all"}, []),
    "serve.env": ({}, []),
    "small.env": ({}, ["deployments/ops/small.env"]),
}


@dataclass(frozen=True, slots=True)
class Rest:
    """Megabytes, per cent of a core by role, and how many processes there are."""

    memory: dict[str, float]
    cpu: dict[str, float]
    processes: int


def measured(more: dict[str, str], files: list[str]) -> Rest:
    with tempfile.TemporaryDirectory(prefix="breakwater-rest-") as folder:
        home, config = pathlib.Path(folder), pathlib.Path(folder, "config.yaml")
        config.write_text(yaml.safe_dump(config_for(ROOT, free_port(), empty=False), sort_keys=False))
        named = [word for file in ("serve.env", *files) for word in ("--env-file", file)]
        command = ["uv", "run", *named, "serve", "run", str(config)]
        with running(command, home / "log", environment_for(home, {**CLOUDS, **more}), ROOT) as process:
            wait_until(lambda: READY in (home / "log").read_text(), process, home / "log")
            time.sleep(SETTLE_SECONDS)
            clocks = Clocks(process.pid)
            time.sleep(SECONDS)
            cpu = {role: 100 * spent / SECONDS for role, spent in clocks.spent().items()}
            return Rest(memory_of(process.pid), cpu, len(members(process.pid)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rest")
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="before serve.env")
    parser.add_argument("--roles", action="store_true", help="also by process")
    chosen = parser.parse_args()
    more = dict(each.split("=", 1) for each in chosen.env)
    found: dict[str, list[Rest]] = {name: [] for name in SYSTEMS}
    for _ in range(chosen.rounds):
        for name, (env, files) in SYSTEMS.items():
            found[name].append(measured({**env, **more}, files))
            print(_row(name, [found[name][-1]]), flush=True)
    print(f"\nmedians of {chosen.rounds}")
    for name, rests in found.items():
        print(_row(name, rests))
        for role, cpu, memory in _by_role(rests) if chosen.roles else ():
            print(f"    {role:20} {cpu:6.2f} % {memory:7.0f} MB")
    return 0


def _row(name: str, rests: list[Rest]) -> str:
    memory = statistics.median(sum(rest.memory.values()) for rest in rests)
    cpu = statistics.median(sum(rest.cpu.values()) for rest in rests)
    processes = statistics.median(rest.processes for rest in rests)
    return f"{name:12} {memory:7.0f} MB {cpu:6.1f} % of a core {processes:5.0f} processes"


def _by_role(rests: list[Rest]) -> list[tuple[str, float, float]]:
    def median(of: list[dict[str, float]], role: str) -> float:
        return statistics.median(figures.get(role, 0.0) for figures in of)

    cpu, memory = [rest.cpu for rest in rests], [rest.memory for rest in rests]
    roles = {role for held in memory for role in held}
    return sorted(((role, median(cpu, role), median(memory, role)) for role in roles), key=lambda each: -each[1])


if __name__ == "__main__":
    sys.exit(main())
