"""Permits to probe: asked for one at a time, kept when they are late, and given back when nobody uses them."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.breaker_client.client import ASK_MOST, ASK_SECONDS
from deployments.breaker_client.permits import KEEP_SECONDS, REFUSED_SECONDS, WAIT_MOST, Permits, ProbeQueue
from tests.clock import run_virtually
from tests.unit.tiers import (
    CONNECT,
    REST_SECONDS,
    TWO,
    ask,
    in_tiers,
    nothing_is_left,
    opened,
    since,
    stand_still,
    state,
)
from tests.unit.world import World, world

WAIT = 0.05


class Desk:
    """Permits, and an actor that answers each ask after `seconds`. It knows what was asked for and what came back."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.grants = True
        self.error: Exception | None = None
        self.asked: list[tuple[str, bool]] = []
        self.returned: list[str] = []
        self.woken = 0
        self.out: set[str] = set()  # leases that are neither used nor given back
        self.permits = Permits(self._ask, self._unused, self._wake)

    async def _ask(self, target: str, name: str, panic: bool) -> dict[str, Any] | None:
        self.asked.append((target, panic))
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        if not self.grants:
            return None
        self.out.add(name)
        return {"lease": name, "for": target}

    def _unused(self, target: str, permit: Mapping[str, Any]) -> None:
        assert permit["for"] == target
        self.returned.append(target)
        self.out.remove(permit["lease"])

    def _wake(self) -> None:
        self.woken += 1

    async def take(self, target: str = "t", *, panic: bool = False) -> tuple[bool, bool]:
        """Was there a permit, and was that the actor's word? One that came is used."""
        permit, answered = await self.permits.take(target, WAIT, panic=panic)
        if permit is not None:
            assert permit["for"] == target
            self.out.remove(permit["lease"])
        return permit is not None, answered


USED, REFUSED, UNANSWERED = (True, True), (False, True), (False, False)


def at_a_desk(test: Callable[[Desk], Any]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            desk = Desk()
            await test(desk)
            desk.permits.close()
            assert not desk.out, "a permit is lost"

        run_virtually(main())

    run.__name__ = test.__name__
    return run


def now() -> float:
    return asyncio.get_running_loop().time()


@at_a_desk
async def test_whoever_asks_gets_the_permit_that_comes_in_time(desk: Desk) -> None:
    desk.seconds = WAIT - 0.001
    assert await desk.take(panic=True) == USED
    assert (desk.asked, desk.returned, desk.woken) == ([("t", True)], [], 0)


@at_a_desk
async def test_nobody_waits_for_longer_than_it_may_and_a_late_permit_is_kept_for_the_next(desk: Desk) -> None:
    desk.seconds, began = 0.2, now()
    assert await desk.take() == UNANSWERED
    assert now() - began == pytest.approx(WAIT)
    await asyncio.sleep(0.2)
    assert (list(desk.permits.kept), desk.woken) == (["t"], 1), "whoever waits is told"
    began = now()
    assert await desk.take() == USED
    assert (now() - began, len(desk.asked), desk.returned) == (0.0, 1, [])
    await asyncio.sleep(2 * KEEP_SECONDS)
    assert desk.returned == []


@at_a_desk
async def test_a_late_permit_that_nobody_uses_is_given_back_after_a_moment(desk: Desk) -> None:
    desk.seconds = 0.2
    await desk.take()
    await asyncio.sleep(0.2 - WAIT + KEEP_SECONDS - 0.01)
    assert desk.returned == []
    await asyncio.sleep(0.02)
    assert (desk.returned, list(desk.permits.kept)) == (["t"], [])
    assert await desk.take() == UNANSWERED
    assert len(desk.asked) == 2
    await asyncio.sleep(0.3)


@at_a_desk
async def test_a_permit_of_an_actor_that_is_slow_by_nature_is_kept_for_as_long_as_the_next_may_wait(
    desk: Desk,
) -> None:
    desk.seconds = 3.0
    permit, answered = await desk.permits.take("t", ASK_MOST)
    assert (permit, answered) == (None, False)
    await asyncio.sleep(0.5 + 2 * ASK_MOST - 0.01)
    assert await desk.take() == USED


@at_a_desk
async def test_what_was_refused_is_not_asked_again_at_once_and_then_whoever_waits_is_told(desk: Desk) -> None:
    desk.grants = False
    assert await desk.take() == REFUSED
    assert desk.permits.awaited("t")
    for _ in range(9):
        await asyncio.sleep(REFUSED_SECONDS / 10)
        assert await desk.take() == REFUSED
    assert (len(desk.asked), desk.woken) == (1, 0)
    await asyncio.sleep(REFUSED_SECONDS / 10)
    assert (desk.woken, desk.permits.awaited("t")) == (1, False)
    await desk.take()
    assert len(desk.asked) == 2


@at_a_desk
async def test_what_was_refused_is_asked_again_as_soon_as_the_actor_says_something_new(desk: Desk) -> None:
    desk.grants = False
    await desk.take()
    desk.permits.changed()
    desk.grants = True
    assert await desk.take() == USED


@at_a_desk
async def test_a_refusal_that_comes_late_is_one_too(desk: Desk) -> None:
    desk.grants, desk.seconds = False, 0.2
    assert await desk.take() == UNANSWERED
    await asyncio.sleep(0.2)
    assert await desk.take() == REFUSED
    assert len(desk.asked) == 1


@at_a_desk
async def test_a_refusal_of_one_target_is_none_of_another(desk: Desk) -> None:
    desk.grants = False
    await desk.take("t")
    desk.grants = True
    assert await desk.take("u") == USED


@at_a_desk
async def test_one_ask_of_each_target_is_under_way_at_a_time_and_others_go_round(desk: Desk) -> None:
    desk.seconds, began = 0.03, now()
    got = await asyncio.gather(*(desk.take(target) for target in "tttuuuttt"))
    assert got == [USED, REFUSED, REFUSED, USED, *[REFUSED] * 5]
    assert desk.asked == [("t", False), ("u", False)]
    assert now() - began == pytest.approx(0.03)
    assert await desk.take() == USED


@at_a_desk
async def test_while_an_ask_is_under_way_that_nobody_waits_for_no_other_is_made(desk: Desk) -> None:
    desk.seconds = 0.5
    assert await desk.take() == UNANSWERED
    for _ in range(5):
        assert desk.permits.awaited("t")
        assert await desk.take() == REFUSED
    await asyncio.sleep(0.5)
    assert len(desk.asked) == 1


@at_a_desk
async def test_an_actor_that_cannot_be_asked_refuses_nothing(desk: Desk) -> None:
    desk.error = ConnectionError("away")
    assert await desk.take() == UNANSWERED
    assert await desk.take() == UNANSWERED
    desk.error, desk.seconds = None, 0.01
    assert not desk.permits.awaited("t")
    assert await desk.take() == USED


@at_a_desk
async def test_an_actor_that_goes_away_while_it_is_asked_leaves_nothing_behind(desk: Desk) -> None:
    desk.error, desk.seconds = ConnectionError("gone"), 0.2
    assert await desk.take() == UNANSWERED
    await asyncio.sleep(0.5)
    assert (list(desk.permits.kept), desk.permits.awaited("t"), desk.returned) == ([], False, [])


@pytest.mark.parametrize("grants", [True, False])
@pytest.mark.parametrize("at", [0.0, 0.01, 0.02, 0.04, 0.05, 0.06])
@pytest.mark.parametrize("answers_after", [0.0, 0.02, 0.05, 0.2])
def test_whoever_is_cancelled_around_a_permit_leaves_none_behind(answers_after: float, at: float, grants: bool) -> None:
    async def main() -> None:
        desk = Desk()
        desk.seconds, desk.grants = answers_after, grants
        task = asyncio.create_task(desk.take())
        await asyncio.sleep(at)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(answers_after + KEEP_SECONDS + 0.01)
        assert (desk.out, list(desk.permits.kept)) == (set(), [])
        desk.permits.close()

    run_virtually(main())


@at_a_desk
async def test_an_answer_that_came_while_we_stood_still_is_no_late_one(desk: Desk) -> None:
    desk.seconds = 0.02
    task = asyncio.create_task(desk.take())
    await asyncio.sleep(0.01)
    stand_still(10.0)
    assert await task == USED
    assert desk.returned == []


@at_a_desk
async def test_what_is_kept_is_given_back_when_it_closes(desk: Desk) -> None:
    desk.seconds = 0.2
    await asyncio.gather(desk.take("t"), desk.take("u"))
    await asyncio.sleep(0.2)
    desk.permits.close()
    assert (sorted(desk.returned), list(desk.permits.kept)) == (["t", "u"], [])


# The line.


def test_whoever_waits_longest_may_ask_and_whoever_came_later_and_newcomers_may_not() -> None:
    line = ProbeQueue()
    assert line.may("newcomer", "t")
    assert line.enter("first", ["t", "u"])
    assert line.enter("second", ["t"])
    assert [line.may(who, "t") for who in ("first", "second", "newcomer")] == [True, False, False]
    line.enter("first", ["t", "u"])
    assert line.may("first", "t"), "it keeps its place"
    line.leave("first")
    assert [line.may(who, "t") for who in ("second", "newcomer")] == [True, False]
    assert line.may("newcomer", "u")


def test_whoever_waits_for_others_now_leaves_the_line_of_those_it_has_asked() -> None:
    line = ProbeQueue()
    line.enter("first", ["t", "u"])
    line.enter("second", ["t"])
    line.enter("first", ["u"])
    assert line.may("second", "t")
    assert not line.may("second", "u")


def test_so_many_may_wait_and_no_more_and_whoever_waits_stays() -> None:
    line = ProbeQueue()
    assert all(line.enter(who, ["t"]) for who in range(WAIT_MOST))
    assert not line.enter("another", ["u"])
    assert line.may("another", "u")
    assert line.enter(5, ["t", "u"])
    line.leave(0)
    assert line.enter("another", ["u"])
    assert not line.may("another", "u")


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.none() | st.lists(st.sampled_from("tuv"), unique=True, max_size=3)),
        max_size=40,
    )
)
def test_the_line_of_each_target_is_in_the_order_of_coming(steps: list[tuple[int, list[str] | None]]) -> None:
    line = ProbeQueue()
    lines: dict[str, list[int]] = {target: [] for target in "tuv"}
    for who, targets in steps:
        if targets is None:
            line.leave(who)
        else:
            assert line.enter(who, targets)
        for target, waits in lines.items():
            if target not in (targets or ()):
                lines[target] = [other for other in waits if other != who]
            elif who not in waits:
                waits.append(who)
        for target, waits in lines.items():
            assert [n for n in range(7) if line.may(n, target)] == (waits[:1] or list(range(7)))
    for who in range(6):
        line.leave(who)
    assert (line._waits, line._lines) == ({}, {})


# Through the link, in a world.


def released(w: World, target: str) -> tuple[int, int]:
    """Leases that are out, and probes that ended without a word of it."""
    breaker = w.actor.board.breakers[target]
    return len((*breaker.leases, *breaker.ghosts)), breaker.inconclusive


@pytest.mark.parametrize("slow", [0.04, 0.06, 0.2, 1.0, 3.0])
@in_tiers()
async def test_a_target_that_is_well_again_comes_back_however_slowly_the_actor_answers(w: World, slow: float) -> None:
    await opened(w, "aws")
    calls, w.actor.slow = w.provider("aws").calls, slow
    answered: list[str | int] = []
    while answered[-3:] != ["aws/haiku"] * 3:
        await asyncio.sleep(1)
        answered.append((await ask(w)).by)
        assert len(answered) < REST_SECONDS + 4 * slow + 5
    assert w.provider("aws").calls == calls + answered.count("aws/haiku")
    w.actor.slow = 0.0
    await asyncio.sleep(10)
    assert (state(w, "aws/haiku"), released(w, "aws/haiku")) == ("closed", (0, 0))


@in_tiers()
async def test_the_permit_of_an_actor_that_is_known_to_be_slow_is_waited_for(w: World) -> None:
    await opened(w, "aws")
    w.actor.slow = 0.2
    await asyncio.sleep(REST_SECONDS)
    ended = await ask(w)
    assert (ended.by, ended.steps, ended.seconds) == ("aws/haiku", ["aws: ok"], 0.2)
    w.actor.slow = 0.0


@in_tiers()
async def test_a_target_comes_back_though_this_ingress_stands_still_whenever_it_asks(w: World) -> None:
    await opened(w, "aws")
    calls, w.actor.slow = w.provider("aws").calls, 0.01
    for _ in range(100):
        await asyncio.sleep(1)
        request = asyncio.create_task(ask(w))
        await asyncio.sleep(0.005)
        stand_still(0.06)
        if (await request).by == "aws/haiku":
            break
    assert (w.provider("aws").calls, w.actor.asks) == (calls + 1, 1)
    await w.settle()
    assert state(w, "aws/haiku") == "closed"


@in_tiers()
async def test_permits_that_nobody_uses_say_nothing_of_the_target(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    for _ in range(20):
        w.actor.slow = 0.2
        began = w.actor.now
        ended = await ask(w)
        assert (ended.by, ended.steps) == ("openai/gpt", ["aws: skipped: probing", "openai: ok"])
        assert since(w, began) <= 0.7
        w.actor.slow = 0.0
        w.breaker._actor.latency = 0.0
        await asyncio.sleep(3)
    assert (state(w, "aws/haiku"), released(w, "aws/haiku")) == ("half_open", (0, 0))
    assert w.actor.asks == 20
    assert (await ask(w)).by == "aws/haiku"


@in_tiers()
async def test_whoever_has_nobody_else_to_ask_uses_the_permit_that_comes_late(w: World) -> None:
    await opened(w, "openai", "solo")
    await asyncio.sleep(REST_SECONDS)
    w.actor.slow = 0.3
    ended = await ask(w, "solo")
    assert (ended.by, ended.seconds) == ("openai/gpt", 0.3)
    assert ended.steps == ["openai: skipped: probing", "openai: ok"]
    w.actor.slow = 0.0


@pytest.mark.parametrize(("slow", "every"), [(0.005, 0.004), (0.02, 0.01), (0.002, 0.01)])
@in_tiers()
async def test_an_outage_of_one_row_keeps_no_other_row_from_asking(w: World, slow: float, every: float) -> None:
    aws, openai = w.provider("aws"), w.provider("openai")
    aws.ends = openai.ends = [CONNECT]
    for _ in range(3):
        await ask(w, "second")
    await w.settle()
    await asyncio.sleep(REST_SECONDS + 5)
    for _ in range(3):
        await ask(w)
    await w.settle()
    w.actor.slow = slow
    real = w.hop.complete

    async def complete(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
        """One model of the provider is well again."""
        if call["model"] == "sonnet":
            return {"body": b"{}", "usage": None, "upstream": {}}
        return await real(provider, call)

    w.hop.complete = complete  # type: ignore[method-assign]
    tasks, over = [], asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            tasks.append(asyncio.create_task(ask(w)))
            await asyncio.sleep(every)

    loader = asyncio.create_task(load())
    await asyncio.sleep(0.5)
    for _ in range(5):
        ended = await ask(w, "second")
        assert ended.by == "aws/sonnet"
        assert ended.seconds <= 2 * ASK_SECONDS
        await asyncio.sleep(0.0137)
    over.set()
    await loader
    assert {(await task).by for task in tasks} == {503}
    w.actor.slow = 0.0


@pytest.mark.parametrize("slow", [0.0, 0.02, 0.049, 0.06])
@pytest.mark.parametrize("at", [0.0, 0.001, 0.02, 0.0201, 0.03, 0.05, 0.0501, 0.3])
def test_a_request_that_is_cancelled_around_its_permit_leaves_no_lease(slow: float, at: float) -> None:
    async def main() -> None:
        async with world(TWO) as w:
            await opened(w, "openai", "solo")
            await asyncio.sleep(REST_SECONDS)
            w.actor.slow, w.provider("openai").seconds = slow, 0.5
            request = asyncio.create_task(ask(w, "solo"))
            await asyncio.sleep(at)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            w.actor.slow = w.provider("openai").seconds = 0.0
            await asyncio.sleep(2 * KEEP_SECONDS)
            assert nothing_is_left(w)
            assert (await ask(w, "solo")).by == "openai/gpt"

    run_virtually(main())


def test_each_refusal_is_looked_at_again_when_its_rest_is_over_and_two_at_once_only_once() -> None:
    async def main() -> None:
        desk = Desk()
        desk.grants = False
        for expected in (1, 2):
            await desk.take("t")
            await desk.take("u")
            await asyncio.sleep(REFUSED_SECONDS + 0.01)
            assert desk.woken == expected
        desk.permits.close()

    run_virtually(main())
