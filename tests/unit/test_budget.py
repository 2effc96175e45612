"""Limits: refused in time, by the truth and what is not in it yet, and open again when their time comes."""

from actors.ledger.budget import FRESH_MS, MINUTE, Budget, Counters, Limit, Limits, Spend
from deployments.config.ledger import LimitsSettings

NOW = 1_790_000_000_000  # 2026-09-21 14:13:20 UTC
ACME = ["tenant:acme"]


def budget(refuse_unseen: bool = False, **limit: int) -> Budget:
    return Budget(Limits({"tenant:acme": Limit(**limit)}, refuse_unseen=refuse_unseen))


def truth(requests: int = 0, tokens: int = 0, cost: int = 0, at: int = NOW) -> dict[str, object]:
    counters = Counters()
    counters.add("tenant:acme", Spend(at, requests, tokens, cost))
    return counters.totals(ACME)


def test_requests_a_minute_are_refused_until_the_minute_is_over() -> None:
    b = budget(requests_per_minute=2)
    for _ in range(2):
        assert b.check(ACME, NOW) is None
        b.spent(ACME, Spend(NOW, requests=1))
    refusal = b.check(ACME, NOW)
    assert refusal is not None
    assert (refusal.limit, refusal.used, refusal.status, refusal.reset_seconds) == ("requests_per_minute", 2, 429, 40.0)
    assert b.check(ACME, NOW + 40_000) is None


def test_tokens_a_minute_and_a_months_cost() -> None:
    b = budget(tokens_per_minute=100, monthly_cost=1000)
    b.spent(ACME, Spend(NOW, 0, 100, 999))
    refusal = b.check(ACME, NOW)
    assert refusal is not None
    assert refusal.limit == "tokens_per_minute"
    later = NOW + MINUTE
    assert b.check(ACME, later) is None
    b.spent(ACME, Spend(later, 0, 0, 1))
    refusal = b.check(ACME, later + MINUTE)
    assert refusal is not None
    assert (refusal.limit, refusal.status) == ("monthly_cost", 402)
    assert refusal.reset_seconds == 9 * 86400 + 35_200 - 120  # until 1 October
    assert b.check(ACME, NOW + 10 * 86_400_000) is None


def test_the_truth_counts_what_other_replicas_have_used() -> None:
    b = budget(requests_per_minute=10)
    b.acknowledged(0, truth(requests=9), NOW)
    assert b.check(ACME, NOW) is None
    b.spent(ACME, Spend(NOW, requests=1))
    assert b.check(ACME, NOW) is not None


def test_what_is_acknowledged_counts_once() -> None:
    b = budget(requests_per_minute=3)
    b.spent(ACME, Spend(NOW, requests=1))
    b.cut(100, NOW)
    b.spent(ACME, Spend(NOW, requests=1))
    b.acknowledged(100, truth(requests=1), NOW)
    assert b.check(ACME, NOW) is None
    b.spent(ACME, Spend(NOW, requests=1))
    assert b.check(ACME, NOW) is not None


def test_an_acknowledgement_of_earlier_rows_leaves_later_ones_counted() -> None:
    b = budget(requests_per_minute=2)
    b.spent(ACME, Spend(NOW, requests=2))
    b.cut(500, NOW)
    b.acknowledged(200, truth(), NOW)  # a batch of old rows, of a long queue
    assert b.check(ACME, NOW) is not None


def test_while_the_ledger_is_away_a_replica_counts_alone_or_refuses_as_configured() -> None:
    alone = budget(requests_per_minute=1)
    assert alone.check(ACME, NOW) is None
    alone.spent(ACME, Spend(NOW, requests=1))
    assert alone.check(ACME, NOW) is not None
    strict = budget(refuse_unseen=True, requests_per_minute=1)
    refusal = strict.check(ACME, NOW)
    assert refusal is not None
    assert (refusal.limit, refusal.status) == ("ledger_away", 503)
    strict.acknowledged(0, {}, NOW)
    assert strict.check(ACME, NOW + FRESH_MS) is None
    assert strict.check(ACME, NOW + FRESH_MS + 1) is not None


def test_who_has_no_limit_is_neither_counted_nor_refused() -> None:
    b = budget(refuse_unseen=True, requests_per_minute=1)
    assert b.check(["tenant:other"], NOW) is None
    assert b.check([], NOW) is None
    assert b.asked(NOW) == []


def test_each_holds_for_all_who_have_no_limit_of_their_own() -> None:
    settings = LimitsSettings.model_validate(
        {"each_tenant": {"requests_per_minute": 5}, "tenants": {"acme": {"monthly_cost": "1.5"}}}
    )
    limits = settings.limits()
    assert limits.of("tenant:acme") == Limit(None, None, 1_500_000_000)
    assert limits.of("tenant:other") == Limit(5)
    assert limits.of("key:k") is None


def test_a_silent_subject_is_not_asked_after_for_ever() -> None:
    b = budget(requests_per_minute=1)
    b.check(ACME, NOW)
    assert b.asked(NOW + MINUTE) == ACME
    assert b.asked(NOW + 4 * MINUTE) == []


def test_a_long_absence_costs_no_memory() -> None:
    b = budget(requests_per_minute=1000, monthly_cost=10**12)
    for n in range(10_000):
        b.spent(ACME, Spend(NOW + n * 1000, 1, 5, 7))
        if n % 100 == 0:
            b.cut(n, NOW + n * 1000)
    held = [b._ours, *(sent for _, sent in b._sent)]
    assert sum(len(c.minutes) for c in held) < 400
    assert sum(sum(c.months.values()) for c in held) == 70_000
