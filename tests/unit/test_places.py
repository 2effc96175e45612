"""The places of a provider: which of them share a failure, and how sessions are spread over them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.breaker.outcomes import ENDINGS, NO_CREDENTIAL, NO_SUCH_PLACE, Outcome
from actors.breaker.places import NO_PLACES, Places, Site
from actors.breaker.plan import is_of, labels_of, model_of, parts_of, place_of, provider_of, site_of

# `a` and `b` are keys of one project at one host, `c` of another project there, `d` of a region.
FOUR = (Site("a", "h", "one"), Site("b", "h", "one"), Site("c", "h", "two"), Site("d", "i", "three"))
PLACES = Places({"p": FOUR, "q": (Site("a", "h", "one"),)})
OTHERS = ["p#a/n", "p#b/m", "p#b/n", "p#c/m", "p#d/m", "q#a/m", "r/m"]


@pytest.mark.parametrize(
    ("outcome", "why", "shared"),
    [
        (Outcome("connect"), "host_failed", ["p#b/m", "p#c/m"]),
        (Outcome("server_error", status=500), "host_failed", ["p#b/m", "p#c/m"]),
        (Outcome("overloaded", status=529), "host_failed", ["p#b/m", "p#c/m"]),
        (Outcome("throttled", status=429), "throttled", ["p#b/m"]),
        (Outcome("credential", status=401), "key_refused", ["p#a/n"]),
        (Outcome("quota", status=402), "quota_used_up", ["p#a/n", "p#b/m", "p#b/n"]),
        (Outcome("quota", status=429, code="insufficient_quota"), "quota_used_up", ["p#a/n", "p#b/m", "p#b/n"]),
        (Outcome("quota", status=429), "quota_used_up", ["p#b/m"]),
        (Outcome("unreachable"), "replica_failed", ["p#a/n", "p#b/m", "p#b/n", "p#c/m", "p#d/m"]),
        (Outcome("busy"), "replica_failed", ["p#a/n", "p#b/m", "p#b/n", "p#c/m", "p#d/m"]),
        # The server of tokens is this place's own, and what is silent may be the request's fault.
        (Outcome("connect", code=NO_CREDENTIAL), "", []),
        (Outcome("lost", code=NO_SUCH_PLACE), "", []),
        (Outcome("first_token"), "", []),
        (Outcome("model_missing", status=404), "", []),
        (Outcome("rejected", status=400), "", []),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Outcome) else None,
)
def test_a_failure_holds_for_those_that_share_what_has_failed(outcome: Outcome, why: str, shared: list[str]) -> None:
    found = {other: PLACES.why_shared("p#a/m", outcome, other) for other in OTHERS}
    assert {other: reason for other, reason in found.items() if reason} == dict.fromkeys(shared, why)


def test_what_may_be_the_requests_own_fault_or_ours_moves_no_other_circuit() -> None:
    moving = {kind for kind in ENDINGS if PLACES.sharers("p#a/m", Outcome(kind, status=402), ["p#a/m", *OTHERS])}
    assert moving == {"connect", "throttled", "credential", "quota"}


@given(st.sampled_from(sorted(ENDINGS)), st.sampled_from(["p#a/m", "q#a/m", "r/m"]), st.sampled_from([None, 401, 429]))
def test_no_failure_is_shared_with_another_provider_or_by_one_without_places(
    kind: str, failed: str, status: int | None
) -> None:
    shared = PLACES.sharers(failed, Outcome(kind, status=status), OTHERS)
    assert {provider_of(target) for target in shared} <= {provider_of(failed)} - {"r"}
    assert failed not in shared


ROW = ["r/m", "p#a/m", "p#b/m", "p#c/m", "p#d/m", "q#a/m", "p#a/n", "p#b/n"]
SPREAD = Places({"p": FOUR, "q": (Site("a", "h", "one"),)}, spread=["p", "q"])


@given(st.binary())
def test_a_sessions_own_order_only_moves_neighbouring_places_of_one_model(session: bytes) -> None:
    ordered = SPREAD.ordered(ROW, session)
    assert ordered == SPREAD.ordered(ROW, session)
    assert [parts_of(target) for target in ordered] == [parts_of(target) for target in ROW]
    assert sorted(ordered) == sorted(ROW)
    assert PLACES.ordered(ROW, session) == ROW
    assert NO_PLACES.ordered(ROW, session) == ROW


@given(st.binary(), st.sampled_from("abcd"))
def test_only_the_sessions_of_a_place_that_is_left_out_move(session: bytes, gone: str) -> None:
    row = [f"p#{name}/m" for name in "abcd"]
    left = [target for target in row if place_of(target) != gone]
    assert SPREAD.ordered(left, session) == [t for t in SPREAD.ordered(row, session) if t in left]


def test_sessions_are_spread_by_weight_and_those_of_one_place_over_all_others() -> None:
    heavy = Places({"p": (Site("a", "h", "one", 2.0), *FOUR[1:3])}, spread=["p"])
    orders = [heavy.ordered(["p#a/m", "p#b/m", "p#c/m"], str(number).encode()) for number in range(4000)]
    first = Counter(order[0] for order in orders)
    assert 1900 < first["p#a/m"] < 2100
    assert 900 < first["p#b/m"] < 1100
    second = Counter(order[1] for order in orders if order[0] == "p#b/m")
    assert second["p#a/m"] > 1.6 * second["p#c/m"]


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("p/m", ("p", "", "m")),
        ("p#eu/m", ("p", "eu", "m")),
        ("p/vendor/m#x", ("p", "", "vendor/m#x")),
        ("p#eu/vendor/m#x", ("p", "eu", "vendor/m#x")),
    ],
)
def test_a_targets_name_is_its_provider_its_place_and_its_model(target: str, parts: tuple[str, str, str]) -> None:
    provider, place, model = parts
    assert (provider_of(target), place_of(target), model_of(target)) == parts
    assert parts_of(target) == (provider, model)
    assert labels_of(target) == (provider, model, place)
    assert is_of(target, provider)
    assert is_of(target, site_of(target))
    assert not is_of(target, "eu")


def test_functions_of_others_have_any_name_and_no_places() -> None:
    assert (provider_of("job#1/functions"), place_of("job#1/functions/x")) == ("job#1", "")
    assert labels_of("job#1/functions") == ("functions", "functions", "")
