"""The table of `-m fuzz`: what was asked, and how it was answered."""

from typing import Any

import pytest

from tests.fuzz.fuzzer import Fuzzed

RUNS: dict[str, Fuzzed] = {}  # by the keys of the application


@pytest.fixture(scope="session")
def runs() -> dict[str, Fuzzed]:
    return RUNS


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, run in RUNS.items():
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(run.by_status.items()))
        slowest = f"the slowest took {run.slowest['seconds']:.2f} s ({run.slowest['call']})"
        terminalreporter.write_line(f"{name}: {sum(run.answers.values())} requests ({counts}); {slowest}")
