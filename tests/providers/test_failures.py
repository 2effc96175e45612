"""How each SDK's failures become outcomes: the real SDK, a real socket, the vendor's own bytes."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest
from msgspec import structs

from deployments.providers import base
from deployments.providers.base import Frames, Provider, complete_within, stream_within
from deployments.providers.http.transport import MAX_ANSWER
from deployments.providers.kinds import KINDS
from deployments.providers.vendor_errors.bodies import MOST_TEXT
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer, status
from tests.fakes.tls import self_signed
from tests.providers.conftest import CLOUDS, LIMITS, WIRES, Bench, cloud, provider_at

ENDED = {  # what says in a stream that its answer is whole
    "": b'"finish_reason":"stop"',
    "responses": b'"type":"response.completed"',
    "messages": b'"stop_reason":"end_turn"',
}
AS_THEIR_CLIENTS_ASK = ("openai_responses as its client asks", "anthropic as its client asks")


@pytest.fixture(params=[*CLOUDS, "openai_responses", *AS_THEIR_CLIENTS_ASK])
def cloud_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each wire: the failures of all APIs end alike, whoever wrote the request."""
    kind, _, native = request.param.partition(" ")
    made = cloud(kind)
    made.api = KINDS[kind].native_api if native else ""
    yield made
    assert made.fake is not None
    made.fake.stop()


STATUSES = {
    400: "rejected",
    401: "credential",
    403: "credential",
    404: "model_missing",
    429: "throttled",
    500: "server_error",
    503: "overloaded",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", STATUSES)
def test_an_http_error_becomes_its_kind(cloud_bench: Bench, code: int, stream: bool) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(code)
    outcome = cloud_bench.failure(stream=stream)
    assert (outcome.kind, outcome.status, outcome.content) == (STATUSES[code], code, False)
    assert outcome.message == f"upstream says {code}"
    assert len(cloud_bench.fake.received) == 1, "an SDK retried behind our back"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_many_megabytes_is_not_read_whole(cloud_bench: Bench, stream: bool) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("raw", status=400, raw=b'{"message": "' + b"x" * MAX_ANSWER + b'"}')
    outcome = cloud_bench.failure(stream=stream)
    assert (outcome.kind, outcome.status) == ("rejected", 400)
    assert len(outcome.message) <= MOST_TEXT


@pytest.mark.parametrize("cloud_bench", ["bedrock"], indirect=True)
@pytest.mark.parametrize(("original", "kind"), [(400, "rejected"), (500, "server_error"), (None, "server_error")])
def test_the_status_of_the_models_own_server_is_read_behind_bedrocks(
    cloud_bench: Bench, original: int | None, kind: str
) -> None:
    assert cloud_bench.fake is not None
    body = json.dumps({"message": "The model returned an error", "originalStatusCode": original}).encode()
    headers = {"x-amzn-errortype": "ModelErrorException"}
    cloud_bench.fake.behave = Behaviour("raw", status=424, raw=body, headers=headers)
    assert cloud_bench.failure().kind == kind


@pytest.mark.parametrize(("header", "seconds"), [("2", 2.0), ("1.5", 1.5), ("nonsense", None), ("-3", None)])
def test_the_providers_delay_is_kept_as_it_said_it(cloud_bench: Bench, header: str, seconds: float | None) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(429, retry_after=header)
    assert cloud_bench.failure().retry_after == seconds


def test_a_503_that_names_a_delay_is_a_throttle(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(503, retry_after="3")
    outcome = cloud_bench.failure()
    assert (outcome.kind, outcome.retry_after) == ("throttled", 3.0)


# Google has no code for it: its 429 cools, and its delay grows.
@pytest.mark.parametrize(
    ("cloud_bench", "code", "vendor_code"),
    [("openai", 429, "insufficient_quota"), ("bedrock", 400, "ServiceQuotaExceededException")],
    indirect=["cloud_bench"],
)
def test_a_used_up_quota_is_no_throttle(cloud_bench: Bench, code: int, vendor_code: str) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = status(code, vendor_code)
    assert cloud_bench.failure().kind == "quota"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_connection_is_a_connect_failure(cloud_bench: Bench, stream: bool) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.refuse()
    assert cloud_bench.failure(stream=stream).kind == "connect"


@pytest.mark.parametrize("stream", [False, True])
def test_a_host_without_an_address_is_a_connect_failure(cloud_bench: Bench, stream: bool) -> None:
    cloud_bench.build = lambda: provider_at(cloud_bench.kind, "http://nowhere.invalid", LIMITS.connect)
    assert cloud_bench.failure(stream=stream).kind == "connect"


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_certificate_that_nobody_vouches_for_is_a_connect_failure(kind: str, stream: bool) -> None:
    fake = FakeServer(WIRES[kind](), tls=self_signed())
    bench = Bench(kind, lambda: provider_at(kind, fake.url, LIMITS.connect), fake)
    try:
        assert bench.failure(stream=stream).kind == "connect"
    finally:
        fake.stop()
    assert fake.received == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_the_headers_is_a_broken_connection(cloud_bench: Bench, stream: bool) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("reset")
    outcome = cloud_bench.failure(stream=stream)
    assert (outcome.kind, outcome.content) == ("broken", False)
    assert len(cloud_bench.fake.received) == 1


def test_a_body_that_breaks_off_is_no_answer(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("cut")
    assert cloud_bench.failure().kind in ("broken", "malformed")


def test_a_stream_that_is_cut_is_broken_after_content(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("cut", after=3)
    outcome = cloud_bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("broken", True)
    assert cloud_bench.frames


def test_a_stream_without_its_terminal_marker_is_broken_however_politely_it_closed(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("no_end")
    outcome = cloud_bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("broken", True)


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_inside_a_stream_is_a_failure_under_status_200(cloud_bench: Bench, after: int) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("in_band", after=after)
    outcome = cloud_bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("server_error", after > 0)
    assert outcome.message == "the engine fell over"


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [(b"<html>hello</html>", "text/html"), (b"", "application/json"), (b'{"choices": [{"mess', "application/json")],
    ids=["html", "empty", "truncated"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_200_that_is_no_answer_is_a_failure(cloud_bench: Bench, raw: bytes, content_type: str, stream: bool) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("raw", raw=raw, content_type=content_type)
    outcome = cloud_bench.failure(stream=stream)
    assert outcome.kind in ("malformed", "broken", "empty")
    assert not outcome.content


def test_silence_before_the_first_token_ends_at_its_limit(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("hang")
    cloud_bench.limits = structs.replace(LIMITS, first_token=0.3)
    outcome = cloud_bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("first_token", False)
    cloud_bench.limits = structs.replace(LIMITS, total=0.3)
    assert cloud_bench.failure().kind == "timeout"
    for request in cloud_bench.fake.received:
        assert request.gone.wait(10), "the silent connection was kept"


def test_silence_after_some_tokens_ends_at_the_idle_limit(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("stall", after=3)
    cloud_bench.limits = structs.replace(LIMITS, idle=0.3)
    outcome = cloud_bench.failure(stream=True)
    assert (outcome.kind, outcome.content) == ("idle", True)
    assert cloud_bench.fake.received[0].gone.wait(10), "the silent connection was kept"


def test_a_flowing_stream_outlives_the_total_limit(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.limits = structs.replace(LIMITS, total=0.2)
    cloud_bench.fake.behave = Behaviour("answer", pace=0.06)
    began = time.monotonic()
    cloud_bench.stream()
    assert time.monotonic() - began > cloud_bench.limits.total


def test_a_cancelled_stream_closes_its_upstream(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("stall", after=3)

    async def work(provider: Provider) -> None:
        items = stream_within(provider, cloud_bench.call(stream=True))
        first = await anext(items)
        assert isinstance(first, Frames)
        await items.aclose()
        assert cloud_bench.fake is not None
        gone = await asyncio.to_thread(cloud_bench.fake.received[0].gone.wait, 10)
        assert gone, "the upstream connection was kept"

    cloud_bench.run(work)


@pytest.mark.parametrize("kind", ["complete", "stream"])
def test_a_call_that_is_cancelled_before_its_first_byte_frees_its_socket_and_its_thread(
    cloud_bench: Bench, kind: str
) -> None:
    assert cloud_bench.fake is not None
    fake = cloud_bench.fake
    fake.behave = Behaviour("hang")

    async def work(provider: Provider) -> None:
        call = cloud_bench.call(stream=kind == "stream")
        begun = (
            asyncio.create_task(complete_within(provider, call))
            if kind == "complete"
            else asyncio.create_task(anext(stream_within(provider, call)))  # type: ignore[arg-type]
        )
        assert await asyncio.to_thread(fake.arrived.wait, 30)
        begun.cancel()
        await asyncio.gather(begun, return_exceptions=True)
        assert await asyncio.to_thread(fake.received[0].gone.wait, 10), "the upstream connection was kept"

    before = threading.active_count()
    cloud_bench.run(work)
    no_more_threads_than(before)


def no_more_threads_than(before: int) -> None:
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "a thread was left behind"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["complete", "stream"])
def test_a_cancelled_local_call_frees_its_slot(local_bench: Bench, kind: str) -> None:
    async def work(provider: Provider) -> None:
        call = local_bench.call(messages=[{"role": "user", "content": "Tell a long story."}], max_tokens=500)
        for _ in range(4):  # more often than there are slots
            if kind == "stream":
                items = stream_within(provider, call)
                await anext(items)
                await items.aclose()
            else:
                task = asyncio.create_task(complete_within(provider, call))
                await asyncio.sleep(0.05)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            await complete_within(provider, local_bench.call(max_tokens=2))

    local_bench.run(work)


def test_comments_that_keep_a_connection_open_do_not_feed_the_idle_limit() -> None:
    bench = cloud("openai")
    bench.limits = structs.replace(LIMITS, idle=0.3)
    assert bench.fake is not None
    wire = OpenAIWire()
    bench.fake.vendor = type(
        "Chatty", (OpenAIWire,), {"frames": lambda _, words: wire.frames(words)[:3] + [b": keep-alive\n\n"] * 100}
    )()
    bench.fake.behave = Behaviour("answer", pace=0.1)
    try:
        outcome = bench.failure(stream=True)
    finally:
        bench.fake.stop()
    assert (outcome.kind, outcome.content) == ("idle", True)


def test_a_bedrock_call_whose_connection_is_to_be_closed_is_freed_too() -> None:
    bench = cloud("bedrock")
    bench.limits = structs.replace(LIMITS, idle=0.3)
    assert bench.fake is not None
    bench.fake.behave = Behaviour("stall", after=3, headers={"connection": "close"})
    before = threading.active_count()
    try:
        assert bench.failure(stream=True).kind == "idle"
        no_more_threads_than(before)
    finally:
        bench.fake.stop()


@pytest.mark.parametrize("then", ["stall", "cut"])
def test_an_answer_with_its_finish_reason_is_whole_even_if_its_stream_never_says_so(
    cloud_bench: Bench, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = cloud_bench.fake
    assert fake is not None
    # At a pace, because a reset takes with it what the client has not read yet.
    fake.behave = Behaviour(then, after=len(fake.vendor.frames(fake.words)) - fake.vendor.closing() + 1, pace=0.05)
    monkeypatch.setattr(base, "MARKER_SECONDS", 0.3)
    end = cloud_bench.stream()
    assert ENDED[cloud_bench.api] in b"".join([*cloud_bench.frames, end.tail]).replace(b": ", b":")
    assert then == "cut" or fake.received[0].gone.wait(10), "the silent connection was kept"


def test_a_frame_of_many_megabytes_is_read_in_linear_time() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.words = ["x" * (50 * 1024 * 1024)]
    try:
        bench.stream()
    finally:
        bench.fake.stop()
    assert sum(map(len, bench.frames)) > 50 * 1024 * 1024


def test_an_answer_of_fifty_megabytes_is_an_answer(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.words = ["x" * (50 * 1024 * 1024)]
    assert len(cloud_bench.complete().body) > 50 * 1024 * 1024


def test_an_answer_without_end_is_none() -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.words = ["x" * (65 * 1024 * 1024)]
    try:
        assert bench.failure().kind == "malformed"
        assert bench.failure(stream=True).kind == "malformed"
    finally:
        bench.fake.stop()
