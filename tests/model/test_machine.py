"""The board's stateful test: 250 programs in every run, 20,000 with `-m simulation`."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from actors.breaker import circuit as breaker
from actors.breaker import plan
from actors.breaker import registry as board
from tests.model.world import machine

WHOLE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(programs: int, *, derandomize: bool, phases: Sequence[Phase] = (Phase.generate, Phase.shrink)) -> None:
    run_state_machine_as_test(
        machine(SimpleNamespace(board=board, plan=plan, breaker=breaker)),
        settings=settings(
            max_examples=programs,
            stateful_step_count=60,
            deadline=None,
            derandomize=derandomize,
            database=None,
            phases=phases,
            suppress_health_check=WHOLE,
        ),
    )


def test_two_hundred_and_fifty_programs_hold_every_invariant() -> None:
    run(250, derandomize=True)


@pytest.mark.simulation
def test_twenty_thousand_programs_hold_every_invariant() -> None:
    run(20_000, derandomize=False)
