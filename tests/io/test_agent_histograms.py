"""Ray's agent takes histograms over at once, and shows what it would show one by one. Its recorder is the real one."""

import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from deployments.ops.serve_run.site import agent_histograms
from deployments.ops.serve_run.site.sitecustomize import is_agent

SITE = pathlib.Path(agent_histograms.__file__).parent
# In a process of its own: OpenTelemetry's provider of meters is one for all of it, and for good.
RECORDS = """
import random, sys
import agent_histograms
way = sys.argv[1]
if way != "one by one":
    sys.meta_path.insert(0, agent_histograms.AfterImport())
if way == "without the sums":
    agent_histograms._READ += ("a_name_of_tomorrow",)
from ray._private.telemetry.open_telemetry_metric_recorder import OpenTelemetryMetricRecorder
assert (OpenTelemetryMetricRecorder.record_histogram_aggregated_batch.__name__ == "at_once") is (way != "one by one")
from prometheus_client import generate_latest
recorder, draw = OpenTelemetryMetricRecorder(), random.Random(7)
recorder.register_histogram_metric("seconds", "some", [0.1, 1.0, 10.0])
recorder.register_histogram_metric("below", "some", [-1.0, 1.0])
for round in range(20):
    for name, buckets in (("seconds", 4), ("below", 3), ("unknown", 3)):
        points = [
            {"tags": {"row": row, "door": "http"}, "bucket_counts": draw.choices([0, 0, 1, 2, 40], k=size)}
            for row in ("one", "two")
            for size in (buckets, buckets + 1)
        ]
        recorder.record_histogram_aggregated_batch(name, points)
    if round % 5 == 4:
        print(generate_latest().decode())
"""


def shown(way: str) -> dict[str, float]:
    """What Prometheus would scrape of the agent, four times, by series."""
    path = {"PYTHONPATH": str(SITE), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", RECORDS, way]
    said = subprocess.run(command, env=path, capture_output=True, text=True, timeout=60, check=True).stdout
    lines = [line.rpartition(" ") for line in said.splitlines() if line.startswith("ray_")]
    return {f"{number}: {series}": float(value) for number, (series, _, value) in enumerate(lines)}


def test_it_shows_what_the_agent_would_show_by_itself() -> None:
    """For the method of this very version of Ray: of another one nothing is changed, and this fails."""
    expected = shown("one by one")
    assert len(expected) > 60
    assert max(expected.values()) > 500
    for way in ("at once", "without the sums"):
        found = shown(way)
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected)


def test_a_recorder_that_it_does_not_know_stays_as_it_is() -> None:
    class Recorder:
        def record_histogram_aggregated_batch(self) -> None:
            pass

    before = Recorder.record_histogram_aggregated_batch
    assert not agent_histograms.install(SimpleNamespace(OpenTelemetryMetricRecorder=Recorder))  # type: ignore[arg-type]
    assert Recorder.record_histogram_aggregated_batch is before
    assert not agent_histograms.install(SimpleNamespace(OpenTelemetryMetricRecorder=object))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "agent"),
    [
        (["python", "-u", "/lib/ray/dashboard/agent.py", "--node-ip-address=127.0.0.1"], True),
        (["python", "-u", "/lib/ray/_private/runtime_env/agent/main.py"], False),
        (["python", "/home/me/agent.py"], False),
        (["python", "-m", "ray.serve.scripts", "run", "x", "ray/dashboard/agent.py"], False),
    ],
)
def test_only_rays_agent_is_changed(words: list[str], agent: bool) -> None:
    assert is_agent(words) is agent


def test_a_program_with_its_name_is_started_as_ever(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "ray" / "dashboard"
    folder.mkdir(parents=True)
    (folder / "agent.py").write_text("import sys; print([type(one).__name__ for one in sys.meta_path])")
    for script, hooked in ((folder / "agent.py", True), (tmp_path / "agent.py", False)):
        script.write_text((folder / "agent.py").read_text())
        command = [sys.executable, "-u", str(script)]
        said = subprocess.run(command, env={"PYTHONPATH": str(SITE)}, capture_output=True, text=True, timeout=60)
        assert ("AfterImport" in said.stdout, said.stderr) == (hooked, "")
