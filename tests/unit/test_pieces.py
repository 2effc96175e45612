"""A whole answer that is put together from pieces: while they come, time that is over is nobody's failure."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.providers.base import Call, run_within_total
from deployments.providers.bedrock.embed import embed
from deployments.providers.http.timing import note_sent
from deployments.providers.local.adapter import LocalProvider
from deployments.providers.local.codec import wish_of
from deployments.providers.time_limits import Pieces, TimeLimits
from deployments.replica import ProviderReplica
from deployments.service.arguments import CallOptions
from tests.clock import run_virtually
from tests.unit.tiers import ask, in_tiers, state
from tests.unit.world import ARGS, REQUEST, World


def ended(gaps: list[float], field: str | None, *, total: float = 30.0, within: float = 60.0) -> Outcome:
    """Return how an answer ends whose pieces come after such gaps, the last one for good."""

    async def main() -> None:
        pieces, left = Pieces(TimeLimits(total=total), within, field), list(gaps)
        with pieces.in_time():
            while True:
                await asyncio.sleep(left.pop(0) if len(left) > 1 else left[0])
                pieces.note()

    with pytest.raises(AttemptFailed) as caught:
        run_virtually(main())
    return caught.value.outcome


def test_who_asks_for_more_than_the_time_allows_is_told_in_which_field() -> None:
    outcome = ended([0.02], "max_tokens")
    assert (outcome.kind, outcome.status, outcome.param) == ("rejected", 400, "max_tokens")
    assert outcome.message == "the answer was still coming after 30 s: ask for less in 'max_tokens'"


def test_a_request_that_asks_for_no_more_than_usual_is_no_excuse_for_a_slow_provider() -> None:
    assert ended([0.02], None).kind == "timeout"


@pytest.mark.parametrize("gaps", [[100.0], [0.02] * 50 + [100.0]])
@pytest.mark.parametrize("field", ["max_tokens", None])
def test_a_provider_from_which_nothing_comes_any_more_has_failed_whatever_was_asked_for(
    gaps: list[float], field: str | None
) -> None:
    assert ended(gaps, field).kind == "timeout"


@pytest.mark.parametrize("field", ["max_tokens", None])
def test_a_deadline_that_ends_an_answer_which_flows_says_nothing_of_its_provider(field: str | None) -> None:
    flowing, silent = ended([0.02], field, within=5.0), ended([100.0], field, within=5.0)
    assert (flowing.kind, flowing.content, flowing.verdict) == ("deadline", True, "neutral")
    assert (silent.kind, silent.content) == ("deadline", False), "the ingress compares it with what others did"


def test_an_answer_that_is_whole_in_time_is_one_to_the_last_twentieth_of_a_second() -> None:
    async def main() -> str:
        pieces = Pieces(TimeLimits(total=10.0), 60.0, "input")
        with pieces.in_time():
            for _ in range(99):
                await asyncio.sleep(0.1)
                pieces.note()
        return "whole"

    assert run_virtually(main()) == "whole"


def test_what_can_not_be_stopped_is_not_begun_where_it_would_come_too_late() -> None:
    made = list[float]()

    async def main() -> None:
        pieces, clock = Pieces(TimeLimits(total=10.0), 60.0, "input"), asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(1.2)
            made.append(clock() - began)
            pieces.note()
            pieces.check_time()

    with pytest.raises(AttemptFailed) as caught:
        run_virtually(main())
    assert (caught.value.outcome.kind, caught.value.outcome.param) == ("rejected", "input")
    assert (len(made), made[-1]) == (8, pytest.approx(9.6))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"max_tokens": 256}, None),
        ({"max_tokens": 257}, "max_tokens"),
        ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
        ({"max_tokens": 10**9, "max_completion_tokens": 5}, None),
        ({"max_tokens": 10**9, "max_completion_tokens": None}, "max_tokens"),
    ],
)
def test_the_field_is_the_one_that_asks_for_more_than_an_answer_has_by_default(
    body: dict[str, Any], field: str | None
) -> None:
    assert wish_of(body) == field


def embedded(texts: int, seconds: float, model: str = "amazon.titan-embed-text-v2:0") -> Outcome:
    async def invoke(_: object) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        await asyncio.sleep(seconds)
        return {"embedding": [0.5], "inputTextTokenCount": 1}, {}

    call = Call({"model": "row", "input": ["x"] * texts}, model, "row", TimeLimits())
    with pytest.raises(AttemptFailed) as caught:
        run_virtually(run_within_total(lambda call: embed(call, invoke), call))
    return caught.value.outcome


def test_two_thousand_texts_for_a_model_that_takes_one_a_call_are_the_requests_wish() -> None:
    outcome = embedded(2048, seconds=0.2)
    assert (outcome.kind, outcome.param) == ("rejected", "input")


def test_calls_that_hang_are_no_wish_however_many_texts_there_are() -> None:
    assert embedded(2048, seconds=100.0).kind == "timeout"
    assert embedded(8, seconds=100.0).kind == "timeout"


class Writing(LocalProvider):
    """The local model's adapter over an engine that writes a token every 20 ms for ever, or falls silent."""

    def __init__(self, silent_after: float = math.inf):
        self._proven, self._silent_after = {}, silent_after
        self._engine: Any = self

    @contextlib.asynccontextmanager
    async def slot(self, wait: float) -> AsyncIterator[None]:
        note_sent()
        yield

    async def chat(self, request: Mapping[str, Any]) -> AsyncGenerator[list[dict[str, Any]], None]:
        began = asyncio.get_running_loop().time()
        while True:
            silent = asyncio.get_running_loop().time() - began > self._silent_after
            await asyncio.sleep(10_000.0 if silent else 0.02)
            yield [{"choices": [{"delta": {"content": " and"}, "finish_reason": None}]}]


async def told_long(w: World, model: Writing, seconds: float | None, times: int) -> list[dict[str, Any]]:
    """Return the answers to a request for a billion tokens of the local model."""
    replica = ProviderReplica("local", {}, left_out="by the test")
    replica._provider = model
    w.hop.complete = lambda _, call, __=None: replica.complete(call)  # type: ignore[method-assign, assignment, return-value, arg-type]
    body = {**REQUEST, "model": "local/smol", "max_tokens": 10**9}
    return [await w.python.chat(body, CallOptions(seconds)) for _ in range(times)]  # type: ignore[misc]


@pytest.mark.parametrize("seconds", [None, 5.0, 0.5])
@in_tiers(ARGS)
async def test_more_tokens_than_the_time_allows_are_no_failure_of_the_model_that_writes_them(
    w: World, seconds: float | None
) -> None:
    for answer in await told_long(w, Writing(), seconds, 6):
        if seconds is None:
            assert (answer["status"], answer["error"]["param"]) == (400, "max_tokens")
        else:
            assert (answer["status"], answer["error"]["code"]) == (504, "deadline_exceeded")
    await w.settle()
    assert (state(w, "local/smol"), w.targets()["local/smol"]["failed"]) == ("closed", 0)


@pytest.mark.parametrize("seconds", [None, 10.0])
@in_tiers(ARGS)
async def test_a_model_that_falls_silent_in_the_middle_is_judged_as_any_that_hangs(
    w: World, seconds: float | None
) -> None:
    for answer in await told_long(w, Writing(silent_after=0.1), seconds, 1):
        assert answer["status"] == (503 if seconds is None else 504)
    await w.settle()
    health = w.targets()["local/smol"]
    assert (health["failed"], health["neutral"]) == ((1, 0) if seconds is None else (0, 1))


FLOWED = Outcome("deadline", content=True, message="the answer was still coming after 5 s")


@in_tiers()
async def test_an_answer_that_flowed_at_the_clients_deadline_is_a_504_and_moves_no_circuit(w: World) -> None:
    openai = w.provider("openai")
    openai.seconds, openai.ends = 4.95, [FLOWED]
    for _ in range(6):
        assert (await ask(w, "solo", seconds=5.0)).by == 504
    await w.settle()
    health = w.targets()["openai/gpt"]
    assert (state(w, "openai/gpt"), health["failed"], health["neutral"]) == ("closed", 0, 6)


@in_tiers()
async def test_a_tier_that_was_still_writing_at_its_share_of_the_time_leaves_the_rest_to_the_next(w: World) -> None:
    w.provider("aws").seconds, w.provider("aws").ends = 3.3, [FLOWED]
    for _ in range(6):
        assert (await ask(w, seconds=5.0)).by == "openai/gpt"
    await w.settle()
    assert (state(w, "aws/haiku"), w.targets()["aws/haiku"]["failed"]) == ("closed", 0)
