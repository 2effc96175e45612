"""A second leg beside a first that says nothing for too long. On a virtual clock, through the whole failover."""

import asyncio
import json
import random
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from actors.breaker.outcomes import Outcome
from deployments.errors import BreakwaterError
from deployments.ingress.asking import Asking
from deployments.latency.hedging import BURST, CALM_SECONDS, ENOUGH, ENOUGH_LEGS, LEARN_SECONDS, Hedges, HedgeTerms
from deployments.openai_api.chat import check_request
from deployments.service.auth import ANONYMOUS
from deployments.telemetry.explain import explain
from deployments.telemetry.request_log import line_of
from deployments.telemetry.trace_context import parse_context
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import read
from tests.unit.test_traces import Book
from tests.unit.test_usage_records import Ledgered, with_ledger
from tests.unit.world import ARGS, REQUEST, Script, World, world

TERMS = HedgeTerms(0.02, 0.3, None, 4000)
ON = {**ARGS, "rows": {"*": {"hedging": {"budget": 0.1}}}}
FIRST, SECOND = "aws/haiku", "openai/gpt"


def learn(w: World, seconds: float = 0.5) -> None:
    """Both targets are known, and one call in twenty takes thirty times as long."""
    now = w.breaker.now()
    for target in (FIRST, SECOND):
        for number in range(ENOUGH):
            long = 30 * seconds if number % 20 == 0 else seconds
            w.breaker.latencies.first_content(target, "0", long, now, of_whole=True)


async def ask(w: World, *, stream: bool = False, caller: Caller | None = None, **body: Any) -> Any:
    request = check_request({**REQUEST, "stream": stream, **body})
    record = w.service.begin(caller or Caller("http"), request)
    if not stream:
        return await w.service.failover.complete(request, w.service.deadline(), record)
    answer = await w.service.failover.stream(request, w.service.deadline(), record)
    await read(answer)
    return answer


def hedged(answer: Any) -> list[tuple[str, str, str]]:
    told = explain(answer.record)
    assert told is not None
    asked = [c for c in told["candidates"] if c["outcome"] != "not reached"]
    return [(c["provider"], c["outcome"], c.get("hedge", "")) for c in asked]


def in_hedged(test: Callable[[World], Any], args: Mapping[str, Any] = ON, **scripts: Script) -> None:
    async def main() -> None:
        async with world(args, **scripts) as w:
            learn(w)
            await test(w)
            await asyncio.sleep(0.3)
            assert not +w.breaker.under_way

    run_virtually(main())


def pieces(seconds: float, *ends: Outcome | None, **more: Any) -> Script:
    return Script(list(ends) or [None], seconds=seconds, pieces=[0.1], **more)


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_leg_answers_where_the_first_says_nothing(stream: bool) -> None:
    async def test(w: World) -> None:
        began = asyncio.get_running_loop().time()
        answer = await ask(w, stream=stream)
        assert answer.target == SECOND
        assert asyncio.get_running_loop().time() - began < 2
        assert hedged(answer) == [("aws", "cancelled", ""), ("openai", "ok", "won")]
        assert (w.provider("aws").cancelled, w.provider("openai").cancelled) == (1, 0)
        assert answer.record.hedged == "won"
        await w.settle()
        assert w.targets()[FIRST]["consecutive_failures"] == 0

    in_hedged(test, aws=pieces(9.0), openai=pieces(0.5))


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_may_still_win_and_the_second_is_let_go(stream: bool) -> None:
    async def test(w: World) -> None:
        answer = await ask(w, stream=stream)
        assert answer.target == FIRST
        assert sorted(hedged(answer)) == [("aws", "ok", ""), ("openai", "cancelled", "lost")]
        assert (w.provider("aws").cancelled, w.provider("openai").cancelled) == (0, 1)
        assert answer.record.hedged == "lost"

    in_hedged(test, aws=pieces(1.0), openai=pieces(9.0))


def test_one_that_fails_leaves_the_race_to_the_other_and_there_is_no_third() -> None:
    down = Outcome("server_error", status=500)

    async def first_fails(w: World) -> None:
        answer = await ask(w)
        assert answer.target == SECOND
        assert hedged(answer) == [("aws", "server_error", ""), ("openai", "ok", "won")]
        assert w.provider("local").calls == 0

    async def second_fails(w: World) -> None:
        answer = await ask(w)
        assert answer.target == FIRST
        assert hedged(answer) == [("openai", "server_error", "failed"), ("aws", "ok", "")]
        assert w.provider("local").calls == 0

    async def both_fail(w: World) -> None:
        answer = await ask(w)
        assert answer.target == "local/smol"
        assert (w.provider("aws").calls, w.provider("openai").calls, w.provider("local").calls) == (1, 1, 1)

    in_hedged(first_fails, aws=Script([down], seconds=1.0), openai=pieces(3.0))
    in_hedged(second_fails, aws=pieces(4.0), openai=Script([down], seconds=0.2))
    in_hedged(both_fail, aws=Script([down], seconds=1.0), openai=Script([down], seconds=0.3))


@pytest.mark.parametrize(
    ("args", "body", "caller"),
    [
        (ARGS, {}, None),
        (ON, {"store": True}, None),
        (ON, {"messages": [{"role": "user", "content": "x" * 17_000}]}, None),
        (ON, {}, Caller("http", hedge=False)),
        ({**ARGS, "rows": {"solo": {"hedging": {}}}}, {}, None),
        ({**ARGS, "rows": {"*": {"hedging": {"min_delay": 5}}}}, {}, None),
    ],
    ids=["off", "store", "long", "caller", "another row", "delay"],
)
def test_there_is_none_where_it_is_not_wanted(args: Mapping[str, Any], body: Any, caller: Caller | None) -> None:
    async def test(w: World) -> None:
        assert (await ask(w, caller=caller, **body)).target == FIRST
        assert w.provider("openai").calls == 0

    in_hedged(test, args, aws=pieces(4.0), openai=pieces(0.5))


@pytest.mark.parametrize(
    ("header", "wanted"), [(None, True), ("", True), ("true", True), ("True", True), ("false", False), ("FALSE", False)]
)
def test_a_header_wants_none(header: str | None, wanted: bool) -> None:
    async def test(w: World) -> None:
        fields = [] if header is None else [(b"x-breakwater-hedge", header.encode())]
        caller = Asking(w.service).caller(Request({"type": "http", "headers": fields}), ANONYMOUS)
        assert caller.hedge is wanted
        assert (await ask(w, caller=caller)).target == (SECOND if wanted else FIRST)

    in_hedged(test, aws=pieces(9.0), openai=pieces(0.5))


def test_there_is_none_before_the_first_is_known() -> None:
    async def main() -> None:
        async with world(ON, aws=pieces(4.0)) as w:
            assert (await ask(w)).target == FIRST
            assert w.provider("openai").calls == 0

    run_virtually(main())


def test_there_is_none_at_a_target_that_is_slow_itself_or_to_be_probed() -> None:
    async def slow(w: World) -> None:
        for _ in range(20):
            now = w.breaker.now()
            w.breaker.latencies.begin(SECOND, "call", "0", now, of_whole=True)
            w.breaker.latencies.first_content(SECOND, "0", 30.0, now + 30.0, of_whole=True, call="call")
        assert (await ask(w)).target == FIRST
        assert w.provider("openai").calls == 0

    async def probed(w: World) -> None:
        for _ in range(3):
            with pytest.raises(BreakwaterError):
                await ask(w, model="openai/gpt")
        await asyncio.sleep(75)
        calls = w.provider("openai").calls
        assert (await ask(w)).target == FIRST
        assert w.provider("openai").calls == calls

    two = {**ON, "models": {"default": {"aws": "haiku", "openai": "gpt"}}}
    in_hedged(slow, two, aws=pieces(4.0))
    in_hedged(probed, two, aws=pieces(4.0), openai=Script([Outcome("server_error")] * 3 + [None]))


def test_a_429_in_the_row_ends_hedging_for_a_while() -> None:
    hedges = Hedges()
    hedges.note_throttled("row", 5.0)
    assert not hedges.take("row", 5.1)
    assert hedges.take("another", 5.1)
    assert hedges.take("row", 5.1 + CALM_SECONDS)

    async def test(w: World) -> None:
        await ask(w)
        assert not w.service.failover._ground.hedges.take("default", w.breaker.now())

    in_hedged(test, aws=pieces(0.1, Outcome("throttled", status=429)), openai=pieces(0.5))


def test_the_local_model_is_no_second_leg() -> None:
    async def test(w: World) -> None:
        assert (await ask(w)).target == FIRST
        assert w.provider("local").calls == 0

    in_hedged(test, {**ON, "models": {"default": {"aws": "haiku", "local": "smol"}}}, aws=pieces(4.0))


def test_a_client_that_leaves_ends_both_legs_at_once() -> None:
    async def test(w: World) -> None:
        asking = asyncio.create_task(ask(w))
        await asyncio.sleep(3)
        asking.cancel()
        began = asyncio.get_running_loop().time()
        await asyncio.wait([asking])
        assert asyncio.get_running_loop().time() == began
        assert (w.provider("aws").cancelled, w.provider("openai").cancelled) == (1, 1)

    in_hedged(test, aws=pieces(9.0), openai=pieces(9.0))


def test_what_a_second_leg_costs_is_in_the_ledger_as_an_estimate() -> None:
    async def test(x: Ledgered) -> None:
        learn(x.w)
        answer = await x.complete()
        assert answer.target == SECOND
        request, (first, second) = x.rows
        assert (first.kind, first.counted, second.kind) == ("cancelled", "estimated", "ok")
        assert (first.tokens_in or 0) > 0
        assert (first.cost or 0) > 0
        assert (request.provider, request.attempts, request.outcome) == ("openai", 2, "ok")

    with_ledger(test, ON, aws=pieces(9.0), openai=pieces(0.5))


def test_legs_that_hardly_ever_win_are_not_sent_any_more_and_tried_again_later() -> None:
    hedges, at = Hedges(), 0.0
    for number in range(ENOUGH_LEGS):
        assert hedges.is_worth("a", "b", at)
        hedges.note_result("a", "b", number % 10 == 0, at)
    assert not hedges.is_worth("a", "b", at)
    assert hedges.is_worth("a", "c", at)
    assert hedges.is_worth("a", "b", at + LEARN_SECONDS + 1)
    for number in range(ENOUGH_LEGS):
        hedges.note_result("a", "c", number % 2 == 0, at)
    assert hedges.is_worth("a", "c", at)


def test_a_first_leg_that_wins_and_breaks_off_moves_on_to_the_next() -> None:
    async def test(w: World) -> None:
        answer = await ask(w)
        assert answer.target == "local/smol"
        assert hedged(answer) == [("openai", "cancelled", "lost"), ("aws", "broken", ""), ("local", "ok", "")]

    cut = Outcome("broken", content=True)
    in_hedged(test, aws=Script([cut], seconds=0.7, pieces=[1.0]), openai=pieces(9.0))


def test_who_refuses_for_all_ends_the_race() -> None:
    async def test(w: World) -> None:
        with pytest.raises(BreakwaterError) as refused:
            await ask(w)
        assert refused.value.code == "content_filter"
        assert w.provider("openai").cancelled == 1

    in_hedged(test, aws=Script([Outcome("content_filter", status=400)], seconds=1.0), openai=pieces(9.0))


@pytest.mark.parametrize("first", [1.0, 9.0])
def test_an_answer_that_comes_at_once_wins_and_the_other_leg_is_in_the_account(first: float) -> None:
    async def test(x: Ledgered) -> None:
        learn(x.w)
        answer = await x.complete()
        request, attempts = x.rows
        assert sorted(a.kind for a in attempts) == ["cancelled", "ok"]
        assert request.attempts == 2
        told = json.loads(request.trail or "[]")
        assert sorted(c["outcome"] for c in told if c["provider"] != "local") == ["cancelled", "ok"]
        assert answer.target == (FIRST if first < 2 else SECOND)

    with_ledger(test, ON, aws=Script(seconds=first), openai=Script(seconds=1.0 if first > 2 else 9.0))


def test_a_bug_in_the_second_leg_is_told_and_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def test(w: World) -> None:
        whole = w.hop.complete

        async def buggy(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> Any:
            if provider == "openai":
                raise KeyError("bug")
            return await whole(provider, call, on_piece)

        w.hop.complete = buggy  # type: ignore[method-assign]
        assert (await ask(w)).target == "local/smol"

    in_hedged(test, aws=Script([Outcome("server_error")], seconds=1.0))
    assert "no rule classifies" in caplog.text


class SlowlyClosed:
    """A source whose end takes a while."""

    def __init__(self, inner: Any, closed: list[str], provider: str):
        self._inner, self._closed, self._provider = inner, closed, provider

    def __anext__(self) -> Any:
        return anext(self._inner)

    async def aclose(self) -> None:
        try:
            await asyncio.sleep(0.2)
        finally:
            await self._inner.aclose()
            self._closed.append(self._provider)


@given(st.sampled_from([0.6, 0.7, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3]), st.sampled_from([0.4, 0.5, 9.0]))
def test_whenever_a_client_leaves_each_stream_that_began_is_closed(leaves: float, second: float) -> None:
    closed = list[str]()

    async def main() -> None:
        async with world(ON, aws=pieces(1.0), openai=pieces(second)) as w:
            learn(w)
            streams: Any = w.hop.stream
            hop: Any = w.hop
            hop.stream = lambda provider, call: SlowlyClosed(streams(provider, call), closed, provider)
            asking = asyncio.create_task(ask(w, stream=True))
            await asyncio.sleep(leaves)
            asking.cancel()
            await asyncio.wait([asking])
            await asyncio.sleep(1)
            assert not +w.breaker.under_way
            assert {name for name in ("aws", "openai") if w.provider(name).calls} == set(closed)

    run_virtually(main())


def test_a_budget_is_a_share_of_the_requests_and_saves_up_ten_at_the_most() -> None:
    hedges = Hedges()
    assert sum(hedges.take("row", 0.0) for _ in range(50)) == BURST
    for _ in range(1000):
        hedges.count("row", TERMS)
    assert hedges.left("row") == BURST
    for _ in range(10):
        assert hedges.take("row", 0.0)
    for _ in range(50):
        hedges.count("row", TERMS)
    assert hedges.take("row", 0.0)
    assert not hedges.take("row", 0.0)
    hedges.give_back("row")
    assert hedges.take("row", 0.0)


TIMES = st.sampled_from([0.0, 0.1, 0.6, 0.9, 1.0, 1.1, 2.0, 9.0, 40.0])
ENDS = st.sampled_from(
    [None, Outcome("server_error"), Outcome("broken", content=True), Outcome("rejected", status=400)]
)


@given(TIMES, TIMES, ENDS, ENDS, st.booleans(), st.booleans(), st.sampled_from([None, 0.5, 1.0, 1.3, 3.0]))
def test_whatever_happens_there_is_one_end_at_most_two_legs_at_once_and_nothing_is_left(
    one: float, two: float, ends_one: Any, ends_two: Any, in_pieces: bool, stream: bool, leaves: float | None
) -> None:
    how = {"pieces": [0.1]} if in_pieces else {}
    after = [e is not None and e.content for e in (ends_one, ends_two)]
    scripts = [
        Script([end], seconds=seconds, after=1 if cut and stream else None, **how)
        for end, seconds, cut in zip((ends_one, ends_two), (one, two), after, strict=True)
    ]

    async def main() -> None:
        async with world(ON, aws=scripts[0], openai=scripts[1]) as w:
            learn(w)
            asking = asyncio.create_task(ask(w, stream=stream))
            if leaves is not None:
                await asyncio.sleep(leaves)
                asking.cancel()
            await asyncio.wait([asking])
            if leaves is None or not asking.cancelled():
                assert isinstance(asking.exception(), BreakwaterError | None)
            await asyncio.sleep(1)
            assert not +w.breaker.under_way
            assert max(s.calls for s in w.hop.providers.values()) <= 1
            assert not w.breaker.latencies._waiting

    run_virtually(main())


Draw = Callable[[random.Random], float]


def light(dice: random.Random) -> float:
    return 0.6 * dice.lognormvariate(0, 0.5)


def tailed(dice: random.Random) -> float:
    """Two calls in a hundred are slow: 3 s, and far more (Pareto)."""
    return 3.0 * dice.paretovariate(1.2) if dice.random() < 0.02 else light(dice)


async def _traffic(w: World, first: Draw, number: int) -> tuple[float, int]:
    """The 99th of a hundred first contents, and how many calls there were."""
    # Of this seed the sample's own 99th is that of the distribution, 5.3 s: samples of this size differ by a tenth.
    dice, taken = random.Random(3), list[float]()

    async def one() -> None:
        w.provider("aws").seconds, w.provider("openai").seconds = first(dice), 0.8 * dice.lognormvariate(0, 0.5)
        began = asyncio.get_running_loop().time()
        request = check_request({**REQUEST, "stream": True})
        try:
            answer = await w.service.failover.stream(request, w.service.deadline())
        except BreakwaterError:
            return
        taken.append(asyncio.get_running_loop().time() - began)
        await read(answer)

    async def ask_all(times: int) -> None:
        asking = []
        for _ in range(times):
            asking.append(asyncio.create_task(one()))
            await asyncio.sleep(0.05)
        await asyncio.gather(*asking)

    await ask_all(500)
    taken.clear()
    before = w.provider("aws").calls + w.provider("openai").calls
    await ask_all(number)
    calls = w.provider("aws").calls + w.provider("openai").calls - before
    return statistics.quantiles(taken, n=100)[98] if taken else 0.0, calls


def simulated(first: Draw, budget: float | None, number: int, **scripts: Script) -> tuple[float, int]:
    """The same with hedging or without it, and without the rule for slow targets, which helps against tails too."""
    rows = {} if budget is None else {"rows": {"*": {"hedging": {"budget": budget}}}}
    two = {**ARGS, **rows, "models": {"default": {"aws": "haiku", "openai": "gpt"}}}

    async def main() -> tuple[float, int]:
        async with world(two, **scripts) as w:
            w.breaker.latencies.slow = lambda target, now: False  # type: ignore[method-assign]
            return await _traffic(w, first, number)

    return run_virtually(main())


REQUESTS = 15_000


@pytest.fixture(scope="module")
def unhedged() -> tuple[float, int]:
    return simulated(tailed, None, REQUESTS)


@pytest.mark.simulation
@pytest.mark.parametrize(("budget", "gain"), [(0.02, 0.35), (0.05, 0.50)])
def test_a_slow_tail_is_cut_within_the_budget(budget: float, gain: float, unhedged: tuple[float, int]) -> None:
    p99, calls = simulated(tailed, budget, REQUESTS)
    extra = (calls - unhedged[1]) / REQUESTS
    print(f"budget {budget}: p99 {unhedged[0]:.2f} s without, {p99:.2f} s with it, {extra:.2%} more calls")
    assert p99 <= unhedged[0] * (1 - gain)
    assert extra <= budget


@pytest.mark.simulation
def test_a_light_tail_costs_hardly_anything() -> None:
    _, calls = simulated(light, 0.02, 6000)
    print(f"a light tail: {calls / 6000 - 1:.2%} more calls")
    assert calls / 6000 - 1 <= 0.01


def test_in_a_total_outage_there_are_no_more_calls_than_the_budget_has() -> None:
    down = Outcome("server_error", status=500)
    without, with_it = (
        simulated(light, budget, 2000, aws=Script([down]), openai=Script([down]))[1] for budget in (None, 0.05)
    )
    assert with_it <= without + 0.05 * 2000 + BURST


def test_the_trace_and_the_log_tell_of_both_legs_each_by_its_own_number() -> None:
    async def main() -> None:
        book = Book()
        async with world(ON, book.traces, aws=pieces(4.0), openai=Script([Outcome("server_error")], seconds=0.2)) as w:
            learn(w)
            answer = await ask(w)
            root, *legs = book.spans
            found = {span.attributes["breakwater.target"]: span for span in legs}
            told = [parse_context(headers) for headers in w.hop.traces]
            assert [context and context.span_id for context in told] == [
                found[FIRST].context.span_id,
                found[SECOND].context.span_id,
            ]
            assert (found[SECOND].attributes["breakwater.hedge"], root.error) == ("failed", None)
            assert [a.get("hedge") for a in json.loads(line_of(answer.record.summary))["attempts"]] == ["failed", None]

    run_virtually(main())
