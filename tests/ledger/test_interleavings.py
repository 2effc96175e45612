"""Any order of batches, duplicates, crashes and burials: every row once, and every sum the truth.

The truth is computed from the program alone; the store is only asked at the end.
"""

import itertools
import pathlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from actors.ledger.questions.usage import usage
from actors.ledger.rows import Record
from actors.ledger.store import LedgerStore
from actors.ledger.tables import ATTEMPTS, MONTHS, REQUESTS
from tests.ledger.rows import NOON, opened, settled

NAMES = itertools.count()


@dataclass(frozen=True)
class Call:
    """One attempt as the world knows it."""

    progress: tuple[int, ...]  # tokens out, each time it was written down
    tokens: int
    cost: int | None


CALLS = st.builds(
    Call,
    st.lists(st.integers(1, 50), max_size=2).map(lambda xs: tuple(itertools.accumulate(xs))),
    st.integers(0, 1000),
    st.none() | st.integers(0, 10**9),
)
REQUESTS_MADE = st.lists(st.lists(CALLS, min_size=1, max_size=3), min_size=1, max_size=4)


def lines(name: str, tenant: str, owner: str, calls: list[Call]) -> Iterator[Record]:
    """What the ingress writes for one request, in its order. All but the last attempt fail."""
    whose = {"tenant": tenant, "owner": owner}
    for number, call in enumerate(calls, 1):
        yield opened(name, number, **whose)
        for version, tokens in enumerate(call.progress, 1):
            yield opened(name, number, version=version, tokens_out=tokens, counted="estimated", cost=1, **whose)
        last = number == len(calls)
        ended = {"kind": "ok" if last else "server_error", "tokens_in": 0, "tokens_out": call.tokens, "cost": call.cost}
        yield settled(name, number, last=last, **ended, **whose)


@dataclass
class Truth:
    requests: int = 0
    attempts: int = 0
    lost: int = 0
    tokens: int = 0
    cost: int = 0
    unknown: int = 0

    def take(self, calls: list[Call], written: int) -> None:
        """The writer died after so many lines of this request."""
        self.requests += written > 0
        for call in calls:
            if written <= 0:
                return
            self.attempts += 1
            whole = 2 + len(call.progress)
            if written >= whole:
                self._end(call.tokens, call.cost)
            else:
                self.lost += 1
                told = call.progress[: written - 1]
                self._end(told[-1] if told else 0, 1 if told else None)
            written -= whole

    def _end(self, tokens: int, cost: int | None) -> None:
        self.tokens += tokens
        self.cost += cost or 0
        self.unknown += cost is None


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerStore]:
    """One store for all examples: each has a tenant and an owner of its own."""
    folder: pathlib.Path = tmp_path_factory.mktemp("interleavings")
    store = LedgerStore(f"sqlite:///{folder / 'usage.sqlite3'}")
    store.start()
    yield store
    store.close()


@settings(max_examples=50, deadline=None)
@given(made=REQUESTS_MADE, data=st.data())
def test_every_row_is_there_once_and_every_sum_is_true(
    shared: LedgerStore, made: list[list[Call]], data: st.DataObject
) -> None:
    play(shared, made, data)


@pytest.mark.simulation
@settings(max_examples=3000, deadline=None)
@given(made=REQUESTS_MADE, data=st.data())
def test_every_row_is_there_once_in_thousands_of_programs(
    shared: LedgerStore, made: list[list[Call]], data: st.DataObject
) -> None:
    play(shared, made, data)


def play(shared: LedgerStore, made: list[list[Call]], data: st.DataObject) -> None:
    tenant = owner = f"t{next(NAMES)}"
    written: list[Record] = []
    truth = Truth()
    for n, calls in enumerate(made):
        of_this = list(lines(f"{tenant}-{n}", tenant, owner, calls))
        count = data.draw(st.integers(0, len(of_this)), label="lines before the kill")
        written += of_this[:count]
        truth.take(calls, count)
    order = data.draw(st.permutations(range(len(written))), label="order of arrival")
    again = data.draw(st.lists(st.sampled_from(range(len(written))), max_size=10) if written else st.just([]))
    arriving = [written[i] for i in (*order, *again)]
    changes: Counter[str] = Counter()

    def count_up(moved: list[tuple[str, object]]) -> None:
        for _, spend in moved:
            for name in ("requests", "tokens", "cost", "unknown"):
                changes[name] += getattr(spend, name)

    while arriving:
        size = data.draw(st.integers(1, len(arriving)), label="batch")
        batch, arriving = arriving[:size], arriving[size:]
        for _ in range(data.draw(st.integers(1, 2), label="times sent")):
            count_up(shared.write(batch))
        if data.draw(st.booleans(), label="buried too early"):
            count_up(shared.settle_as_lost(owner, NOON + 700)[1])
    count_up(shared.settle_as_lost(owner, NOON + 900)[1])

    (found,) = usage(shared, {"tenant": tenant})
    assert (found["requests"], found["attempts"]) == (truth.requests, truth.attempts)
    assert (found["lost"], found["open"]) == (truth.lost, 0)
    assert found["tokens_in"] + found["tokens_out"] == truth.tokens
    assert (found["cost_nanos"] or 0, found["unknown_cost"]) == (truth.cost, truth.unknown)
    expected = {"requests": truth.requests, "tokens": truth.tokens, "cost": truth.cost, "unknown": truth.unknown}
    assert dict(changes) == expected if written else not changes
    with shared.reading() as connection:
        months = connection.execute(select(MONTHS).where(MONTHS.c.subject == f"tenant:{tenant}")).mappings().all()
        assert [{name: row[name] for name in expected} for row in months] == ([expected] if truth.requests else [])
        for table in (REQUESTS, ATTEMPTS):
            assert set(connection.execute(select(table.c.state).where(table.c.owner == owner)).scalars()) <= {
                "settled",
                "lost",
            }
