"""Limits: refused in time, by the lease and what is used of it, and open again when their time comes."""

import pytest

from actors.ledger.budget import (
    FORGET_SECONDS,
    MINUTE,
    MONTHS_KEPT,
    Counters,
    Limit,
    Limits,
    Refusal,
    Spend,
    subjects_of,
)
from actors.ledger.messages import WriteAnswer
from actors.ledger.single_writer.leases import SETTLING_SECONDS, SILENT_SECONDS, Leases
from deployments.config.ledger import LimitsSettings
from deployments.usage.budget import ANSWER_SECONDS, ASKING, FRESH_SECONDS, Budget, Reservation

NOW = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC
ACME = ["tenant:acme"]
DAY = 86_400_000


def budget(refuse_unseen: bool = False, **limit: int) -> Budget:
    return Budget(Limits({"tenant:acme": Limit(**limit)}, refuse_unseen=refuse_unseen))


class Desk:
    """The actor's part, without a store: rows are counted when they are told."""

    def __init__(self) -> None:
        self.counters, self.leases = Counters(), Leases()

    def answer(self, name: str, b: Budget, at: float, now: int = NOW, position: int = 0) -> WriteAnswer:
        claims = b.report(position, now, at)
        totals = self.counters.totals(subject for subject in claims if subject)
        leases, recalled = self.leases.answer(name, claims, self.counters, at)
        return {"number": 0, "store": "up", "totals": totals, "leases": leases, "recalled": recalled}

    def hear(self, name: str, b: Budget, at: float, now: int = NOW, position: int = 0) -> None:
        b.acknowledge(position, self.answer(name, b, at, now, position), at)


def admitted(b: Budget, at: float = 0.0, now: int = NOW, tokens: int = 0, cost: int = 0) -> Reservation:
    answer = b.reserve(ACME, (1, tokens, cost), now, at)
    assert isinstance(answer, Reservation)
    return answer


def refused(b: Budget, at: float = 0.0, now: int = NOW, *, patient: bool = True) -> Refusal:
    answer = b.reserve(ACME, (1, 0, 0), now, at, patient=patient)
    assert isinstance(answer, Refusal)
    return answer


def known(used: int = 0, tokens: int = 0, cost: int = 0, **limit: int) -> tuple[Budget, Desk]:
    """Return a budget that has heard of acme once."""
    b, desk = budget(**limit), Desk()
    desk.counters.add("tenant:acme", Spend(NOW, used, tokens, cost))
    assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
    desk.hear("r", b, 0.0)
    return b, desk


def test_a_subject_that_nothing_is_known_of_is_asked_for_and_not_waved_through() -> None:
    b = budget(requests_per_minute=2)
    assert not b.asks
    assert [b.reserve(ACME, (1, 0, 0), NOW, 0.0) for _ in range(100)] == [ASKING] * 100
    assert b.asks
    Desk().hear("r", b, 0.1)
    assert not b.asks
    admitted(b, 0.1)


def test_requests_a_minute_are_refused_until_the_minute_is_over() -> None:
    b, _ = known(used=1, requests_per_minute=2)
    admitted(b).begin()
    b.spent(ACME, Spend(NOW, requests=1))
    refusal = refused(b)
    assert (refusal.limit, refusal.used, refusal.status, refusal.reset_seconds) == ("requests_per_minute", 2, 429, 40.0)
    assert b.reserve(ACME, (1, 0, 0), NOW + 40_000, 0.0) is ASKING


def test_a_months_cost_is_refused_until_the_month_is_over() -> None:
    b, _ = known(cost=1000, monthly_cost=1000)
    refusal = refused(b)
    assert (refusal.limit, refusal.status, refusal.used) == ("monthly_cost", 402, 1000)
    assert refusal.reset_seconds == 9 * 86400 + 35_200  # until 1 October
    assert b.reserve(ACME, (1, 0, 0), NOW + 10 * DAY, 0.0) is ASKING


def test_what_is_under_way_is_held_and_may_need_the_rest() -> None:
    b, _ = known(monthly_cost=1000)
    held = admitted(b, cost=1360)
    refusal = refused(b)
    assert (refusal.limit, refusal.status, refusal.under_way, refusal.reset_seconds) == ("monthly_cost", 429, True, 1.0)
    held.release()
    admitted(b, cost=360)


def test_a_reservation_is_given_back_once_however_often_it_ends() -> None:
    b, desk = known(tokens_per_minute=100)
    first, second = admitted(b, tokens=1), admitted(b, tokens=150)
    for _ in range(3):
        first.release()
    assert refused(b).under_way
    del second  # its task was lost
    admitted(b)
    assert desk.leases is not None


def test_the_last_request_may_go_over_the_lease_and_no_other() -> None:
    b, _ = known(tokens=90, tokens_per_minute=100)
    _held = admitted(b, tokens=5000)
    refused(b)


def test_the_rows_of_a_batch_move_from_the_lease_to_the_truth() -> None:
    b, desk = known(requests_per_minute=100)
    for _ in range(3):
        admitted(b).begin()
        b.spent(ACME, Spend(NOW, requests=1))
        desk.counters.add("tenant:acme", Spend(NOW, requests=1))
    b.cut(100)
    desk.hear("r", b, 0.1, position=100)
    (standing,) = b._standings.values()
    (share,) = standing.shares
    assert (share.used, share.known.truth) == (0, 3)
    assert desk.leases._subjects["tenant:acme"]["requests_per_minute"].now["r"][1].room == share.known.lease


def test_a_batch_of_earlier_rows_leaves_later_ones_counted() -> None:
    b, desk = known(used=1, requests_per_minute=2)
    admitted(b).begin()
    b.spent(ACME, Spend(NOW, requests=1))
    b.cut(500)
    desk.hear("r", b, 0.1, position=200)  # a batch of old rows, of a long queue
    refused(b, 0.1)


def test_two_replicas_never_have_more_than_the_limit_between_them() -> None:
    desk, replicas = Desk(), {name: budget(requests_per_minute=10) for name in ("a", "b")}
    count = 0
    for turn in range(20):
        for name, b in replicas.items():
            while isinstance(answer := b.reserve(ACME, (1, 0, 0), NOW, turn / 10), Reservation):
                answer.begin()
                b.spent(ACME, Spend(NOW, requests=1))
                count += 1
            desk.hear(name, b, turn / 10)
    assert count == 10


def test_a_lease_that_is_not_used_comes_back_when_another_needs_it() -> None:
    desk, idle, busy = Desk(), budget(requests_per_minute=32), budget(requests_per_minute=32)
    for b in (idle, busy):
        assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
    desk.hear("idle", idle, 0.0)
    count = 0
    for at in (turn / 10 for turn in range(1, 15)):
        while isinstance(answer := busy.reserve(ACME, (1, 0, 0), NOW, at), Reservation):
            answer.begin()
            busy.spent(ACME, Spend(NOW, requests=1))
            count += 1
        desk.hear("busy", busy, at)
        desk.hear("idle", idle, at)
    assert count == 32


def test_a_no_of_the_actor_holds_for_a_moment_and_is_then_asked_again() -> None:
    desk, one, other = Desk(), budget(tokens_per_minute=100), budget(tokens_per_minute=100)
    for name, b in (("one", one), ("other", other)):
        assert b.reserve(ACME, (1, 100, 0), NOW, 0.0) is ASKING
        desk.hear(name, b, 0.0)
        if name == "one":
            _held = admitted(b, tokens=200)
            desk.hear(name, b, 0.0)
    assert refused(other, ANSWER_SECONDS).under_way
    assert other.reserve(ACME, (1, 100, 0), NOW, ANSWER_SECONDS + 0.01) is ASKING


def test_a_stream_of_minutes_stays_held_and_is_never_forgotten() -> None:
    b, desk = known(monthly_cost=1000)
    admitted_ = admitted(b, cost=1200)
    now = NOW
    for minute in range(6):
        now = NOW + minute * MINUTE
        desk.hear("r", b, minute * 60.0, now)
        refused(b, minute * 60.0, now)
    b.spent(ACME, Spend(now, 0, 0, 1100))
    admitted_.release()
    desk.counters.add("tenant:acme", Spend(now, 0, 0, 1100))
    b.cut(1)
    desk.hear("r", b, 400.0, now, position=1)
    assert refused(b, 400.0, now).status == 402


def test_what_is_held_counts_for_other_replicas_in_the_next_minute_too() -> None:
    b, desk = known(tokens_per_minute=100)
    held = admitted(b, tokens=150)
    desk.hear("r", b, 0.1)
    other, later = budget(tokens_per_minute=100), NOW + MINUTE
    assert other.reserve(ACME, (1, 10, 0), later, 60.0) is ASKING
    desk.hear("other", other, 60.0, later)
    assert refused(other, 60.0, later).under_way
    held.release()


def test_a_minute_that_begins_has_its_lease_already() -> None:
    b, desk = known(requests_per_minute=100)
    soon = NOW + 38_500
    admitted(b, 4.0, soon).release()
    desk.hear("r", b, 4.0, soon)
    admitted(b, 5.5, NOW + 40_000)


def test_while_the_ledger_is_away_a_replica_counts_alone_or_refuses_as_configured() -> None:
    alone = budget(requests_per_minute=1)
    alone.fail()
    admitted(alone).begin()
    alone.spent(ACME, Spend(NOW, requests=1))
    assert refused(alone).limit == "requests_per_minute"
    strict = budget(refuse_unseen=True, requests_per_minute=16)
    strict.fail()
    assert (refused(strict).limit, refused(strict).status) == ("ledger_away", 503)
    Desk().hear("r", strict, 0.0)
    strict.fail()
    admitted(strict, FRESH_SECONDS)
    assert refused(strict, FRESH_SECONDS + 0.1).limit == "ledger_away"


def test_a_wall_clock_that_goes_back_does_not_make_an_old_answer_fresh() -> None:
    b, desk = known(requests_per_minute=16)
    b.limits = Limits({"tenant:acme": Limit(requests_per_minute=16)}, refuse_unseen=True)
    admitted(b, 1.0)
    assert refused(b, FRESH_SECONDS + 1.0, NOW - 60 * MINUTE).limit == "ledger_away"
    assert desk.leases is not None


@pytest.mark.parametrize("refuse", [False, True])
def test_who_waited_for_no_answer_is_decided_by_without_ledger(refuse: bool) -> None:
    b = budget(refuse, requests_per_minute=1)
    assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
    answer = b.reserve(ACME, (1, 0, 0), NOW, 1.0, patient=False)
    assert isinstance(answer, Refusal if refuse else Reservation)


def test_an_actor_that_gives_no_leases_is_counted_by_its_totals() -> None:
    b, desk = budget(requests_per_minute=3), Desk()
    desk.counters.add("tenant:acme", Spend(NOW, requests=2))
    assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
    answer = desk.answer("r", b, 0.0)
    del answer["leases"], answer["recalled"]
    b.acknowledge(0, answer, 0.0)
    _held = admitted(b)
    refused(b)


def test_who_has_no_limit_is_neither_counted_nor_refused() -> None:
    b = budget(refuse_unseen=True, requests_per_minute=1)
    assert b.reserve(["tenant:other"], (1, 10, 10), NOW, 0.0) is None
    assert b.reserve([], (1, 10, 10), NOW, 0.0) is None
    assert list(b.report(0, NOW, 0.0)) == [""]


def test_each_holds_for_all_who_have_no_limit_of_their_own() -> None:
    settings = LimitsSettings.model_validate(
        {"each_tenant": {"requests_per_minute": 5}, "tenants": {"acme": {"monthly_cost": "1.5"}}}
    )
    limits = settings.limits()
    assert limits.of("tenant:acme") == Limit(None, None, 1_500_000_000)
    assert limits.of("tenant:other") == Limit(5)
    assert limits.of("key:k") is None


def test_a_key_of_a_tenant_has_the_limit_of_its_name_for_itself() -> None:
    limits = Limits({"key:prod": Limit(5), "key:acme:prod": Limit(7)})
    assert (limits.of("key:acme:prod"), limits.of("key:globex:prod")) == (Limit(7), Limit(5))
    assert limits.of("tenant:acme:prod") is None


def test_made_up_names_are_bounded_and_give_their_leases_back() -> None:
    b, desk = Budget(Limits(each={"tenant": Limit(5)}), most=50), Desk()
    for number in range(1000):
        names = [f"tenant:{number}"]
        assert b.reserve(names, (1, 0, 0), NOW, 0.0) is ASKING
        desk.hear("r", b, 0.0)
        answer = b.reserve(names, (1, 0, 0), NOW, 0.0)
        assert isinstance(answer, Reservation)
        answer.release()
    desk.hear("r", b, 0.0)
    assert len(b._standings) == 50
    assert len(desk.leases._subjects) <= 51


def test_a_name_that_is_forgotten_while_idle_still_has_its_limit() -> None:
    b, desk = Budget(Limits(each={"tenant": Limit(2)}), most=1), Desk()
    for _ in range(2):
        assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
        desk.hear("r", b, 0.0)
        answer = b.reserve(ACME, (1, 0, 0), NOW, 0.0)
        assert isinstance(answer, Reservation)
        answer.begin()
        b.spent(ACME, Spend(NOW, requests=1))
        desk.counters.add("tenant:acme", Spend(NOW, requests=1))
        b.cut(1)
        desk.hear("r", b, 0.0, position=1)
        assert b.reserve(["tenant:other"], (1, 0, 0), NOW, 0.0) is ASKING
    assert b.reserve(ACME, (1, 0, 0), NOW, 0.0) is ASKING
    desk.hear("r", b, 0.0)
    assert refused(b).used == 2


def test_a_name_that_has_something_under_way_is_never_forgotten() -> None:
    b, desk = Budget(Limits(each={"tenant": Limit(monthly_cost=5)}), most=1), Desk()
    assert b.reserve(ACME, (1, 0, 9), NOW, 0.0) is ASKING
    desk.hear("r", b, 0.0)
    held = b.reserve(ACME, (1, 0, 9), NOW, 0.0)
    for number in range(20):
        b.reserve([f"tenant:{number}"], (1, 0, 0), NOW, 0.0)
    assert isinstance(held, Reservation)
    assert isinstance(b.reserve(ACME, (1, 0, 9), NOW, 0.0), Refusal)


def test_a_long_absence_costs_no_memory() -> None:
    b = budget(requests_per_minute=1000, monthly_cost=10**12)
    for n in range(10_000):
        b.spent(ACME, Spend(NOW + n * 1000, 1, 5, 7))
    assert len(b._ours) == 1
    assert b._ours["tenant:acme"].cost == 70_000


# The actor's side.


def test_claims_that_come_after_later_ones_say_nothing() -> None:
    desk, b = Desk(), budget(requests_per_minute=10)
    b.reserve(ACME, (1, 0, 0), NOW, 0.0)
    early, late = b.report(0, NOW, 0.0), b.report(0, NOW, 0.0)
    assert desk.leases.answer("r", late, desk.counters, 0.0)[0]
    assert desk.leases.answer("r", early, desk.counters, 0.0) == ({}, [])


def test_a_dead_replica_leaves_its_lease_to_the_others() -> None:
    desk, b, other = Desk(), budget(monthly_cost=1), budget(monthly_cost=1)
    assert b.reserve(ACME, (1, 0, 1), NOW, 0.0) is ASKING
    desk.hear("r", b, 0.0)
    assert other.reserve(ACME, (1, 0, 1), NOW, 0.0) is ASKING
    desk.hear("other", other, 0.0)
    assert other.reserve(ACME, (1, 0, 1), NOW, 0.0) is ASKING
    desk.leases.drop("r")
    desk.hear("other", other, 0.1)
    assert isinstance(other.reserve(ACME, (1, 0, 1), NOW, 0.1), Reservation)


def test_a_silent_replica_keeps_its_lease_because_it_may_have_used_it_and_nobody_waits_for_it() -> None:
    desk, b, other = Desk(), budget(monthly_cost=160), budget(monthly_cost=160)
    assert b.reserve(ACME, (1, 0, 100), NOW, 0.0) is ASKING
    desk.hear("r", b, 0.0)
    leased = next(iter(b._standings.values())).shares[0].known.lease
    at = SILENT_SECONDS + 0.1
    for _ in range(20):
        other.reserve(ACME, (1, 0, 1000), NOW, at)
        desk.hear("other", other, at)
    known = next(iter(other._standings.values())).shares[0].known
    assert (leased, known.lease, known.more) == (80, 80, False)


def test_after_a_restart_nothing_is_given_until_the_replicas_have_told_what_they_hold() -> None:
    desk, old, new = Desk(), budget(monthly_cost=100), budget(monthly_cost=100)
    assert old.reserve(ACME, (1, 0, 1), NOW, 0.0) is ASKING
    desk.hear("old", old, 0.0)
    _held = admitted(old, cost=120)
    restarted = Desk()
    restarted.leases.await_claims({"old", "dead"}, 10.0)
    assert new.reserve(ACME, (1, 0, 1), NOW, 10.0) is ASKING
    restarted.hear("new", new, 10.0)
    assert new.reserve(ACME, (1, 0, 1), NOW, 10.0) is ASKING
    restarted.hear("old", old, 10.1)
    restarted.hear("new", new, 10.0 + SETTLING_SECONDS)
    assert refused(new, 10.0 + SETTLING_SECONDS).under_way


def test_a_minute_is_forgotten_when_no_row_touches_it_and_not_by_a_clock() -> None:
    counters = Counters()
    counters.forget(0.0)
    for at in (NOW, NOW + 30 * DAY, NOW - 30 * DAY):
        counters.add("tenant:acme", Spend(at, 1, 10, 100))
        counters.forget(1.0)
    assert [counters.used("tenant:acme", "requests_per_minute", at // MINUTE) for at in (NOW, NOW + 30 * DAY)] == [1, 1]
    for turn in (1, 2, 2, 2):
        counters.forget(turn * FORGET_SECONDS + 1)
    assert counters.minutes("tenant:acme") == {}
    assert counters.months("tenant:acme") == {"2026-09": 100, "2026-10": 100, "2026-08": 100}


def test_only_a_newer_month_makes_an_old_one_forgotten() -> None:
    counters = Counters()
    for month in range(1, 9):
        counters.add_cost("tenant:acme", f"2026-0{month}", month)
        for _ in range(5):
            counters.forget(0.0)
    assert len(counters.months("tenant:acme")) == MONTHS_KEPT
    assert counters.used("tenant:acme", "monthly_cost", "2026-08") == 8


def test_beyond_the_most_subjects_those_who_spend_still_count() -> None:
    counters = Counters(most=3)
    for number in range(10):
        counters.add(f"tenant:{number}", Spend(NOW, requests=1))
    counters.add("tenant:9", Spend(NOW, 0, 500, 7))
    assert [bool(counters.minutes(f"tenant:{n}")) for n in (0, 2, 3, 9)] == [True, True, False, True]
    assert counters.used("tenant:9", "monthly_cost", "2026-09") == 7


def test_a_name_counts_as_the_rows_have_it() -> None:
    assert subjects_of("acme\0", "k\ud800") == ["tenant:acme", "key:k?"]
