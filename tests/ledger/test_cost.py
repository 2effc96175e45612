"""What being in the ledger costs a request in its ingress; `python -m tests.bench.ledger` prints the figures."""

import pathlib

from tests.bench.ledger import measured


def test_a_request_costs_less_than_a_tenth_of_a_millisecond_of_cpu(tmp_path: pathlib.Path) -> None:
    # The best of three: another process on this machine may spoil a run's caches.
    best = min(measured(tmp_path / str(n), requests=1000)["cpu"] for n in range(3))
    assert best < 100
