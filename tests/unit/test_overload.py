"""Targets that have as many calls as they take: limits that are found out, and who waits for them in which order."""

import asyncio
import math
import random
import statistics
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer, Overloaded
from deployments.openai_api.chat import check_request
from deployments.overload.limit import FORGET_SECONDS, Limit
from deployments.overload.line import AGE_SECONDS, LEAST_ROOM, Line, Priority
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.test_failover import read
from tests.unit.test_idempotency import replicas
from tests.unit.world import REQUEST, World, world

BUSY = Outcome("throttled", status=429)
ARGS: dict[str, Any] = {
    "providers": {
        "aws": {"kind": "bedrock", "region": "us-east-1", "concurrency": "auto"},
        "openai": {"kind": "openai"},
    },
    "models": {"default": {"aws": "haiku", "openai": "gpt"}, "solo": {"aws": "haiku"}},
}


def limited(limit: Limit, calls: int) -> Limit:
    for _ in range(calls):
        limit.take(0.0)
    limit.answered(1.0, 0.0)
    return limit


def release(limit: Limit, now: float, *, ok: bool = False) -> None:
    """End a call: an answer, or a refusal for load."""
    limit.release(now, 1.0, ok=ok, refused=not ok, had_begun=False)


def test_a_target_that_was_never_refused_has_no_limit() -> None:
    limit = limited(Limit(), 500)
    assert limit.has_room
    release(limit, 1.0, ok=True)
    assert limit.value == math.inf


def test_a_refusal_makes_the_limit_smaller_once_for_each_wave() -> None:
    limit = limited(Limit(), 100)
    for _ in range(30):
        release(limit, 1.0)
    assert limit.value == 70.0
    release(limit, 3.0)
    assert limit.value == pytest.approx(0.7 * 70)


def test_a_limit_never_falls_below_one_and_one_call_may_always_be_made() -> None:
    limit = Limit()
    for now in range(50):
        assert limit.has_room
        limit.take(10.0 * now)
        release(limit, 10.0 * now)
    assert limit.value == 1.0


def test_answers_make_it_larger_only_where_it_is_made_use_of() -> None:
    limit = limited(Limit(), 10)
    release(limit, 1.0)
    assert limit.value == 7.0
    for _ in range(8):
        release(limit, 1.5, ok=True)
        limit.take(1.5)
    assert limit.value > 8
    quiet = limited(Limit(), 10)
    release(quiet, 1.0)
    for _ in range(8):
        release(quiet, 1.5, ok=True)
    before = quiet.value
    quiet.take(1.6)
    release(quiet, 1.6, ok=True)
    assert quiet.value == before


def test_without_a_refusal_for_long_there_is_no_limit_any_more() -> None:
    limit = limited(Limit(), 10)
    release(limit, 1.0)
    limit.take(0.9 + FORGET_SECONDS)
    assert limit.value < math.inf
    limit.take(1.1 + FORGET_SECONDS)
    assert limit.value == math.inf
    release(limit, 2.0 + FORGET_SECONDS, ok=True)
    assert limit.value == math.inf


def test_a_fixed_limit_stays() -> None:
    limit = limited(Limit(2), 2)
    assert not limit.has_room
    release(limit, 1.0)
    assert (limit.value, limit.has_room) == (2.0, True)


@pytest.mark.parametrize("calls", [10, 40])
def test_it_comes_to_what_the_target_takes_within_a_minute(calls: int) -> None:
    """A target that takes so many calls, of a second each, and clients that always have more."""
    limit, now, ends = Limit(), 0.0, list[float]()
    found = []
    while now < 120:
        now += 0.01
        for end in [end for end in ends if end <= now]:
            ends.remove(end)
            limit.answered(1.0, now)
            release(limit, now, ok=True)
        if limit.has_room and limit.under_way < 3 * calls:
            limit.take(now)
            if len(ends) < calls:
                ends.append(now + 1.0)
            else:
                release(limit, now)
        if now > 60:
            found.append(len(ends))
    assert statistics.mean(found) > 0.75 * calls
    assert limit.value < 1.5 * calls


def line_of(*waiting: tuple[Priority, float]) -> list[Priority]:
    """Let some come to a line, each after so many seconds; return in which order they go on, one a second later."""
    order: list[Priority] = []

    async def main() -> None:
        line, free, until = Line(), [0], asyncio.get_running_loop().time() + 600

        async def wait(priority: Priority) -> None:
            ticket = None
            while ticket is None or not free[0] or line.is_behind(priority, "aws/haiku", ticket):
                ticket = await line.wait(priority, ("aws/haiku",), 100, until, ticket)
            free[0] -= 1
            order.append(priority)

        tasks = []
        for priority, pause in waiting:
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(wait(priority)))
        await asyncio.sleep(0.1)
        while len(order) < len(tasks):
            free[0] = 1
            line.wake("openai/gpt")
            line.wake("aws/haiku")
            await asyncio.sleep(0.1)

    run_virtually(main())
    return order


def test_the_critical_come_first_and_the_batch_last() -> None:
    come: list[tuple[Priority, float]] = [("batch", 0), ("normal", 0), ("critical", 0), ("batch", 0), ("critical", 0)]
    assert line_of(*come) == ["critical", "critical", "normal", "batch", "batch"]


def test_who_waits_for_long_moves_up_but_not_before_the_critical() -> None:
    assert line_of(("batch", 0), ("normal", AGE_SECONDS + 1)) == ["batch", "normal"]
    assert line_of(("batch", 0), ("critical", 10 * AGE_SECONDS)) == ["critical", "batch"]


@pytest.mark.parametrize(("priority", "most"), [("critical", 16), ("normal", 15), ("batch", 12)])
def test_of_many_the_batch_is_refused_first(priority: Priority, most: int) -> None:
    async def main() -> None:
        line = Line()
        until = asyncio.get_running_loop().time() + 600
        tasks = [asyncio.create_task(line.wait("critical", ("a",), 1, until, seconds=0.1)) for _ in range(most)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await line.wait(priority, ("a",), 1, until, seconds=0.1)
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        assert len(line) == most
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(line) == 0

    assert LEAST_ROOM == 16
    run_virtually(main())


def test_who_could_not_be_answered_in_time_is_refused_at_once() -> None:
    async def main() -> None:
        line, clock = Line(), asyncio.get_running_loop().time
        began = clock()
        with pytest.raises(Overloaded):
            await line.wait("critical", ("a",), 1, began + 5, seconds=20.0)
        assert clock() == began

    run_virtually(main())


@dataclass
class Busy:
    """A provider that takes so many calls at once, each of about a second, and refuses what is more."""

    most: int
    seconds: float = 1.0
    now: int = 0
    refused: int = 0
    answered: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(7))

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        real = self.behind
        if provider != "aws":
            async for item in real(provider, call):
                yield item
            return
        if self.now >= self.most:
            self.refused += 1
            yield {"outcome": {"kind": "throttled", "status": 429}}
            return
        self.now += 1
        try:
            await asyncio.sleep(self.seconds * self.draw.uniform(0.5, 1.5))
            self.answered += 1
            async for item in real(provider, call):
                yield item
        finally:
            self.now -= 1

    def put_before(self, w: World) -> None:
        self.behind = w.hop.stream
        w.hop.stream = self.stream  # type: ignore[method-assign]


async def asked(w: World, row: str, priority: Priority = "normal", seconds: float = 20.0) -> tuple[str, float]:
    """Ask; return who answered, or the error's code, and after how many seconds."""
    began = asyncio.get_running_loop().time()
    request = check_request({**REQUEST, "model": row, "stream": True})
    record = w.service.begin(Caller("http", priority=priority), request)
    try:
        answer = await w.service.failover.stream(request, w.service.deadline(seconds), record)
        await read(answer)
        return answer.target, asyncio.get_running_loop().time() - began
    except (NoAnswer, Overloaded) as error:
        return str(error.code), asyncio.get_running_loop().time() - began


def test_a_provider_that_is_refused_for_load_does_not_rest_and_the_next_one_takes_the_rest() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            busy = Busy(10)
            busy.put_before(w)
            found = [asyncio.create_task(asked(w, "default")) for _ in range(5)]
            await asyncio.sleep(2.0)
            for _ in range(300):
                found.append(asyncio.create_task(asked(w, "default")))
                await asyncio.sleep(1 / 30)  # three times what it takes
            who = [name for name, _ in await asyncio.gather(*found)]
            assert set(who) == {"aws/haiku", "openai/gpt"}
            assert who.count("aws/haiku") > 80
            await w.settle()
            assert w.targets()["aws/haiku"]["state"] == "closed"
            assert busy.refused < 60

    run_virtually(main())


def test_one_that_refuses_all_calls_rests_as_ever() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            w.provider("aws").ends = [BUSY]
            assert (await asked(w, "default"))[0] == "openai/gpt"
            await w.settle()
            assert w.targets()["aws/haiku"]["state"] == "open"

    run_virtually(main())


def test_a_named_pause_is_a_quota_and_no_load() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            assert (await asked(w, "default"))[0] == "aws/haiku"
            w.provider("aws").ends = [Outcome("throttled", status=429, retry_after=30)]
            await asked(w, "default")
            await w.settle()
            assert w.targets()["aws/haiku"]["state"] == "open"

    run_virtually(main())


def test_with_three_times_too_much_the_critical_are_served_as_ever_and_the_batch_is_refused() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            busy = Busy(20)
            busy.put_before(w)
            alone = [await asked(w, "solo", "critical") for _ in range(60)]
            draw, tasks = random.Random(3), list[tuple[Priority, asyncio.Task[tuple[str, float]]]]()
            for number in range(3600):  # sixty a second: three times what it takes
                part = draw.random()
                priority: Priority = "critical" if part < 0.2 else "normal" if part < 0.4 else "batch"
                task = asyncio.create_task(asked(w, "solo", priority))
                if number > 900:  # until its limit is known
                    tasks.append((priority, task))
                await asyncio.sleep(1 / 60)
            found = [(priority, *await task) for priority, task in tasks]

        def of(priority: Priority) -> tuple[float, float]:
            mine = [(name, seconds) for p, name, seconds in found if p == priority]
            served = [seconds for name, seconds in mine if name == "aws/haiku"]
            return len(served) / len(mine), statistics.quantiles(served, n=100)[98] if len(served) > 2 else math.inf

        usual = statistics.quantiles([seconds for _, seconds in alone], n=100)[98]
        figures = {priority: of(priority) for priority in ("critical", "normal", "batch")}
        print(f"\nalone p99 {usual:.2f} s; served and p99: {figures}")
        assert figures["critical"][0] > 0.994
        assert figures["critical"][1] < 1.2 * usual
        assert figures["batch"][0] < 0.3
        assert w.service.breaker.loads.line._waiting == []

    run_virtually(main())


@pytest.mark.parametrize(
    ("said", "most", "found"),
    [
        ("critical", {}, "normal"),
        ("critical", {"others": "critical"}, "critical"),
        ("batch", {"others": "critical"}, "batch"),
        ("critical", {"tenants": {"acme": "critical"}}, "critical"),
        ("normal", {"tenants": {"acme": "batch"}}, "batch"),
    ],
)
def test_nobody_has_a_higher_priority_than_it_may(said: str, most: dict[str, Any], found: str) -> None:
    async def main() -> None:
        async with replicas({**ARGS, "priorities": most}, 1) as r:
            seen: list[str] = []
            begin = r.worlds[0].service.begin

            def noted(caller: Caller, *more: Any) -> Any:
                seen.append(caller.priority)
                return begin(caller, *more)

            r.worlds[0].service.begin = noted  # type: ignore[method-assign]
            await r.ask(headers={"x-breakwater-priority": said, "x-tenant-id": "acme"})
            assert seen == [found]
            assert (await r.ask(headers={"x-breakwater-priority": "highest"})).status == 400

    run_virtually(main())


def test_whoever_leaves_as_it_is_called_leaves_its_turn_to_the_next() -> None:
    async def main() -> None:
        line, until = Line(), asyncio.get_running_loop().time() + 600
        first, second = (asyncio.create_task(line.wait("normal", ("a",), 9, until)) for _ in range(2))
        await asyncio.sleep(0.1)
        line.wake("a")
        first.cancel()
        began = asyncio.get_running_loop().time()
        await second
        assert asyncio.get_running_loop().time() - began < 0.1
        await asyncio.gather(first, return_exceptions=True)
        assert len(line) == 0

    run_virtually(main())


def test_nobody_waits_for_a_call_that_ends_where_none_is_under_way() -> None:
    """Whoever was woken asked another target: nothing ends there any more that would wake the next one."""

    async def main() -> None:
        async with world(
            {**ARGS, "providers": {**ARGS["providers"], "openai": {"kind": "openai", "concurrency": 1}}}
        ) as w:
            limit = w.breaker.loads.limit("aws/haiku")
            assert limit is not None
            limit.value, limit.under_way = 1.0, 1
            waiting = asyncio.create_task(asked(w, "solo"))
            await asyncio.sleep(0.5)
            limit.under_way = 0  # and nobody says so
            name, seconds = await waiting
            assert (name, seconds < 2) == ("aws/haiku", True)
            assert limit.under_way == 0

    run_virtually(main())


def test_a_target_whose_answers_flow_is_refused_for_load_however_long_they_take() -> None:
    limit = limited(Limit(), 9)
    assert limit.is_for_load(60.0)
    limit.release(61.0, 60.0, ok=True, refused=False, had_begun=True)
    assert not limit.is_for_load(90.0)


def test_at_the_start_nobody_knows_yet_whether_it_answers_any() -> None:
    limit = Limit()
    limit.take(0.0)
    assert not limit.is_for_load(0.1), "it refuses the only call that it has"
    limit.take(0.1)
    assert limit.is_for_load(0.2)
    assert not limit.is_for_load(9.0)


def test_a_burst_at_the_start_makes_nobody_rest() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            Busy(10).put_before(w)
            found = await asyncio.gather(*(asked(w, "solo") for _ in range(20)))
            assert [name for name, _ in found] == ["aws/haiku"] * 20
            await w.settle()
            assert w.targets()["aws/haiku"]["state"] == "closed"

    run_virtually(main())


def test_one_that_breaks_each_stream_opens_its_circuit_as_ever() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            w.provider("aws").ends, w.provider("aws").after = [Outcome("overloaded", content=True)], 1
            for _ in range(4):
                request = check_request({**REQUEST, "model": "solo", "stream": True})
                try:
                    await read(await w.service.failover.stream(request, w.service.deadline(5)))
                except NoAnswer:
                    break
                await w.settle()
            assert w.targets()["aws/haiku"]["state"] == "open"

    run_virtually(main())


def test_who_was_refused_for_load_asks_the_next_one_first() -> None:
    async def main() -> None:
        async with world(ARGS) as w:
            busy = Busy(1)
            busy.put_before(w)
            one = asyncio.create_task(asked(w, "default"))
            await asyncio.sleep(0.1)
            name, _ = await asked(w, "default")
            assert (name, busy.refused) == ("openai/gpt", 1)
            await one

    run_virtually(main())


def test_those_who_wait_for_another_target_are_not_before_one() -> None:
    async def main() -> None:
        line, until = Line(), asyncio.get_running_loop().time() + 5
        tasks = [asyncio.create_task(line.wait("normal", ("a",), 9, until, seconds=0.1)) for _ in range(20)]
        await asyncio.sleep(0.1)
        other = asyncio.create_task(line.wait("normal", ("b",), 1, until, seconds=0.1))
        await asyncio.sleep(0.1)
        line.wake("b")
        await other
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtually(main())


def test_who_is_called_is_before_who_comes_at_that_moment() -> None:
    async def main() -> None:
        line, until = Line(), asyncio.get_running_loop().time() + 600
        waiting = asyncio.create_task(line.wait("critical", ("a",), 9, until))
        await asyncio.sleep(0.1)
        line.wake("a")
        assert line.is_behind("batch", "a")
        await waiting
        assert not line.is_behind("batch", "a")

    run_virtually(main())
