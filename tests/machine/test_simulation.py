"""The simulated cluster: some seeds in every run, 200 with `-m simulation`."""

import pytest

from tests.clock import run_virtually
from tests.machine.simulation import Figures, Simulation


def simulate(seed: int, seconds: float) -> Figures:
    figures = run_virtually(Simulation(seed, seconds).run())
    assert figures.lost == 0, f"seed {seed}: {figures.lost} requests lost although a target was healthy"
    assert figures.most_probes <= 1, f"seed {seed}: {figures.most_probes} probes of one target at once"
    return figures


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_and_one_probe_is_out_at_most(seed: int) -> None:
    figures = simulate(seed, seconds=120)
    assert figures.requests > 1000
    assert figures.provider_faults > 0


def test_the_same_seed_is_the_same_history() -> None:
    assert simulate(7, seconds=30) == simulate(7, seconds=30)


@pytest.mark.simulation
def test_two_hundred_seeds() -> None:
    total = Figures()
    for seed in range(200):
        total.add(simulate(seed, seconds=300))
    print(f"\n200 seeds, {200 * 300} virtual seconds\n{total.table()}")
