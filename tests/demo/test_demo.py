"""The demo from end to end: a Breakwater of its own, played once with short phases."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from tests.cluster.machine import Machine, new_machine
from tests.demo.script import SCRIPT
from tests.starting import ROOT, serve_env

pytestmark = pytest.mark.machine
RESULT = re.compile(r"^ ?\d+:\d\d (.+?) \.+ (\d+) requests?: (\d+) answered(.*); 0 errors$", re.MULTILINE)


@contextlib.contextmanager
def demo(machine: Machine, *options: str) -> Iterator["subprocess.Popen[str]"]:
    command = machine.command(sys.executable, "-m", "tests.demo", "--no-browser", *options)
    env, out = {**os.environ, **serve_env()}, subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # it has ended, unless the test has failed


def folders() -> set[pathlib.Path]:
    return set(pathlib.Path("/tmp").glob("bw-demo-*"))


def test_every_outage_leaves_every_client_with_an_answer_or_a_typed_end() -> None:
    before = folders()
    with new_machine() as machine, demo(machine, "--once", "--speed", "2") as process:
        said, _ = process.communicate(timeout=400)
        print(said)
        assert process.returncode == 0
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
    with new_machine() as machine, demo(machine) as process:
        assert process.stdout is not None
        assert any("all providers answer" in line for line in _said(process.stdout))
        [started] = _children(process.pid)  # of the program that has put it into the machine
        os.kill(started, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0, rest
        assert machine.processes() == []
    assert folders() == before


def _said(stdout: IO[str]) -> Iterator[str]:
    """What was printed up to now, each time that more is: a phase's line stays open as long as the phase lasts."""
    said = ""
    while sign := stdout.read(1):
        said += sign
        yield said


def _children(pid: int) -> list[int]:
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
