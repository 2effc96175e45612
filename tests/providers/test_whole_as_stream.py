"""Whole answers that are asked for as streams, each kind against a fake that speaks its vendor's wire."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from deployments.errors import AttemptFailed
from deployments.providers.base import BrokenOff, Call, Completed, Provider
from deployments.providers.http.timing import begin_timing
from deployments.providers.joined.whole import Choice, WholeAnswers
from deployments.providers.time_limits import TimeLimits
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer, status
from tests.providers.conftest import Bench, cloud, provider_at

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
KINDS = ("openai", "openai_responses", "bedrock", "google", "anthropic")
NATIVE = {"openai_responses": "responses", "anthropic": "messages"}


def answered(bench: Bench, choice: Choice, call: Call | None = None, *, times: int = 1, **body: Any) -> Completed:
    """The last of so many whole answers of one provider."""

    async def work(provider: Provider) -> Completed:
        whole = WholeAnswers(provider, choice)
        for _ in range(times):
            done = await whole.complete(call or structs.replace(bench.call(**body), flows=True))
        return done

    done: Completed = bench.run(work)
    return done


def failure(bench: Bench, choice: Choice = "always", call: Call | None = None) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        answered(bench, choice, call)
    return caught.value


def without_ids(body: bytes) -> Any:
    """A body without what differs from one answer to the next."""

    def bare(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: bare(inner) for name, inner in value.items() if name not in ("id", "created", "annotations")}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    return bare(json.loads(body))


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["text", "tools"])
def test_its_body_is_that_of_the_whole_answer(bench: Bench, tools: Sequence[Any]) -> None:
    more = {"tools": tools} if tools else {}
    whole, joined = (answered(bench, choice, **more) for choice in ("never", "always"))
    assert without_ids(joined.body) == without_ids(whole.body)
    assert joined.usage == whole.usage
    if bench.fake is not None:
        streams = [bench.fake.vendor.wants_stream(got.path, got.body) for got in bench.fake.received]
        assert streams == [False, True]


@pytest.mark.parametrize("kind", NATIVE)
def test_so_is_that_of_an_answer_in_its_clients_words(kind: str) -> None:
    bench = cloud(kind)
    bench.api = NATIVE[kind]
    whole, joined = (answered(bench, choice) for choice in ("never", "always"))
    assert bench.fake is not None
    bench.fake.stop()
    assert whole.native
    assert joined.native
    assert without_ids(joined.body) == without_ids(whole.body)
    assert joined.usage == whole.usage


HASTY = TimeLimits(connect=10.0, first_token=0.8, idle=1.0, total=2.5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_hangs_is_known_after_the_first_token_and_one_that_flows_may_take_longer_than_all(kind: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    bench.limits = HASTY
    bench.fake.behave = Behaviour("hang")
    began = time.monotonic()
    assert failure(bench).outcome.kind == "first_token"
    assert time.monotonic() - began < HASTY.total
    bench.fake.words = [f"w{n} " for n in range(14)]
    bench.fake.behave = Behaviour("answer", pace=0.2)
    assert b"w13 " in answered(bench, "always").body
    began = time.monotonic()
    assert failure(bench, call=bench.call()).outcome.kind == "timeout"  # who waits hears of no pieces
    assert time.monotonic() - began > HASTY.total - 1.0
    bench.fake.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stall", "cut", "no_end"])
def test_what_breaks_off_is_no_answer_and_what_came_is_told(kind: str, how: str) -> None:
    bench = cloud(kind)
    assert bench.fake is not None
    bench.limits = HASTY
    bench.fake.behave = Behaviour(how, after=3)
    error = failure(bench)
    bench.fake.stop()
    assert isinstance(error, BrokenOff)
    assert error.outcome.kind in ("idle", "broken")
    assert error.outcome.content
    assert error.outcome.verdict.value == "failed_stream"
    assert b"Paris" in error.came


REFUSALS: dict[str, tuple[str, int, str | None, str]] = {
    "an organization of OpenAI's that is not verified": (
        "openai",
        400,
        "unsupported_value",
        "Your organization must be verified to stream this model.",
    ),
    "a policy of AWS without the action": (
        "bedrock",
        403,
        "AccessDeniedException",
        "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: bedrock:InvokeModelWithResponseStream on "
        "resource: arn:aws:bedrock:us-east-1::foundation-model/x",
    ),
    "a model of Bedrock that does not stream": (
        "bedrock",
        400,
        "ValidationException",
        "The model is unsupported for streaming.",
    ),
    "one that does not stream calls": (
        "bedrock",
        400,
        "ValidationException",
        "This model doesn't support tool use in streaming mode.",
    ),
    "a server of OpenAI's API": ("openai", 400, None, "Streaming is not supported for this model"),
}


class RefusesStreams(FakeServer):
    """A server that answers whole, and refuses each stream with these words."""

    refusal = Behaviour()

    def _next(self, request: Any) -> Behaviour:
        answer = super()._next(request)
        return self.refusal if self.vendor.wants_stream(request.path, request.body) else answer


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_to_stream_is_asked_whole_once_and_remembered(case: str) -> None:
    kind, code, vendor_code, message = REFUSALS[case]
    fake = RefusesStreams(cloud(kind).fake.vendor)  # type: ignore[union-attr]
    fake.refusal = replace(status(code, vendor_code), message=message)
    bench = Bench(kind, lambda: provider_at(kind, fake.url, 3.0), fake)
    done = answered(bench, "always", times=3)
    streams = [fake.vendor.wants_stream(got.path, got.body) for got in fake.received]
    fake.stop()
    assert b"Paris" in done.body
    assert streams == [True, False, False, False]


def test_a_refusal_that_is_not_of_streams_is_told_as_it_is() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    for refusal in (status(400), status(401), status(429)):
        bench.fake.behave = replace(refusal, message="upstream says: stream your data to us")
        asked = len(bench.fake.received)
        assert failure(bench).outcome.status == refusal.status
        assert len(bench.fake.received) == asked + 1
    bench.fake.stop()


def test_a_whole_answer_that_fails_as_its_stream_did_says_so_itself() -> None:
    bench = cloud("bedrock")
    assert bench.fake is not None
    message = REFUSALS["a policy of AWS without the action"][3]
    bench.fake.behave = replace(status(403, "AccessDeniedException"), message=message)
    assert failure(bench).outcome.kind == "credential"
    assert len(bench.fake.received) == 2
    bench.fake.stop()


class AnswersWhole(OpenAIWire):
    """A server that knows nothing of `stream`."""

    def wants_stream(self, path: str, body: Mapping[str, Any]) -> bool:
        return False


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["text", "tools"])
def test_a_server_that_answers_whole_though_a_stream_was_asked_for_is_understood(tools: Sequence[Any]) -> None:
    fake = FakeServer(AnswersWhole())
    bench = Bench("openai", lambda: provider_at("openai", fake.url, 3.0), fake)
    more = {"tools": tools} if tools else {}
    whole, joined = (answered(bench, choice, **more) for choice in ("never", "always"))
    end = bench.stream(**more)
    fake.stop()
    assert without_ids(joined.body) == without_ids(whole.body)
    assert end.usage == whole.usage
    frames = b"".join(bench.frames) + end.tail
    assert (b'"f"' if tools else b"Paris is the capital.") in frames
    assert b'"finish_reason":"' in frames.replace(b" ", b"")


@pytest.mark.parametrize(
    ("body", "streams"),
    [({}, True), ({"tools": TOOLS}, False), ({"logprobs": True}, False), ({"n": 2}, False), ({"n": 1}, True)],
)
def test_auto_asks_others_servers_for_plain_texts_alone(body: dict[str, Any], streams: bool) -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    answered(bench, "auto", **body)
    assert bench.fake.received[0].body["stream"] is streams
    bench.fake.stop()


class WithoutUsage(OpenAIWire):
    """A server whose streams tell no usage."""

    def _frames(self, deltas: list[dict[str, Any]], finish: str, usage: Any = None) -> list[bytes]:
        *frames, _usage, done = super()._frames(deltas, finish)
        return [*frames, done]


def test_a_server_whose_streams_tell_no_usage_is_asked_for_whole_answers_that_may() -> None:
    fake = FakeServer(WithoutUsage())
    bench = Bench("openai", lambda: provider_at("openai", fake.url, 3.0), fake)
    done = answered(bench, "auto", times=2)
    streams = [got.body["stream"] for got in fake.received]
    fake.stop()
    assert streams == [True, False]
    assert done.usage is not None


def test_an_answer_with_sound_is_asked_for_as_it_is() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    answered(bench, "always", modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    assert bench.fake.received[0].body["stream"] is False
    bench.fake.stop()


def test_a_client_that_leaves_ends_the_stream_upstream() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.behave = Behaviour("stall", after=2)

    async def work(provider: Provider) -> None:
        heard = asyncio.Event()
        begin_timing().on_piece = heard.set
        task = asyncio.create_task(WholeAnswers(provider, "always").complete(bench.call()))
        async with asyncio.timeout(10):
            await heard.wait()
        task.cancel()
        await asyncio.wait([task])

    bench.run(work)
    assert bench.fake.received[0].gone.wait(5)
    bench.fake.stop()
