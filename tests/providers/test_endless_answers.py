"""Answers without end or measure: each is a typed error of its provider within bounds of memory. Real SDKs, sockets."""

import itertools
import json
import struct
import tracemalloc
from binascii import crc32
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import ENDINGS, Guilt, Outcome
from deployments.providers.http.transport import MAX_ANSWER
from tests.fakes.server import Behaviour
from tests.providers.conftest import Bench

DEEP = b"[" * 10_000_000
MIB = 2**20


def traced(work: Callable[[], Any]) -> tuple[Any, int]:
    """Return what the work returns, and the most MiB that it held at once."""
    tracemalloc.start(1)
    try:
        return work(), tracemalloc.get_traced_memory()[1] // MIB
    finally:
        tracemalloc.stop()


def is_theirs(kind: str) -> bool:
    return ENDINGS[kind].guilt is Guilt.PROVIDER


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_ten_million_brackets_are_the_providers_fault(cloud_bench: Bench, status: int, stream: bool) -> None:
    assert cloud_bench.fake is not None
    content_type = cloud_bench.fake.vendor.stream_type if stream and status == 200 else "application/json"
    cloud_bench.fake.behave = Behaviour("raw", status=status, raw=DEEP, content_type=content_type)
    outcome = cloud_bench.failure(stream=stream)
    # A refusal that nobody can read moves no circuit, and the next tier is asked.
    by_status = cloud_bench.kind in ("openai", "anthropic")
    assert outcome.kind == "rejected" if status == 400 and by_status else is_theirs(outcome.kind)
    assert len(outcome.message) < 5000


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_without_end_is_cut_at_its_bound(cloud_bench: Bench, status: int) -> None:
    assert cloud_bench.fake is not None
    raw = b'{"error":{"message":"' + b"x" * (MAX_ANSWER + 8 * MIB)
    cloud_bench.fake.behave = Behaviour("raw", status=status, raw=raw)
    outcome = cloud_bench.failure()
    assert is_theirs(outcome.kind), outcome
    assert len(outcome.message) < 5000
    assert status == 500 or "longer than 64 MiB" in outcome.message


def test_a_header_without_end_is_the_providers_fault(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    cloud_bench.fake.behave = Behaviour("raw", raw=b"{}", headers={"x-long": "x" * 10_000_000})
    outcome, most = traced(cloud_bench.failure)
    assert is_theirs(outcome.kind), outcome
    assert most < 60  # with what the fake itself holds


def test_headers_without_number_are_the_providers_fault(cloud_bench: Bench) -> None:
    assert cloud_bench.fake is not None
    headers = {f"x-{number}": "x" * 1000 for number in range(20_000)}
    cloud_bench.fake.behave = Behaviour("raw", raw=b"{}", headers=headers)
    outcome = cloud_bench.failure()
    assert is_theirs(outcome.kind), outcome


def frames_of(kind: str, events: Iterator[Mapping[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def converse(event: str, data: Mapping[str, Any]) -> bytes:
    """A message of AWS's event stream."""
    named = ((":event-type", event), (":message-type", "event"), (":content-type", "application/json"))
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in named
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def openai_frame(delta: Mapping[str, Any], index: int = 0, **more: Any) -> Mapping[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}], **more}


def test_frames_without_content_or_end_are_held_within_their_bound() -> None:
    from tests.providers.conftest import cloud

    for id_of in ({}, {"id": "chatcmpl-1"}):
        bench = cloud("openai")
        assert bench.fake is not None
        pad = openai_frame({"role": "assistant", "content": ""}, note="x" * 10_000, **id_of)
        raw = frames_of("openai", itertools.repeat(pad, 1500))
        bench.fake.behave = Behaviour("raw", raw=raw, content_type="text/event-stream")
        outcome = bench.failure(stream=True)
        bench.fake.stop()
        assert (outcome.kind, is_theirs(outcome.kind)) == ("malformed", True)
        assert "no content" in outcome.message


def end_of_stream(provider: str, raw: bytes, content_type: str = "text/event-stream") -> Outcome:
    """How a stream of these bytes ends."""
    from tests.providers.conftest import cloud

    bench = cloud(provider)
    assert bench.fake is not None
    bench.fake.behave = Behaviour("raw", raw=raw, content_type=content_type)
    outcome = bench.failure(stream=True)
    bench.fake.stop()
    return outcome


@pytest.mark.parametrize(
    "frame",
    [
        lambda n: openai_frame({"tool_calls": [{"index": 0, "id": f"c{n}", "function": {"name": "f"}}]}, n),
        lambda n: openai_frame({"tool_calls": [{"index": n, "id": f"c{n}", "function": {"name": "f"}}]}),
        lambda n: {"id": "x", "choices": [{"index": n, "delta": {}, "finish_reason": "stop"}]},
    ],
    ids=["choices", "calls", "ends"],
)
def test_a_stream_that_names_ever_more_is_malformed(frame: Callable[[int], Mapping[str, Any]]) -> None:
    outcome = end_of_stream("openai", frames_of("openai", (frame(number) for number in range(10_240))))
    assert outcome.kind == "malformed"
    assert "more than" in outcome.message


def test_a_stream_of_ever_more_candidates_is_malformed() -> None:
    raw = frames_of("google", ({"candidates": [{"index": n, "content": {"parts": []}}]} for n in range(1280)))
    outcome = end_of_stream("google", raw)
    assert (outcome.kind, "more than 128" in outcome.message) == ("malformed", True)


def test_reasoning_without_end_is_malformed() -> None:
    delta = {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "x" * MIB}}}
    raw = converse("messageStart", {"role": "assistant"}) + converse("contentBlockDelta", delta) * 20
    outcome = end_of_stream("bedrock", raw, "application/vnd.amazon.eventstream")
    assert (outcome.kind, "reasoning" in outcome.message) == ("malformed", True)


def test_an_event_without_end_is_malformed() -> None:
    from tests.providers.conftest import cloud

    bench = cloud("openai")
    assert bench.fake is not None
    raw = b'data: {"choices": "' + b"x" * (MAX_ANSWER + MIB)
    bench.fake.behave = Behaviour("raw", raw=raw, content_type="text/event-stream")
    outcome, most = traced(lambda: bench.failure(stream=True))
    bench.fake.stop()
    assert outcome.kind == "malformed"
    assert most < 5 * MAX_ANSWER // MIB
