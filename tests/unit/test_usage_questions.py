"""Questions of usage as the ingress asks and prints them: whose fault a failure is, and what a CSV holds."""

import asyncio
import csv
import io
from typing import Any

import pytest

from actors.ledger.messages import QuestionTooLong, UnknownQuestion
from actors.ledger.rollup import columns_of
from deployments.errors import BreakwaterError, NotFound
from deployments.openai_api.chat import check_request
from deployments.service.arguments import CallOptions
from deployments.service.queries import Queries
from deployments.telemetry.recent import RecentRequests
from deployments.telemetry.request_record import RequestRecord
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
def test_a_question_that_is_not_answered_says_whose_fault_it_is(
    raised: Exception, status: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ledger: Any = OneAnswer(raised)
        with pytest.raises(BreakwaterError, match=words) as caught:
            await Queries(RecentRequests(), ledger).usage({})
        assert caught.value.status == status
        assert ("OSError: away" in caplog.text) == (words == "did not answer"), "the cause is for the operator"

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


class Ledger(OneAnswer):
    """A ledger that has these requests, as the real one looks for them: by our id, then the newest by the caller's."""

    def __init__(self, *rows: Any):
        super().__init__(None)
        self.rows = rows

    async def request(self, name: str, viewer: Any = None) -> Any:
        if self.answer is not None:
            raise self.answer
        seen = [r for r in self.rows if viewer is None or (r["tenant"], r["key_name"]) == tuple(viewer.values())]
        ours = [r for r in seen if r["request_id"] == name]
        theirs = sorted((r for r in seen if r["caller_id"] == name), key=lambda r: r["began_at"])
        found = (ours or theirs)[-1:]
        return {"request": found[0], "attempts": []} if found else None


def row_of(request_id: str, began_at: int, **more: Any) -> Any:
    row = dict.fromkeys(("caller_id", "tenant", "agent", "key_name", "provider", "model", "ended_at", "trail"))
    known = {"door": "http", "model_row": "default", "stream": False, "outcome": "ok", "state": "settled"}
    return {**row, **known, "request_id": request_id, "began_at": began_at, **more}


ALICE: Any = {"tenant": "acme", "key": "alice"}
BOB: Any = {"tenant": "beta", "key": "bob"}


def in_memory(test: Any) -> None:
    """Run a test with a function that has a caller ask, and queries over what is remembered of it."""

    async def main() -> None:
        async with world() as w:

            async def ask(who: Any, name: str) -> str:
                caller = Caller("http", who["tenant"], None, who["key"], name)
                answer = await w.service.complete(check_request(REQUEST), w.service.deadline(), caller)
                await asyncio.sleep(1)
                return answer.record.request_id

            await test(ask, w.service.queries._recent)

    run_virtually(main())


@pytest.mark.parametrize("tenants", [("acme", "beta"), (None, None)], ids=["of two tenants", "without tenants"])
def test_no_name_of_anothers_hides_a_request_that_is_remembered(tenants: Any) -> None:
    async def test(ask: Any, recent: RecentRequests) -> None:
        queries = Queries(recent, None)
        alice, bob = ({**who, "tenant": tenant} for who, tenant in zip((ALICE, BOB), tenants, strict=True))
        hers = await ask(alice, "shared-7")
        his = await ask(bob, "shared-7")
        assert (await queries.request("shared-7", alice))["request_id"] == hers
        assert (await queries.request("shared-7", bob))["request_id"] == his
        assert (await queries.request("shared-7"))["request_id"] == his, "who sees all sees the newest"
        again = await ask(bob, hers)
        assert (await queries.request(hers, alice))["request_id"] == hers
        assert (await queries.request(hers, bob))["request_id"] == again
        assert (await queries.request(hers))["request_id"] == hers, "our own id goes first"

    in_memory(test)


def test_our_own_id_goes_before_a_callers_word_though_only_the_ledger_knows_it() -> None:
    async def test(ask: Any, recent: RecentRequests) -> None:
        ledger: Any = Ledger(row_of("of-alice", 1, tenant="acme", key_name="alice"))
        queries = Queries(recent, ledger)
        his = await ask(BOB, "of-alice")
        assert (await queries.request("of-alice"))["request_id"] == "of-alice"
        assert (await queries.request("of-alice", ALICE))["request_id"] == "of-alice"
        assert (await queries.request("of-alice", BOB))["request_id"] == his
        ledger.answer = OSError("away")
        assert (await queries.request("of-alice", BOB))["request_id"] == his
        with pytest.raises(BreakwaterError, match="did not answer"):
            await queries.request("of-alice", ALICE)

    in_memory(test)


def test_of_what_a_replica_and_the_ledger_know_under_a_name_the_newer_is_shown() -> None:
    async def test(ask: Any, recent: RecentRequests) -> None:
        here = await ask(ALICE, "mine")
        at = (await Queries(recent, None).request(here))["began_at"]
        for began_at, newest in ((at - 1, here), (at + 1, "there")):
            ledger: Any = Ledger(row_of("there", began_at, caller_id="mine", tenant="acme", key_name="alice"))
            assert (await Queries(recent, ledger).request("mine", ALICE))["request_id"] == newest

    in_memory(test)


def test_the_names_of_what_is_forgotten_are_forgotten() -> None:
    async def test(ask: Any, _: RecentRequests) -> None:
        recent = RecentRequests(most=3)
        for n in range(12):
            caller = Caller("http", f"t{n % 2}", None, f"k{n % 2}", f"name-{n % 2}")
            record = RequestRecord("row", caller, request_id=str(n))
            record.finish("ok")
            assert record.summary is not None
            recent.add(record.summary)
        assert set(recent._ids.values()) == {"10", "11"}, "the newest of each name, though an older one was forgotten"
        assert len(recent._ids) == 2 * 3
        for n in range(3):
            record = RequestRecord("row", Caller("http"), request_id=f"nameless-{n}")
            record.finish("ok")
            assert record.summary is not None
            recent.add(record.summary)
        assert recent._ids == {}

    in_memory(test)
