"""The list of the requests that a replica remembers: the ledger's filters, newest first, each once."""

import pytest

from actors.ledger.messages import Viewer
from actors.ledger.questions.asked import asked
from deployments.telemetry.recent import MOST_LISTED, RecentRequests
from deployments.telemetry.request_record import RequestSummary
from deployments.usage.caller import Caller

NONE = {"tokens_in": 1, "tokens_out": 2, "tokens_cached": 0, "tokens_reasoning": 0, "cost": 5}


def over(name: str, began_at: int, *, tenant: str | None = "acme", outcome: str = "ok") -> RequestSummary:
    caller = Caller("http", tenant, key_name=f"{tenant}:k")
    times = (began_at, 12.5, 3.5, 1.5)
    used: object = NONE
    return RequestSummary(name, "default", caller, True, outcome, *times, "aws/haiku", (), '[{"a":1}]', used)  # type: ignore[arg-type]


def remembered(*summaries: RequestSummary, most: int = 10_000) -> RecentRequests:
    recent = RecentRequests(most)
    for summary in summaries:
        recent.add(summary)
    return recent


def listed(recent: RecentRequests, limit: int = 2, viewer: Viewer | None = None, **filters: object) -> list[str]:
    """Return the ids on all pages."""
    names: list[str] = []
    before = None
    for _ in range(1000):
        page = recent.page(asked(filters, before, limit, viewer))
        names += [head["request_id"] for head in page["data"]]
        if (before := page["next"]) is None:
            return names
    raise AssertionError("it has no end")


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_all_pages_have_each_request_once_the_newest_first(limit: int) -> None:
    began = [5, 3, 9, 9, 1, 3]  # in the order in which they ended
    recent = remembered(*(over(f"r{n}", at) for n, at in enumerate(began)))
    assert listed(recent, limit) == ["r3", "r2", "r0", "r5", "r1", "r4"]


def test_the_filters_and_the_viewer_are_those_of_the_ledger() -> None:
    recent = remembered(over("r1", 1), over("r2", 2, tenant="bolt"), over("r3", 3, outcome="no_answer"))
    assert listed(recent, tenant="acme") == ["r3", "r1"]
    assert listed(recent, outcome="failed") == ["r3"]
    assert listed(recent, slower_than_ms=12.5) == []
    assert listed(recent, viewer={"tenant": "bolt", "key": "x"}) == ["r2"]
    assert listed(recent, viewer={"tenant": None, "key": "acme:k"}) == ["r3", "r1"]
    assert listed(recent, since=0.002, until=0.003) == ["r2"]


def test_a_page_has_heads_and_no_candidates_and_looks_at_so_many_at_most() -> None:
    recent = remembered(*(over(f"r{n}", n) for n in range(MOST_LISTED + 5)))
    page = recent.page(asked({"tenant": "nobody"}))
    assert (page["data"], page["next"], page["looked_back_to"]) == ([], "5-r5", 5)
    page = recent.page(asked({}, page["next"]))
    assert (page["next"], page["looked_back_to"], len(page["data"])) == (None, 0, 5)
    assert page["data"][0] == {name: value for name, value in recent.find("r4").items() if name != "candidates"}  # type: ignore[union-attr]
    assert RecentRequests().page(asked({})) == {"data": [], "next": None, "looked_back_to": 0}


def test_a_viewer_learns_nothing_of_others_by_the_cursor_of_an_empty_page() -> None:
    recent = remembered(*(over(f"theirs-{n}", 1000 + n, tenant="other") for n in range(9)))
    viewer: Viewer = {"tenant": "acme", "key": "k"}
    for before in (None, "1005-"):
        page = recent.page(asked({}, before, 2, viewer))
        assert page == {"data": [], "next": None, "looked_back_to": 0}
