"""A caller may name any deadline for any prompt: that opens no circuit for others, and a target that hangs is found."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.breaker_client.cut_calls import LATELY_SECONDS, MOST_CALLERS, MOST_TARGETS, CutCalls
from deployments.errors import NoAnswer
from deployments.openai_api.chat import completion, dump
from deployments.usage.caller import Caller
from tests.unit.tiers import asked_for, in_tiers, state
from tests.unit.world import HEAD, World

T = "openai/gpt"


def test_a_cut_counts_while_nobody_is_known_to_be_answered() -> None:
    assert CutCalls().counts(T, "me", began=0.0, now=2.0)


def test_a_cut_says_nothing_where_a_call_that_began_later_was_answered_whoever_sent_it() -> None:
    for caller in ("me", "other", None):
        calls = CutCalls()
        calls.note_answer(T, caller, began=1.0)
        assert not calls.counts(T, "me", began=0.5, now=60.0)
        assert calls.counts("openai/other", "me", began=0.5, now=60.0), "each target is judged by itself"


def test_a_cut_says_nothing_while_another_caller_was_answered_lately_and_ones_own_answers_of_before_do_not_help() -> (
    None
):
    calls = CutCalls()
    calls.note_answer(T, "other", began=10.0)
    assert not calls.counts(T, "me", began=20.0, now=10.0 + LATELY_SECONDS - 0.1)
    assert calls.counts(T, "me", began=20.0, now=10.0 + LATELY_SECONDS)
    calls.note_answer(T, "me", began=50.0)
    assert calls.counts(T, "me", began=51.0, now=53.0)


def test_where_two_callers_are_cut_lately_the_target_is_at_fault() -> None:
    calls = CutCalls()
    for caller in ("me", "other", "third"):
        calls.note_answer(T, caller, began=10.0)
    assert not calls.counts(T, "me", began=11.0, now=13.0)
    assert not calls.counts(T, "me", began=12.0, now=14.0)
    assert calls.counts(T, "other", began=11.0, now=14.5)
    assert calls.counts(T, "me", began=13.0, now=15.0)


def test_callers_and_targets_that_clients_make_up_are_not_kept_for_ever() -> None:
    calls = CutCalls()
    for number in range(3 * max(MOST_CALLERS, MOST_TARGETS)):
        calls.note_answer(T, f"caller{number}", began=0.0)
        calls.counts(T, f"caller{number}", began=0.0, now=1.0)
        calls.note_answer(f"openai/{number}", "me", began=0.0)
    assert len(calls._targets) == MOST_TARGETS
    assert T in calls._targets, "it was asked all the time"
    seen = calls._seen(T)
    assert max(len(seen.answered), len(seen.cut)) <= MOST_CALLERS


async def by_text(_: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
    """A provider that needs a minute for a long answer, and half a second for any other."""
    await asyncio.sleep(60.0 if call["body"]["messages"][0]["content"] == "long" else 0.5)
    return {"body": dump(completion(HEAD, "x", "stop", None)), "usage": None, "upstream": {"ms": 1.0}}


async def ask(w: World, tenant: str | None, text: str, seconds: float | None) -> int:
    try:
        await w.service.complete(asked_for("solo", text=text), w.service.deadline(seconds), Caller("http", tenant))
    except NoAnswer as error:
        return error.status
    return 200


@pytest.mark.parametrize(("theirs", "others"), [(0.05, 0.1), (1.0, 1.0), (1.0, 10.0)])
@in_tiers()
async def test_a_caller_in_a_hurry_for_long_answers_moves_nobody_elses_circuit(
    w: World, theirs: float, others: float
) -> None:
    w.hop.complete = by_text  # type: ignore[method-assign, assignment]
    for _ in range(3):
        assert await ask(w, "others", "Hi", None) == 200
    end, states, tasks = w.actor.now + 60.0, set[str](), list[asyncio.Task[int]]()

    async def crowd(tenant: str, text: str, seconds: float | None, gap: float) -> None:
        while w.actor.now < end:
            tasks.append(asyncio.create_task(ask(w, tenant, text, seconds), name=tenant))
            states.add(state(w, "openai/gpt"))
            await asyncio.sleep(gap)

    await asyncio.gather(crowd("hurried", "long", 2.0, theirs), crowd("others", "Hi", None, others))
    answers = {(task.get_name(), await task) for task in tasks}
    assert (states, answers) == ({"closed"}, {("hurried", 504), ("others", 200)})


@in_tiers()
async def test_where_no_keys_tell_callers_apart_a_call_that_began_later_and_was_answered_excuses_a_cut(
    w: World,
) -> None:
    w.hop.complete = by_text  # type: ignore[method-assign, assignment]
    for _ in range(60):
        long = asyncio.create_task(ask(w, None, "long", 2.0))
        await asyncio.sleep(0.1)
        assert await ask(w, None, "Hi", None) == 200
        assert await long == 504
    await w.settle()
    assert (state(w, "openai/gpt"), w.targets()["openai/gpt"]["failed"]) == ("closed", 0)


@pytest.mark.parametrize("tenants", [["a"], [None], ["a", "b"], ["a", "b", "c"]])
@in_tiers()
async def test_a_target_that_hangs_is_found_by_callers_in_a_hurry_within_a_call_more_each(
    w: World, tenants: list[str | None]
) -> None:
    openai = w.provider("openai")
    openai.seconds = 0.5
    for tenant in tenants:
        assert await ask(w, tenant, "Hi", None) == 200
    openai.seconds = 10_000.0
    for number in range(3 + len(tenants)):
        assert await ask(w, tenants[number % len(tenants)], "Hi", 2.0) == 504
    await w.settle()
    assert state(w, "openai/gpt") == "open"
