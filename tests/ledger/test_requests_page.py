"""Pages of requests against a brute-force oracle: each request once, newest first, and only to who may see it."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.ledger.messages import UnknownQuestion, Viewer
from actors.ledger.questions.asked import MOST_LIMIT, asked
from actors.ledger.questions.requests import requests_page
from actors.ledger.rows import LOST, SETTLED, Record
from actors.ledger.store import LedgerStore
from actors.ledger.tables import ATTEMPTS, REQUESTS
from deployments.telemetry.explain import RequestHead, head_from_ledger
from tests.ledger.rows import NOON, attempt, opened, request, settled

OUTCOMES = ["ok", "cancelled", "no_answer", "open", "lost"]
WORDS: Mapping[str, list[str | None]] = {
    "provider": [None, "aws", "openai"],
    "model": [None, "m"],
    "tenant": [None, "acme", "bolt"],
    "agent": [None, "", "x"],
    "key": [None, "acme:k", "j"],
    "row": ["default", "other"],
}
HEADS = st.fixed_dictionaries(
    {
        **{name: st.sampled_from(words) for name, words in WORDS.items()},
        "outcome": st.sampled_from(OUTCOMES),
        "began_at": st.integers(NOON, NOON + 3),
        "ms": st.sampled_from([0, 5, 1000]),
        "failed_over": st.booleans(),
    }
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from([word for word in words if word is not None]) for name, words in WORDS.items()},
        "outcome": st.sampled_from([*OUTCOMES, "failed", "nothing"]),
        "failed_over": st.sampled_from([True, False, "true"]),
        "slower_than_ms": st.sampled_from([0, 5, 999.5, "4"]),
        "since": st.sampled_from([NOON / 1000, (NOON + 2) / 1000]),
        "until": st.sampled_from([(NOON + 3) / 1000, NOON / 1000]),
    },
)
VIEWERS: list[Viewer | None] = [None, {"tenant": "acme", "key": "acme:k"}, {"tenant": None, "key": "j"}]


def written(name: str, head: Mapping[str, Any]) -> Record:
    whose = {"tenant": head["tenant"], "agent": head["agent"], "key_name": head["key"], "model_row": head["row"]}
    outcome = head["outcome"]
    if outcome == "open":
        return Record(request(name, began_at=head["began_at"], **whose))
    ended = {"version": LOST if outcome == "lost" else SETTLED, "state": "lost" if outcome == "lost" else "settled"}
    ended |= {"outcome": outcome, "ended_at": head["began_at"] + head["ms"], "failed_over": int(head["failed_over"])}
    ended |= {"provider": head["provider"], "model": head["model"], "trail": "[]"}
    return Record(request(name, began_at=head["began_at"], **whose, **ended))


def is_asked_for(head: Mapping[str, Any], filters: Mapping[str, Any], viewer: Viewer | None) -> bool:
    """The oracle: it says what the filters mean, of a request as it was written."""
    over = head["outcome"] != "open"
    served = {"provider": head["provider"], "model": head["model"]} if over else {"provider": None, "model": None}
    if viewer is not None and (
        head["tenant"] != viewer["tenant"] if viewer["tenant"] is not None else head["key"] != viewer["key"]
    ):
        return False
    for name, wanted in filters.items():
        if name == "outcome":
            if wanted == "failed":
                if not over or head["outcome"] in ("ok", "cancelled"):
                    return False
            elif head["outcome"] != wanted:
                return False
        elif name == "failed_over":
            if wanted and not (over and head["failed_over"]):
                return False
        elif name == "slower_than_ms":
            if not over or head["ms"] <= float(wanted):
                return False
        elif name == "since":
            if head["began_at"] < wanted * 1000:
                return False
        elif name == "until":
            if head["began_at"] >= wanted * 1000:
                return False
        elif {**head, **served}[name] != wanted:
            return False
    return True


@pytest.fixture(scope="module")
def shared(shared_url: str) -> Iterator[LedgerStore]:
    """One store for all examples."""
    store = LedgerStore(shared_url)
    store.start()
    yield store
    store.close()


def emptied(store: LedgerStore) -> LedgerStore:
    with store._writing() as connection:
        for table in (REQUESTS, ATTEMPTS):
            connection.execute(table.delete())
    return store


def pages(
    store: LedgerStore, filters: Mapping[str, Any], viewer: Viewer | None, limit: int, most: int
) -> Iterator[dict[str, Any]]:
    before = None
    for _ in range(1000):
        page = requests_page(store, asked(filters, before, limit, viewer), most=most)
        yield page
        if (before := page["next"]) is None:
            return
    raise AssertionError("it has no end")


def heads_of(page: Mapping[str, Any]) -> list[RequestHead]:
    return [head_from_ledger(row["request"], row["attempts"]) for row in page["data"]]


@settings(max_examples=60, deadline=None)
@given(
    made=st.lists(HEADS, max_size=12),
    filters=FILTERS,
    viewer=st.sampled_from(VIEWERS),
    limit=st.integers(1, 5),
    most=st.integers(1, 7),
)
def test_all_pages_together_are_the_truth_each_request_once_and_the_newest_first(
    shared: LedgerStore,
    made: list[dict[str, Any]],
    filters: dict[str, Any],
    viewer: Viewer | None,
    limit: int,
    most: int,
) -> None:
    store = emptied(shared)
    store.write([written(f"r{n:02}", head) for n, head in enumerate(made)])
    found, backs = [], []
    for page in pages(store, filters, viewer, limit, most):
        heads = heads_of(page)
        assert len(heads) <= limit
        assert all(head["began_at"] >= page["looked_back_to"] for head in heads)
        backs.append(page["looked_back_to"])
        found += heads
    expected = {f"r{n:02}": head for n, head in enumerate(made) if is_asked_for(head, filters, viewer)}
    order = sorted(expected, key=lambda name: (expected[name]["began_at"], name), reverse=True)
    assert [head["request_id"] for head in found] == order
    assert backs == sorted(backs, reverse=True)
    # A replica's own memory reads the same filters in the same way.
    assert all(asked(filters).takes(head) for head in found)
    every = [head for page in pages(store, {}, None, 200, 50_000) for head in heads_of(page)]
    taken = {head["request_id"] for head in every if asked(filters).takes(head)}
    assert taken == {f"r{n:02}" for n, head in enumerate(made) if is_asked_for(head, filters, None)}


def test_a_page_tells_what_its_requests_have_used_and_has_no_trail(store: LedgerStore) -> None:
    first = settled("r1", kind="server_error", provider="aws", cost=30, last=False, first_ms=None)
    ended = {"version": SETTLED, "state": "settled", "outcome": "ok", "ended_at": NOON + 900, "provider": "openai"}
    told = {"first_ms": 640.5, "added_ms": 1.5, "failed_over": 1, "trail": "[]", "caller_id": "mine", "door": "http"}
    last = Record(
        request("r1", **ended, **told), attempt("r1", 2, cost=70, tokens_in=10, tokens_out=5, version=SETTLED)
    )
    unpriced = settled("r2", began_at=NOON + 1, cost=None)
    store.write([first, last, unpriced, opened("r3", began_at=NOON + 2)])
    page = requests_page(store, asked({}))
    assert not any("trail" in row["request"] for row in page["data"])
    under_way, of_unknown_cost, failed_over = heads_of(page)
    assert (under_way["outcome"], under_way["ms"], under_way["attempts"], under_way["cost_usd"]) == (
        "open",
        None,
        1,
        None,
    )
    assert (of_unknown_cost["cost_usd"], of_unknown_cost["first_token_ms"]) == (None, 100.0), "as its attempt has it"
    assert (failed_over["attempts"], failed_over["tokens_in"], failed_over["tokens_out"]) == (2, 20, 10)
    assert failed_over["cost_usd"] == pytest.approx(100e-9)
    assert (failed_over["first_token_ms"], failed_over["added_ms"], failed_over["failed_over"]) == (640.5, 1.5, True)
    assert (failed_over["x_request_id"], failed_over["door"], failed_over["ms"]) == ("mine", "http", 900)
    assert (page["next"], page["looked_back_to"]) == (None, NOON)


def test_a_page_looks_at_no_more_than_it_may_and_says_how_far_it_went(store: LedgerStore) -> None:
    store.write([settled(f"r{n:03}", tenant="a" if n == 0 else "b", began_at=NOON + n) for n in range(100)])
    found = list(pages(store, {"tenant": "a"}, None, 50, 30))
    assert [len(page["data"]) for page in found] == [0, 0, 0, 1]
    assert [page["looked_back_to"] for page in found] == [NOON + 70, NOON + 40, NOON + 10, NOON]
    assert requests_page(store, asked({"since": (NOON + 50) / 1000, "tenant": "a"}))["looked_back_to"] == NOON + 50
    assert requests_page(emptied(store), asked({}))["looked_back_to"] == 0


WRONG: list[tuple[dict[str, Any], Any, Any, str]] = [
    ({"provder": "aws"}, None, None, "provder"),
    ({"tenant": 1}, None, None, "tenant"),
    ({"outcome": True}, None, None, "outcome"),
    ({"failed_over": "yes"}, None, None, "failed_over"),
    ({"failed_over": 1}, None, None, "failed_over"),
    ({"slower_than_ms": "long"}, None, None, "slower_than_ms"),
    ({"slower_than_ms": float("nan")}, None, None, "slower_than_ms"),
    ({"since": "yesterday"}, None, None, "since"),
    ({"until": float("inf")}, None, None, "until"),
    ({"since": 10**400}, None, None, "since"),
    ({}, "", None, "before"),
    ({}, "r1", None, "before"),
    ({}, "12x-r1", None, "before"),
    ({}, f"{10**15 * 99}-r1", None, "before"),
    ({}, 7, None, "before"),
    ({}, None, 0, "limit"),
    ({}, None, -1, "limit"),
    ({}, None, 1.5, "limit"),
    ({}, None, "many", "limit"),
    ({}, None, True, "limit"),
]


@pytest.mark.parametrize(("filters", "before", "limit", "name"), WRONG)
def test_what_is_wrong_with_a_question_has_a_name(filters: Any, before: Any, limit: Any, name: str) -> None:
    with pytest.raises(UnknownQuestion, match=name) as caught:
        asked(filters, before, limit)
    assert getattr(caught.value, "name", None) == name


def test_a_limit_beyond_the_most_is_the_most_and_one_of_no_filter_is_the_usual() -> None:
    assert asked({}, limit="1000").limit == MOST_LIMIT
    assert asked({"tenant": None, "since": None}) == asked({})


def test_ids_of_any_signs_are_paged_through(store: LedgerStore) -> None:
    names = [f"{sign}{n}" for n, sign in zip(itertools.count(), ["-", "é", "'", "%", "\n", "a-b-"], strict=False)]
    store.write([settled(name) for name in names])
    found = [head["request_id"] for page in pages(store, {}, None, 1, 50_000) for head in heads_of(page)]
    assert sorted(found) == sorted(names)


def test_a_page_tells_a_viewer_of_no_instant_at_which_others_asked(store: LedgerStore) -> None:
    store.write([settled(f"r{n:03}", tenant="b", began_at=NOON + 7 + 100 * n) for n in range(100)])
    viewer: Viewer = {"tenant": "a", "key": "k"}
    for before in (None, f"{NOON + 5000}-"):
        page = requests_page(store, asked({}, before, 50, viewer), most=10)
        assert page["data"] == []
        assert page["looked_back_to"] % 60_000 == 0
        assert page["next"] in (None, f"{page['looked_back_to']}-")
