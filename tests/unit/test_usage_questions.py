"""Questions of usage as the ingress asks and prints them: whose fault a failure is, and what a CSV holds."""

import csv
import io
from typing import Any

import pytest

from actors.ledger.messages import QuestionTooLong, UnknownQuestion
from actors.ledger.rollup import columns_of
from deployments.errors import BreakwaterError, NotFound
from deployments.service.arguments import CallOptions
from deployments.service.queries import Queries
from deployments.telemetry.explain import RecentRequests
from deployments.usage.caller import Caller, as_csv, question_of
from tests.clock import run_virtually
from tests.unit.world import REQUEST, world


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1", "'=1"),
        ("\n=1", "'\n'=1"),
        ("\uff1d1", "'\uff1d1"),
        (" +1", " '+1"),
        ("a;=1", "a;'=1"),
        ('a,"@x', "a,\"'@x"),
        ("a\n-1", "a\n'-1"),
        ("\tx", "'\tx"),
        ("a-b=c@d", "a-b=c@d"),
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_is_disarmed(name: str, cell: str) -> None:
    ((_, row)) = csv.reader(io.StringIO(as_csv([{"tenant": name}], ["tenant"]), newline=""))
    assert row == [cell]


def test_the_columns_of_a_csv_are_those_of_the_question_whatever_the_first_row_has() -> None:
    filters, groups = question_of({"group_by": "day, day,tenant", "format": "csv"})
    assert groups == ["day", "tenant"]
    columns = columns_of(filters, groups)
    assert as_csv([], columns) == ",".join(columns) + "\n"
    assert columns[:4] == ["day", "tenant", "requests", "answered"]
    assert as_csv([{"tenant": "a"}, {"tenant": "b", "requests": None, "more": 1}], ["tenant", "requests"]) == (
        "tenant,requests\na,\nb,\n"
    )


class OneAnswer:
    """A ledger that answers each question so, or raises it."""

    def __init__(self, answer: Any):
        self.answer = answer
        self.viewers: list[Any] = []

    async def usage(self, *_: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def request(self, name: str, viewer: Any = None) -> Any:
        self.viewers.append(viewer)
        return None


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [
        (UnknownQuestion("more than 10000 groups"), 400, "more than 10000 groups"),
        (QuestionTooLong("slow"), 503, "took too long"),
        (OSError("away"), 503, "did not answer"),
    ],
)
def test_a_question_that_is_not_answered_says_whose_fault_it_is(raised: Exception, status: int, words: str) -> None:
    async def main() -> None:
        ledger: Any = OneAnswer(raised)
        with pytest.raises(BreakwaterError, match=words) as caught:
            await Queries(RecentRequests(), ledger).usage({})
        assert caught.value.status == status

    run_virtually(main())


def test_a_newer_request_of_another_under_the_same_name_hides_nothing() -> None:
    async def main() -> None:
        async with world() as w:
            await w.python.chat(REQUEST, CallOptions(caller=Caller("http", "theirs", request_id="same")))
            ledger: Any = OneAnswer(None)
            queries = Queries(w.service.queries._recent, ledger)
            mine: Any = {"tenant": "mine", "key": None}
            with pytest.raises(NotFound):
                await queries.request("same", mine)
            assert ledger.viewers == [mine], "the ledger may have an older one of mine"
            assert (await queries.request("same", {"tenant": "theirs", "key": None}))["tenant"] == "theirs"

    run_virtually(main())
