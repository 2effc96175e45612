"""Run pytest over a copy of the tree, each time in a fork of one process that has imported all that is not ours.

A mutant is never written to a file: the fork imports its one module from memory, so no stale bytecode is run, and
many can run beside each other in one copy. Tests that read our source text see it unchanged.
"""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
COPIED = ("LICENSE", "actors", "deployments", "tests", "pyproject.toml", "serve_config.yaml", "serve.env")
READ = ("README.md", "docs", "mkdocs.yml")  # by tests that compare them with the code
OURS = frozenset({"actors", "deployments", "tests", "conftest", "__main__"})
MEMORY = 8 << 30  # bytes: an endless loop must not take the machine with it
POLL = 0.02


def copied(folder: Path) -> Path:
    """A copy of all that the tests need."""
    for name in (*COPIED, *READ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


@dataclass(frozen=True)
class Task:
    """One run of pytest. `tests` are node ids and how long each takes; none of them: all that is in the files."""

    name: str
    files: tuple[str, ...]
    seconds: float
    tests: dict[str, float] = field(default_factory=dict)
    module: str = ""  # is imported from `source` instead of its file
    source: str = ""
    without: tuple[str, ...] = ()  # what the node ids of tests that are left out begin with
    traced: tuple[str, ...] = ()  # files whose lines are noted, for each test


@dataclass(frozen=True)
class Result:
    """`failed` is the first test that did, or why there is none; "" if none has failed."""

    failed: str
    seconds: float
    timed_out: bool = False
    tests: dict[str, float] = field(default_factory=dict)
    lines: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)


class FromMemory(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds the one module that has been changed."""

    def __init__(self, module: str, source: str, origin: str):
        self._module, self._source, self._origin = module, source, origin

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self._origin)

    def get_source(self, fullname: str) -> str:
        return self._source

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._origin
        exec(compile(self._source, self._origin, "exec"), module.__dict__)


class Chosen:
    """A plugin of pytest: the chosen tests, the quickest first; what each took; the first that failed."""

    def __init__(self, tests: dict[str, float]):
        self._tests = tests
        self.took: dict[str, float] = {}
        self.failed = ""

    def pytest_sessionstart(self) -> None:
        # Once for all mutants: what an example finds needs no shorter one, and the next mutant must see the same.
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", settings(), phases=phases, database=None, derandomize=True)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._tests:
            items[:] = sorted((i for i in items if i.nodeid in self._tests), key=lambda i: self._tests[i.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] = self.took.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} (can't be imported)"


class Lines:
    """A plugin of pytest: which lines of ours each test runs."""

    def __init__(self, files: Iterable[str]):
        self._files = {str(Path(file).resolve()): file for file in files}
        self._left: dict[CodeType, set[int]] = {}
        self.found: dict[str, set[tuple[str, int]]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._left.clear()
        self._now = self.found.setdefault(item.nodeid, set())
        threading.settrace(self._called)
        sys.settrace(self._called)
        yield
        sys.settrace(None)
        threading.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        if code not in self._left:
            self._left[code] = {line for *_, line in code.co_lines() if line is not None}
        return self._ran if self._left[code] else None

    def _ran(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._left[frame.f_code].discard(frame.f_lineno)
        self._now.add((self._files[frame.f_code.co_filename], frame.f_lineno))
        return self._ran


def _child(folder: Path, task: Task, out: Path) -> None:
    """In the fork: run pytest, leave the result in a file."""
    os.chdir(folder)
    sys.dont_write_bytecode = False
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.path[:] = [str(folder), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
    for name in [n for n in sys.modules if n.partition(".")[0] in OURS - {"__main__"}]:
        del sys.modules[name]
    if task.module:
        origin = folder / f"{task.module.replace('.', '/')}.py"
        sys.meta_path.insert(0, FromMemory(task.module, task.source, str(origin)))
    chosen, lines = Chosen(task.tests), Lines(task.traced)
    plugins = [chosen, lines] if task.traced else [chosen]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain"]  # rewriting takes longer than most tests
    options += [f"--deselect={test}" for test in task.without]
    code = pytest.main([*options, *task.files], plugins=plugins)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        chosen.failed = chosen.failed or f"pytest ended with {code}"
    found = {test: sorted(seen) for test, seen in lines.found.items()}
    modules = [n for n, m in sys.modules.items() if getattr(m, "__spec__", None) is not None]
    out.write_text(json.dumps([chosen.failed, chosen.took, found, modules]))


@dataclass
class Fork:
    task: Task
    out: Path
    began: float = field(default_factory=time.monotonic)
    pid: int = 0

    def begin(self, folder: Path) -> "Fork":
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            with contextlib.suppress(OSError):
                os.setpgid(self.pid, self.pid)
            return self
        try:
            os.setpgid(0, 0)
            log = os.open(self.out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _child(folder, self.task, self.out)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)

    def result(self) -> Result | None:
        """None while it runs."""
        seconds = time.monotonic() - self.began
        if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if seconds < self.task.seconds:
                return None
            self.kill()
            return Result("its time is over", seconds, timed_out=True)
        try:
            failed, took, lines, modules = json.loads(self.out.read_text())
        except (OSError, ValueError):
            return Result(f"it died: {self.out.with_suffix('.log').read_text()[-2000:]}", seconds)
        lines = {test: [(file, line) for file, line in seen] for test, seen in lines.items()}
        return Result(failed, seconds, tests=took, lines=lines, modules=modules)

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def results(folder: Path, tasks: Iterable[Task], jobs: int, done: Callable[[Task, Result], None]) -> None:
    """Run them, so many at once, and tell of each when it has ended."""
    waiting, running = iter(tasks), list[Fork]()
    number = 0
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)) is not None:
                number += 1
                running.append(Fork(task, folder / f"result{number}.json").begin(folder))
            if not running:
                return
            time.sleep(POLL)
            for fork in list(running):
                if (result := fork.result()) is not None:
                    running.remove(fork)
                    done(fork.task, result)
    finally:
        for fork in running:
            fork.kill()


def preload(modules: Iterable[str]) -> None:
    """Import what the tests have imported, but for what is ours."""
    for name in modules:
        if name.partition(".")[0] not in OURS:
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    gc.freeze()
