"""Streams that go on are evidence before any of them has ended: as an ingress tells it, and as a circuit takes it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.circuit import Ask, State
from actors.breaker.outcomes import Outcome, Verdict
from deployments.breaker_client.flowing import FLOW_SECONDS, FlowingStreams
from deployments.failover.attempt import RENEW_SECONDS
from tests.unit.test_circuit import CUT, FAILED, MISCONFIGURED, NEUTRAL, OK, STARTED, THROTTLED, Circuit
from tests.unit.test_failover import read, stream
from tests.unit.tiers import REST_SECONDS, ask, in_tiers, opened, state
from tests.unit.world import World

FLOWING = Verdict.FLOWING
CUT_OFF = Outcome("broken", content=True)
PERMIT = {"epoch": 0, "incarnation": 1}


@dataclass(eq=False)
class Stream:
    target: str = "t"
    began: float = 0.0
    content_at: float = 0.0
    permit: Mapping[str, Any] = field(default_factory=lambda: PERMIT)


def flows_of(*streams: Stream, since: float = 10.0) -> FlowingStreams:
    flows = FlowingStreams()
    for each in streams:
        flows.add(each)
    flows.take(since)
    return flows


def told(flows: FlowingStreams, now: float = 12.0) -> dict[Any, tuple[int, float]]:
    """Count and oldest, by target and epoch."""
    return {key[:2]: (flow.count, flow.oldest) for key, flow in flows.take(now)[0].items()}


def test_before_there_was_a_first_look_nothing_is_told() -> None:
    flows = FlowingStreams()
    flows.add(Stream(content_at=5.0))
    assert flows.take(10.0) == ({}, 0.0)


def test_streams_that_spoke_since_are_told_together_with_the_time_and_the_oldest() -> None:
    flows = flows_of(Stream(began=3.0, content_at=11.0), Stream(began=2.0, content_at=12.0), Stream("u", 1.0, 11.5))
    found, seconds = flows.take(12.0)
    assert seconds == 2.0
    assert {key: (flow.count, flow.oldest) for key, flow in found.items()} == {
        ("t", 0, 1): (2, 2.0),
        ("u", 0, 1): (1, 1.0),
    }


@pytest.mark.parametrize(
    "silent",
    [
        Stream(began=1.0, content_at=10.0),
        Stream(began=10.0, content_at=11.0),
        Stream(began=1.0, content_at=11.0, permit={**PERMIT, "lease": "x"}),
    ],
    ids=["has not spoken since", "is too young", "is a probe"],
)
def test_a_stream_says_nothing_that(silent: Stream) -> None:
    assert told(flows_of(silent, Stream("u", 1.0, 11.0))) == {("u", 0): (1, 1.0)}


def test_a_stream_that_has_ended_is_told_no_more() -> None:
    ended, other = Stream(content_at=11.0), Stream(content_at=11.0)
    flows = flows_of(ended, other)
    flows.remove(ended)
    flows.remove(ended)
    assert told(flows) == {("t", 0): (1, 0.0)}


def test_streams_of_another_epoch_or_of_another_actor_are_told_apart() -> None:
    permits = [{"epoch": e, "incarnation": i} for e, i in ((0, 1), (1, 1), (1, 2))]
    found, _ = flows_of(*(Stream(content_at=11.0, permit=permit) for permit in permits)).take(12.0)
    assert [(flow.permit, flow.count) for flow in found.values()] == [(permit, 1) for permit in permits]


def test_each_look_begins_where_the_last_one_ended() -> None:
    one = Stream(content_at=11.0)
    flows = flows_of(one)
    assert told(flows, 12.0)
    assert not told(flows, 14.0), "it has not spoken since"
    one.content_at = 14.5
    assert flows.take(17.0)[1] == 3.0


@given(
    st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 20), st.integers(0, 20), st.booleans()), max_size=12),
    st.integers(0, 10),
    st.integers(1, 10),
)
def test_nothing_is_told_that_did_not_flow_and_nothing_that_did_is_missed(
    drawn: list[tuple[str, int, int, bool]], since: int, more: int
) -> None:
    streams = [
        Stream(target, began, content_at, {**PERMIT, "lease": "x"} if probe else PERMIT)
        for target, began, content_at, probe in drawn
    ]
    live = [s for s in streams if s.began < since < s.content_at and not s.permit.get("lease")]
    expected = {
        (target, 0): (len(of), min(s.began for s in of))
        for target in "tu"
        if (of := [s for s in live if s.target == target])
    }
    assert told(flows_of(*streams, since=since), since + more) == expected


# As a circuit takes it.


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


def test_an_older_stream_that_goes_on_ends_the_run_of_those_that_broke(circuit: Circuit) -> None:
    for began in (95.0, 90.0):
        circuit.report(CUT, began=began)  # 5 and 10 seconds old
    circuit.report(FLOWING, began=89.0, seconds=2.0)
    assert (circuit.b.stream_run, circuit.b.broke_at) == (0, 0.0)
    for _ in range(2):
        circuit.report(CUT, began=95.0)
    assert circuit.b.state is State.CLOSED


@pytest.mark.parametrize("began", [90.0, 94.0, 100.0, None])
def test_a_stream_that_is_no_older_than_those_that_broke_may_yet_break_as_they_did(
    circuit: Circuit, began: float | None
) -> None:
    for broke in (95.0, 90.0):
        circuit.report(CUT, began=broke)
    circuit.report(FLOWING, began=began, seconds=2.0)
    assert circuit.b.stream_run == 2
    circuit.report(CUT, began=90.0)
    assert circuit.b.state is State.OPEN


def test_what_flows_says_nothing_of_the_way_in(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.report(FLOWING, began=0.0, seconds=2.0)
    circuit.report(FAILED)
    assert circuit.b.state is State.OPEN


@pytest.mark.parametrize(("flowing", "state"), [(30, State.CLOSED), (11, State.CLOSED), (0, State.OPEN)])
def test_streams_that_flow_through_the_window_count_in_its_ratio_as_calls_that_went_well(
    circuit: Circuit, flowing: int, state: State
) -> None:
    for second in range(30):
        circuit.now += 1.0
        circuit.report(FLOWING, began=circuit.now - 5.0, seconds=float(flowing))
        if second % 3 == 2:  # ten of each, and none of those that broke in a row with another
            circuit.report(OK, began=circuit.now - 10.0)
            circuit.report(CUT, began=circuit.now - 20.0)
    assert circuit.b.state is state


def test_a_tenth_of_the_calls_is_no_half_though_the_others_flow_and_none_has_ended(circuit: Circuit) -> None:
    for number in range(200):
        circuit.now += 0.1
        circuit.report(FAILED if number % 10 == 9 else STARTED)
    assert circuit.b.state is State.CLOSED
    assert sum(slot.failed for slot in circuit.b.ring) == 20
    assert sum(slot.began for slot in circuit.b.ring) == 180


def test_half_of_the_calls_that_began_is_half_though_none_has_ended(circuit: Circuit) -> None:
    for number in range(10):
        circuit.report(FAILED if number % 2 else STARTED)
    assert circuit.b.state is State.OPEN


def test_a_probe_that_flows_closes_and_the_traffic_comes_back_bit_by_bit(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.report(FLOWING, lease=lease, began=circuit.now - 5.0, seconds=5.0)
    assert (circuit.b.state, circuit.b.trial, circuit.b.leases) == (State.CLOSED, lease, ())
    assert circuit.b.share(circuit.now, circuit.policy) == 0.1


@pytest.mark.parametrize("verdict", [CUT, FAILED])
def test_a_probe_on_trial_that_breaks_trips_alone_and_for_longer(circuit: Circuit, verdict: Verdict) -> None:
    lease = circuit.probing()
    circuit.report(FLOWING, lease=lease)
    circuit.now += 100.0
    circuit.report(verdict, lease=lease, epoch=circuit.b.epoch - 1)
    assert (circuit.b.state, circuit.b.reason, circuit.b.trial) == (State.OPEN, "failures", "")
    assert circuit.b.open_until - circuit.now == 120.0


@pytest.mark.parametrize("verdict", [OK, NEUTRAL, Verdict.REFUSED])
def test_a_probe_on_trial_that_ends_otherwise_leaves_the_circuit_closed(circuit: Circuit, verdict: Verdict) -> None:
    lease = circuit.probing()
    circuit.report(FLOWING, lease=lease)
    circuit.report(verdict, lease=lease)
    assert (circuit.b.state, circuit.b.trial) == (State.CLOSED, "")
    circuit.report(CUT, lease=lease)
    assert circuit.b.state is State.CLOSED, "its trial is over"


@pytest.mark.parametrize(("verdict", "reason"), [(THROTTLED, "throttled"), (MISCONFIGURED, "misconfigured")])
def test_a_probe_on_trial_that_is_told_to_wait_opens_for_that(circuit: Circuit, verdict: Verdict, reason: str) -> None:
    lease = circuit.probing()
    circuit.report(FLOWING, lease=lease)
    circuit.report(verdict, lease=lease)
    assert (circuit.b.state, circuit.b.reason) == (State.OPEN, reason)


@pytest.mark.parametrize("verdict", [STARTED, FLOWING])
def test_a_trial_lasts_for_as_long_as_its_stream_goes_on(circuit: Circuit, verdict: Verdict) -> None:
    lease = circuit.probing()
    for _ in range(50):
        circuit.report(FLOWING, lease=lease)
        circuit.now += 5.0
        circuit.report(verdict, lease=lease)
    assert (circuit.b.trial, circuit.b.ghosts) == (lease, ())
    circuit.report(CUT, lease=lease)
    assert circuit.b.state is State.OPEN


def test_the_end_of_a_trial_says_nothing_to_a_circuit_that_has_opened_meanwhile(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.report(FLOWING, lease=lease)
    circuit.opened()
    until = circuit.b.open_until
    circuit.now += 1.0
    assert circuit.report(CUT, lease=lease).late
    assert circuit.b.open_until == until
    circuit.now = until
    assert circuit.take(Ask("next")).granted is not None, "what flows is no probe any more"


def test_a_probe_that_flows_on_another_epoch_closes_nothing(circuit: Circuit) -> None:
    lease = circuit.probing()
    epoch = circuit.b.epoch
    circuit.report(FAILED, lease=lease)
    assert circuit.report(FLOWING, lease=lease, epoch=epoch).late
    assert circuit.b.state is State.OPEN


# Through the link, in a world.


@in_tiers()
async def test_what_flows_is_told_every_two_seconds_and_keeps_the_circuit_of_those_that_break(w: World) -> None:
    aws = w.provider("aws")
    aws.words, aws.pace = ["w"] * 400, 0.1
    long = asyncio.create_task(ask(w, stream=True))
    await asyncio.sleep(4 * FLOW_SECONDS)
    aws.ends, aws.after = [CUT_OFF], 10
    for _ in range(6):
        assert b"[DONE]" not in (await ask(w, stream=True)).data
        await asyncio.sleep(1.5 * FLOW_SECONDS)
    assert state(w, "aws/haiku") == "closed", "one that is older than they were goes on"
    assert b"[DONE]" in (await long).data
    for _ in range(3):
        await ask(w, stream=True)
    await w.settle()
    assert state(w, "aws/haiku") == "open"


@in_tiers()
async def test_while_a_probe_of_a_lone_target_flows_nobody_is_refused(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    openai = w.provider("openai")
    openai.words, openai.pace = ["w"] * 300, 1.0
    probe = asyncio.create_task(ask(w, "solo", stream=True))
    for _ in range(29):
        await asyncio.sleep(10)
        assert (await ask(w, "solo")).by == "openai/gpt"
    assert not probe.done()
    assert b"[DONE]" in (await probe).data
    assert w.actor.asks == 1


@in_tiers()
async def test_requests_that_come_before_the_probe_has_flowed_for_a_while_wait_for_it(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    openai = w.provider("openai")
    openai.words, openai.pace = ["w"] * 100, 0.1
    probe = asyncio.create_task(ask(w, "solo", stream=True))
    await asyncio.sleep(1)
    ended = await ask(w, "solo")
    assert (ended.by, ended.steps) == ("openai/gpt", ["openai: skipped: probing", "openai: ok"])
    assert ended.seconds == pytest.approx(RENEW_SECONDS - 1, abs=0.1)
    await probe


@in_tiers()
async def test_a_probe_that_is_silent_is_not_said_to_flow(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    w.provider("openai").pace = 14.0  # and its idle limit is 15
    request = asyncio.create_task(ask(w, "solo", stream=True))
    await asyncio.sleep(13)
    await w.settle()
    assert state(w, "openai/gpt") == "half_open"
    assert (await request).by == "openai/gpt"
    await w.settle()
    assert state(w, "openai/gpt") == "closed"


@in_tiers()
async def test_streams_that_have_ended_are_not_remembered(w: World) -> None:
    for _ in range(20):
        await read(await stream(w))
    left = await stream(w)
    await left.close()
    assert not w.breaker.flows._streams
