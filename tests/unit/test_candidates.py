"""Whose turn it is in a row, decided when the turn comes. By itself over a sight that moves, then through a world."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.circuit import Mode, State
from actors.breaker.plan import UNKNOWN_CIRCUIT, CircuitSnapshot, Plan, Skipped, plan, skip
from deployments.breaker_client.client import BreakerClient
from deployments.breaker_client.response_times import ResponseTimes
from deployments.failover.candidates import PROBE_SECONDS, SOON_SECONDS, Candidates, Turn
from deployments.failover.tried import Tried
from deployments.overload.loads import Loads
from deployments.routing.model_rows import ModelRows
from deployments.telemetry.request_record import RequestRecord
from tests.unit.tiers import CONNECT, E500, REST_SECONDS, ask, in_tiers, opened, state
from tests.unit.world import World

NOW = 100.0
ROW = ["a/m", "b/m", "c/m"]
WELL = replace(UNKNOWN_CIRCUIT, since=0.0)
OUT = CircuitSnapshot(State.OPEN, Mode.AUTO, 1, NOW + 50.0, "failures", panicky=True, since=0.0)
WAITS = replace(OUT, reason="throttled", panicky=False)
DUE = replace(OUT, open_until=NOW - 1.0)
PROBED = replace(OUT, state=State.HALF_OPEN, probing_until=NOW + 30.0)
ISOLATED = replace(WELL, mode=Mode.ISOLATED, isolated_until=NOW + 3600.0)


class Sight:
    """As much of a link as a walk needs: the sight, which may be changed while a request is under way."""

    def __init__(self, **seen: CircuitSnapshot):
        self.seen = {f"{name}/m": s for name, s in seen.items()}
        self.times = ResponseTimes()
        self.loads = Loads()
        self.slow: set[str] = set()

    def plan(self, row: Sequence[str], *, draw: float | None = None) -> Plan:
        assert draw == 0.25, "one request, one draw"
        return plan(row, self.seen, NOW, draw=draw)

    def draw(self) -> float:
        return 0.25

    def try_slow(self, target: str) -> bool:
        raise AssertionError("the draw says no")

    @property
    def may_be_slow(self) -> bool:
        return bool(self.slow)

    def is_slow(self, target: str) -> bool:
        return target in self.slow

    def skipped(self, target: str, why: str, retry_in: float | None = None) -> Skipped:
        return skip(target, self.seen[target], NOW, why, retry_in)


def walk_on(sight: Sight, **windows: int) -> Candidates:
    rows = ModelRows({"default": ROW}, dict.fromkeys("abc", "openai"))
    rows.windows = {f"{name}/m": window for name, window in windows.items()}
    return Candidates(cast(BreakerClient, sight), rows, list(sight.seen), Tried(RequestRecord(clock=lambda: NOW)))


def turns(walk: Candidates) -> list[tuple[str, int]]:
    """Whose turn it is one after the other, and how many tiers share the time then, if all fail."""
    found = []
    while (turn := walk.next()) is not None:
        walk.ask(turn)
        found.append((turn.candidate.target, turn.tiers))
    return found


def told(walk: Candidates) -> list[str]:
    return [f"{step.target}: {step.outcome.removeprefix('skipped: ')}" for step in walk.tried.record.records]


@pytest.mark.parametrize(
    ("a", "b", "c", "expected", "skipped"),
    [
        (WELL, WELL, WELL, [("a/m", 3), ("b/m", 2), ("c/m", 1)], []),
        (OUT, WELL, WELL, [("b/m", 2), ("c/m", 1), ("a/m", 1)], ["a/m: open"]),
        (WELL, DUE, WELL, [("a/m", 3), ("b/m", 2), ("c/m", 1)], []),
        (WELL, ISOLATED, WAITS, [("a/m", 1)], ["b/m: isolated", "c/m: throttled"]),
        (PROBED, WELL, OUT, [("b/m", 1), ("c/m", 1)], ["a/m: probing", "c/m: open"]),
        (OUT, replace(OUT, open_until=NOW + 5.0), WAITS, [("b/m", 1), ("a/m", 1)], ["c/m: throttled"]),
        (ISOLATED, ISOLATED, WAITS, [], ["a/m: isolated", "b/m: isolated", "c/m: throttled"]),
    ],
    ids=["all well", "one out", "one due", "one left", "one probed", "panic", "nobody"],
)
def test_whoever_may_be_asked_comes_in_order_and_those_that_merely_failed_come_last(
    a: CircuitSnapshot, b: CircuitSnapshot, c: CircuitSnapshot, expected: list[tuple[str, int]], skipped: list[str]
) -> None:
    walk = walk_on(Sight(a=a, b=b, c=c))
    assert turns(walk) == expected
    assert told(walk) == skipped, "each once, and whoever is woken in a panic is not said to be left out"


def test_a_circuit_that_opens_meanwhile_is_gone_round_and_one_that_closes_is_taken() -> None:
    sight = Sight(a=WELL, b=WELL, c=OUT)
    walk = walk_on(sight)
    turn = walk.next()
    assert turn == Turn(plan(ROW, sight.seen, NOW).candidates[0], 2)
    walk.ask(turn)
    sight.seen |= {"b/m": OUT, "c/m": WELL}
    assert turns(walk) == [("c/m", 1), ("b/m", 1)]


def test_whoever_was_asked_once_is_never_asked_again() -> None:
    sight = Sight(a=WELL, b=WELL, c=WELL)
    walk = walk_on(sight)
    assert len(turns(walk)) == 3
    walk.again()
    sight.seen |= {"a/m": DUE, "b/m": OUT}
    assert (walk.next(), walk.left) == (None, [])


def test_whoever_has_no_permit_is_gone_round_until_something_new_is_known() -> None:
    walk = walk_on(Sight(a=DUE, b=WELL, c=DUE))
    turn = walk.next()
    assert turn is not None
    walk.refuse(turn)
    assert [c.target for c in walk.candidates()] == ["b/m", "c/m"]
    following = walk.next()
    assert following is not None
    assert (following.candidate.target, following.tiers) == ("b/m", 2)
    walk.again()
    assert turns(walk) == [("a/m", 3), ("b/m", 2), ("c/m", 1)]
    walk.refuse(turn)
    assert told(walk) == ["a/m: probing"]


def test_whoever_refuses_a_panic_is_told_as_open() -> None:
    walk = walk_on(Sight(a=OUT))
    turn = walk.next()
    assert turn is not None
    walk.refuse(turn)
    assert (walk.next(), told(walk)) == (None, ["a/m: open"])


def test_a_prompt_that_was_too_long_goes_to_larger_windows_alone() -> None:
    walk = walk_on(Sight(a=WELL, b=WELL, c=WELL), a=8_000, b=4_000)
    turn = walk.next()
    assert turn is not None
    walk.ask(turn)
    walk.least = 8_000
    assert turns(walk) == []
    assert told(walk) == ["b/m: no larger context window", "c/m: no larger context window"]


def test_the_time_to_wait_is_that_of_the_first_who_may_be_asked_again() -> None:
    assert walk_on(Sight(a=OUT, b=replace(WAITS, open_until=NOW + 5.0), c=ISOLATED)).retry_in == 5.0
    assert walk_on(Sight(a=WELL, b=DUE)).retry_in is None


def test_a_request_hopes_for_a_while_and_keeps_half_of_its_time() -> None:
    walk = walk_on(Sight(a=PROBED))
    assert walk.hope(NOW, NOW + 60) == (SOON_SECONDS, PROBE_SECONDS)
    assert walk.hope(NOW + 1, NOW + 60) == (SOON_SECONDS - 1, PROBE_SECONDS - 1)
    assert walk.hope(NOW + PROBE_SECONDS, NOW + 60)[1] == 0
    short = walk_on(Sight(a=PROBED))
    assert short.hope(NOW, NOW + 3) == (1.5, 1.5)
    assert short.hope(NOW + 1.5, NOW + 3) == (0, 0)


def test_it_keeps_less_where_answers_are_known_to_take_less() -> None:
    sight = Sight(a=PROBED)
    sight.times.note("a/m", "whole", 0.4)
    assert walk_on(sight).hope(NOW, NOW + 3) == (pytest.approx(2.4), pytest.approx(2.4))
    sight.times.note("a/m", "whole", 2.0)
    assert walk_on(sight).hope(NOW, NOW + 3) == (1.5, 1.5)


@given(
    st.lists(st.sampled_from([WELL, OUT, WAITS, DUE, PROBED, ISOLATED]), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.sampled_from(["ask", "refuse", "again"]), st.sampled_from(ROW), st.sampled_from([WELL, OUT, DUE])),
        max_size=15,
    ),
)
def test_whatever_moves_meanwhile_each_is_asked_once_at_most_and_every_walk_ends(
    row: list[CircuitSnapshot], steps: list[tuple[str, str, CircuitSnapshot]]
) -> None:
    sight = Sight(**dict(zip("abc", row, strict=True)))
    walk, asked = walk_on(sight), []
    for what, target, seen in steps:
        if what == "again":
            walk.again()
        elif (turn := walk.next()) is not None:
            assert turn.candidate.target not in asked
            assert 1 <= turn.tiers <= len(walk.left)
            if what == "ask":
                walk.ask(turn)
                asked.append(turn.candidate.target)
            else:
                walk.refuse(turn)
                assert turn.candidate.target not in {c.target for c in walk.candidates()}
        sight.seen[target] = seen
    asked += [target for target, _ in turns(walk)]
    assert len(asked) == len(set(asked))
    assert len(told(walk)) == len({step.target for step in walk.tried.record.records})


# A second tier that is due.


@in_tiers()
async def test_a_second_tier_that_an_operator_has_recovered_answers_too(w: World) -> None:
    await w.breaker.call("command", "recover", "openai")
    await w.settle()
    assert state(w, "openai/gpt") == "half_open"
    w.provider("aws").ends = [E500]
    ended = await ask(w)
    assert (ended.by, ended.steps) == ("openai/gpt", ["aws: server_error", "openai: ok"])
    await w.settle()
    assert state(w, "openai/gpt") == "closed"


@in_tiers()
async def test_where_two_are_open_the_one_that_is_well_again_is_found_by_the_first_request(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [CONNECT]
    for _ in range(3):
        await ask(w)
    await w.settle()
    await asyncio.sleep(1)
    w.provider("openai").ends = [None]
    first, *others = [await ask(w) for _ in range(3)]
    assert (first.by, first.steps) == ("openai/gpt", ["aws: connect", "openai: ok"])
    assert [other.by for other in others] == ["openai/gpt"] * 2


@in_tiers()
async def test_a_tier_that_opens_while_the_first_is_silent_is_not_asked(w: World) -> None:
    w.provider("aws").seconds, w.provider("aws").ends = 10.0, [E500]
    request: Any = asyncio.create_task(ask(w))
    await asyncio.sleep(1)
    w.provider("openai").ends = [CONNECT]
    for _ in range(3):
        await ask(w, "solo")
    await w.settle()
    calls = w.provider("openai").calls
    w.provider("openai").ends = [None]
    w.actor.board.command(w.actor.now, "isolate", "openai", 600.0)
    w.actor.changed.set()
    w.actor.changed = asyncio.Event()
    ended = await request
    assert (ended.by, ended.steps) == (503, ["aws: server_error", "openai: skipped: isolated"])
    assert w.provider("openai").calls == calls


@in_tiers()
async def test_a_tier_that_closes_while_the_first_is_silent_is_asked(w: World) -> None:
    await opened(w, "openai", "solo")
    w.provider("aws").seconds, w.provider("aws").ends = 15.0, [E500]
    request = asyncio.create_task(ask(w))
    await asyncio.sleep(REST_SECONDS - 70)
    await w.breaker.call("command", "reset", "openai")
    assert (await request).by == "openai/gpt"
    assert w.actor.asks == 0
