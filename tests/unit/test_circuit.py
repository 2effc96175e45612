"""The circuit of one target, message by message. Time is an argument."""

import math
from dataclasses import replace

import pytest

from actors.breaker.circuit import (
    Ask,
    Breaker,
    Isolate,
    Lease,
    Message,
    Mode,
    Policy,
    Recover,
    Release,
    Report,
    Reset,
    Restore,
    State,
    Step,
    Tick,
    step,
)
from actors.breaker.outcomes import ENDINGS, Verdict

POLICY = Policy()
OK, STARTED, NEUTRAL = Verdict.OK, Verdict.STARTED, Verdict.NEUTRAL
FAILED, CUT, THROTTLED, MISCONFIGURED = (
    Verdict.FAILED_START,
    Verdict.FAILED_STREAM,
    Verdict.THROTTLED,
    Verdict.MISCONFIGURED,
)


class Circuit:
    """A breaker with a clock beside it."""

    def __init__(self, policy: Policy = POLICY):
        self.policy = policy
        self.now = 100.0
        self.b = Breaker()
        self.names = iter(range(1000))

    def take(self, message: Message) -> Step:
        before = self.b
        taken = step(self.b, self.now, message, self.policy)
        self.b = taken.breaker
        moved = (before.state, before.mode) != (self.b.state, self.b.mode)
        commanded = isinstance(message, Recover | Reset)
        assert (self.b.epoch > before.epoch) == (moved or commanded), "the epoch moves with nothing else"
        return taken

    def report(self, verdict: Verdict, *, epoch: int | None = None, **details: object) -> Step:
        return self.take(Report(self.b.epoch if epoch is None else epoch, verdict, **details))  # type: ignore[arg-type]

    def ask(self, name: str | None = None) -> str | None:
        granted = self.take(Ask(name or f"ask-{next(self.names)}")).granted
        return granted.name if granted else None

    def fail(self, times: int, verdict: Verdict = FAILED) -> None:
        for _ in range(times):
            self.report(verdict)

    def opened(self) -> "Circuit":
        self.fail(3)
        assert self.b.state is State.OPEN
        return self

    def probing(self) -> str:
        self.opened()
        self.now = self.b.open_until
        lease = self.ask()
        assert lease is not None
        return lease


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


def test_the_third_consecutive_failure_opens_for_sixty_seconds(circuit: Circuit) -> None:
    circuit.fail(2)
    assert circuit.b.state is State.CLOSED
    circuit.fail(1)
    assert (circuit.b.state, circuit.b.reason) == (State.OPEN, "failures")
    assert circuit.b.open_until == circuit.now + 60


def test_a_whole_answer_between_failures_starts_the_run_anew(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.report(OK, whole=True)
    circuit.fail(2)
    assert circuit.b.state is State.CLOSED


def test_the_end_of_an_old_stream_does_not_hide_a_dead_connect_path(circuit: Circuit) -> None:
    for _ in range(3):
        circuit.report(FAILED)
        circuit.report(OK)
    assert circuit.b.state is State.OPEN


def test_first_tokens_do_not_hide_streams_that_die(circuit: Circuit) -> None:
    for _ in range(3):
        circuit.report(STARTED)
        circuit.report(CUT)
    assert circuit.b.state is State.OPEN


def test_a_first_token_clears_the_run_before_it(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.report(STARTED)
    circuit.fail(2)
    assert circuit.b.state is State.CLOSED


def test_failures_of_the_two_phases_do_not_add_up(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.fail(2, CUT)
    assert circuit.b.state is State.CLOSED


def test_a_neutral_end_neither_counts_nor_clears(circuit: Circuit) -> None:
    circuit.fail(2)
    for _ in range(100):
        circuit.report(NEUTRAL)
    assert circuit.b.state is State.CLOSED
    circuit.fail(1)
    assert circuit.b.state is State.OPEN


def test_no_call_passes_before_the_open_time_is_over(circuit: Circuit) -> None:
    circuit.opened()
    circuit.now = circuit.b.open_until - 0.001
    assert circuit.ask() is None
    assert circuit.b.state is State.OPEN


def test_of_fifty_askers_one_gets_the_probe(circuit: Circuit) -> None:
    circuit.opened()
    circuit.now = circuit.b.open_until
    assert sum(circuit.ask() is not None for _ in range(50)) == 1
    assert circuit.b.state is State.HALF_OPEN


def test_the_same_ask_gets_the_same_permit(circuit: Circuit) -> None:
    circuit.opened()
    circuit.now = circuit.b.open_until
    assert circuit.ask("mine") == circuit.ask("mine") == "mine"
    assert len(circuit.b.leases) == 1


def test_a_probe_that_answers_whole_closes(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.report(STARTED, lease=lease)
    assert circuit.b.state is State.HALF_OPEN, "a first token proves nothing"
    circuit.report(OK, lease=lease)
    assert circuit.b.state is State.CLOSED
    assert (circuit.b.start_run, circuit.b.stream_run, circuit.b.ring) == (0, 0, ())


@pytest.mark.parametrize("verdict", [FAILED, CUT])
def test_a_failed_probe_opens_for_twice_as_long_up_to_a_cap(circuit: Circuit, verdict: Verdict) -> None:
    lease: str | None = circuit.probing()
    held = []
    for _ in range(4):
        circuit.report(verdict, lease=lease)
        assert circuit.b.state is State.OPEN
        held.append(circuit.b.open_until - circuit.now)
        circuit.now = circuit.b.open_until
        lease = circuit.ask()
    assert held == [120, 120, 120, 120]


def test_a_report_without_the_lease_decides_nothing_in_half_open(circuit: Circuit) -> None:
    circuit.probing()
    assert circuit.report(OK).late
    assert circuit.report(FAILED, lease="somebody else's").late
    assert circuit.b.state is State.HALF_OPEN
    assert len(circuit.b.leases) == 1


def test_a_success_from_before_the_trip_does_not_close(circuit: Circuit) -> None:
    old = circuit.b.epoch
    circuit.opened()
    assert circuit.report(OK, epoch=old, whole=True).late
    assert circuit.b.state is State.OPEN
    circuit.now = circuit.b.open_until
    circuit.ask()
    assert circuit.report(OK, epoch=old, whole=True).late
    assert circuit.b.state is State.HALF_OPEN


def test_late_failures_do_not_extend_the_open_time(circuit: Circuit) -> None:
    old = circuit.b.epoch
    circuit.opened()
    until = circuit.b.open_until
    circuit.now += 30
    for _ in range(10):
        circuit.report(FAILED, epoch=old)
    assert circuit.b.open_until == until


def test_a_neutral_probe_gives_its_permit_back_and_the_fifth_gives_up(circuit: Circuit) -> None:
    lease: str | None = circuit.probing()
    for _ in range(4):
        circuit.report(NEUTRAL, lease=lease)
        assert circuit.b.state is State.HALF_OPEN
        lease = circuit.ask()
        assert lease is not None
    circuit.report(NEUTRAL, lease=lease)
    assert (circuit.b.state, circuit.b.reason, circuit.b.level) == (State.OPEN, "inconclusive", 1)


def test_a_released_permit_can_be_had_again(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.take(Release("unknown"))
    assert circuit.ask() is None
    circuit.take(Release(lease))
    assert circuit.ask() is not None


def test_a_probe_that_is_never_reported_is_lost_after_its_lease(circuit: Circuit) -> None:
    circuit.probing()
    circuit.now += POLICY.lease
    circuit.take(Tick())
    assert circuit.b.state is State.HALF_OPEN, "it may be we who were away"
    assert circuit.ask() is not None, "stuck for ever"


def test_the_fifth_probe_that_is_lost_gives_up(circuit: Circuit) -> None:
    circuit.probing()
    for _ in range(4):
        circuit.now += POLICY.lease
        assert circuit.ask() is not None
    circuit.now += POLICY.lease
    circuit.take(Tick())
    assert (circuit.b.state, circuit.b.reason) == (State.OPEN, "lost")


def test_a_probe_out_in_the_world_stays_the_only_one_over_an_operators_command(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.take(Isolate())
    circuit.take(Restore())
    circuit.take(Recover())
    assert circuit.ask() is None, "two probes in flight"
    assert circuit.report(OK, lease=lease).late
    assert circuit.ask() is not None


def test_a_throttle_cools_for_the_named_time_and_counts_in_no_run(circuit: Circuit) -> None:
    circuit.fail(2)
    circuit.report(THROTTLED, retry_after=7.5)
    assert (circuit.b.state, circuit.b.reason, circuit.b.level) == (State.OPEN, "throttled", 0)
    assert circuit.b.open_until == circuit.now + 7.5
    assert circuit.b.start_run == 2


@pytest.mark.parametrize(
    ("said", "held"), [(0, 1), (0.5, 1), (20, 20), (86_400, 300), (math.inf, 300), (math.nan, 5), (-3, 5), (None, 5)]
)
def test_a_named_time_is_clamped_and_a_malformed_one_is_absent(
    circuit: Circuit, said: float | None, held: float
) -> None:
    circuit.report(THROTTLED, retry_after=said)
    assert circuit.b.open_until - circuit.now == held


def test_throttles_without_a_time_wait_longer_each_time(circuit: Circuit) -> None:
    held = []
    for _ in range(6):
        circuit.report(THROTTLED, lease=circuit.ask())
        held.append(circuit.b.open_until - circuit.now)
        circuit.now = circuit.b.open_until
    assert held == [5, 10, 20, 40, 60, 60]


def test_of_two_throttles_the_longer_time_holds(circuit: Circuit) -> None:
    old = circuit.b.epoch
    circuit.report(THROTTLED, retry_after=10)
    circuit.report(THROTTLED, epoch=old, retry_after=30)
    circuit.report(THROTTLED, epoch=old, retry_after=5)
    assert circuit.b.open_until == circuit.now + 30


def test_our_own_bad_key_opens_at_once_and_for_long(circuit: Circuit) -> None:
    circuit.report(MISCONFIGURED)
    assert (circuit.b.state, circuit.b.reason) == (State.OPEN, "misconfigured")
    assert circuit.b.open_until == circuit.now + 300
    circuit.now = circuit.b.open_until
    circuit.report(MISCONFIGURED, lease=circuit.ask())
    assert circuit.b.open_until == circuit.now + 600


def test_an_isolated_target_stays_so_whatever_is_reported(circuit: Circuit) -> None:
    circuit.take(Isolate())
    for verdict in Verdict:
        circuit.report(verdict, retry_after=1.0)
    circuit.now += 3599
    assert circuit.ask() is None
    assert (circuit.b.mode, circuit.b.state) == (Mode.ISOLATED, State.CLOSED)
    circuit.take(Restore())
    assert circuit.b.usable


def test_restore_leaves_an_open_circuit_open(circuit: Circuit) -> None:
    circuit.opened()
    circuit.take(Isolate())
    circuit.take(Restore())
    assert circuit.b.state is State.OPEN


def test_recover_allows_a_probe_now_and_reset_closes_now(circuit: Circuit) -> None:
    circuit.opened()
    circuit.take(Recover())
    assert circuit.ask() is not None
    circuit.take(Reset())
    assert circuit.b.usable


def test_jitter_only_ever_lengthens_an_open_time() -> None:
    b = Breaker()
    for _ in range(3):
        b = step(b, 0.0, Report(b.epoch, FAILED), POLICY, jitter=0.99).breaker
    assert 60 < b.open_until <= 72


def test_a_recovery_timeout_above_the_cap_is_kept() -> None:
    circuit = Circuit(Policy(recovery_timeout=300))
    circuit.opened()
    assert circuit.b.open_until - circuit.now == 300


def test_from_every_state_a_healthy_target_is_closed_again(circuit: Circuit) -> None:
    """The permit that nobody gives back is how breakers get stuck for days."""
    lease: str | None = circuit.probing()
    for verdict in (NEUTRAL, THROTTLED, FAILED, MISCONFIGURED):
        circuit.report(verdict, lease=lease)
        circuit.now = max(circuit.now, circuit.b.open_until)
        lease = circuit.ask()
        assert lease is not None
    circuit.report(OK, lease=lease)
    assert circuit.b.usable


def test_half_of_ten_calls_within_the_window_failing_opens(circuit: Circuit) -> None:
    for _ in range(4):
        circuit.report(FAILED)
        circuit.report(OK, whole=True)
    assert circuit.b.state is State.CLOSED
    circuit.report(OK, whole=True)
    circuit.report(FAILED)
    assert circuit.b.state is State.OPEN


def test_what_has_left_the_window_does_not_count(circuit: Circuit) -> None:
    for _ in range(9):
        circuit.report(FAILED)
        circuit.report(OK, whole=True)
        circuit.now += 8
    assert circuit.b.state is State.CLOSED


def test_a_success_never_opens_however_bad_the_window(circuit: Circuit) -> None:
    for _ in range(4):
        circuit.report(FAILED)
        circuit.report(OK, whole=True)
    circuit.report(FAILED)
    circuit.report(OK, whole=True)
    assert circuit.b.state is State.CLOSED


def test_a_circuit_that_flaps_stays_open_longer_and_healthy_time_forgets(circuit: Circuit) -> None:
    circuit.report(OK, lease=circuit.probing())
    circuit.now += 10
    circuit.opened()
    assert circuit.b.open_until - circuit.now == 120
    circuit.now = circuit.b.open_until
    circuit.report(OK, lease=circuit.ask())
    circuit.now += POLICY.level_decay
    circuit.opened()
    assert circuit.b.open_until - circuit.now == 60


def test_after_a_probe_the_share_grows_and_after_a_reset_it_is_whole(circuit: Circuit) -> None:
    assert circuit.b.share(circuit.now, POLICY) == 1
    circuit.report(OK, lease=circuit.probing())
    shares = [circuit.b.share(circuit.now + s, POLICY) for s in (0, 10, 20, 1000)]
    assert shares == [0.1, 0.55, 1.0, 1.0]
    circuit.take(Reset())
    assert circuit.b.share(circuit.now, POLICY) == 1


def test_a_panic_probes_what_failed_once_a_second(circuit: Circuit) -> None:
    circuit.opened()
    lease = circuit.take(Ask("a", panic=True)).granted
    assert lease is not None
    circuit.report(FAILED, lease="a")
    assert circuit.take(Ask("b", panic=True)).granted is None
    circuit.now += 1
    assert circuit.take(Ask("c", panic=True)).granted is not None


def test_an_operator_who_says_recover_begins_the_second_between_panics_anew(circuit: Circuit) -> None:
    circuit.opened()
    circuit.take(Ask("a", panic=True))
    circuit.report(FAILED, lease="a")
    circuit.take(Recover())
    circuit.take(Ask("b"))
    circuit.report(FAILED, lease="b")
    assert circuit.take(Ask("c", panic=True)).granted is not None
    circuit.report(FAILED, lease="c")
    assert circuit.take(Ask("d", panic=True)).granted is None


@pytest.mark.parametrize("verdict", [THROTTLED, MISCONFIGURED])
def test_a_panic_leaves_alone_who_told_us_to_wait(circuit: Circuit, verdict: Verdict) -> None:
    circuit.report(verdict)
    assert circuit.take(Ask("a", panic=True)).granted is None


def test_an_isolation_ends_by_itself(circuit: Circuit) -> None:
    circuit.take(Isolate(600))
    circuit.now += 599
    circuit.take(Tick())
    assert not circuit.b.usable
    circuit.now += 1
    circuit.take(Tick())
    assert circuit.b.usable


def test_a_probe_that_flows_keeps_its_lease(circuit: Circuit) -> None:
    lease = circuit.probing()
    for _ in range(10):
        circuit.now += POLICY.lease - 1
        circuit.report(STARTED, lease=lease)
    circuit.report(OK, lease=lease)
    assert circuit.b.state is State.CLOSED


@pytest.mark.parametrize("verdict", [THROTTLED, MISCONFIGURED])
def test_a_stream_that_begins_shows_that_the_provider_refuses_us_no_longer(circuit: Circuit, verdict: Verdict) -> None:
    circuit.report(verdict)
    circuit.now = circuit.b.open_until
    lease = circuit.ask()
    circuit.report(STARTED, lease=lease)
    assert circuit.b.state is State.CLOSED
    circuit.report(CUT, lease=lease)
    assert circuit.b.state is State.OPEN, "and it stays on trial"


def test_a_probe_that_flows_over_a_command_stays_the_only_one(circuit: Circuit) -> None:
    lease = circuit.probing()
    circuit.take(Recover())
    for _ in range(5):
        circuit.now += POLICY.lease - 1
        circuit.report(STARTED, lease=lease)
        assert circuit.ask() is None


def test_a_late_throttle_keeps_a_panic_away(circuit: Circuit) -> None:
    old = circuit.b.epoch
    circuit.opened()
    circuit.report(THROTTLED, epoch=old, retry_after=200)
    circuit.now += 1
    assert circuit.take(Ask("a", panic=True)).granted is None


def test_the_window_holds_no_more_slots_than_it_has_tenths(circuit: Circuit) -> None:
    for _ in range(200):
        circuit.report(OK, whole=True)
    assert len(circuit.b.ring) == 1
    assert circuit.b.ring[0].ended == 200


def test_of_two_probes_that_are_still_out_each_is_out_for_its_own_time(circuit: Circuit) -> None:
    circuit.probing()
    circuit.take(Recover())  # the first is a ghost
    circuit.now += POLICY.lease / 2
    assert circuit.ask() is None
    circuit.b = replace(circuit.b, ghosts=(*circuit.b.ghosts, Lease("later", circuit.now + POLICY.lease)))
    circuit.now += POLICY.lease / 2
    assert circuit.ask() is None, "the first is over, the second is not"
    circuit.now += POLICY.lease / 2
    assert circuit.ask() is not None


@pytest.mark.parametrize("kind", ["unsupported", "rejected", "bad_request", "too_long", "content_filter"])
def test_requests_that_a_target_cant_take_never_open_a_half_open_circuit(circuit: Circuit, kind: str) -> None:
    lease: str | None = circuit.probing()
    for _ in range(2 * POLICY.max_inconclusive):
        circuit.report(ENDINGS[kind].before, lease=lease)
        lease = circuit.ask()
        assert lease is not None
    assert circuit.b.state is State.HALF_OPEN


@pytest.mark.parametrize("reason", ["failures", "lost", "inconclusive"])
def test_a_circuit_that_nobody_told_to_wait_is_woken_by_a_panic(circuit: Circuit, reason: str) -> None:
    circuit.opened()
    circuit.b = replace(circuit.b, reason=reason)
    circuit.now += 1
    assert circuit.take(Ask("a", panic=True)).granted is not None


def test_recover_forgets_the_probes_that_said_nothing(circuit: Circuit) -> None:
    lease: str | None = circuit.probing()
    circuit.report(NEUTRAL, lease=lease)
    circuit.take(Recover())
    for _ in range(POLICY.max_inconclusive - 1):
        lease = circuit.ask()
        assert lease is not None
        circuit.report(NEUTRAL, lease=lease)
        assert circuit.b.state is State.HALF_OPEN
    circuit.report(NEUTRAL, lease=circuit.ask())
    assert circuit.b.state is State.OPEN


def test_a_stream_that_begins_has_not_ended(circuit: Circuit) -> None:
    circuit.report(STARTED)
    assert (circuit.b.ring[-1].began, circuit.b.ring[-1].ended) == (1, 0)
