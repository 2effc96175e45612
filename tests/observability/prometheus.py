"""A real Prometheus over a real cluster, as Ray's own file of targets has it."""

import json
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import yaml

from tests.cluster.conftest import ROOT, eventually, free_port


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install prometheus has it")
    return found


def ran_promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=120)


def promtool(*arguments: str) -> str:
    """What promtool says of something that is right."""
    ran = ran_promtool(*arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `{"metric": labels, "value": [time, text]}` each."""
        return list(self._ask("query", query=expression)["result"])

    def value(self, expression: str) -> float | None:
        """Of the one series that there is, or None."""
        series = self.query(expression)
        assert len(series) < 2, series
        return float(series[0]["value"][1]) if series else None

    def over(self, expression: str, seconds: float, step: float = 5) -> list[dict[str, Any]]:
        """The series of a query over the last `seconds`, as a panel draws them."""
        now = time.time()
        return list(self._ask("query_range", query=expression, start=now - seconds, end=now, step=step)["result"])

    def names(self, label: str, match: str) -> set[str]:
        return set(self._ask(f"label/{label}/values", **{"match[]": match}))

    def rules(self) -> dict[str, dict[str, Any]]:
        groups = self._ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def targets(self) -> list[dict[str, Any]]:
        return self._ask("targets", state="active")["activeTargets"]

    def _ask(self, what: str, **parameters: Any) -> Any:
        answer = httpx2.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]


def shipped_config(discovery: pathlib.Path) -> dict[str, Any]:
    """The one that is shipped, with paths of this machine, and faster."""
    text = (ROOT / "deployments" / "ops" / "prometheus.yml").read_text()
    alerts = ROOT / "deployments" / "ops" / "alerts.yml"
    told_and_here = (
        ("/etc/prometheus/breakwater.yml", alerts),
        ("/tmp/ray/prom_metrics_service_discovery.json", discovery),
    )
    for told, here in told_and_here:
        assert told in text
        text = text.replace(told, str(here))
    config = yaml.safe_load(text)
    return {**config, "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}


@contextmanager
def running_prometheus(folder: pathlib.Path, discovery: pathlib.Path) -> Iterator[Prometheus]:
    (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped_config(discovery)))
    address, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with served([*command, f"--web.listen-address={address}"], address, log) as prometheus:
        yield prometheus


@contextmanager
def served(command: Sequence[str], address: str, log: pathlib.Path) -> Iterator[Prometheus]:
    """Run Prometheus, which the command lets listen at this address, until it is no longer needed."""
    with log.open("w") as out:
        run = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        eventually(lambda: run.poll() is not None or is_ready(address))
        assert run.poll() is None, log.read_text()
        yield Prometheus(f"http://{address}")
    finally:
        run.terminate()
        run.wait(30)


def is_ready(address: str) -> bool:
    return httpx2.get(f"http://{address}/-/ready", timeout=2).status_code == 200


def discovery_file() -> pathlib.Path:
    """Ray's file of what to scrape, of the cluster that this process has joined."""
    import ray

    session = pathlib.Path(ray._private.worker._global_node.get_session_dir_path())
    found = session / "prom_metrics_service_discovery.json"
    eventually(found.exists)
    assert json.loads(found.read_text())[0]["targets"]
    return found
