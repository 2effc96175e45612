"""The demo from end to end: a Breakwater of its own, played once with short phases."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from tests.cluster.conftest import eventually
from tests.cluster.machine import Machine, new_machine
from tests.demo.script import SCRIPT
from tests.starting import ROOT, serve_env

pytestmark = pytest.mark.machine
RESULT = re.compile(r"^ ?\d+:\d\d (.+?) \.+ (\d+) requests?: (\d+) answered(.*); 0 errors$", re.MULTILINE)


def demo(machine: Machine, *options: str) -> "subprocess.Popen[str]":
    command = machine.command(sys.executable, "-m", "tests.demo", "--no-browser", *options)
    env = {**os.environ, **serve_env()}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def folders() -> set[pathlib.Path]:
    return set(pathlib.Path("/tmp").glob("bw-demo-*"))


def test_every_outage_leaves_every_client_with_an_answer_or_a_typed_end() -> None:
    before = folders()
    with new_machine() as machine:
        said, _ = demo(machine, "--once", "--speed", "2").communicate(timeout=400)
        print(said)
        assert machine.processes() == []
    results = RESULT.findall(said)
    assert [name for name, *_ in results] == [phase.name for phase in SCRIPT], said
    for name, requests, answered, rest in results:
        typed = sum(map(int, re.findall(r"(\d+) (?:ended with a typed error|refused by a budget)", rest)))
        assert int(requests) > 0, name
        assert int(answered) + typed == int(requests), name
    by_name = {name: rest for name, _, _, rest in results}
    for phase in SCRIPT:
        if phase.broken:
            assert "by another provider" in by_name[phase.name], said
    assert "by the local model" in by_name["all clouds are out"], said
    assert folders() == before


def test_ctrl_c_ends_it_within_seconds_and_leaves_nothing() -> None:
    before = folders()
    with new_machine() as machine:
        process = demo(machine)
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("all providers answer" in line for line in lines)
        [started] = _children(process.pid)  # of the program that has put it into the machine
        os.kill(started, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0, rest
        eventually(lambda: machine.processes() == [], 10)
    assert folders() == before


def _children(pid: int) -> list[int]:
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
