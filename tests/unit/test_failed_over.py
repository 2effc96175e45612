"""Whether another target answered than the one whose turn it was, and what of a request's times the ledger has."""

import asyncio
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import NoAnswer
from deployments.openai_api.chat import check_request
from deployments.telemetry.attempt_record import AttemptRecord
from deployments.telemetry.request_record import RequestRecord
from deployments.usage.caller import Caller
from tests.unit.test_failover import SERVER_ERROR, complete, in_world
from tests.unit.test_hedging import FIRST, ON, SECOND, learn, pieces
from tests.unit.test_usage_records import Ledgered, read, with_ledger
from tests.unit.world import REQUEST, Script, World

A, B, C = "aws/haiku", "openai/gpt", "local/smol"


def was(target: str, outcome: str, **more: Any) -> AttemptRecord:
    return AttemptRecord(target, outcome, 0.0, **more)


CASES: dict[str, tuple[bool, list[AttemptRecord]]] = {
    "the first answers": (False, [was(A, "ok")]),
    "the first fails": (True, [was(A, "server_error"), was(B, "ok")]),
    "the first is throttled": (True, [was(A, "throttled"), was(B, "ok")]),
    "the first's circuit is open": (True, [was(A, "skipped: open", state="open"), was(B, "ok")]),
    "the circuit of one behind it is open": (False, [was(C, "skipped: open", state="open"), was(B, "ok")]),
    "the first can't take it": (False, [was(A, "skipped: unsupported tools"), was(B, "ok")]),
    "nobody answers": (False, [was(A, "server_error"), was(B, "connect")]),
    "nobody is there": (False, []),
    "its client leaves": (False, [was(A, "cancelled")]),
    "its client leaves the second": (True, [was(A, "connect"), was(B, "cancelled", first_ms=3.0)]),
    "a second leg wins": (False, [was(A, "cancelled"), was(B, "ok", hedge="won")]),
    "a second leg loses": (False, [was(B, "cancelled", hedge="lost"), was(A, "ok")]),
    "a second leg fails": (False, [was(B, "server_error", hedge="failed"), was(A, "ok")]),
    "the first of two legs fails": (True, [was(A, "connect"), was(B, "ok", hedge="won")]),
    "a stream goes on elsewhere": (True, [was(A, "broken", first_ms=2.0), was(B, "ok", seam="prefill", first_ms=1.0)]),
    "a silent stream is overtaken": (True, [was(A, "overtaken", first_ms=2.0), was(B, "ok", seam="restart")]),
    "a stream breaks off and nobody goes on": (False, [was(A, "broken", first_ms=2.0), was(B, "connect")]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_has_failed_over_where_one_before_the_one_that_answers_is_out(case: str) -> None:
    expected, records = CASES[case]

    async def main() -> None:
        record = RequestRecord("default", stream=True, row_order=(A, B, C), records=records)
        assert record.failed_over is expected

    asyncio.run(main())


def test_a_whole_answer_of_which_pieces_came_was_none() -> None:
    async def main() -> None:
        record = RequestRecord("default", row_order=(A, B), records=[was(A, "connect"), was(B, "broken", first_ms=2.0)])
        assert not record.failed_over

    asyncio.run(main())


@in_world
async def test_a_real_failover_is_one_and_so_is_an_open_circuit(w: World) -> None:
    w.provider("aws").ends = [SERVER_ERROR]
    told = [(await complete(w)).record.summary for _ in range(5)]
    assert [(s.failed_over, s.records[0].outcome) for s in told if s] == [
        *[(True, "server_error")] * 3,
        *[(True, "skipped: open")] * 2,
    ]
    w.provider("openai").ends = [SERVER_ERROR]
    for _ in range(3):
        await complete(w)
    w.provider("aws").ends = [None]
    await asyncio.sleep(300)
    assert (await complete(w)).record.summary.failed_over is False


@pytest.mark.parametrize("stream", [False, True])
def test_the_ledger_has_the_times_of_a_request_as_its_summary_has_them(stream: bool) -> None:
    async def test(x: Ledgered) -> None:
        x.w.provider("openai").seconds, x.w.provider("openai").pace = 0.25, 0.1
        answer = await (x.stream() if stream else x.complete())
        if stream:
            await read(answer)
        request, _ = x.rows
        summary = answer.record.summary
        assert (request.first_ms, request.added_ms) == (summary.first_ms, summary.added_ms)
        assert request.first_ms is not None
        assert (request.first_ms >= 250, request.failed_over, request.stream) == (True, 1, stream)

    with_ledger(test, aws=Script([SERVER_ERROR]))


def test_a_request_that_nobody_answered_has_no_times() -> None:
    async def test(x: Ledgered) -> None:
        with pytest.raises(NoAnswer):
            await x.complete()
        request, attempts = x.rows
        assert (request.first_ms, request.added_ms, request.failed_over) == (None, None, 0)
        assert [attempt.hedge for attempt in attempts] == [None] * 3

    with_ledger(test, aws=Script([SERVER_ERROR]), openai=Script([SERVER_ERROR]), local=Script([SERVER_ERROR]))


@pytest.mark.parametrize(
    ("aws", "openai", "legs", "failed_over"),
    [
        (pieces(9.0), pieces(0.5), ["beaten", "won"], 0),
        (pieces(1.0), pieces(9.0), [None, "lost"], 0),
        (Script([Outcome("server_error", status=500)], seconds=1.0), pieces(3.0), [None, "won"], 1),
        (pieces(4.0), Script([Outcome("server_error", status=500)], seconds=0.2), [None, "failed"], 0),
    ],
    ids=["the second wins", "the first wins", "the first fails", "the second fails"],
)
def test_the_ledger_knows_what_became_of_two_legs(
    aws: Script, openai: Script, legs: list[str | None], failed_over: int
) -> None:
    async def test(x: Ledgered) -> None:
        learn(x.w)
        await x.complete()
        request, attempts = x.rows
        assert [attempt.hedge for attempt in attempts] == legs
        assert [f"{a.provider}/{a.model}" for a in attempts] == [FIRST, SECOND]
        assert request.failed_over == failed_over

    with_ledger(test, ON, aws=aws, openai=openai)


def test_a_client_that_leaves_two_legs_has_left_and_no_leg_was_beaten() -> None:
    async def test(x: Ledgered) -> None:
        learn(x.w)
        asking = asyncio.create_task(x.complete())
        await asyncio.sleep(5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        _, attempts = x.rows
        assert [(a.kind, a.hedge) for a in attempts] == [("cancelled", None), ("cancelled", "lost")]

    with_ledger(test, ON, aws=pieces(9.0), openai=pieces(9.0))


@in_world
async def test_the_order_of_the_row_is_that_of_the_request(w: World) -> None:
    checked = check_request(REQUEST)
    record = w.service.begin(Caller("http"), checked)
    await w.service.failover.complete(checked, w.service.deadline(), record)
    assert record.row_order == (A, B, C)
