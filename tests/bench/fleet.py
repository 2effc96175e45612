"""How far one application goes: a fleet of ingress replicas over many targets, and the one breaker actor they share.

    uv run python -m tests.bench.fleet --ingresses 64 --targets 1000 --rate 50000

The actor is the real one, in a process of its own on a real Ray, and so are the replicas' ends of it, BreakerClient,
spread over a few processes. Requests there are none: each replica reports how its own would have ended, most of them at
few of the targets (Zipf). All processes share this machine, so what it says of times is an upper bound. The actor's CPU
is its own.
"""

import argparse
import asyncio
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_ADDRESS="local")

import ray
from ray.experimental import internal_kv

from actors.breaker.circuit import Policy, State
from actors.breaker.outcomes import Outcome
from tests.bench.actor import Ingress, summoned
from tests.bench.figures import percentile
from tests.bench.processes import cpu_of, rss_of

APP = "fleet"
PROCESSES = 2
TICK = 0.05  # seconds
SEQUENCE = 100_000  # targets that are drawn beforehand
OK, FAILED = Outcome("ok", content=True), Outcome("server_error", status=500, message="upstream says 500")
OPENINGS = 10  # circuits that are opened to see how long it takes to tell


def targets_of(number: int) -> list[str]:
    return [f"provider-{i // 10:03d}/model-{i % 10}" for i in range(number)]


def config_of(targets: Sequence[str]) -> dict[str, Any]:
    return {"policy": asdict(Policy()), "targets": list(targets)}


class Replica(Ingress):
    """One ingress replica's end of the actor."""

    def __init__(self, config: dict[str, Any]):
        super().__init__(APP, config)

    def report(self, target: str, outcome: Outcome) -> None:
        client = self.breaker
        permit = {"epoch": client._seen[target].epoch, "incarnation": client.incarnation}
        client.report(target, permit, outcome, 800.0, whole=True)  # type: ignore[arg-type]


@ray.remote(num_cpus=0)
class Process:
    """Some replicas of the fleet."""

    def __init__(self, replicas: int, targets: list[str], seed: int):
        dice = random.Random(seed)
        weights = [1 / (rank + 1) for rank in range(len(targets))]
        self._drawn = dice.choices(targets, weights, k=SEQUENCE)
        self._replicas = [Replica(config_of(targets)) for _ in range(replicas)]

    async def start(self) -> None:
        for replica in self._replicas:
            replica.breaker.start()
        await asyncio.gather(*(replica.breaker.connected.wait() for replica in self._replicas))

    async def run(self, rate: float, fails: int, seconds: float) -> dict[str, Any]:
        """Report `rate` requests a second of all replicas together, of which each `fails`th failed; 0 for none."""
        for replica in self._replicas:
            replica.took, replica.calls, replica.carried = [], Counter(), 0
        began, made = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            for number in range(made, made := round(passed * rate)):
                outcome = FAILED if fails and number % fails == fails - 1 else OK
                self._replicas[number % len(self._replicas)].report(self._drawn[number % SEQUENCE], outcome)
            await asyncio.sleep(TICK)
        return {
            "carried": sum(replica.carried for replica in self._replicas),
            "calls": dict(sum((replica.calls for replica in self._replicas), Counter())),
            "took": [took for replica in self._replicas for took in replica.took],
        }

    async def told(self, target: str, fails: bool) -> list[float]:
        """Return when each replica knew that the target is open. With `fails` the first one finds it out."""
        waiting = [asyncio.ensure_future(self._told(replica, target)) for replica in self._replicas]
        if fails:
            for _ in range(Policy().failure_threshold):
                self._replicas[0].report(target, FAILED)
        return list(await asyncio.gather(*waiting))

    async def _told(self, replica: Replica, target: str) -> float:
        while replica.breaker._seen[target].state is not State.OPEN:
            await replica.breaker.moved.wait()
        return time.monotonic()


@dataclass
class Fleet:
    actor: Any
    pid: int
    processes: list[Any]
    targets: list[str]

    def load(self, name: str, rate: int, fails: int, seconds: float) -> list[str]:
        """Return the row of the table for one load."""
        began, cpu = time.perf_counter(), cpu_of(self.pid)
        share = rate / len(self.processes)
        found = ray.get([process.run.remote(share, fails, seconds) for process in self.processes])
        passed, cpu = time.perf_counter() - began, cpu_of(self.pid) - cpu
        took = [1000 * one for part in found for one in part["took"]] or [0.0]
        batches = sum(part["calls"].get("report", 0) for part in found)
        return [
            name,
            f"{sum(part['carried'] for part in found) / passed:,.0f}",
            f"{batches / passed:.0f}",
            f"{100 * cpu / passed:.1f} %",
            f"{rss_of(self.pid) / 1e6:.0f} MB",
            f"{percentile(took, 0.5):.1f} / {percentile(took, 0.99):.1f} ms",
        ]

    def open_some(self) -> list[tuple[float, float]]:
        """Open circuits one after the other; return in what time half of the replicas knew of each, and all."""
        found = []
        for target in self.targets[-OPENINGS:]:
            began = time.monotonic()
            waiting = [process.told.remote(target, number == 0) for number, process in enumerate(self.processes)]
            times = sorted(at - began for part in ray.get(waiting) for at in part)
            found.append((statistics.median(times), times[-1]))
            time.sleep(0.5)
        for provider in {target.partition("/")[0] for target in self.targets[-OPENINGS:]}:
            ray.get(self.actor.command.remote("reset", provider))
        return found

    def checkpoint(self) -> int:
        """Return the bytes of the newest checkpoint."""
        keys = internal_kv._internal_kv_list(f"breakwater/{APP}/checkpoint/".encode())
        return max(len(internal_kv._internal_kv_get(key)) for key in keys)


def assembled(ingresses: int, targets: list[str]) -> Fleet:
    actor: Any = ray.get(summoned.remote(APP, config_of(targets)))
    pid = ray.get(actor.whoami.remote())["pid"]
    made: Any = Process
    processes = [made.remote(ingresses // PROCESSES, targets, seed) for seed in range(PROCESSES)]
    ray.get([process.start.remote() for process in processes])
    return Fleet(actor, pid, processes, targets)


HEADS = ("load", "reports a second", "batches a second", "the actor's CPU", "its memory", "round trip p50 / p99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ingresses", type=int, default=64)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=50_000, help="reports a second of the whole fleet")
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    fleet = assembled(asked.ingresses, targets_of(asked.targets))
    print(f"{asked.ingresses} ingress replicas, {asked.targets} targets")
    print("| " + " | ".join(HEADS) + " |\n|---|" + "--:|" * (len(HEADS) - 1))
    for name, rate, fails in (
        ("none", 0, 0),
        ("a tenth", asked.rate // 10, 0),
        ("all well", asked.rate, 0),
        ("one in 1,000 fails", asked.rate, 1000),
    ):
        print("| " + " | ".join(fleet.load(name, rate, fails, asked.seconds)) + " |", flush=True)
    print(f"checkpoint: {fleet.checkpoint() / 1000:.0f} kB")
    cpu = cpu_of(fleet.pid)
    told = fleet.open_some()
    half, whole = zip(*told, strict=True)
    print(
        f"a circuit opens: half of the replicas know it after {1000 * statistics.median(half):.0f} ms, all after "
        f"{1000 * statistics.median(whole):.0f} ms (the longest of {len(told)}: {1000 * max(whole):.0f} ms); "
        f"the actor's CPU for one: {1000 * (cpu_of(fleet.pid) - cpu) / len(told):.0f} ms"
    )


if __name__ == "__main__":
    main()
