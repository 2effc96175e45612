"""The board's stateful test in seconds, for the generated mutants; pytest collects it only if it is named."""

from types import SimpleNamespace

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from actors.breaker import circuit as breaker
from actors.breaker import plan
from actors.breaker import registry as board
from tests.model.test_machine import WHOLE
from tests.model.world import machine

PROGRAMS = 150


def test_a_few_programs_hold_every_invariant() -> None:
    run_state_machine_as_test(
        machine(SimpleNamespace(board=board, plan=plan, breaker=breaker)),
        settings=settings(
            max_examples=PROGRAMS,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=WHOLE,
        ),
    )
