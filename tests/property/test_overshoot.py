"""However requests come and whatever befalls batches, replicas and clocks: one request a replica goes over a limit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.budget import Limit
from tests.ledger.overshoot import Load, World

LIMITS = st.sampled_from(
    [
        Limit(requests_per_minute=40),
        Limit(tokens_per_minute=30_000),
        Limit(monthly_cost=30_000),
        Limit(requests_per_minute=100, tokens_per_minute=50_000, monthly_cost=100_000),
        Limit(tokens_per_minute=100, monthly_cost=100),  # less than one request may use
    ]
)
LOADS = st.builds(
    Load,
    replicas=st.integers(1, 8),
    limit=LIMITS,
    seconds=st.sampled_from([20.0, 70.0]),
    rate=st.sampled_from([2.0, 20.0, 100.0]),
    longest=st.sampled_from([0.01, 5.0, 60.0]),
    late=st.sampled_from([0.0, 0.2]),
    lost=st.sampled_from([0.0, 0.2]),
    deaths=st.sampled_from([0.0, 6.0]),
    skew=st.sampled_from([0.0, 0.2, 30.0]),
    uneven=st.booleans(),
)


def play(load: Load, seed: int) -> None:
    world = World(load, seed).run()
    assert world.overshoot() <= world.made


@settings(max_examples=40, deadline=None)
@given(load=LOADS, seed=st.integers(0, 10**6))
def test_one_request_of_each_replica_at_most_goes_over_a_limit(load: Load, seed: int) -> None:
    play(load, seed)


@pytest.mark.simulation
@settings(max_examples=2000, deadline=None)
@given(load=LOADS, seed=st.integers(0, 10**6))
def test_one_request_of_each_replica_at_most_goes_over_a_limit_in_thousands_of_runs(load: Load, seed: int) -> None:
    play(load, seed)


@settings(max_examples=10, deadline=None)
@given(replicas=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_what_a_limit_allows_is_used_where_more_is_asked_for(replicas: int, seed: int) -> None:
    load = Load(replicas, Limit(requests_per_minute=100), seconds=60.0, rate=50.0, longest=1.0)
    assert World(load, seed).run().share_used() >= 0.95


def test_a_replica_that_dies_after_a_silence_has_used_its_lease_for_all_that_is_known() -> None:
    load = Load(3, Limit(requests_per_minute=300), late=0.1, lost=0.05, deaths=2.0)
    play(load, 7)
