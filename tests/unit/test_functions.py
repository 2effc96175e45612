"""Functions of other apps under our circuits: the client's end and the application's, without the handle between."""

import asyncio
import contextlib
import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from actors.breaker.outcomes import ENDINGS
from deployments import client as theirs
from deployments.client import OUTCOMES, BadRequest, Client, FailoverResult, NoAnswer, error_from, outcome_of
from deployments.errors import BreakwaterError, error_dict
from deployments.failover.attempts import time_share as shares
from deployments.python_api.guarded_functions import Functions
from tests.clock import run_virtually
from tests.unit.test_failover import in_world
from tests.unit.world import World


class Near(Client):
    """A client that has the application in its own process."""

    def __init__(self, w: World):
        super().__init__()
        self.functions = Functions(w.service)
        self.asked = self.told = 0
        self.away = False

    async def _call(self, method: str, *arguments: Any, wait: float | None = None, **named: Any) -> dict[str, Any]:
        if self.away:
            raise theirs.Unavailable("gone", 503, "unavailable")
        try:
            if method == "begin_call":
                self.asked += 1
                return await self.functions.begin(*arguments)
            self.told += 1
            return await self.functions.report(*arguments)
        except BreakwaterError as error:
            raise error_from(error_dict(error)) from error


def answers(value: str) -> Callable[[], Any]:
    async def function() -> str:
        return value

    return function


def raises(error: BaseException) -> Callable[[], Any]:
    async def function() -> str:
        raise error

    return function


def hangs(seconds: float) -> Callable[[], Any]:
    async def function() -> str:
        await asyncio.sleep(seconds)
        return "late"

    return function


class Refused(Exception):
    def __init__(self, status_code: int, retry_after: float | None = None):
        super().__init__(status_code)
        self.status_code, self.retry_after = status_code, retry_after


async def opened(w: World, name: str = "openai") -> Near:
    """A client whose functions have opened the circuit of `name`."""
    c = Near(w)
    for _ in range(3):
        await c.call_with_failover(name, {name: raises(ConnectionError()), "local": answers("local")})
        await w.settle()
    return c


@in_world
async def test_the_primary_answers_and_is_said_to(w: World) -> None:
    result = await Near(w).call_with_failover("openai", {"aws": answers("a"), "openai": answers("o")})
    assert (result.value, result.provider_used) == ("o", "openai")
    assert [(a["provider"], a["model"], a["outcome"]) for a in result.attempts] == [("openai", "gpt", "ok")]


@in_world
async def test_after_the_primary_the_others_come_in_the_rows_order(w: World) -> None:
    bad = raises(ConnectionError("no"))
    functions = {"mine": answers("mine"), "local": bad, "openai": bad, "aws": bad}
    result = await Near(w).call_with_failover("local", functions)
    assert [a["provider"] for a in result.attempts] == ["local", "aws", "openai", "mine"]
    assert result.provider_used == "mine"


@in_world
async def test_three_failures_open_the_circuit_for_our_own_calls_too(w: World) -> None:
    c = await opened(w)
    assert w.targets()["openai/gpt"]["state"] == "open"
    result = await c.call_with_failover("openai", {"openai": answers("o"), "local": answers("l")})
    assert result.provider_used == "local"
    assert result.attempts[0]["outcome"] == "skipped: open"


@in_world
async def test_a_healthy_call_costs_no_round_trip(w: World) -> None:
    c = Near(w)
    for _ in range(50):
        await c.call_with_failover("openai", {"openai": answers("o")})
    assert c.asked == 1
    await c.aclose()
    await w.settle()
    assert c.told == 1
    assert w.targets()["openai/gpt"]["ok"] == 50
    await asyncio.sleep(1.0)
    await c.call_with_failover("openai", {"openai": answers("o")})
    assert c.asked == 2


@in_world
async def test_one_probe_of_all_clients_closes_the_circuit_again(w: World) -> None:
    await opened(w)
    await asyncio.sleep(80)
    running, most = 0, 0

    async def probing() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1.0)
        running -= 1
        return "o"

    functions = {"openai": probing, "local": answers("l")}
    results = await asyncio.gather(*(Near(w).call_with_failover("openai", functions) for _ in range(5)))
    assert most == 1
    assert sorted(r.provider_used for r in results) == ["local"] * 4 + ["openai"]
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"


@in_world
async def test_a_slow_probe_keeps_its_lease(w: World) -> None:
    c = await opened(w)
    await asyncio.sleep(80)
    result = await c.call_with_failover("openai", {"openai": hangs(120.0)}, timeout=300.0, attempt_timeout=200.0)
    assert result.value == "late"
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"


@in_world
async def test_a_probe_that_is_cancelled_gives_its_permit_back_at_once(w: World) -> None:
    c = await opened(w)
    await asyncio.sleep(80)
    call = asyncio.ensure_future(c.call_with_failover("openai", {"openai": hangs(20.0)}))
    await asyncio.sleep(1.0)
    assert w.targets()["openai/gpt"]["state"] == "half_open"
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    await w.settle()
    again = await c.call_with_failover("openai", {"openai": answers("o")})
    assert again.value == "o"
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"


@in_world
async def test_a_permit_that_comes_too_late_is_given_back(w: World) -> None:
    c = await opened(w)
    await asyncio.sleep(80)
    w.actor.slow = 0.03
    call = asyncio.ensure_future(c.call_with_failover("openai", {"openai": answers("o")}))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    w.actor.slow = 0.0
    await w.settle()
    assert (await c.call_with_failover("openai", {"openai": answers("o")})).value == "o"


@in_world
async def test_the_callers_own_bug_is_raised_as_it_is_and_nobody_else_is_called(w: World) -> None:
    c, bug = Near(w), ValueError("mine")
    for _ in range(4):
        with pytest.raises(ValueError, match="mine") as caught:
            await c.call_with_failover("openai", {"openai": raises(bug), "local": hangs(1e9)})
        assert caught.value is bug
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"
    assert w.targets()["openai/gpt"]["consecutive_failures"] == 0


@in_world
async def test_a_refused_key_of_the_callers_own_shuts_nobody_elses_circuit(w: World) -> None:
    c = Near(w)
    functions = {"openai": raises(Refused(401)), "local": answers("l")}
    assert (await c.call_with_failover("openai", functions)).provider_used == "local"
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"
    own = {"openai/my-agent": raises(Refused(401)), "local": answers("l")}
    await c.call_with_failover("openai/my-agent", own)
    await w.settle()
    assert w.targets()["openai/functions/my-agent"]["state"] == "open"


@in_world
async def test_a_throttle_cools_for_as_long_as_it_says(w: World) -> None:
    c = Near(w)
    await c.call_with_failover("openai", {"openai": raises(Refused(429, 7.0)), "local": answers("l")})
    await w.settle()
    target = w.targets()["openai/gpt"]
    assert (target["state"], target["reason"]) == ("open", "throttled")
    assert 6 < target["retry_in_seconds"] <= 7


@in_world
async def test_a_custom_provider_has_a_circuit_of_its_own_that_health_shows(w: World) -> None:
    c = await opened(w, "mine")
    assert w.targets()["mine/functions"]["state"] == "open"
    summary = await w.service.operations.health_summary()
    assert summary["provider_states"]["mine"] == "open"
    assert (await w.service.operations.provider_health("mine"))["consecutive_failures"] == 3
    await w.service.operations.command("recover", "mine")
    await w.settle()
    assert (await c.call_with_failover("mine", {"mine": answers("m")})).value == "m"


@in_world
async def test_functions_are_isolated_with_their_provider(w: World) -> None:
    c = Near(w)
    await w.service.operations.command("isolate", "openai")
    await w.settle()
    for name in ("openai", "openai/my-agent"):
        with pytest.raises(NoAnswer) as caught:
            await c.call_with_failover(name, {name: answers("o")})
        assert [a["outcome"] for a in caught.value.attempts] == ["skipped: isolated"]


@in_world
async def test_what_functions_meet_does_not_hide_what_our_own_calls_do(w: World) -> None:
    c = Near(w)
    await c.call_with_failover("openai/my-agent", {"openai/my-agent": answers("o")})
    await opened(w)
    health = await w.service.operations.provider_health("openai")
    assert (health["available"], health["state"]) == (False, "open")
    assert set(health["targets"]) == {"openai/gpt", "openai/functions/my-agent"}


@in_world
async def test_when_all_fail_the_attempts_are_told(w: World) -> None:
    with pytest.raises(NoAnswer) as caught:
        await Near(w).call_with_failover("openai", {"openai": raises(OSError()), "aws": raises(Refused(503))})
    assert [a["outcome"] for a in caught.value.attempts] == ["broken", "overloaded"]
    assert caught.value.status == 503
    assert isinstance(caught.value.__cause__, Refused)
    assert pickle.loads(pickle.dumps(caught.value)).attempts == caught.value.attempts


@in_world
async def test_a_silent_function_is_a_timeout_and_the_next_is_called(w: World) -> None:
    functions = {"openai": hangs(1e9), "local": answers("l")}
    result = await Near(w).call_with_failover("openai", functions)
    assert [(a["outcome"], round(a["ms"] / 1000)) for a in result.attempts] == [("timeout", 30), ("ok", 0)]


@in_world
async def test_the_deadline_is_the_callers_own_and_moves_no_circuit(w: World) -> None:
    c = Near(w)
    for _ in range(4):
        with pytest.raises(theirs.DeadlineExceeded):
            await c.call_with_failover("openai", {"openai": hangs(1e9), "local": hangs(1e9)}, timeout=2.0)
    await w.settle()
    assert w.targets()["openai/gpt"]["state"] == "closed"


def test_the_clients_rule_of_shares_is_the_applications_word_for_word() -> None:
    assert inspect.getsource(theirs.share) == inspect.getsource(shares.share)


@in_world
async def test_each_function_gets_its_share_of_what_is_left_and_one_that_can_answer_is_reached(w: World) -> None:
    for third in (hangs(100.0), answers("l")):
        functions = {"aws": hangs(1e9), "openai": hangs(1.0), "local": third}
        result = await Near(w).call_with_failover("aws", functions, timeout=20.0)
        took = [(a["provider"], a["outcome"], round(a["ms"] / 1000, 3)) for a in result.attempts]
        assert took == [("aws", "deadline", round(shares.share(20.0, 3), 3)), ("openai", "ok", 1.0)]


@in_world
async def test_the_last_function_gets_all_that_is_left(w: World) -> None:
    first = shares.share(20.0, 3)
    second = shares.share(20.0 - first, 2)
    rest = 20.0 - first - second
    functions = {"aws": hangs(1e9), "openai": hangs(1e9), "local": hangs(rest - 0.1)}
    result = await Near(w).call_with_failover("aws", functions, timeout=20.0)
    took = [(a["outcome"], a["ms"] / 1000) for a in result.attempts]
    assert took == [
        ("deadline", pytest.approx(first, abs=0.01)),
        ("deadline", pytest.approx(second, abs=0.01)),
        ("ok", pytest.approx(rest - 0.1, abs=0.01)),
    ]


@in_world
async def test_a_function_whose_turn_comes_when_no_time_is_left_is_not_called(w: World) -> None:
    called = []

    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1e9)
        await asyncio.sleep(60.0)
        raise ConnectionError

    async def noted() -> str:
        called.append("local")
        return "l"

    with pytest.raises(theirs.DeadlineExceeded) as caught:
        await Near(w).call_with_failover("openai", {"openai": stubborn, "local": noted}, timeout=20.0)
    assert [(a["provider"], a["outcome"]) for a in caught.value.attempts] == [
        ("openai", "deadline"),
        ("local", "skipped: no time left"),
    ]
    assert called == []


@in_world
async def test_a_probe_for_which_no_time_is_left_gives_its_permit_back(w: World) -> None:
    class Slow(Near):
        async def _call(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            await asyncio.sleep(1.5)
            return await super()._call(*arguments, **named)

    await opened(w)
    await asyncio.sleep(80)
    with pytest.raises(theirs.DeadlineExceeded) as caught:
        await Slow(w).call_with_failover("openai", {"openai": answers("o")}, timeout=1.0)
    assert [a["outcome"] for a in caught.value.attempts] == ["skipped: no time left"]
    await asyncio.sleep(2.0)
    assert (await Near(w).call_with_failover("openai", {"openai": answers("o")})).value == "o"


@in_world
async def test_the_plans_own_time_makes_no_deadline_of_a_function_that_hangs(w: World) -> None:
    """By default the limit of a function is its share of the deadline, and the plan has taken some of that."""

    class Slow(Near):
        async def _call(self, *arguments: Any, **named: Any) -> dict[str, Any]:
            await asyncio.sleep(0.3)
            return await super()._call(*arguments, **named)

    functions = {"openai": hangs(1e9), "local": answers("l"), "aws": answers("a")}
    result = await Slow(w).call_with_failover("openai", functions)
    assert [(a["outcome"], round(a["ms"] / 1000)) for a in result.attempts] == [("timeout", 30), ("ok", 0)]
    await asyncio.sleep(1.0)  # until its reports have arrived


@in_world
async def test_plans_of_names_without_end_are_bounded(w: World) -> None:
    c = Near(w)
    link = c._link()
    names = 3 * theirs.MOST_PLANS
    for number in range(names):
        await link.plan(["openai", f"openai/user-{number}"], "openai", None)
        assert len(link._plans) <= theirs.MOST_PLANS
    assert (("openai", f"openai/user-{names - 1}"), "openai", None) in link._plans, "the oldest go first"
    await asyncio.sleep(theirs.STALE_SECONDS + theirs.PLAN_SECONDS)
    await link.plan(["openai"], "openai", None)
    assert len(link._plans) == 1


@in_world
async def test_a_plan_whose_time_is_over_stands_in_while_one_caller_asks_for_the_next(w: World) -> None:
    c = Near(w)
    for other in (["local"], ["openai"]):
        await c._link().plan(["openai", "local"], "openai", None)
        await c._link().plan(other, other[0], None)
        await asyncio.sleep(5.0)
    asked = c.asked
    await asyncio.gather(*(c._link().plan(["openai", "local"], "openai", None) for _ in range(50)))
    assert c.asked == asked + 1


@in_world
async def test_without_breakwater_functions_run_without_circuits(w: World) -> None:
    c = Near(w)
    c.away = True
    functions = {"openai": answers("o"), "local": raises(ConnectionError())}
    assert (await c.call_with_failover("local", functions)).provider_used == "openai"
    c.away = False
    assert c.asked == 0


@in_world
async def test_what_is_wrong_with_the_call_is_named(w: World) -> None:
    c = Near(w)
    wrong: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
        ("aws", {"openai": answers("o")}, {}, "primary_provider"),
        ("aws", {}, {}, "provider_functions"),
        ("a b", {"a b": answers("o")}, {}, "provider_functions.0"),
        ("openai", {"openai": answers("o"), "openai/gpt": answers("o")}, {}, "provider_functions"),
        ("openai", {"openai": answers("o")}, {"outcomes": {KeyError: "nonsense"}}, "outcomes"),
    ]
    for primary, functions, more, param in wrong:
        with pytest.raises(BadRequest) as caught:
            await c.call_with_failover(primary, functions, **more)
        assert caught.value.param == param
    with pytest.raises(theirs.NotFound):
        await c.call_with_failover("openai", {"openai": answers("o")}, model="gpt-17")


@in_world
async def test_the_caller_may_name_its_own_exceptions(w: World) -> None:
    class Busy(Exception):
        pass

    functions = {"openai": raises(Busy()), "local": answers("l")}
    result: FailoverResult = await Near(w).call_with_failover("openai", functions, outcomes={Busy: "overloaded"})
    assert [a["outcome"] for a in result.attempts] == ["overloaded", "ok"]
    with pytest.raises(Busy):
        await Near(w).call_with_failover("openai", functions, outcomes={Exception: "bad_request"})


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "connect"),
        (ConnectionResetError(), "broken"),
        (OSError(), "broken"),
        (FileNotFoundError(), "bad_request"),
        (json.JSONDecodeError("x", "", 0), "malformed"),
        (KeyError(), "bad_request"),
        (TypeError(), "bad_request"),
        (RuntimeError(), "unclassified"),
        (Refused(500), "server_error"),
        (Refused(529), "overloaded"),
        (Refused(422), "bad_request"),
        (Refused(404), "model_missing"),
    ],
)
def test_an_exception_says_whose_fault_it_is(error: Exception, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_the_clients_outcomes_are_the_tables() -> None:
    assert {kind: ENDINGS[kind].failover for kind in OUTCOMES} == dict(OUTCOMES)


def test_an_error_that_a_provider_wrote_into_a_chunk_is_typed_too() -> None:
    for said in ("overloaded", ["x"], 7):
        error = error_from({"error": said, "status": "failed"})
        assert (type(error), error.status, error.code) == (NoAnswer, 503, "malformed_answer")


@in_world
async def test_a_report_that_is_none_is_refused(w: World) -> None:
    functions = Functions(w.service)
    good = {"target": "openai/gpt", "epoch": 0, "incarnation": 1, "kind": "ok"}
    for bad in (7, [7], [{**good, "kind": "nonsense"}], [{**good, "epoch": "x"}], [{**good, "ms": float("nan")}]):
        with pytest.raises(BreakwaterError):
            await functions.report(bad)


def test_why_the_application_cannot_be_reached_is_told_on_one_line_whatever_rays_message_begins_with() -> None:
    class Unreached(Client):
        async def _handle(self) -> Any:
            raise ConnectionError("\n\nNo cluster\n  at 10.0.0.7 answered.\n")

    with pytest.raises(theirs.Unavailable) as away:
        run_virtually(Unreached().get_system_health())
    assert str(away.value) == "Breakwater can't be reached: ConnectionError: No cluster at 10.0.0.7 answered."
