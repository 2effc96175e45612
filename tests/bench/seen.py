"""What a request costs in its ingress for being seen: record, metrics in Ray, log line, and memory of it. CPU time.

uv run python -m tests.bench.seen
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_ADDRESS="local")

import ray

from actors.breaker.plan import Candidate, Plan, Skipped
from actors.metrics import NoMeter
from actors.ray_metrics import RayMeter
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.metrics import Metrics
from deployments.telemetry.recent import RecentRequests
from deployments.telemetry.request_log import flush_log, log_request
from deployments.telemetry.request_record import RequestRecord, RequestSummary
from deployments.usage.caller import Caller
from tests.bench.handling import log_to

REQUESTS, ROUNDS = 4000, 5
TARGETS = ["aws_bedrock/haiku", "openai/gpt", "local/smol"]
USED = {"tokens_in": 812, "tokens_out": 233, "tokens_cached": 512, "tokens_reasoning": 0, "cost": 3_000_000}
TIMES = {"first_ms": 88.0, "ms": 240.0}
SERVED = AttemptRecord("openai/gpt", "ok", 0.4, 250.0, 90.0, TIMES, None, None, "ok", epoch=3, used=USED)
OPEN = Skipped(TARGETS[0], "open", 12.5, "open", 7, 47.5)
PLAN = Plan((Candidate(TARGETS[1], 3), Candidate(TARGETS[2], 1)), (OPEN,))


def ended(observer: Callable[[RequestSummary], None] | None) -> None:
    record = RequestRecord("default", Caller("http", "acme", None, None, "an-id"), True, None, "replica-1", observer)
    record.skip(PLAN.skipped)
    record.add_attempt(SERVED)
    record.mark_sent()
    record.finish("ok", SERVED.target)


@ray.remote
class Bench:
    """Inside a worker, where Ray's metrics are real."""

    def measured(self) -> dict[str, list[float]]:
        meter, recent = RayMeter("bench"), RecentRequests()
        counted = Metrics(meter, ["default"], TARGETS)
        observers: dict[str, Callable[[RequestSummary], None] | None] = {
            "record alone": None,
            "+ metrics, no Ray": Metrics(NoMeter(), ["default"], TARGETS),
            "+ metrics": counted,
            "+ log line": log_request,
            "+ memory": recent.add,
        }
        found: dict[str, list[float]] = {name: [] for name in observers}
        with tempfile.TemporaryDirectory() as folder:
            log_to(folder)
            for _ in range(ROUNDS):
                for name, observer in observers.items():
                    began = time.process_time()
                    for number in range(REQUESTS):
                        ended(observer)
                        if number % 400 == 0:
                            meter.flush()
                            flush_log()
                    found[name].append((time.process_time() - began) / REQUESTS * 1e6)
        return found


def main() -> None:
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    found: Any = ray.get(Bench.remote().measured.remote())
    alone = statistics.median(found["record alone"])
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:18} {median:7.1f} us a request ({median - alone:+.1f})")


if __name__ == "__main__":
    main()
