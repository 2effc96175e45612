"""Ray's agent takes over what others have counted into histograms, each bucket at once. Only the agent imports this.

Every process of Ray tells its agent for each histogram how many values fell into which bucket. The agent records each
of them again, one by one (`record_histogram_aggregated_batch`), at some 7 µs: at 1,500 requests a second, with four
histograms a request, that are 0.4 s in every ten, in which it holds up whoever shares its core. Here it records one
value of a bucket, so that Ray's own code decides whether and under which labels, and adds the others to the same sum.
What is shown is the same. Ray's issue 64852 is of that.

This uses what is private to Ray and to OpenTelemetry's SDK: it is done only for the text of the method that was looked
at, and where anything is missing, the values are recorded one by one.
"""

import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
from bisect import bisect_left
from collections.abc import Mapping
from types import ModuleType
from typing import Any

RECORDER = "ray._private.telemetry.open_telemetry_metric_recorder"
METHOD = "record_histogram_aggregated_batch"
KNOWN = "2de4f1ff67e4dad0f7e09a7c2d2a07848649079e26d02c331a5a2d1642b35d82"  # SHA-256 of the method's text in Ray 2.60
_READ = ("_lock", "_value", "_sum", "_boundaries", "_get_empty_bucket_counts")


class AfterImport:
    """Has `install` called with the recorder's module once it is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != RECORDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_install(module: ModuleType) -> None:
                execute(module)
                install(module)

            spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


def install(module: ModuleType) -> bool:
    """Have its recorder count each bucket at once, if it is the recorder that we know. Return whether it is."""
    recorder = module.OpenTelemetryMetricRecorder
    one_by_one = getattr(recorder, METHOD, None)
    if one_by_one is None or hashlib.sha256(inspect.getsource(one_by_one).encode()).hexdigest() != KNOWN:
        return False

    def at_once(self: Any, name: str, data_points: list[dict[str, Any]]) -> None:
        once = [
            {**point, "bucket_counts": [min(1, count) for count in point["bucket_counts"]]} for point in data_points
        ]
        one_by_one(self, name, once)
        with self._lock:
            instrument, midpoints = self._registered_instruments.get(name), self._histogram_bucket_midpoints[name]
            if not isinstance(instrument, module.metrics.Histogram):
                return
            dropped = module.MetricCardinality.get_high_cardinality_labels_to_drop(name)
            for point in data_points:
                if len(point["bucket_counts"]) != len(midpoints):
                    continue
                tags = {k: v for k, v in point["tags"].items() if k not in dropped}
                for midpoint, count in zip(midpoints, point["bucket_counts"], strict=True):
                    if count > 1:
                        _add(instrument, midpoint, count - 1, tags)

    setattr(recorder, METHOD, at_once)
    return True


def _add(instrument: Any, value: float, times: int, tags: Mapping[str, str]) -> None:
    """Record a value so many times more, with these labels."""
    try:
        sums = _sums_of(instrument, tags) if value >= 0 else []  # others are refused
    except (AttributeError, KeyError, ImportError):
        sums = []
    if not sums:
        for _ in range(times):
            instrument.record(value, attributes=dict(tags))
    for known in sums:
        with known._lock:
            if known._value is None:  # it was just read
                known._value = known._get_empty_bucket_counts()
            known._value[bisect_left(known._boundaries, value)] += times
            known._sum += value * times


def _sums_of(instrument: Any, tags: Mapping[str, str]) -> list[Any]:
    """Return what OpenTelemetry's SDK adds the values of an instrument with these labels to, by reader."""
    from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes

    key, found = _hash_attributes(dict(tags)), []
    for storage in instrument._measurement_consumer._reader_storages.values():
        for match in storage._get_or_init_view_instrument_match(instrument):
            known = match._attributes_aggregation[key]
            if not all(hasattr(known, name) for name in _READ):
                raise AttributeError("another kind of sum")
            found.append(known)
    return found
