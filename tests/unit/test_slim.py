"""Which of Ray's own processes `serve run` starts, and that Ray still has what is left out."""

import inspect
import pathlib
import re
from typing import Any

import pytest
import ray
from ray._private import node, ray_constants, services, utils

from deployments.ops.serve_run import slim
from tests.starting import ROOT, serve_env

SMALL = pathlib.Path(ROOT) / "deployments/ops/small.env"


@pytest.mark.parametrize(
    ("said", "word"), [({}, "all"), ({"": ""}, "all"), ({slim.VARIABLE: "few"}, "few"), ({slim.VARIABLE: "none"}, None)]
)
def test_the_variable_has_three_words(said: dict[str, str], word: str | None) -> None:
    assert slim.choice(said) == word


def test_the_shipped_environments_say_one_of_them() -> None:
    small = dict(line.split("=", 1) for line in SMALL.read_text().splitlines() if line and not line.startswith("#"))
    assert (serve_env()[slim.VARIABLE], small[slim.VARIABLE]) == (slim.SERVE, slim.FEW)


def test_the_modules_are_rays_own_without_two() -> None:
    """A name that Ray does not know would keep its dashboard from starting."""
    files = (pathlib.Path(ray.__path__[0]) / "dashboard/modules").glob("*/*_head.py")
    of_a_kind = re.compile(r"^class (\w+)\([^)]*(?:SubprocessModule|DashboardHeadModule)", re.MULTILINE)
    known = {name for file in files for name in of_a_kind.findall(file.read_text())}
    assert known - set(slim.MODULES) == {"DataHead", "TrainHead"}
    assert set(slim.MODULES) <= known


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that Ray would have started."""
    found: list[list[str]] = []

    def start(command: list[str], process_type: str, *_: Any, **__: Any) -> None:
        found.append(command)

    monkeypatch.setattr(services, "start_ray_process", start)
    return found


def test_of_the_dashboard_alone_some_modules_are_loaded(started: list[list[str]]) -> None:
    slim.apply(slim.SERVE)
    services.start_ray_process(["dashboard.py"], ray_constants.PROCESS_TYPE_DASHBOARD)
    services.start_ray_process(["dashboard.py", "--modules-to-load=A"], ray_constants.PROCESS_TYPE_DASHBOARD)
    services.start_ray_process(["raylet"], ray_constants.PROCESS_TYPE_RAYLET)
    assert started == [
        ["dashboard.py", f"--modules-to-load={','.join(slim.MODULES)}"],
        ["dashboard.py", "--modules-to-load=A"],
        ["raylet"],
    ]


def test_with_all_nothing_is_changed(started: list[list[str]]) -> None:
    slim.apply(slim.ALL)
    services.start_ray_process(["dashboard.py"], ray_constants.PROCESS_TYPE_DASHBOARD)
    assert started == [["dashboard.py"]]


def test_with_few_ray_takes_itself_for_one_without_a_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("start_monitor", "start_log_monitor"):
        monkeypatch.setattr(node.Node, name, getattr(node.Node, name))
    monkeypatch.setattr(utils, "get_dashboard_dependency_error", utils.get_dashboard_dependency_error)
    slim.apply(slim.FEW)
    assert isinstance(utils.get_dashboard_dependency_error(), ImportError)
    nobody: Any = None
    assert node.Node.start_monitor(nobody) is None
    assert node.Node.start_log_monitor(nobody) is None


def test_ray_asks_where_we_answer() -> None:
    """What is replaced is still what Ray calls."""
    source = inspect.getsource(services)
    assert "ray._private.utils.get_dashboard_dependency_error()" in source
    assert 'dashboard_agent_command.append("--minimal")' in source
    assert "process_info = start_ray_process(" in inspect.getsource(services.start_api_server)
    assert "self.start_monitor()" in inspect.getsource(node.Node)
    assert "self.start_log_monitor()" in inspect.getsource(node.Node)
