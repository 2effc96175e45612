"""How long `serve run` takes to the first answer, beside an application that does nothing.

    uv run python -m tests.bench.start [ROUNDS] [--beside FOLDER] [--env NAME=VALUE]...

Both are started in turns with the same serve.env, on ports of their own. `--beside` is another checkout, in turns too.
The CPU is that of all processes of a start that are there when it answers; the machine's is everybody's.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import yaml

from tests.bench.processes import Clocks, busy_of, running
from tests.cluster.conftest import ROOT, free_port

LONGEST_SECONDS = 180.0
READY = "Breakwater is ready"  # as `serve run` says: a client that asks before waits for the local model
QUESTION = b'{"model": "default", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
EMPTY = {"name": "empty", "import_path": "tests.bench.empty:app", "route_prefix": "/"}
PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to the first answer, of that request alone, of the start's CPU, and of the machine's meanwhile."""

    whole: float
    request: float
    cpu: float
    machine: float


def environment_for(home: pathlib.Path, more: dict[str, str]) -> dict[str, str]:
    """Return the environment of a newcomer with an empty home and no keys. What is here goes before serve.env."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], **{name: str(free_port()) for name in PORTS}, **more}


def config_for(root: pathlib.Path, port: int, *, empty: bool) -> dict[str, Any]:
    """Return the shipped config on a free port; or the same Serve with the application that does nothing."""
    config: dict[str, Any] = yaml.safe_load((root / "serve_config.yaml").read_text())
    config["http_options"]["port"] = port
    return {**config, "applications": [EMPTY]} if empty else config


def measured(root: pathlib.Path, more: dict[str, str], *, empty: bool) -> Start:
    """Start it in a folder of its own, ask it once, and stop it."""
    with tempfile.TemporaryDirectory(prefix="breakwater-start-") as folder:
        home, port = pathlib.Path(folder), free_port()
        config = home / "config.yaml"
        config.write_text(yaml.safe_dump(config_for(root, port, empty=empty), sort_keys=False))
        command = ["uv", "run", "--env-file", "serve.env", "serve", "run", str(config)]
        cores = os.sched_getaffinity(0)
        busy, began = busy_of(cores), time.monotonic()
        with running(command, home / "log", environment_for(home, more), root) as process:
            url, log = f"http://127.0.0.1:{port}", home / "log"
            wait_until((lambda: _answers(url)) if empty else (lambda: READY in log.read_text()), process, log)
            request = _ask(url, empty=empty)
            whole, machine = time.monotonic() - began, busy_of(cores) - busy
            spent = sum(Clocks.since_start(process.pid).values())
    return Start(whole, request, spent, machine)


def wait_until(is_ready: Callable[[], bool], process: Any, log: pathlib.Path) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not is_ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, f"no answer in time:\n{log.read_text()}"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
        return True
    return False


def _ask(url: str, *, empty: bool) -> float:
    path = url if empty else f"{url}/v1/chat/completions"
    request = urllib.request.Request(path, None if empty else QUESTION, {"content-type": "application/json"})
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
    return time.monotonic() - began


def _row(name: str, start: Start) -> str:
    return f"{name:12} {start.whole:12.1f} {start.request:12.2f} {start.cpu:8.1f} {start.machine:12.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start")
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--beside", type=pathlib.Path, metavar="FOLDER", help="another checkout of ours, in turns too")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for ours, beside serve.env")
    chosen = parser.parse_args()
    more = dict(each.split("=", 1) for each in chosen.env)
    systems = {"empty app": (ROOT, {}, True), "Breakwater": (ROOT, more, False)}
    if chosen.beside is not None:
        systems["beside"] = (chosen.beside, {}, False)
    print(f"{'seconds':12} {'first answer':>12} {'that request':>12} {'its CPU':>8} {'machine CPU':>12}")
    found: dict[str, list[Start]] = {name: [] for name in systems}
    for _ in range(chosen.rounds):
        for name, (root, env, empty) in systems.items():
            found[name].append(measured(root, env, empty=empty))
            print(_row(name, found[name][-1]), flush=True)
    print("medians")
    for name, starts in found.items():
        print(_row(name, Start(*map(statistics.median, zip(*map(astuple, starts), strict=True)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
