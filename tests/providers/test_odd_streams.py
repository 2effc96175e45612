"""Streams of servers that keep the protocol in their own way, and readers that take their time. Real sockets."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import structs

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import frames_to_chunks
from deployments.providers.base import End, Frames, Provider, stream_within
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour
from tests.providers.conftest import CLOUDS, LIMITS, Bench, cloud


def text_of_one_that_goes_on(kind: str, vendor: OpenAIWire | GeminiWire) -> bytes:
    """Whoever says where an answer may end says it once: each time takes the time to go on away from it."""
    bench = cloud(kind)
    assert bench.fake is not None
    bench.fake.words = [f"w{i} " for i in range(8)]
    bench.fake.vendor = vendor
    bench.fake.behave = Behaviour("answer", pace=0.05)

    async def work(provider: Provider) -> list[Frames]:
        return [item async for item in provider.stream(bench.call(stream=True)) if isinstance(item, Frames)]

    try:
        frames = bench.run(work)
    finally:
        bench.fake.stop()
    assert sum(item.end is not None for item in frames) <= 1, f"sealed in mid-answer, of {len(frames)} parts"
    return b"".join(item.data for item in frames)


class StopInEveryChunk(OpenAIWire):
    def frames(self, words: Any) -> list[bytes]:
        frames = [
            self._frame([{"index": 0, "delta": {"content": w}, "logprobs": None, "finish_reason": "stop"}])
            for w in words
        ]
        return [*frames, b"data: [DONE]\n\n"]


def finishes_in(data: bytes) -> list[str | None]:
    return [choice["finish_reason"] for chunk in frames_to_chunks(data) for choice in chunk["choices"]]


def test_openai_stop_in_every_chunk_is_not_sealed_in_mid_answer() -> None:
    data = text_of_one_that_goes_on("openai", StopInEveryChunk())
    assert b"w7 " in data
    assert finishes_in(data) == [*[None] * 8, "stop"]


class GeminiStop(GeminiWire):
    def frames(self, words: Any) -> list[bytes]:
        out = []
        for w in words:
            data = {
                "candidates": [
                    {"content": {"role": "model", "parts": [{"text": w}]}, "finishReason": "STOP", "index": 0}
                ],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1},
            }
            out.append(b"data: " + json.dumps(data).encode() + b"\r\n\r\n")
        return out


def test_gemini_stop_in_every_chunk_is_not_sealed_in_mid_answer() -> None:
    data = text_of_one_that_goes_on("google", GeminiStop())
    assert b"w7 " in data
    assert finishes_in(data) == [*[None] * 9, "stop"]


class Ended(OpenAIWire):
    """An answer that ends with a finish reason of the server's own, whole or streamed."""

    def __init__(self, finish: str, **choice: Any) -> None:
        self.finish, self.choice = finish, choice

    def whole(self, words: Any) -> bytes:
        answer = json.loads(super().whole(words))
        answer["choices"][0] |= {"finish_reason": self.finish, **self.choice}
        return json.dumps(answer).encode()

    def frames(self, words: Any) -> list[bytes]:
        said = self._frame([{"index": 0, "delta": {"content": "half"}, "finish_reason": None}])
        end = self._frame([{"index": 0, "delta": {}, "finish_reason": self.finish, **self.choice}])
        return [said, end, b"data: [DONE]\n\n"]


FAILED = [
    (Ended("error", error={"code": 502, "message": "Provider disconnected"}), "server_error", "502"),
    (Ended("insufficient_system_resource"), "server_error", "insufficient_system_resource"),
    (Ended("stop", error={"code": 429, "message": "slow down"}), "throttled", "429"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("vendor", "kind", "code"), FAILED)
def test_an_answer_that_failed_under_status_200_is_a_failure(vendor: Ended, kind: str, code: str, stream: bool) -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.vendor = vendor
    try:
        outcome = bench.failure(stream=stream)
    finally:
        bench.fake.stop()
    assert (outcome.kind, outcome.code, outcome.content) == (kind, code, stream)
    assert b'finish_reason":"' not in b"".join(bench.frames).replace(b": ", b":")


@pytest.mark.parametrize("stream", [False, True])
def test_an_end_in_the_servers_own_word_is_openais(stream: bool) -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.vendor = Ended("eos")
    try:
        if stream:
            bench.stream()
            found = finishes_in(b"".join(bench.frames))
        else:
            found = [choice["finish_reason"] for choice in json.loads(bench.complete().body)["choices"]]
    finally:
        bench.fake.stop()
    assert found[-1] == "stop"


def gemini(*events: bytes) -> bytes | str:
    """What comes of a stream of these bytes: its frames, or how it failed."""
    bench = cloud("google")
    assert bench.fake is not None
    bench.fake.vendor = type("Odd", (GeminiWire,), {"frames": lambda *_: list(events)})()
    try:
        bench.stream()
    except AttemptFailed as error:
        return error.outcome.kind
    finally:
        bench.fake.stop()
    return b"".join(bench.frames)


def said_by_gemini(text: str, finish: str | None = None) -> bytes:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return json.dumps({"candidates": [candidate | ({"finishReason": finish} if finish else {})]}).encode()


def test_gemini_may_send_comments_other_fields_and_data_of_many_lines() -> None:
    lines = json.dumps(json.loads(said_by_gemini("b")), indent=1).encode().replace(b"\n", b"\ndata: ")
    got = gemini(
        b": keep-alive\n\n",
        b"event: message\nid: 7\ndata: " + said_by_gemini("a") + b"\n\n",
        b"retry: 5\n\n\n\n",
        b"data:" + lines + b"\r\n\r\n",
        b"data: " + said_by_gemini("c", "STOP"),  # and no blank line after the last
    )
    assert isinstance(got, bytes)
    assert [json.loads(f[6:])["choices"][0]["delta"].get("content") for f in got.split(b"\n\n") if f] == [
        *("", "a", "b", "c"),
        None,
    ]


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]])
def test_an_error_of_gemini_may_come_as_bare_json(wrap: Any) -> None:
    error = wrap({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no"}})
    assert gemini(json.dumps(error, indent=2).encode()) == "throttled"


@pytest.mark.parametrize(
    "chunk",
    [
        *(b"[]", b"7", b'{"candidates": 5}', b'{"candidates": [5]}', b'{"candidates": [{"content": {"parts": [1]}}]}'),
        b'{"usageMetadata": "much"}',
    ],
)
def test_a_chunk_that_gemini_never_sends_is_malformed(chunk: bytes) -> None:
    assert gemini(b"data: " + chunk + b"\n\n") == "malformed"


class StopsInText(OpenAIWire):
    """A model without stop sequences: it ends with the one that was asked for, or writes on behind it."""

    def __init__(self, finish: str | None) -> None:
        self.finish = finish

    def frames(self, words: Any) -> list[bytes]:
        said = self._frame([{"index": 0, "delta": {"content": "a END"}, "finish_reason": self.finish}])
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        more = self._frame([], usage=usage) if self.finish else self._frame([{"index": 0, "delta": {"content": "b"}}])
        return [said, more, b"data: [DONE]\n\n"]


@pytest.mark.parametrize(("finish", "tokens"), [("stop", 9), (None, None)])
def test_a_stream_that_is_cut_has_the_usage_that_comes_without_more_work(
    finish: str | None, tokens: int | None
) -> None:
    bench = cloud("openai")
    assert bench.fake is not None
    bench.fake.vendor = StopsInText(finish)
    bench.fake.behave = Behaviour("answer", pace=0.05)
    call = structs.replace(bench.call(stream=True, stop="END", stream_options={"include_usage": True}), model="o3")

    async def work(provider: Provider) -> list[Frames | End]:
        return [item async for item in provider.stream(call)]

    try:
        items = bench.run(work)
    finally:
        bench.fake.stop()
    assert isinstance(items[-1], End)
    assert (items[-1].usage or {}).get("total_tokens") == tokens
    chunks = frames_to_chunks(b"".join(i.data if isinstance(i, Frames) else i.tail for i in items))
    assert [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]] == ["a "]
    assert [chunk["usage"]["total_tokens"] for chunk in chunks if not chunk["choices"]] == ([tokens] if tokens else [])


class TwoChoices(OpenAIWire):
    """Choice 0 says `stop` twice (again beside its usage, as OpenRouter does), choice 1 is still under way."""

    def frames(self, words: Any) -> list[bytes]:
        def one(index: int, delta: dict[str, Any], finish: str | None) -> bytes:
            return self._frame([{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}])

        return [one(0, {"content": "a"}, None), one(1, {"content": "b"}, None), one(0, {}, "stop"), one(0, {}, "stop")]


def test_one_choice_that_says_stop_twice_does_not_end_the_other() -> None:
    bench = cloud("openai")
    bench.limits = structs.replace(LIMITS, idle=0.5)
    assert bench.fake is not None
    bench.fake.vendor = TwoChoices()
    bench.fake.behave = Behaviour("stall", after=4)
    try:
        with pytest.raises(AttemptFailed):
            bench.stream(n=2)
    finally:
        bench.fake.stop()


def test_slow_reader_is_not_the_providers_silence() -> None:
    """Of all at once: each takes longer than a provider may be silent."""
    benches = [cloud(kind) for kind in CLOUDS]

    async def read(bench: Bench) -> None:
        provider, items = bench.build(), 0
        try:
            async for _ in stream_within(provider, bench.call(stream=True)):
                items += 1
                if items == 2:
                    await asyncio.sleep(2.5)  # the reader pauses; the socket fills meanwhile
        finally:
            await provider.close()
        assert items > 2, bench.kind

    async def main() -> None:
        await asyncio.gather(*(read(bench) for bench in benches))

    try:
        for bench in benches:
            assert bench.fake is not None
            bench.limits = structs.replace(LIMITS, idle=2.0)
            bench.fake.words = [f"w{i} " for i in range(10)]
            bench.fake.behave = Behaviour("answer", pace=0.05)
        asyncio.run(main())
    finally:
        for bench in benches:
            assert bench.fake is not None
            bench.fake.stop()
