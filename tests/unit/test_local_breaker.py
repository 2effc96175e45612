"""The circuits that an ingress keeps on its own word, and how requests fare by them while the actor is away."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.circuit import Mode, Policy, Report, State
from actors.breaker.outcomes import Outcome, Verdict
from actors.breaker.plan import UNKNOWN_CIRCUIT, CircuitSnapshot
from deployments.breaker_client.actor_connection import AWAY_SECONDS
from deployments.breaker_client.local_breaker import CAP_SECONDS, HOLD_SECONDS, LocalBreaker
from tests.unit.tiers import CONNECT, E500, REST_SECONDS, ask, in_tiers, opened, since, state
from tests.unit.world import World

OK, STARTED, FLOWING, NEUTRAL = Verdict.OK, Verdict.STARTED, Verdict.FLOWING, Verdict.NEUTRAL
FAILED, THROTTLED, REFUSED = Verdict.FAILED_START, Verdict.THROTTLED, Verdict.REFUSED
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
T = "aws/haiku"
WELL = replace(UNKNOWN_CIRCUIT, epoch=7)
OUT = CircuitSnapshot(OPEN, Mode.AUTO, 7, 1060.0, "failures", panicky=True)


class Word:
    """Our own word of one target, and a clock beside it."""

    def __init__(self, sight: CircuitSnapshot = WELL):
        self.own = LocalBreaker(Policy())
        self.sight = sight  # the actor's last word
        self.now = 1000.0

    def note(self, verdict: Verdict, trial: str | None = None, **more: float) -> None:
        closed = self.sight.state is CLOSED
        self.own.note(T, Report(7, verdict, trial, **more), self.now, closed=closed)  # type: ignore[arg-type]

    def fail(self, times: int = 3) -> None:
        for _ in range(times):
            self.note(FAILED)

    def take(self, *, panic: bool = False) -> str | None:
        return self.own.take(T, self.sight, self.now, panic=panic)

    def seen(self, *, cut_off: bool = False) -> CircuitSnapshot:
        return self.own.view({T: self.sight}, cut_off=cut_off)[T]


@pytest.fixture
def word() -> Word:
    return Word()


@pytest.fixture
def away() -> Word:
    """The actor holds it open, and can't be asked."""
    return Word(OUT)


@pytest.mark.parametrize("verdict", [OK, STARTED, FLOWING, NEUTRAL, REFUSED])
def test_what_goes_well_here_is_not_remembered(word: Word, verdict: Verdict) -> None:
    word.note(verdict)
    sight = {T: word.sight}
    assert not word.own
    assert word.own.view(sight, cut_off=True) is sight


@pytest.mark.parametrize("cut_off", [False, True])
def test_three_failures_here_leave_it_out_here_for_ten_seconds(word: Word, cut_off: bool) -> None:
    word.fail(2)
    assert word.seen(cut_off=cut_off).state is CLOSED
    word.fail(1)
    seen = word.seen(cut_off=cut_off)
    assert (seen.state, seen.open_until, seen.reason, seen.panicky) == (OPEN, 1000.0 + HOLD_SECONDS, "failures", True)
    assert (seen.epoch, word.own.holds(T)) == (7, True), "its epoch is the actor's"


def test_it_is_told_of_targets_that_the_actor_has_never_named(word: Word) -> None:
    word.fail()
    assert word.own.view({}, cut_off=True)[T].state is OPEN


def test_a_target_that_failed_a_little_is_forgotten_when_it_goes_well_again(word: Word) -> None:
    word.fail(2)
    assert word.own
    word.note(OK, whole=True)
    assert not word.own


def test_each_time_it_fails_its_trial_it_rests_for_twice_as_long_to_a_minute(word: Word) -> None:
    word.fail()
    rests = []
    for _ in range(5):
        rests.append(word.seen().open_until - word.now)
        word.now = word.seen().open_until
        word.note(FAILED, word.take())
    assert rests == [10.0, 20.0, 40.0, 60.0, CAP_SECONDS]


def test_one_trial_at_a_time_and_only_when_its_time_is_over(word: Word) -> None:
    word.fail()
    word.now += HOLD_SECONDS - 0.1
    assert word.take() is None
    word.now += 0.1
    assert word.take() is not None
    assert word.seen().probing(word.now)
    assert [word.take() for _ in range(5)] == [None] * 5


def test_a_trial_that_was_not_used_says_nothing_and_the_next_may_take_it(word: Word) -> None:
    word.fail()
    word.now += HOLD_SECONDS
    for _ in range(20):
        trial = word.take()
        assert trial is not None
        word.own.release(T, trial, word.now)
    assert word.seen().state is HALF_OPEN
    assert not word.seen().probing(word.now)
    word.note(OK, word.take(), whole=True)
    assert word.seen().state is CLOSED


def test_a_trial_that_is_never_heard_of_again_keeps_nobody_away_for_good(word: Word) -> None:
    word.fail()
    word.now += HOLD_SECONDS
    assert word.take() is not None
    word.now += Policy().lease
    assert not word.seen().probing(word.now)
    assert word.take() is not None


def test_a_trial_that_flows_closes_and_opens_again_when_it_breaks(away: Word) -> None:
    away.now = OUT.open_until
    trial = away.take()
    away.note(STARTED, trial)
    assert away.seen(cut_off=True).state is HALF_OPEN
    away.note(FLOWING, trial, seconds=5.0)
    assert away.seen(cut_off=True).state is CLOSED
    away.note(Verdict.FAILED_STREAM, trial)
    assert away.seen(cut_off=True).state is OPEN


def test_a_throttle_here_is_heeded_for_as_long_as_it_says_and_no_panic_wakes_it(word: Word) -> None:
    word.note(THROTTLED, retry_after=30.0)
    seen = word.seen()
    assert (seen.state, seen.open_until, seen.panicky) == (OPEN, 1030.0, False)
    assert word.take(panic=True) is None


def test_a_panic_tries_what_failed_before_its_time_once_a_second(word: Word) -> None:
    word.fail()
    trial = word.take(panic=True)
    assert trial is not None
    word.note(FAILED, trial)
    assert word.take(panic=True) is None
    word.now += Policy().panic_every
    assert word.take(panic=True) is not None


def test_while_the_actor_can_be_asked_its_word_holds_for_what_it_holds_open(away: Word) -> None:
    away.fail()
    assert away.seen(cut_off=False) == OUT
    away.note(OK, whole=True)
    assert away.seen(cut_off=False) == OUT


def test_while_it_cannot_be_asked_nothing_is_tried_before_the_time_that_it_named(away: Word) -> None:
    away.now = OUT.open_until - 0.1
    assert away.take() is None
    away.now = OUT.open_until
    assert away.take() is not None


def test_a_trial_that_succeeds_closes_it_for_us_bit_by_bit_until_the_actor_speaks(away: Word) -> None:
    away.now = OUT.open_until
    away.note(OK, away.take(), whole=True)
    seen = away.seen(cut_off=True)
    assert (seen.state, seen.ramp_from, seen.panicky) == (CLOSED, away.now, False)
    assert away.seen(cut_off=False) == OUT
    assert away.own, "it is remembered while the actor says otherwise"
    away.own.forget(T)
    assert not away.own
    assert away.seen(cut_off=True) == OUT


def test_a_trial_that_fails_leaves_it_out_on_our_own_word(away: Word) -> None:
    away.now = OUT.open_until
    away.note(FAILED, away.take())
    assert (away.seen(cut_off=True).state, away.seen(cut_off=True).open_until) == (OPEN, away.now + HOLD_SECONDS)
    assert away.take() is None


@pytest.mark.parametrize("reason", ["throttled", "misconfigured"])
def test_what_told_the_actor_to_wait_is_woken_by_no_panic_of_ours(reason: str) -> None:
    word = Word(replace(OUT, reason=reason, panicky=False))
    assert word.take(panic=True) is None
    assert not word.seen(cut_off=True).panicky


def test_a_new_policy_changes_the_threshold_and_not_our_own_times(word: Word) -> None:
    word.own.set_policy(Policy(failure_threshold=1, recovery_timeout=600.0, recovery_cap=900.0))
    word.fail(1)
    assert word.seen().open_until == word.now + HOLD_SECONDS


@given(
    st.sampled_from([WELL, OUT, replace(OUT, reason="throttled", panicky=False, open_until=1200.0)]),
    st.lists(st.sampled_from(["ok", "fail", "start", "ask", "panic", "release", "a second", "a minute"]), max_size=40),
)
def test_whatever_happens_here_a_missing_actor_adds_nothing_before_its_time(
    sight: CircuitSnapshot, steps: list[str]
) -> None:
    """What it holds open is tried when it is due, by one at a time, and closed by a trial that went well alone.

    Where the provider had refused us, a trial's first content is enough.
    """
    word, trial, heard_at = Word(sight), None, 0.0
    proven = woken = False  # by a trial that went well, by a panic
    for what in steps:
        word.now += {"a second": 1.0, "a minute": 60.0}.get(what, 0.0)
        if what in ("ok", "fail", "start") and (trial or sight.state is CLOSED):
            proves = trial is not None and (what == "ok" or (what == "start" and sight.reason == "throttled"))
            proven |= proves
            word.note({"ok": OK, "fail": FAILED, "start": STARTED}[what], trial, whole=True)
            trial, heard_at = (trial, word.now) if what == "start" and not proves else (None, heard_at)
        elif what in ("ask", "panic") and (got := word.take(panic=what == "panic")):
            assert trial is None or word.now >= heard_at + Policy().lease, "two trials at a time"
            woken |= what == "panic" and sight.panicky
            assert word.now >= sight.open_until or woken
            trial, heard_at = got, word.now
        elif what == "release" and trial:
            word.own.release(T, trial, word.now)
            trial = None
        near, cut_off = word.seen(), word.seen(cut_off=True)
        if sight.state is not CLOSED:
            assert near == sight
            assert cut_off.state is not CLOSED or proven
        assert (near.epoch, cut_off.epoch, near.mode) == (sight.epoch, sight.epoch, sight.mode)


# Requests, while the actor is away.


def heal(w: World) -> None:
    for script in w.hop.providers.values():
        script.ends = [None]


@in_tiers()
async def test_while_the_actor_is_away_one_request_tries_what_is_due_and_the_others_go_round(w: World) -> None:
    await opened(w, "aws")
    calls = w.provider("aws").calls
    w.actor.kill()
    await asyncio.sleep(REST_SECONDS)
    w.provider("aws").seconds = 5.0
    answers = await asyncio.gather(*(ask(w) for _ in range(20)))
    assert sorted(str(a.by) for a in answers) == ["aws/haiku"] + ["openai/gpt"] * 19
    assert w.provider("aws").calls == calls + 1


@in_tiers()
async def test_while_the_actor_is_away_nothing_is_asked_before_the_time_that_it_named(w: World) -> None:
    await opened(w, "aws")
    calls = w.provider("aws").calls
    w.actor.kill()
    for _ in range(50):
        assert (await ask(w)).by == "openai/gpt"
        await asyncio.sleep(1)
    assert w.provider("aws").calls == calls


@in_tiers()
async def test_what_comes_back_on_our_own_word_is_left_out_again_when_it_fails(w: World) -> None:
    await opened(w, "aws")
    w.actor.kill()
    w.provider("aws").ends = [CONNECT]
    await asyncio.sleep(REST_SECONDS)
    calls = w.provider("aws").calls
    for _ in range(35):
        assert (await ask(w)).by == "openai/gpt"
        await asyncio.sleep(1)
    assert w.provider("aws").calls == calls + 3, "at once, after ten seconds more, and after twenty"


@in_tiers()
async def test_the_actors_word_replaces_ours_when_it_is_back(w: World) -> None:
    await opened(w, "aws")
    w.actor.kill()
    await asyncio.sleep(REST_SECONDS)
    assert (await ask(w)).by == "aws/haiku"
    await w.settle()
    w.actor.incarnation += 1
    w.actor.start(w.service.breaker_config())
    w.actor.away = False
    await asyncio.sleep(2)
    await w.breaker.call("command", "isolate", "aws", 600.0)
    await w.settle()
    assert (await ask(w)).by == "openai/gpt"
    assert not w.breaker._own


@in_tiers()
async def test_an_isolation_ends_when_its_time_is_over_though_the_actor_is_away(w: World) -> None:
    await w.breaker.call("command", "isolate", "openai", 60.0)
    await w.settle()
    w.actor.kill()
    await asyncio.sleep(58)
    ended = await ask(w, "solo")
    assert (ended.by, ended.steps, w.provider("openai").calls) == (503, ["openai: skipped: isolated"], 0)
    assert ended.retry_after == pytest.approx(60 - 58 - 0.6, abs=0.01)
    await asyncio.sleep((ended.retry_after or 0) + 0.01)
    assert (await ask(w, "solo")).by == "openai/gpt"


@in_tiers()
async def test_a_probe_that_was_out_when_the_actor_went_away_keeps_the_others_out_for_its_lease_only(
    w: World,
) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    w.provider("aws").seconds = 5.0
    probe = asyncio.create_task(ask(w))
    await asyncio.sleep(1)
    w.actor.kill()
    assert (await probe).by == "aws/haiku"
    w.provider("aws").seconds = 0.0
    came, began = [], w.actor.now
    for _ in range(60):
        came.append((await ask(w)).by)
        if came[-1] == "aws/haiku":
            break
        await asyncio.sleep(1)
    assert since(w, began) <= w.breaker._policy.lease + 1
    assert set(came[:-1]) <= {"openai/gpt"}


@in_tiers()
async def test_an_actor_that_only_hangs_is_as_good_as_away(w: World) -> None:
    await opened(w, "aws")
    w.actor.slow = 1e6
    await asyncio.sleep(REST_SECONDS)
    assert (await ask(w)).by == "aws/haiku"
    assert w.breaker._actor.cut_off
    assert REST_SECONDS > AWAY_SECONDS


# A trial is taken by whoever calls, when its turn has come.


@in_tiers()
async def test_a_request_that_is_answered_before_it_leaves_the_trial_of_the_next_tier_to_others(w: World) -> None:
    aws, openai = w.provider("aws"), w.provider("openai")
    w.actor.kill()
    await asyncio.sleep(0.1)
    openai.ends = [CONNECT]
    for _ in range(3):
        assert (await ask(w, "solo")).by == 503
    openai.ends = [None]
    calls = openai.calls
    await asyncio.sleep(HOLD_SECONDS + 5)
    assert (await ask(w)).by == "aws/haiku"
    assert openai.calls == calls
    aws.ends = [E500]
    ended = await ask(w)
    assert (ended.by, ended.steps) == ("openai/gpt", ["aws: server_error", "openai: ok"])
    aws.ends = [None]
    assert (await ask(w, "solo")).by == "openai/gpt"


@in_tiers()
async def test_so_it_is_where_the_actor_is_there_and_holds_that_tier_closed(w: World) -> None:
    aws, openai = w.provider("aws"), w.provider("openai")
    openai.ends = [CONNECT]
    for number in range(3):
        await ask(w, "solo")
        await asyncio.sleep(0.2)
        # Elsewhere it is well: fifty whole answers.
        well = {
            "target": "openai/gpt",
            "epoch": 0,
            "verdict": "ok",
            "kind": "ok",
            "ms": 1.0,
            "count": 50,
            "whole": True,
        }
        await w.actor.report("another ingress", number + 1, [well])
    openai.ends = [None]
    await asyncio.sleep(HOLD_SECONDS + 5)
    assert state(w, "openai/gpt") == "closed"
    assert w.breaker._own.holds("openai/gpt")
    assert (await ask(w)).by == "aws/haiku"
    aws.ends = [E500]
    assert (await ask(w)).by == "openai/gpt"
    assert not w.breaker._own.holds("openai/gpt")
    assert w.actor.asks == 0


@in_tiers()
async def test_a_trial_whose_caller_leaves_is_the_next_ones(w: World) -> None:
    w.actor.kill()
    openai = w.provider("openai")
    openai.ends = [CONNECT]
    for _ in range(3):
        await ask(w, "solo")
    openai.ends, openai.seconds = [None], 5.0
    await asyncio.sleep(HOLD_SECONDS + 1)
    leaving = asyncio.create_task(ask(w, "solo"))
    await asyncio.sleep(1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert openai.cancelled == 1
    ended = await ask(w, "solo")
    assert (ended.by, ended.steps) == ("openai/gpt", ["openai: ok"])


@in_tiers()
async def test_a_throttle_while_the_actor_is_away_is_heeded_for_as_long_as_it_says(w: World) -> None:
    w.actor.kill()
    w.provider("aws").ends = [Outcome("throttled", status=429, retry_after=30.0), None]
    for _ in range(29):
        assert (await ask(w)).by == "openai/gpt"
        await asyncio.sleep(1)
    await asyncio.sleep(1.5)
    assert (await ask(w)).by == "aws/haiku"
    assert w.provider("aws").calls == 2


def test_what_went_well_leaves_no_circuit_behind_here(word: Word) -> None:
    word.note(OK, whole=True)
    word.note(STARTED)
    assert not word.own
