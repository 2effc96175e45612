"""Which targets are slow, by what they usually take. Pure, and on a virtual clock."""

import asyncio
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.outcomes import Outcome
from deployments.latency.classes import class_of
from deployments.latency.latencies import ENOUGH, FORGET_SECONDS, ITSELF_AGAIN, RECENT, SLOW, Latencies
from deployments.latency.tail import WINDOW_SECONDS, Tail
from deployments.openai_api.chat import check_request
from tests.clock import run_virtually
from tests.unit.test_failover import read
from tests.unit.world import ARGS, REQUEST, Script, World, world

SECONDS = st.floats(0.006, 300)


@given(st.lists(SECONDS, min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.98]))
def test_a_percentile_is_right_to_six_in_a_hundred(times: list[float], share: float) -> None:
    tail = Tail(0.0)
    for seconds in times:
        tail.add(seconds, 1.0)
    ranked = sorted(times)
    exact = ranked[min(len(ranked) - 1, max(0, -(-int(share * len(ranked) * 1000) // 1000) - 1))]
    assert exact / 1.0601 <= tail.percentile(share, 1.0) <= exact * 1.0601


def test_what_is_older_than_two_windows_is_forgotten() -> None:
    tail = Tail(0.0)
    tail.add(9.0, 0.0)
    tail.add(0.1, WINDOW_SECONDS)
    assert tail.percentile(1.0, WINDOW_SECONDS) == pytest.approx(9.0, rel=0.07)
    tail.add(0.1, 2 * WINDOW_SECONDS)
    assert tail.percentile(1.0, 2 * WINDOW_SECONDS) == pytest.approx(0.1, rel=0.07)
    assert Tail(0.0).percentile(0.5, 5.0) == 0.0
    tail.add(0.1, 9 * WINDOW_SECONDS)
    assert tail.number == 1


def usual(number: int = ENOUGH, seconds: float = 0.5) -> Latencies:
    known = Latencies()
    for _ in range(number):
        known.first_content("t", "0", seconds, 0.0, of_whole=False)
    return known


def take(known: Latencies, *seconds: float, at: float = 1.0, kind: str = "0") -> None:
    """Calls that begin then, one after the other."""
    for each in seconds:
        known.begin("t", "call", kind, at, of_whole=False)
        known.first_content("t", kind, each, at + each, of_whole=False, call="call")


def test_eight_of_twenty_that_take_far_longer_make_a_target_slow_and_others_itself_again() -> None:
    known = usual()
    take(known, *[4.0] * (SLOW - 1))
    assert not known.slow("t", 1.0)
    take(known, 4.0)
    assert known.slow("t", 1.0)
    take(known, *[0.5] * (RECENT - SLOW))  # they began beside those
    assert known.slow("t", 1.0)
    take(known, 0.5)
    assert not known.slow("t", 1.0)
    assert not known.slow("other", 1.0)


def test_four_quick_ones_in_turn_show_that_it_is_itself_again() -> None:
    known = usual()
    take(known, *[4.0] * RECENT)
    take(known, *[0.5] * (ITSELF_AGAIN - 1), at=10.0)
    assert known.slow("t", 11.0)
    take(known, 4.0, at=11.0)
    take(known, *[0.5] * (ITSELF_AGAIN - 1), at=20.0)
    assert known.slow("t", 21.0)
    take(known, 0.5, at=22.0)
    assert not known.slow("t", 23.0)


@pytest.mark.parametrize("rate", [10, 100])
def test_a_target_of_whose_calls_six_in_ten_are_slow_is_slow(rate: int) -> None:
    """The quick ones end first: at each moment those that began last and have ended are quick."""
    known, rng = usual(), random.Random(5)
    times = [5.0 if rng.random() < 0.6 else 0.5 for _ in range(10 * rate)]
    events = [(1.0 + call / rate, 0, call) for call in range(10 * rate)]
    for now, ended, call in sorted([*events, *((at + times[call], 1, call) for at, _, call in events)]):
        if ended:
            known.first_content("t", "0", times[call], now, of_whole=False, call=call)
        else:
            known.begin("t", call, "0", now, of_whole=False)
        if 6.0 < now < 11.0:
            assert known.slow("t", now), now


def test_before_it_is_known_what_is_usual_nothing_is_slow() -> None:
    known = usual(ENOUGH - SLOW)
    take(known, *[4.0] * SLOW)
    assert not known.slow("t", 1.0)


def test_a_little_longer_than_usual_is_not_slow_however_narrow_the_usual_is() -> None:
    known = usual()
    take(known, *[0.9] * RECENT)
    assert not known.slow("t", 1.0)


def test_within_some_tenths_of_a_second_nothing_is_late() -> None:
    known = usual(seconds=0.01)
    take(known, *[0.6] * RECENT)
    assert not known.slow("t", 1.0)
    take(known, *[0.8] * SLOW)
    assert known.slow("t", 1.0)


def test_a_failure_is_for_the_circuit_to_judge_and_what_was_slow_before_it_too() -> None:
    known = usual()
    take(known, *[4.0] * RECENT)
    known.begin("t", "call", "0", 1.0, of_whole=False)
    known.failed("t", "call")
    assert not known.slow("t", 1.0)
    assert not known._waiting


def test_a_target_that_nobody_asks_any_more_is_not_slow_for_ever() -> None:
    known = usual()
    take(known, *[4.0] * RECENT)
    assert known.slow("t", 5.0 + FORGET_SECONDS)
    assert not known.slow("t", 5.1 + FORGET_SECONDS)
    take(known, 4.0, at=2.0 + FORGET_SECONDS)
    assert not known.slow("t", 6.0 + FORGET_SECONDS)


def test_what_becomes_of_a_target_that_stays_slow_is_what_is_usual_after_two_windows() -> None:
    known, at = usual(), 1.0
    while at < 2.5 * WINDOW_SECONDS:
        take(known, 4.0, at=at)
        at += 1.0
    assert not known.slow("t", at)


def test_calls_that_wait_for_too_long_count_before_their_end_and_once() -> None:
    known = usual()
    for call in range(SLOW):
        known.begin("t", call, "0", 1.0, of_whole=False)
    assert not known.slow("t", 1.9)
    assert known.slow("t", 2.2)
    for call in range(SLOW):
        known.first_content("t", "0", 5.0, 6.0, of_whole=False, call=call)
    assert known.slow("t", 6.0)
    assert not known._waiting


def test_a_call_that_was_late_counts_no_second_time_at_its_end() -> None:
    known = usual()
    for call in range(SLOW // 2):
        known.begin("t", call, "0", 1.0, of_whole=False)
    assert not known.slow("t", 2.2)
    for call in range(SLOW // 2):
        known.first_content("t", "0", 5.0, 6.0, of_whole=False, call=call)
    assert not known.slow("t", 6.0)


def test_what_is_usual_is_not_learned_from_a_target_that_is_not_itself() -> None:
    known = usual()
    for number in range(500):
        take(known, 4.0, at=1.0 + number / 10)
    assert known.slow("t", 51.0)


def test_a_few_calls_that_wait_among_many_that_do_not_make_no_target_slow() -> None:
    known = usual()
    for call in range(2 * SLOW):
        known.begin("t", call, "0", 1.0 + call, of_whole=False)
        take(known, *[0.5] * 10, at=1.0 + call)
        assert not known.slow("t", 1.5 + call)
    for call in range(2 * SLOW):
        known.ended("t", "0", 30.0, 40.0, of_whole=False, call=call)
    assert not known._waiting


def test_calls_that_were_ended_early_count_if_they_had_more_time_than_usual() -> None:
    known = usual()
    for seconds, slow in ((0.4, False), (5.0, True)):
        for _ in range(SLOW):
            known.begin("t", "call", "0", 1.0, of_whole=False)
            known.ended("t", "0", seconds, 1.0 + seconds, of_whole=False, call="call")
        assert known.slow("t", 1.0) is slow


@pytest.mark.parametrize("known", [0, ENOUGH])
def test_the_end_of_a_crowd_is_not_slow(known: int) -> None:
    """Its longest calls end last, one after the other; and the first that end are its shortest."""
    told, rng = usual(known, 1.0), random.Random(7)
    times = [rng.lognormvariate(0.0, 0.5) for _ in range(700)]
    for call in range(700):
        told.begin("t", call, "0", 1.0 + call / 300, of_whole=False)
    ends = sorted((1.0 + call / 300 + seconds, call) for call, seconds in enumerate(times))
    for at, call in ends:
        told.first_content("t", "0", times[call], at, of_whole=False, call=call)
        assert not told.slow("t", at), at


def test_classes_are_apart() -> None:
    known = usual()
    take(known, *[4.0] * RECENT, kind="2t")
    assert not known.slow("t", 1.0)
    long = {"messages": [{"role": "user", "content": "x" * 20_000}]}
    assert class_of({"messages": []}, 0) == "0"
    assert class_of(long, 0) == class_of({}, 20_000) == "1"
    assert class_of({"reasoning_effort": "high"}, 10**6) == "2t"
    assert class_of({"messages": [{"content": [{"type": "text"}] * 300}], "reasoning_effort": "none"}, 0) == "2"


def test_whole_answers_that_come_at_once_say_nothing_of_their_target() -> None:
    known = usual()
    assert not known.is_measured("t", "0w", of_whole=True)
    for _ in range(RECENT):
        known.whole_answer("t", "0w")
        known.ended("t", "0w", 30.0, 1.0, of_whole=True)
    assert not known.slow("t", 1.0)
    assert known.is_measured("t", "0", of_whole=False)
    known.first_content("t", "0", 0.5, 1.0, of_whole=True)
    assert known.is_measured("t", "0", of_whole=True)
    assert class_of({"tools": [{}]}, 9) == class_of({"n": 2}, 9) == "0w"
    assert class_of({"tools": [], "n": 1}, 9) == "0"


def test_a_call_of_which_nothing_is_known_hides_no_others() -> None:
    known = usual()
    known.begin("t", "first", "2t", 0.0, of_whole=False)
    for call in range(SLOW):
        known.begin("t", call, "0", 1.0, of_whole=False)
    assert known.slow("t", 9.0)


def test_a_target_that_hung_and_answers_again_is_not_slow_for_that() -> None:
    async def main() -> None:
        async with world() as w:
            now = w.breaker.now()
            for _ in range(ENOUGH):
                w.breaker.latencies.first_content("aws/haiku", "0", 0.5, now, of_whole=True)
            w.provider("aws").ends, w.provider("aws").seconds = [Outcome("first_token")], 10.0
            await asyncio.gather(
                *(w.service.failover.complete(check_request(REQUEST), w.service.deadline()) for _ in range(20))
            )
            assert not w.breaker.is_slow("aws/haiku")

    run_virtually(main())


def test_an_operator_who_resets_a_target_ends_it() -> None:
    async def main() -> None:
        async with world() as w:
            await _make_slow(w, "aws/haiku")
            await w.actor.command("reset", "openai")
            await w.settle()
            assert w.breaker.is_slow("aws/haiku")
            await w.actor("command", "reset", "aws")
            await w.settle()
            assert not w.breaker.is_slow("aws/haiku")

    run_virtually(main())


async def brown_out(w: World, *, rule: bool, stream: bool) -> tuple[float, int]:
    """The 99th of a hundred first contents in ten minutes; in one of them the first provider takes eight times as long.

    And how many calls there were for so many requests.
    """
    dice, first = random.Random(7), w.provider("aws")
    w.breaker._draw = dice.random
    if not rule:
        w.breaker.is_slow = lambda target: False  # type: ignore[method-assign]
    first.pieces = w.provider("openai").pieces = [0.01]
    taken: list[float] = []

    async def one(factor: float) -> None:
        for script, median in ((first, 0.6 * factor), (w.provider("openai"), 0.8)):
            script.seconds = median * dice.lognormvariate(0, 0.5)
        request = check_request({**REQUEST, "stream": stream})
        began = asyncio.get_running_loop().time()
        if stream:
            answer = await w.service.failover.stream(request, w.service.deadline())
            taken.append(asyncio.get_running_loop().time() - began)
            await read(answer)
        else:
            answer = await w.service.failover.complete(request, w.service.deadline())
            taken.append(asyncio.get_running_loop().time() - began)

    async def minute(factor: float) -> None:
        asking = []
        for _ in range(600):
            asking.append(asyncio.create_task(one(factor)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*asking)

    for factor in [1.0] * 5 + [8.0] + [1.0] * 4:
        await minute(factor)
    assert len(taken) == 6000
    return statistics.quantiles(taken, n=100)[98], first.calls + w.provider("openai").calls


@pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers as streams"])
def test_in_a_brown_out_the_others_are_asked_first_and_nobody_is_asked_twice(stream: bool) -> None:
    async def main(rule: bool) -> tuple[float, int]:
        async with world(ARGS, aws=Script(), openai=Script()) as w:
            return await brown_out(w, rule=rule, stream=stream)

    (with_rule, asked), (without, _) = (run_virtually(main(rule)) for rule in (True, False))
    assert asked == 6000
    assert with_rule < without / 3
    print(f"p99 {without:.2f} s without the rule, {with_rule:.2f} s with it")


def test_a_target_that_is_to_be_probed_is_probed_where_another_is_slow() -> None:
    async def main() -> None:
        async with world(aws=Script([Outcome("server_error")] * 3 + [None])) as w:
            for _ in range(3):
                await w.service.failover.complete(check_request(REQUEST), w.service.deadline())
            await asyncio.sleep(75)
            w.breaker._draw = lambda: 0.5
            await _make_slow(w, "openai/gpt")
            answer = await w.service.failover.complete(check_request(REQUEST), w.service.deadline())
            assert (answer.target, w.provider("aws").calls) == ("aws/haiku", 4)

    run_virtually(main())


def test_the_local_model_does_not_stand_in_for_a_slow_cloud() -> None:
    async def main() -> None:
        async with world({**ARGS, "models": {"default": {"aws": "haiku", "local": "smol"}}}) as w:
            w.breaker._draw = lambda: 0.5
            await _make_slow(w, "aws/haiku")
            answer = await w.service.failover.complete(check_request(REQUEST), w.service.deadline())
            assert answer.target == "aws/haiku"

    run_virtually(main())


def test_one_in_ten_asks_it_still_and_the_explanation_tells_why_the_others_do_not() -> None:
    async def main() -> None:
        async with world() as w:
            await _make_slow(w, "aws/haiku")
            for draw, target in ((0.05, "aws/haiku"), (0.15, "openai/gpt")):
                w.breaker._draw = lambda draw=draw: draw  # type: ignore[misc]
                answer = await w.service.failover.complete(check_request(REQUEST), w.service.deadline())
                assert answer.target == target
                told: Any = answer.record.summary.candidates_json if answer.record.summary else ""
                assert ('"slow":true' in told) is (draw > 0.1)

    run_virtually(main())


async def _make_slow(w: World, target: str) -> None:
    now = w.breaker.now()
    for seconds in [0.5] * ENOUGH + [9.0] * RECENT:
        w.breaker.latencies.begin(target, "call", "0", now, of_whole=False)
        w.breaker.latencies.first_content(target, "0", seconds, now + seconds, of_whole=False, call="call")
    assert w.breaker.is_slow(target)
