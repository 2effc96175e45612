"""Whose fault a failure was, found by comparing what the tiers of one request did, and what comes of it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.circuit import State
from actors.breaker.outcomes import ENDINGS, Outcome, Verdict
from deployments.failover.attempts.comparison import LEAST_UNKNOWN, Comparison
from deployments.openai_api.chat import check_request
from deployments.usage.caller import Caller
from tests.unit.test_circuit import Circuit
from tests.unit.tiers import E500, Ended, ask, in_tiers, row_of
from tests.unit.tiers import state as state_of
from tests.unit.world import REQUEST, World

FAILED, NEUTRAL, REFUSED = Verdict.FAILED_START, Verdict.NEUTRAL, Verdict.REFUSED
TABLE = None  # what the table of outcomes says

Held = tuple[str, float, float | None]  # kind, seconds, what it usually takes


def verdicts(held: list[Held], answered_after: float | None = None, *, refused: bool = False) -> list[Verdict | None]:
    comparison = Comparison()
    found: list[Verdict | None] = []
    for kind, seconds, usual in held:
        comparison.hold(Outcome(kind), seconds, usual, found.append)
    assert not found, "nothing is judged before the request is over"
    comparison.settle(answered_after, refused=refused)
    comparison.settle(answered_after)
    assert len(found) == len(held), "each is judged once"
    return found


@pytest.mark.parametrize(
    ("kinds", "answered", "expected"),
    [
        # Somebody answered: whoever failed before did fail.
        (["server_error"], 1.0, [TABLE]),
        (["server_error", "server_error"], 1.0, [TABLE, TABLE]),
        (["first_token", "timeout"], 1.0, [TABLE, TABLE]),
        # Nobody did, and they did not fail alike: no word against the request.
        (["server_error"], None, [TABLE]),
        (["first_token"], None, [TABLE]),
        (["server_error", "first_token"], None, [TABLE, TABLE]),
        # Nobody did, and two failed in the same way. Whoever said something is there.
        (["server_error", "server_error"], None, [REFUSED, REFUSED]),
        (["empty", "malformed", "broken", "unclassified"], None, [REFUSED] * 4),
        (["first_token", "timeout", "idle", "unreachable"], None, [NEUTRAL] * 4),
        (["server_error", "first_token", "empty"], None, [REFUSED, TABLE, REFUSED]),
        (["deadline", "first_token"], None, [NEUTRAL, NEUTRAL]),
    ],
)
def test_failures_are_judged_by_what_the_others_did(
    kinds: list[str], answered: float | None, expected: list[Verdict | None]
) -> None:
    assert verdicts([(kind, 5.0, None) for kind in kinds], answered) == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("server_error", REFUSED), ("empty", REFUSED), ("first_token", TABLE), ("deadline", NEUTRAL)]
)
def test_where_another_tier_calls_the_request_wrong_one_that_only_broke_is_not_charged(
    kind: str, expected: Verdict | None
) -> None:
    assert verdicts([(kind, 5.0, None)], refused=True) == [expected]


@pytest.mark.parametrize(
    ("seconds", "usual", "answered", "expected"),
    [
        # Half as long again as its slowest recent answers take, and it had not answered.
        (10.0, 6.6, None, FAILED),
        (15.0, 10.0, None, FAILED),
        (14.9, 10.0, None, NEUTRAL),
        (10.0, 10.1, None, NEUTRAL),
        (10.0, 6.6, 30.0, FAILED),
        (0.05, 0.04, None, NEUTRAL),  # a client in a hurry
        (0.7, 0.4, None, FAILED),
        # Nothing is known of it: another tier has answered in less, and it had a while.
        (10.0, None, 9.9, FAILED),
        (10.0, None, 10.1, NEUTRAL),
        (10.0, None, None, NEUTRAL),
        (LEAST_UNKNOWN, None, 0.1, FAILED),
        (LEAST_UNKNOWN - 0.1, None, 0.1, NEUTRAL),
        # Its own time is the better measure.
        (10.0, 20.0, 1.0, NEUTRAL),
    ],
)
def test_a_call_that_a_deadline_has_cut_failed_if_it_had_been_given_its_time(
    seconds: float, usual: float | None, answered: float | None, expected: Verdict
) -> None:
    assert verdicts([("deadline", seconds, usual)], answered) == [expected]


@pytest.mark.parametrize("kind", ENDINGS)
def test_what_cannot_be_the_requests_fault_and_what_broke_in_mid_stream_never_waits(kind: str) -> None:
    may = kind == "deadline" or bool(ENDINGS[kind].alike)
    assert Comparison.takes(Outcome(kind)) is may
    assert not Comparison.takes(Outcome(kind, content=True))
    if may and kind != "deadline":
        assert ENDINGS[kind].before in (FAILED, Verdict.FAILED_STREAM), "it would be charged otherwise"


@pytest.mark.parametrize(
    "kind", ["connect", "throttled", "overloaded", "credential", "quota", "model_missing", "lost", "busy"]
)
def test_these_are_the_providers_or_ours_whatever_was_asked(kind: str) -> None:
    assert not Comparison.takes(Outcome(kind))


def test_what_was_judged_while_the_request_waited_is_not_judged_again() -> None:
    comparison, found = Comparison(), []
    comparison.hold(E500, 1.0, None, lambda verdict: found.append(("first", verdict)))
    comparison.settle()
    comparison.hold(E500, 1.0, None, lambda verdict: found.append(("second", verdict)))
    comparison.settle()
    assert found == [("first", TABLE), ("second", TABLE)]


kinds = st.sampled_from(sorted(kind for kind in ENDINGS if Comparison.takes(Outcome(kind))))
times = st.floats(0, 100)


@given(st.lists(st.tuples(kinds, times, st.none() | times), max_size=6), st.none() | times, st.booleans())
def test_nothing_is_held_against_a_tier_that_the_table_would_not_and_answers_excuse_nobody(
    held: list[Held], answered: float | None, refused: bool
) -> None:
    for (kind, _, _), verdict in zip(held, verdicts(held, answered, refused=refused), strict=True):
        if kind == "deadline":
            assert verdict in (FAILED, NEUTRAL)
        elif answered is not None:
            assert verdict is TABLE
        else:
            assert verdict in (TABLE, NEUTRAL, REFUSED)


# What comes of it: the circuits.


@pytest.mark.parametrize(("began", "state"), [(96.0, State.CLOSED), (95.0, State.OPEN), (None, State.OPEN)])
def test_failures_that_end_at_one_instant_are_in_a_row_unless_a_later_call_has_begun_well(
    began: float | None, state: State
) -> None:
    circuit = Circuit()
    circuit.report(Verdict.STARTED, began=began)
    for _ in range(3):
        circuit.report(FAILED, began=95.0)
    assert circuit.b.state is state


@pytest.mark.parametrize(("began", "state"), [(96.0, State.CLOSED), (95.0, State.OPEN)])
def test_streams_that_break_at_one_instant_are_in_a_row_unless_a_later_one_has_ended_well(
    began: float, state: State
) -> None:
    circuit = Circuit()
    circuit.report(Verdict.OK, began=began)
    for _ in range(3):
        circuit.report(Verdict.FAILED_STREAM, began=95.0)
    assert circuit.b.state is state


@in_tiers()
async def test_an_outage_of_one_tier_is_charged_to_it_by_three_requests_that_another_answered(w: World) -> None:
    for kind in ("server_error", "first_token", "malformed"):
        w.provider("aws").ends = [Outcome(kind)]
        calls = w.provider("aws").calls
        for _ in range(6):
            assert (await ask(w)).by == "openai/gpt"
        assert w.provider("aws").calls == calls + 3, kind
        await w.breaker.call("command", "reset", "aws")
        await w.settle()


async def ask_as(w: World, tenant: str | None) -> str:
    request = check_request({**REQUEST, "model": "default"})
    return (await w.service.complete(request, w.service.deadline(), Caller("http", tenant))).target


@pytest.mark.parametrize("tenant", [None, "acme"])
@in_tiers()
async def test_prompts_of_one_caller_that_are_answered_with_nothing_move_no_circuit(
    w: World, tenant: str | None
) -> None:
    w.provider("aws").ends = [Outcome("empty")]
    assert {await ask_as(w, tenant) for _ in range(12)} == {"openai/gpt"}
    await w.settle()
    assert (state_of(w, "aws/haiku"), w.targets()["aws/haiku"]["failed"]) == ("closed", 0)


@in_tiers()
async def test_a_tier_that_answers_several_callers_with_nothing_is_left_out(w: World) -> None:
    w.provider("aws").ends = [Outcome("empty")]
    for tenant in ("acme", "beta", "acme", "beta"):
        assert await ask_as(w, tenant) == "openai/gpt"
    await w.settle()
    assert state_of(w, "aws/haiku") == "open"


@in_tiers()
async def test_an_empty_answer_of_long_ago_says_nothing(w: World) -> None:
    w.provider("aws").ends = [Outcome("empty")]
    for tenant in ("acme", "beta", "acme", "beta"):
        await ask_as(w, tenant)
        await asyncio.sleep(301)
    assert w.targets()["aws/haiku"]["failed"] == 0


@in_tiers()
async def test_no_outage_of_everything_is_excused_where_no_connection_can_be_made(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [Outcome("connect")]
    for _ in range(3):
        assert (await ask(w)).by == 503
    await w.settle()
    assert (state_of(w, "aws/haiku"), state_of(w, "openai/gpt")) == ("open", "open")


# A tier that hangs, and deadlines.


@pytest.mark.parametrize(("stream", "seconds"), [(False, 20), (True, 12), (False, 40)])
@in_tiers()
async def test_a_tier_that_hangs_is_left_out_after_three_requests_however_short_their_deadlines_are(
    w: World, stream: bool, seconds: float
) -> None:
    w.provider("aws").seconds = 10_000.0
    ended = [await ask(w, seconds=seconds, stream=stream) for _ in range(10)]
    await w.settle()
    assert {e.by for e in ended} == {"openai/gpt"}
    waited = [e.seconds for e in ended]
    assert waited[0] == pytest.approx(seconds * 2 / 3, abs=0.01)
    assert max(waited[:3]) <= 0.75 * seconds
    assert waited[3:] == [0.0] * 7
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["neutral"]) == ("open", 3, 0)


@in_tiers()
async def test_a_tier_that_usually_answers_in_the_time_that_it_was_given_failed_when_it_did_not(w: World) -> None:
    w.provider("aws").seconds = 1.0
    await ask(w)
    w.provider("aws").seconds = w.provider("openai").seconds = 10_000.0
    for _ in range(3):
        assert (await ask(w, "aws/haiku", seconds=1.6)).by == 504
    await w.settle()
    assert (state_of(w, "aws/haiku"), w.targets()["aws/haiku"]["failed"]) == ("open", 3)


@in_tiers()
async def test_a_callers_deadline_that_no_tier_could_keep_is_held_against_none(w: World) -> None:
    for script in w.hop.providers.values():
        script.seconds = 5.0
    await ask(w)
    await ask(w, "solo")
    for _ in range(5):
        assert (await ask(w, seconds=3)).by == 504
    await w.settle()
    assert [(h["failed"], h["neutral"]) for h in w.targets().values()] == [(0, 5), (0, 0), (0, 5)]


@in_tiers(row_of("a", "b", "c"))
async def test_a_tier_that_hangs_while_others_are_slow_by_nature_opens_alone(w: World) -> None:
    w.provider("a").seconds, w.provider("b").seconds = 10_000.0, 4.0
    ended: list[Ended] = [await ask(w, seconds=40) for _ in range(5)]
    await w.settle()
    assert {e.by for e in ended} == {"b/m"}
    assert [state_of(w, f"{name}/m") for name in "abc"] == ["open", "closed", "closed"]


@in_tiers()
async def test_a_probe_that_hangs_opens_its_circuit_again_by_the_answer_of_the_next(w: World) -> None:
    aws = w.provider("aws")
    aws.seconds = 10_000.0
    for _ in range(3):
        await ask(w, seconds=12)
    await asyncio.sleep(75)
    assert (await ask(w, seconds=12)).steps == ["aws: deadline", "openai: ok"]
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["probes"], health["probing"]) == ("open", 1, False)
