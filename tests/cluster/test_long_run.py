"""A cluster over its life: a provider is added under load, its logs turn over, and its folders go when it is dead.

`uv run pytest -m nodes`. It has a cluster, a temp folder and a HAProxy folder of its own.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deployments.ops.clean import main as clean
from tests.cluster.conftest import ROOT, Cluster, eventually, patient_config, serve_env, started
from tests.cluster.test_chaos import Load
from tests.readme import command, section

pytestmark = pytest.mark.nodes

LONGEST = 8.0  # seconds that one request may take while replicas are replaced
LOG_BYTES = 20_000


@pytest.fixture
def temp() -> Iterator[pathlib.Path]:
    """A folder with a short path: Ray's sockets are in it."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="bw-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def environment(temp: pathlib.Path) -> dict[str, str]:
    haproxy = temp / "ha"  # a socket's path may have 97 bytes, says HAProxy
    return {
        "RAY_TMPDIR": str(temp),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "2",
        # As `serve run` of serve.env has it: the shortest notice that HAProxy gets of a replica that goes.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": serve_env()["RAY_SERVE_CONTROL_LOOP_INTERVAL_S"],
    }


def as_on_the_page(start: str, file: pathlib.Path, *more: str) -> None:
    """Run a command of a page by this environment's Python, on this file."""
    line = command(start).replace("serve_config.yaml", str(file))
    words = line.split()[2 if "--env-file" not in line else 4 :]
    module = words[1:] if words[0] == "python" else ["-m", "ray.serve.scripts", *words[1:]]
    subprocess.run([sys.executable, *module, *more], cwd=ROOT, capture_output=True, check=True, timeout=120)


def with_another(config: dict[str, Any]) -> dict[str, Any]:
    """Add a provider, and a row that asks it first."""
    args = config["applications"][0]["args"]
    args["providers"]["another"] = {**args["providers"]["openai"]}
    args["models"]["new"] = {"another": "gpt-5.4-mini", "local": "smollm2-135m"}
    return config


def add_under_load(llm: Cluster) -> None:
    llm.config.write_text(yaml.safe_dump(with_another(yaml.safe_load(llm.config.read_text())), sort_keys=False))
    assert llm.post(model="new").status_code == 404
    with Load(llm, clients=2) as load:
        time.sleep(1)
        began = time.monotonic()
        as_on_the_page("uv run python -m deployments.config serve_config.yaml", llm.config)
        as_on_the_page("uv run --env-file serve.env serve deploy serve_config.yaml", llm.config, "-a", llm.dashboard)
        eventually(lambda: llm.post(model="new").headers.get("x-breakwater-provider") == "another", 120)
        took = time.monotonic() - began
        time.sleep(7)  # the old replicas go
    longest = max(seconds for _, seconds, *_ in load.answers)
    print(f"\nthe new row answers after {took:.1f} s; {len(load.answers)} requests, longest {longest:.2f} s")
    assert load.lost() == []
    assert longest < LONGEST


def second_line(file: pathlib.Path) -> str:
    return "\n".join(file.read_text().splitlines()[1:2])


def logs_turn_over(llm: Cluster, temp: pathlib.Path) -> None:
    logs = temp / "ray" / "session_latest" / "logs"
    found = eventually(lambda: [*logs.glob("serve/replica_llm_Ingress_*.log.2")] or (llm.post() and None), 60)
    base = str(found[0]).removesuffix(".2")
    assert all(os.path.getsize(f"{base}{end}") < 1.1 * LOG_BYTES for end in ("", ".1", ".2"))
    assert not os.path.exists(f"{base}.3")
    for named in re.findall(r"^\| `([^`]+)`", section("docs/monitoring.md", "## The logs"), re.MULTILINE):
        assert [*logs.glob(named)], named
    second_lines = {second_line(file) for file in logs.glob("worker-*.err")}
    assert second_lines >= {":actor_name:BreakerActor", ":actor_name:LedgerActor"}
    grep = command("grep -l").replace("/tmp/ray", str(temp / "ray"))
    assert subprocess.run(["bash", "-c", grep], capture_output=True, text=True, check=True).stdout.count("\n") == 1


# Ray ends its own processes without waiting for them, and Python says so whenever it forgets them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_is_added_to_and_looked_at_and_cleaned_up_after(
    temp: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = ["--temp-dir", str(temp / "ray"), "--older-than", "0m", "--remove"]
    env = environment(temp)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", env["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"])
    with started(tmp_path, patient_config, **env) as llm:
        with capsys.disabled():
            add_under_load(llm)
        logs_turn_over(llm, temp)
        assert clean(remove) == 0
        said = capsys.readouterr().out
        assert re.search(r"session_\S+  .*kept: in use by a process", said), said
        assert re.search(r"/ha/[0-9a-f]{56}  .*kept: in use by a process", said), said
        assert said.rstrip().endswith("0 of 2 folders, 0.0 MB, were removed."), said
        assert llm.post().status_code == 200
    eventually(lambda: clean(remove) == 0 and "2 of 2 folders" in capsys.readouterr().out, 60)
    assert not [*(temp / "ray").glob("session_*"), *(temp / "ha").iterdir()]
