"""The simulated cluster: worlds by hand and some seeds in every run, 200 and six-hour ones with `-m simulation`."""

from dataclasses import replace

import pytest

from tests.model.drawn import drawn
from tests.model.figures import Figures, table
from tests.model.profiles import PROFILES
from tests.model.script import Script
from tests.model.simulation import simulate

HOURS = 3600.0


def nothing_avoidable(script: Script) -> Figures:
    figures = simulate(script)
    found = "\n".join(wrong.line() for wrong in figures.wrongs[:10])
    assert not figures.counts, f"{script.name}: {dict(figures.counts)}\n{found}"
    return figures


@pytest.mark.parametrize("seed", range(1, 4))
def test_nothing_fails_that_could_have_been_answered(seed: int) -> None:
    assert nothing_avoidable(drawn(seed, 60)).requests > 0


@pytest.mark.parametrize("name", PROFILES)
def test_a_world_by_hand_loses_nothing(name: str) -> None:
    assert nothing_avoidable(PROFILES[name]).requests > 0


def test_no_stream_is_lost_while_its_model_thinks() -> None:
    figures = nothing_avoidable(PROFILES["thinking"])
    assert figures.calls > figures.requests + 5  # those that broke off were begun anew
    assert figures.broken_streams == 0


def test_the_same_seed_is_the_same_history() -> None:
    script = drawn(7, 30)
    first, second = simulate(script), simulate(script)
    assert first.digest != 0
    assert first == second


def test_another_seed_is_another_history() -> None:
    script = PROFILES["actor-away"]
    assert simulate(script).digest != simulate(replace(script, seed=99)).digest


def many(scripts: list[Script]) -> None:
    total = Figures()
    for script in scripts:
        total.add(simulate(script))
    print(f"\n{len(scripts)} worlds\n{table({'here': total})}")
    assert not total.counts, "\n".join(wrong.line() for wrong in total.wrongs[:50])


@pytest.mark.simulation
def test_two_hundred_seeds() -> None:
    many([drawn(seed, 300) for seed in range(200)])


@pytest.mark.simulation
def test_twenty_seeds_of_six_hours() -> None:
    many([drawn(seed, 6 * HOURS) for seed in range(1000, 1020)])
