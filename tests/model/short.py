"""The registry's stateful test in seconds, for the generated mutants; pytest collects it only if it is named."""

from hypothesis import Phase

from tests.model.test_machine import run

PROGRAMS = 150


def test_a_few_programs_hold_every_invariant() -> None:
    run(PROGRAMS, derandomize=True, phases=[Phase.generate])
