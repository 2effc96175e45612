"""What one breaker actor can carry: the real actor, and the ingress's end of it, many times over.

    uv run python -m tests.bench.actor

`replicas` ingress replicas live in two processes. Each reports how its requests ended, as an ingress does:
successes merged, in batches, twice a second. A 400 can't be merged with anything: with one in twenty
of them the batches are as long as they get without an outage.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_ADDRESS="local")

import ray

from actors.breaker.circuit import Policy
from actors.breaker.outcomes import Outcome
from actors.breaker_actor import breaker_actor
from deployments.breaker_client.actor_connection import ActorCall
from deployments.breaker_client.client import BreakerClient
from tests.bench.figures import percentile
from tests.bench.processes import cpu_of

TARGETS = ["aws_bedrock/haiku", "openai/gpt", "google_genai/gemini"]
CONFIG = {"policy": asdict(Policy()), "targets": TARGETS}
OK, REFUSED = Outcome("ok", content=True), Outcome("bad_request", status=400, message="messages: too short")
PROCESSES = 2
TICK = 0.02
SECONDS = 4.0
NONE, AS_MANY = 0, -1  # rates: nobody asks; as many as the processes that report can make up
MIXES = {"all well": 0, "one in twenty a 400": 20}
REQUEST_MS = 2.5  # CPU of a whole request: what the actor's part is a part of


class Ingress:
    """One replica's link, and what it told the actor."""

    def __init__(self, app: str = "bench", config: Mapping[str, Any] = CONFIG) -> None:
        self._app, self._config = app, config
        self.calls: Counter[str] = Counter()
        self.carried = self.items = 0
        self.took: list[float] = []
        self.breaker = BreakerClient(self._connect, Policy())

    async def _connect(self) -> ActorCall:
        actor = await breaker_actor(self._app).get_or_create(self._config, newest=False)

        def call(method: str, *arguments: Any) -> Awaitable[Any]:
            answer = getattr(actor, method).remote(*arguments)
            return self._counted(method, answer, *arguments)

        return call

    async def _counted(self, method: str, answer: Awaitable[Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        found = await answer
        self.calls[method] += 1
        if method == "report":
            self.took.append(time.perf_counter() - began)
            self.items += len(arguments[2])
            self.carried += sum(item["count"] for item in arguments[2])
        return found

    def ask(self, requests: int, every: int, began: int) -> None:
        """So many requests that end at once; each `every`th is refused."""
        link = self.breaker
        for number in range(began, began + requests):
            refused = every and number % every == 0
            target = TARGETS[number % len(TARGETS)]
            permit = {"epoch": link._seen[target].epoch, "incarnation": link.incarnation}
            link.report(target, permit, REFUSED if refused else OK, 100.0, whole=True)


@ray.remote(num_cpus=0)
class Replicas:
    """A process with some ingress replicas in it."""

    def __init__(self, replicas: int):
        self._ingresses = [Ingress() for _ in range(replicas)]

    async def start(self) -> None:
        for ingress in self._ingresses:
            ingress.breaker.start()
        await asyncio.gather(*(ingress.breaker.connected.wait() for ingress in self._ingresses))

    async def run(self, rate: float, every: int, seconds: float) -> dict[str, Any]:
        """`rate` requests a second of each replica; below 0, as many as go."""
        for ingress in self._ingresses:
            ingress.calls.clear()
            ingress.took.clear()
            ingress.carried = ingress.items = 0
        await asyncio.gather(*(self._one(ingress, rate, every, seconds) for ingress in self._ingresses))
        calls = sum((ingress.calls for ingress in self._ingresses), Counter())
        return {
            "carried": sum(ingress.carried for ingress in self._ingresses),
            "items": sum(ingress.items for ingress in self._ingresses),
            "calls": dict(calls),
            "took": [took for ingress in self._ingresses for took in ingress.took],
        }

    async def _one(self, ingress: Ingress, rate: float, every: int, seconds: float) -> None:
        began, made = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            due = round(passed * rate) - made if rate >= 0 else 50
            ingress.ask(due, every, made)
            made += due
            await asyncio.sleep(TICK if rate >= 0 else 0)


HEADS = (
    *("replicas", "requests", "asked for a second", "carried a second", "the actor's CPU"),
    *("CPU ms per 1000 requests", f"of {REQUEST_MS} ms a request", "batches/s", "CPU ms a batch"),
    *("reports in a batch", "asks", "a batch's round trip p50 / p99 ms"),
)


def row(replicas: int, mix: str, rate: int, found: list[dict[str, Any]], seconds: float, cpu: float) -> list[str]:
    carried, items = sum(one["carried"] for one in found), sum(one["items"] for one in found)
    reports = sum(one["calls"].get("report", 0) for one in found)
    asks = sum(one["calls"].get("ask", 0) for one in found)
    took = [one * 1000 for part in found for one in part["took"]]
    return [
        str(replicas),
        mix,
        {NONE: "none", AS_MANY: "as many as go"}.get(rate, str(rate)),
        f"{carried / seconds:,.0f}",
        f"{cpu / seconds * 100:.1f} %",
        _each(cpu * 1e6, carried, ".3g"),
        _each(cpu * 1e5 / REQUEST_MS, carried, ".2f", " %"),
        f"{reports / seconds:.0f}",
        _each(cpu * 1000, reports, ".2f"),
        _each(items, reports, ".1f"),
        str(asks),
        f"{percentile(took, 0.5):.1f} / {percentile(took, 0.99):.1f}" if took else "-",
    ]


def _each(total: float, count: int, how: str, unit: str = "") -> str:
    return f"{total / count:{how}}{unit}" if count else "-"


def measured(replicas: int) -> Iterator[list[str]]:
    actor: Any = ray.get(summoned.remote())
    pid = ray.get(actor.whoami.remote())["pid"]
    processes: Any = [Replicas.remote(replicas // PROCESSES) for _ in range(PROCESSES)]
    ray.get([process.start.remote() for process in processes])
    for mix, every in MIXES.items():
        for rate in (NONE, 400, 4000, AS_MANY):
            time.sleep(0.5)
            began, cpu = time.perf_counter(), cpu_of(pid)
            found = ray.get([process.run.remote(rate / replicas, every, SECONDS) for process in processes])
            seconds, cpu = time.perf_counter() - began, cpu_of(pid) - cpu
            yield row(replicas, mix, rate, found, seconds, cpu)
    for process in processes:
        ray.kill(process)


@ray.remote(num_cpus=0)
def summoned(app: str = "bench", config: Mapping[str, Any] = CONFIG) -> Any:
    """Make an application's breaker actor."""
    return asyncio.run(breaker_actor(app).get_or_create(config, newest=True))


def main() -> None:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    print("| " + " | ".join(HEADS) + " |\n|" + "--:|" * len(HEADS))
    for replicas in (2, 8, 32):
        for cells in measured(replicas):
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
