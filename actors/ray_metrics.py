"""The meter over ray.util.metrics: its values go into Ray's own export. Ray.

Counters and gauges are kept here and handed on once a second, so that counting costs a look-up; a
histogram takes each value at once, which costs some microseconds.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray.util import metrics

from actors.metrics import METRICS, Labels

log = logging.getLogger(f"ray.serve.{__name__}")

FLUSH_SECONDS = 1.0  # Ray forgets a gauge that is not set again within two of its reports, 20 s
APPLICATION = "application"
_KINDS: dict[str, Any] = {"counter": metrics.Counter, "gauge": metrics.Gauge}


class RayMeter:
    """Each figure has one label more, `application`: two on one cluster must not be added up."""

    def __init__(self, app: str) -> None:
        self._app = {APPLICATION: app}
        self._counts: dict[tuple[str, Labels], float] = {}
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._tags: dict[tuple[str, Labels], dict[str, str]] = {}
        self._made: dict[str, Any] = {}

    def add(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        key = name, labels
        self._counts[key] = self._counts.get(key, 0.0) + amount

    def set(self, name: str, labels: Labels, value: float) -> None:
        self._gauges[name, labels] = value

    def observe(self, name: str, labels: Labels, value: float) -> None:
        self._metric(name).observe(value, self._tagged((name, labels)))

    def flush(self) -> None:
        counts, self._counts = self._counts, {}
        for key, amount in counts.items():
            if amount > 0:
                self._metric(key[0]).inc(amount, self._tagged(key))
        gauges, self._gauges = self._gauges, {}
        for key, value in gauges.items():
            self._metric(key[0]).set(value, self._tagged(key))

    async def run(self, sample: Callable[[], None]) -> None:
        """Once a second: have the gauges sampled, and hand everything on."""
        while True:
            try:
                sample()
                self.flush()
            except Exception:
                log.exception("Metrics could not be sampled or handed to Ray. Next try in %g s.", FLUSH_SECONDS)
            await asyncio.sleep(FLUSH_SECONDS)

    def _metric(self, name: str) -> Any:
        made = self._made.get(name)
        if made is None:
            figure = METRICS[name]
            labels = (*figure.labels, APPLICATION)
            if figure.kind == "histogram":
                made = metrics.Histogram(name, figure.what, list(figure.boundaries), labels)
            else:
                made = _KINDS[figure.kind](name, figure.what, labels)
            self._made[name] = made.set_default_tags(self._app)
        return self._made[name]

    def _tagged(self, key: tuple[str, Labels]) -> dict[str, str]:
        known = self._tags.get(key)
        if known is None:
            known = self._tags[key] = dict(zip(METRICS[key[0]].labels, key[1], strict=True))
        return known


def meter_of_replica() -> RayMeter:
    """Return a meter for the replica of Serve in which this runs."""
    from ray import serve  # an actor needs nothing of it

    return RayMeter(serve.get_replica_context().app_name)
