"""The first hour of three people, from a fresh clone with an empty home folder, by what the docs say and nothing else.

    uv run python -m tests.first_hour [developer] [team] [operator]

Each command is taken from its page. Prints the seconds of each and what it said, and ends at the first that fails. The
developer needs port 8000 of this machine; the others have a machine of their own, by Linux's namespaces.
"""

import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

from tests.clients.environments import environment
from tests.cluster.machine import Machine, new_machine
from tests.observability.installed import PAGE as MONITORING
from tests.observability.installed import PROGRAMS, installed
from tests.readme import ROOT, blocks, commands

PAGE = "docs/operations.md"
FIRST_LINE = ". deployments/ops/cluster.sh"
LONGEST = 3  # lines that are shown of what a step says
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode() or None, {"content-type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
HANDLE = """
import asyncio, ray
from ray import serve

async def main():
    print(await serve.get_app_handle("agents").answer.remote("What is the capital of France?"))

ray.init(address="auto", log_to_driver=False)
asyncio.run(main())
"""
# What a machine's Prometheus finds: how many targets are up, and how many rules are well. It ends when all are.
FOUND = """
import json, time, urllib.request

def ask(what):
    return json.load(urllib.request.urlopen("http://127.0.0.1:9090/api/v1/" + what, timeout=5))["data"]

deadline, said = time.monotonic() + 90, "Prometheus does not answer"
while time.monotonic() < deadline:
    time.sleep(0.5)
    try:
        health = [each["health"] for each in ask("targets?state=active")["activeTargets"]]
        rules = [rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]]
    except OSError:
        continue
    said = f"{health.count('up')} of {len(health)} targets are up, {rules.count('ok')} of {len(rules)} rules are ok"
    if health and {*health} == {"up"} and rules and {*rules} == {"ok"}:
        break
print(said)
"""
QUESTION = '{"model": "default", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'


def step(what: str, work: Callable[[], str], wanted: str = "") -> None:
    """Do a step, and show its seconds and the end of what it said. Raises AssertionError without what is wanted."""
    began = time.monotonic()
    said = work()
    print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)
    for line in [line for line in said.splitlines() if line.strip()][-LONGEST:]:
        print(f"            {line[:150]}", flush=True)
    assert wanted in said, said


def be_a_developer(clone: pathlib.Path, home: pathlib.Path) -> None:
    """Follow the README on a laptop: see tests/first_run.py."""
    env = {**os.environ, "HOME": str(home), "UV_CACHE_DIR": _cache()}
    command = [sys.executable, "-m", "tests.first_run"]
    with subprocess.Popen(command, cwd=clone, env=env, stdout=subprocess.PIPE, text=True) as run:
        began = time.monotonic()
        assert run.stdout is not None
        for line in run.stdout:
            print(f"{time.monotonic() - began:6.1f} s  {line[:150].rstrip()}", flush=True)
    assert run.returncode == 0


@contextlib.contextmanager
def served(clone: pathlib.Path, home: pathlib.Path) -> Iterator[Callable[[str], str]]:
    """Follow `On a cluster` on a machine of its own. Return what runs a line in a shell there, with its first line."""
    started, stopped = blocks("bash", PAGE)[1:3]
    assert started.startswith(FIRST_LINE), started
    with new_machine() as machine:

        def shell(line: str) -> str:
            path = f"PATH=$PATH:{pathlib.Path(shutil.which('uv') or 'uv').parent}"
            return machine.shell(f"{FIRST_LINE}\n{path}\n{line}", home, clone)

        for line in started.splitlines()[1:]:
            step(line, lambda line=line: shell(line))  # type: ignore[misc]
        step("wait until it answers", lambda: _until_ready(shell))
        yield shell
        step(stopped.strip(), lambda: shell(stopped))
        assert not _left(machine), machine.processes()


def be_a_team(clone: pathlib.Path, home: pathlib.Path) -> None:
    """Serve on a cluster, and call it from a program and an app of agents with an environment of their own."""
    folder = home / "agents"
    folder.mkdir()
    python = environment(home / "environment", f"ray[serve]=={version('ray')}")
    shutil.copy(clone / "deployments" / "client.py", folder / "breakwater.py")
    (folder / "first.py").write_text(blocks("python", "README.md")[0])
    app = next(block for block in blocks("python", "docs/python-api.md") if "Coordinator" in block)
    (folder / "app.py").write_text(app)
    (folder / "call.py").write_text(HANDLE)
    (home / "ask.py").write_text(ASK)
    with served(clone, home) as shell:
        step("the README's program", lambda: shell(f"cd {folder} && {python} first.py"), "Paris")
        step("the app of agents", lambda: shell(f"cd {folder} && {python} app.py"))
        question = '{"question": "What is the capital of France?"}'
        ask = f"python {home}/ask.py http://127.0.0.1:8000/agents '{question}'"
        step("POST /agents", lambda: shell(ask), "Paris")
        step("the same by handle", lambda: shell(f"cd {folder} && {python} call.py"), "Paris")


def be_an_operator(clone: pathlib.Path, home: pathlib.Path) -> None:
    """Serve on a cluster; then do what the page says: check, keys, export, back-up, restore, clean; then Prometheus."""
    (home / "ask.py").write_text(ASK)
    ours = [line for line in commands(PAGE) if line.startswith("uv run python -m deployments")]
    assert len(ours) > 5, ours
    with served(clone, home) as shell:
        step(
            "a first answer",
            lambda: shell(f"python {home}/ask.py http://127.0.0.1:8000/v1/chat/completions '{QUESTION}'"),
            "Paris",
        )
        time.sleep(2)  # until its row is in the ledger
        for line in ours:
            if "parquet" not in line:  # needs `uv sync --extra parquet`
                step(line, lambda line=line: shell(line))  # type: ignore[misc]
        assert "default" in (clone / "requests.csv").read_text()
        watch(shell, home)


def watch(shell: Callable[[str], str], home: pathlib.Path) -> None:
    """Put Prometheus in place as its page says, and start it as its service. Say so where that can't be done."""
    if (missing := [name for name in PROGRAMS if shutil.which(name) is None]) or os.geteuid() != 0:
        why = f"{missing[0]} is not installed (apt-get install prometheus)" if missing else "only root can do them"
        print(f"            The steps of {MONITORING} are left out: {why}.", flush=True)
        return
    service = installed(home / "prometheus", pathlib.Path("/tmp/ray"), drop_in=True)
    (home / "found.py").write_text(FOUND)
    check = shlex.join(service.command("promtool", "check", "config", "/etc/prometheus/prometheus.yml"))
    step("promtool check config /etc/prometheus/prometheus.yml", lambda: shell(check), "SUCCESS: 14 rules found")
    start = f"{shlex.join(service.command(service.start))} >{home}/prometheus.log 2>&1 & echo $!"
    number = shell(start).strip()
    step("Prometheus, as its service", lambda: shell(f"python {home}/found.py"), ", 14 of 14 rules are ok")
    shell(f"kill {number}; while kill -0 {number} 2>/dev/null; do sleep 0.1; done")


def _until_ready(shell: Callable[[str], str]) -> str:
    ask = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"
    return shell(f'until python -c "{ask}" 2>/dev/null; do sleep 0.5; done; echo ready')


def _left(machine: Machine) -> list[str]:
    deadline = time.monotonic() + 60
    while (left := machine.processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _cache() -> str:
    """Return uv's cache of this user: what is downloaded is no part of an hour."""
    return subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


PEOPLE = {"developer": be_a_developer, "team": be_a_team, "operator": be_an_operator}


def main(chosen: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="breakwater-hour-") as folder:
        for name in chosen or PEOPLE:
            clone, home = pathlib.Path(folder) / name / "breakwater", pathlib.Path(folder) / name / "home"
            home.mkdir(parents=True)
            print(f"\nThe {name}", flush=True)
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
            step("uv sync", lambda clone=clone: _synced(clone))  # type: ignore[misc]
            PEOPLE[name](clone, home)
    return 0


def _synced(clone: pathlib.Path) -> str:
    return subprocess.run(["uv", "sync", "-q"], cwd=clone, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
