"""What becomes of a request's account on every way that it can go: each ends once, and says what was so."""

import asyncio
import pathlib
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from actors.ledger.budget import subjects_of
from actors.ledger.rows import LONGEST_TEXT, AttemptRow, RequestRow, merged
from actors.ledger.single_writer.reading import parse
from deployments.config.ledger import Accounting
from deployments.errors import BadRequest, NoAnswer, UnknownModel
from deployments.openai_api.chat import check_request
from deployments.service.arguments import CallOptions
from deployments.usage.caller import Caller, check_caller, question_of
from deployments.usage.ledger_client import CHUNK, LedgerClient
from deployments.usage.prices import PriceList
from tests.clock import run_virtually
from tests.unit.test_failover import SERVER_ERROR, complete
from tests.unit.world import ARGS, REQUEST, Script, World, world

PRICES = {name: {"input": 2, "output": 8} for name in ("haiku", "gpt", "smol")}
WINDOWS = {
    **ARGS,
    "providers": {
        "aws": {"kind": "bedrock", "region": "us-east-1", "context_windows": {"haiku": 1000}},
        "openai": {"kind": "openai", "context_windows": {"gpt": 100_000}},
        "local": {"kind": "local", "model_path": "smol.gguf"},
    },
}
EMBEDDINGS = {**ARGS, "embeddings": {"e": {"dimensions": 8, "targets": {"openai": "gpt", "aws": "haiku"}}}}


@dataclass
class Ledgered:
    w: World
    link: LedgerClient

    @property
    def rows(self) -> tuple[RequestRow, list[AttemptRow]]:
        """The one request there was, and its attempts in order."""
        data, _ = self.link._journal.read(10**7)
        records, wrong = parse(data)
        assert not wrong
        (request,) = merged(r.request for r in records)
        attempts = merged(r.attempt for r in records if r.attempt is not None)
        return request, sorted(attempts, key=lambda a: a.number)

    async def complete(self) -> Any:
        checked = check_request(REQUEST)
        account = self.w.service.begin(Caller("http", "acme"), checked)
        return await self.w.service.failover.complete(checked, self.w.service.deadline(), account)

    async def stream(self, **body: Any) -> Any:
        checked = check_request({**REQUEST, "stream": True, **body})
        account = self.w.service.begin(Caller("http", "acme"), checked)
        return await self.w.service.failover.stream(checked, self.w.service.deadline(), account)

    async def opened(self) -> None:
        """aws is to be probed."""
        self.w.provider("aws").ends = [SERVER_ERROR] * 3 + [None]
        for _ in range(3):
            await complete(self.w)
        await asyncio.sleep(75)


def with_ledger(test: Callable[[Ledgered], Awaitable[None]], args: Mapping[str, Any] = ARGS, **scripts: Script) -> None:
    async def away() -> Any:
        raise ConnectionError

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with world(args, **scripts) as w:
                prices = PriceList(Accounting.model_validate({"prices": PRICES}).prices)
                w.service.ledger = LedgerClient(away, pathlib.Path(folder), prices=prices)
                await test(Ledgered(w, w.service.ledger))

    run_virtually(main())


async def read(answer: Any) -> bytes:
    try:
        return b"".join([data async for data in answer.frames()])
    finally:
        await answer.close()


def test_a_probe_that_breaks_while_it_is_held_back_is_not_the_end_of_its_request() -> None:
    async def test(x: Ledgered) -> None:
        await x.opened()
        x.w.provider("aws").ends, x.w.provider("aws").after = [SERVER_ERROR], 1
        answer = await x.stream()
        assert answer.target == "openai/gpt"
        await read(answer)
        request, attempts = x.rows
        assert [a.kind for a in attempts] == ["server_error", "ok"]
        assert (request.outcome, request.provider, request.attempts) == ("ok", "openai", 2)

    with_ledger(test)


def test_a_prompt_that_was_too_long_for_one_is_accounted_as_answered_by_a_larger() -> None:
    async def test(x: Ledgered) -> None:
        await x.complete()
        request, attempts = x.rows
        assert [a.kind for a in attempts] == ["too_long", "ok"]
        assert (request.outcome, request.provider, request.attempts) == ("ok", "openai", 2)

    with_ledger(test, WINDOWS, aws=Script([Outcome("too_long", status=400)]))


def test_a_request_that_everybody_fails_ends_with_its_own_answer() -> None:
    async def test(x: Ledgered) -> None:
        with pytest.raises(NoAnswer):
            await x.complete()
        request, attempts = x.rows
        assert [a.kind for a in attempts] == ["bad_request"]
        assert (request.state, request.outcome, request.attempts) == ("settled", "bad_request", 1)

    with_ledger(test, aws=Script([Outcome("bad_request", status=400)]))


def test_a_held_probe_that_ends_whole_without_usage_is_estimated_by_what_it_delivers() -> None:
    async def test(x: Ledgered) -> None:
        await x.opened()
        stream = x.w.hop.stream

        async def without_usage(provider: str, call: Mapping[str, Any]) -> Any:
            async for item in stream(provider, call):
                yield item if isinstance(item, bytes) else {"usage": None, "tail": b""}

        x.w.hop.stream = without_usage  # type: ignore[method-assign]
        await read(await x.stream())
        request, (attempt,) = x.rows
        assert (request.outcome, attempt.kind, attempt.counted) == ("ok", "ok", "estimated")
        assert attempt.tokens_out > 0
        assert attempt.cost
        assert attempt.first_ms is not None

    with_ledger(test)


@pytest.mark.parametrize("usage", [[], "n/a", 5, True])
def test_a_usage_that_is_none_fails_nobody(usage: Any) -> None:
    async def test(x: Ledgered) -> None:
        whole = x.w.hop.complete

        async def odd(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
            return {**await whole(provider, call), "usage": usage}

        x.w.hop.complete = odd  # type: ignore[method-assign]
        assert (await x.complete()).target == "aws/haiku"
        request, (attempt,) = x.rows
        assert (request.outcome, attempt.counted) == ("ok", "estimated")

    with_ledger(test)


def test_embeddings_of_which_nobody_told_the_tokens_are_estimated_and_never_free() -> None:
    async def test(x: Ledgered) -> None:
        async def vectors(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
            return {"body": b'{"object":"list","data":[],"usage":null}', "usage": None}

        x.w.hop.complete = vectors  # type: ignore[method-assign]
        request = {"model": "e", "input": ["a text of some forty characters, or so it is", "b" * 40]}
        answer = await x.w.python.embed(request, CallOptions(caller=Caller("http", "acme")))
        assert "error" not in answer
        row, (attempt,) = x.rows
        assert (row.outcome, attempt.counted, attempt.tokens_out) == ("ok", "estimated", 0)
        assert attempt.tokens_in == pytest.approx(21, abs=2)
        assert attempt.cost == attempt.tokens_in * 2000

    with_ledger(test, EMBEDDINGS)


def test_a_bug_of_ours_is_not_accounted_as_a_client_who_went_away() -> None:
    async def test(x: Ledgered) -> None:
        async def bug(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> dict[str, Any]:
            raise KeyError("location")

        x.w.hop.complete = bug  # type: ignore[method-assign]
        with pytest.raises(KeyError):
            await x.complete()
        request, _ = x.rows
        assert request.outcome == "unclassified"

    with_ledger(test)


def test_a_held_stream_that_nobody_reads_lets_go_of_its_provider() -> None:
    async def test(x: Ledgered) -> None:
        await x.opened()
        x.w.provider("aws").words, x.w.provider("aws").pace = ["word"] * 30, 6.0  # longer than it is held back
        answer = await x.stream()
        assert answer.target == "aws/haiku"
        await answer.close()
        assert x.w.provider("aws").cancelled == 1, "the upstream call would run on"
        assert x.rows[0].outcome == "cancelled"

    with_ledger(test)


def test_the_rows_of_a_throttled_tier_and_an_unfit_one_say_429() -> None:
    async def main() -> None:
        throttled = Outcome("throttled", status=429, retry_after=7)
        async with world(ARGS, aws=Script([throttled]), openai=Script([throttled])) as w:
            request = check_request({**REQUEST, "n": 1, "messages": [{"role": "user", "content": [PICTURE]}]})
            with pytest.raises(NoAnswer) as caught:
                await w.service.failover.complete(request, w.service.deadline())
            assert [a["outcome"] for a in caught.value.attempts] == [
                "skipped: unsupported messages.0.content",
                "throttled",
                "throttled",
            ]
            assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")

    run_virtually(main())


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_a_text_too_long_for_the_local_tier_is_no_400_while_a_larger_one_is_only_out() -> None:
    args = {**ARGS, "embeddings": {"e": {"dimensions": 576, "targets": {"openai": "gpt", "local": "smol"}}}}

    async def main() -> None:
        async with world(args, openai=Script([SERVER_ERROR]), local=Script([Outcome("too_long", status=400)])) as w:
            ask = {"model": "e", "input": "x"}
            for _ in range(3):
                assert (await w.python.embed(ask))["status"] == 503
            await w.settle()
            answer = await w.python.embed(ask)
            assert [a["outcome"] for a in answer["error"]["attempts"]] == ["skipped: open", "too_long"]
            assert answer["status"] == 503, "with the first the request may be fine"

    run_virtually(main())


def test_a_pinned_embedding_target_has_the_length_of_its_row() -> None:
    args = {**ARGS, "embeddings": {"e": {"dimensions": 512, "targets": {"openai": "text-embedding-3-small"}}}}

    async def main() -> None:
        async with world(args) as w:
            await w.python.embed({"model": "openai/text-embedding-3-small", "input": "x"})
            assert w.hop.last["dimensions"] == 512

    run_virtually(main())


@pytest.mark.parametrize("odd", ["\ud800", float("nan")])
def test_what_is_no_json_is_refused_by_the_embeddings_of_the_handle_too(odd: Any) -> None:
    async def main() -> None:
        async with world(EMBEDDINGS) as w:
            answer = await w.python.embed({"model": "e", "input": "x", "user": odd})
            assert (answer["status"], answer["error"]["code"]) == (400, "invalid_json")
            assert w.provider("openai").calls == 0

    run_virtually(main())


@pytest.mark.parametrize("instant", ["nan", "inf", "1e300"])
def test_an_instant_that_is_none_is_a_400_and_no_ledger_that_is_away(instant: str) -> None:
    with pytest.raises(BadRequest) as caught:
        question_of({"since": instant})
    assert caught.value.param == "since"


@pytest.mark.parametrize("tenant", [5, "", " "])
def test_a_tenant_that_is_no_name_is_a_typed_error_by_handle(tenant: Any) -> None:
    async def test(x: Ledgered) -> None:
        answer = await x.w.python.chat(REQUEST, CallOptions(caller=Caller("handle", tenant)))
        assert (answer["status"], answer["error"]["param"]) == (400, "tenant_id")

    with_ledger(test)


def test_a_client_who_leaves_while_a_probe_is_held_back_ends_the_account_once() -> None:
    async def test(x: Ledgered) -> None:
        await x.opened()
        x.w.provider("aws").words, x.w.provider("aws").pace = ["word"] * 3, 300.0
        asking = asyncio.create_task(x.stream())
        await asyncio.sleep(1)
        asking.cancel()
        await asyncio.wait([asking])
        request, (attempt,) = x.rows
        assert (request.outcome, attempt.kind, request.attempts) == ("cancelled", "cancelled", 1)
        assert not x.link._open
        assert x.w.provider("aws").cancelled == 1

    with_ledger(test)


def test_a_stream_that_nobody_reads_is_accounted_as_cancelled() -> None:
    async def test(x: Ledgered) -> None:
        answer = await x.stream()
        await answer.close()
        await answer.close()
        request, (attempt,) = x.rows
        assert (request.outcome, attempt.kind, attempt.counted) == ("cancelled", "cancelled", "estimated")
        assert attempt.cost == attempt.tokens_in * 2000 + attempt.tokens_out * 8000 > 0, "its prompt was sent"
        assert not x.link._open

    with_ledger(test)


@pytest.mark.parametrize("frames", [0, 1])
def test_a_client_who_leaves_is_counted_by_what_the_provider_had_told_by_then(frames: int) -> None:
    async def test(x: Ledgered) -> None:
        x.w.provider("aws").told = {"prompt_tokens": 6100, "completion_tokens": 70, "total_tokens": 6170}
        answer = await x.stream()
        items = answer.frames()
        for _ in range(frames):
            await anext(items)
        await answer.close()
        await items.aclose()
        _, (attempt,) = x.rows
        assert (attempt.kind, attempt.tokens_in, attempt.tokens_out) == ("cancelled", 6100, 70)
        assert (attempt.counted, attempt.cost) == ("estimated", 6100 * 2000 + 70 * 8000)

    with_ledger(test)


def test_a_model_that_nobody_knows_is_a_request_without_attempts() -> None:
    async def test(x: Ledgered) -> None:
        checked = check_request({**REQUEST, "model": "nope"})
        with pytest.raises(UnknownModel):
            await x.w.service.failover.complete(
                checked, x.w.service.deadline(), x.w.service.begin(Caller("http", "acme"), checked)
            )
        request, attempts = x.rows
        assert (request.outcome, request.state, attempts) == ("model_not_found", "settled", [])

    with_ledger(test)


def test_a_tenant_has_one_name_for_its_limits_and_for_its_rows() -> None:
    assert subjects_of("a" * 300, "b" * 300) == ["tenant:" + "a" * LONGEST_TEXT, "key:" + "b" * LONGEST_TEXT]


def test_every_400_of_ours_has_a_code_of_the_list() -> None:
    with pytest.raises(BadRequest) as caught:
        question_of({"since": "yesterday"})
    assert caught.value.code == "invalid_value"


def test_a_long_pinned_name_is_refused_and_costs_nobody_a_row() -> None:
    async def test(x: Ledgered) -> None:
        with pytest.raises(BadRequest, match="512"):
            check_request({**REQUEST, "model": "openai/" + "A" * 300_000})
        for model in ("openai/" + "A" * 500, "B" * 512):
            checked = check_request({**REQUEST, "model": model})
            account = x.w.service.begin(Caller("http", "acme"), checked)
            with pytest.raises((BadRequest, UnknownModel)) as caught:
                await x.w.service.failover.complete(checked, x.w.service.deadline(), account)
            assert len(str(caught.value)) < 1000
        await x.complete()
        data, _ = x.link._journal.read(CHUNK)
        records, wrong = parse(data)
        assert not wrong
        assert [r.outcome for r in merged(record.request for record in records)][-1] == "ok"
        assert x.link._journal.lines == data.count(b"\n")

    with_ledger(test)


@pytest.mark.parametrize("whose", ["tenant", "agent"])
def test_a_name_that_no_row_can_hold_whole_is_refused(whose: str) -> None:
    """Cut off, the names of two tenants would be one account."""
    check_caller(Caller("http", **{whose: "x" * LONGEST_TEXT}), None)
    with pytest.raises(BadRequest, match="256"):
        check_caller(Caller("http", **{whose: "x" * (LONGEST_TEXT + 1)}), None)


def test_a_stream_that_breaks_off_is_counted_by_what_its_provider_had_told() -> None:
    async def test(x: Ledgered) -> None:
        x.w.provider("aws").ends, x.w.provider("aws").after = [Outcome("broken", content=True)], 1
        x.w.provider("aws").told = {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940}
        await read(await x.stream())
        _, (attempt,) = x.rows
        assert (attempt.kind, attempt.tokens_in, attempt.tokens_out) == ("broken", 900, 40)
        assert attempt.counted == "estimated"

    with_ledger(test)
