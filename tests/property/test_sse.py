"""A foreign SSE stream as it passes through, fed in pieces of any size."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.providers.openai.stream.scan import SseScan


def frame(delta: dict, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "model": "up", "choices": [choice], **more}).encode() + b"\n\n"


STREAM = (
    b": keep-alive comment\n\n"
    + frame({"role": "assistant", "content": ""})
    + frame({"content": 'He said "finish_reason": "stop" and {"error": {"x": 1}} "model":"up"'})
    + frame({}, "stop")
    + b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}\n\n'
    + b"data: [DONE]\n\n"
)


def feed(data: bytes, cuts: list[int], *, keep_usage: bool = False) -> tuple[bytes, dict[str, bool], SseScan]:
    scan = SseScan("row", keep_usage=keep_usage)
    frames, flags = b"", {"content": False, "finished": False, "done": False}
    edges = [0, *sorted(c % len(data) for c in cuts), len(data)]
    for a, b in itertools.pairwise(edges):
        batch = scan.feed(data[a:b])
        assert not batch.malformed
        assert batch.error is None
        frames += batch.frames
        flags = {k: v or getattr(batch, k) for k, v in flags.items()}
    return frames, flags, scan


@given(st.lists(st.integers(0, 10_000), max_size=20), st.sampled_from([b"\n", b"\r\n"]))
def test_however_the_bytes_are_cut_the_same_frames_come_out(cuts: list[int], newline: bytes) -> None:
    frames, flags, scan = feed(STREAM.replace(b"\n", newline), cuts)
    chunks = [json.loads(f.removeprefix(b"data: ")) for f in frames.split(b"\n\n") if f.startswith(b"data:")]
    assert [c["model"] for c in chunks] == ["row"] * 3
    assert chunks[1]["choices"][0]["delta"]["content"].startswith('He said "finish_reason": "stop"')
    assert flags == {"content": True, "finished": True, "done": True}
    assert scan.usage == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    assert b"[DONE]" not in frames
    assert b"usage" not in frames


def test_a_client_that_asked_for_usage_gets_its_frame() -> None:
    frames, _, _ = feed(STREAM, [], keep_usage=True)
    assert frames.count(b'"usage"') == 1


def test_what_the_model_wrote_is_never_taken_for_structure() -> None:
    text = 'data: [DONE] {"error": {"message": "x"}} "finish_reason":"stop" "usage": {"prompt_tokens": 9}'
    scan = SseScan("row", keep_usage=False)
    batch = scan.feed(frame({"content": text}))
    assert (batch.content, batch.finished, batch.done, batch.error) == (True, False, False, None)
    assert scan.usage is None
    assert json.loads(batch.frames.removeprefix(b"data: "))["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize(
    "delta", [{"content": "x"}, {"reasoning_content": "x"}, {"refusal": "x"}, {"tool_calls": [{}]}]
)
def test_content_is_whatever_a_client_would_show(delta: dict) -> None:
    assert SseScan("row", keep_usage=False).feed(frame(delta)).content


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}])
def test_an_opening_is_no_content(delta: dict) -> None:
    assert not SseScan("row", keep_usage=False).feed(frame(delta)).content


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "no", "code": "x"}}\n\n',
        b'data: {"error": "no", "code": "x"}\n\n',
        b'data: {"choices": [], "error": {"message": "no", "code": "x"}}\n\n',
        b'data: {"object": "error", "message": "no", "code": "x"}\n\n',
        b'data: [{"error": {"message": "no", "code": "x"}}]\n\n',
        b'{"error": {"message": "no", "code": "x"}}\n\n',
        b'event: error\ndata: {"error": {"message": "no", "code": "x"}}\n\n',
        b'event: error\ndata: {"message": "no", "code": "x"}\n\n',
        b'data: {"id": "1", "error": {"message": "no", "code": "x"}, "choices": [{"finish_reason": "error"}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "half"}, "error": {"message": "no", "code": "x"}}]}\n\n',
        b'data: {"\\u0065rror": {"message": "no", "code": "x"}}\n\n',
    ],
)
def test_an_error_at_the_top_of_a_frame_or_of_a_choice_is_an_error(event: bytes) -> None:
    error = SseScan("row", keep_usage=False).feed(event).error
    assert error is not None
    assert (error.outcome.kind, error.outcome.message, error.outcome.code) == ("server_error", "no", "x")


@pytest.mark.parametrize("event", [b"data: {broken\n\n", b"data: hello\n\n", b'data: {"a": 1\n\n', b"data: 7\n\n"])
def test_a_frame_that_is_no_json_object_is_malformed(event: bytes) -> None:
    assert SseScan("row", keep_usage=False).feed(event).malformed


@pytest.mark.parametrize("reason", ["", "null", None])
def test_an_empty_finish_reason_is_none(reason: str | None) -> None:
    batch = SseScan("row", keep_usage=False).feed(frame({"role": "assistant"}, reason))
    assert (batch.finished, batch.content, batch.error) == (0, False, None)


@pytest.mark.parametrize("word", ["error", "insufficient_system_resource", "abort", "network_error", "flibber"])
def test_a_finish_reason_that_is_no_good_end_is_a_failure_with_its_word(word: str) -> None:
    scan = SseScan("row", keep_usage=False)
    assert scan.feed(frame({"content": "half"})).error is None
    error = scan.feed(frame({}, word)).error
    assert error is not None
    assert (error.outcome.kind, error.outcome.code) == ("server_error", word)


def test_every_choice_has_an_end_of_its_own() -> None:
    choices = [{"index": i, "delta": {}, "finish_reason": "stop"} for i in range(2)]
    event = b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"
    scan = SseScan("row", keep_usage=False)
    assert scan.feed(event).finished == 2
    ends = [json.loads(f[6:])["choices"][0] for f in scan.tail.split(b"\n\n") if f]
    assert [(c["index"], c["finish_reason"]) for c in ends] == [(0, "stop"), (1, "stop")]
