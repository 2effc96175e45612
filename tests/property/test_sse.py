"""A foreign SSE stream as it passes through, fed in pieces of any size."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.providers import sse
from deployments.providers.sse import SseScan


def frame(delta: dict, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "model": "up", "choices": [choice], **more}).encode() + b"\n\n"


STREAM = (
    b": keep-alive comment\n\n"
    + frame({"role": "assistant", "content": ""})
    + frame({"content": 'He said "finish_reason": "stop" and {"error": {"x": 1}} "model":"up"'})
    + frame({}, "stop")
    + b'data: {"id":"1","model":"up","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
    + b"data: [DONE]\n\n"
)


ODD = st.sampled_from(
    [
        *(b"data: {", b"data:{", b"data: ", b"data: [DONE]", b": comment", b"event: error", b"id: 1", b"}", b"{", b" "),
        *(
            b'"error":{',
            b'"error": "',
            b'"finish_reason":"stop"',
            b'"content":"x"',
            b'"content":""',
            b'"usage":{',
            b"x",
        ),
    ]
)
ODDS = st.lists(ODD, max_size=4).map(b"".join)
FRAMES = st.sampled_from(
    [
        *(frame({"content": "x"}), frame({"content": '"error"'}), frame({}, "stop"), frame({}, "error")),
        *(frame({}, usage={"total_tokens": 1}), frame({}, error={"message": "no"})),
    ]
)
PLAIN = st.lists(FRAMES | ODDS.map(lambda odd: b"data: {" + odd + b"}\n\n"), min_size=1, max_size=6).map(b"".join)
ANY = st.lists(FRAMES | ODD | st.sampled_from([b"\n", b"\n\n", b"}\n\n"]), max_size=12).map(b"".join)


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
    assert scan.usage == {"prompt_tokens": 3, "completion_tokens": 1}
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
        b'event: error\ndata: {"error": {"message": "no", "code": "x"}}\n\n',
        b'event: error\ndata: {"message": "no", "code": "x"}\n\n',
        b'data: {"id": "1", "error": {"message": "no", "code": "x"}, "choices": [{"finish_reason": "error"}]}\n\n',
    ],
)
def test_an_error_event_is_an_error(event: bytes) -> None:
    assert SseScan("row", keep_usage=False).feed(event).error == {"message": "no", "code": "x"}


@pytest.mark.parametrize("event", [b"data: {broken\n\n", b"data: hello\n\n", b'data: {"a": 1\n\n'])
def test_a_frame_that_is_no_json_object_is_malformed(event: bytes) -> None:
    assert SseScan("row", keep_usage=False).feed(event).malformed


def test_an_empty_finish_reason_is_none() -> None:
    batch = SseScan("row", keep_usage=False).feed(frame({"role": "assistant"}, ""))
    assert (batch.finished, batch.content) == (0, False)


def test_a_finish_reason_of_error_is_an_error() -> None:
    assert SseScan("row", keep_usage=False).feed(frame({}, "error")).error is not None


def test_every_choice_has_an_end_of_its_own() -> None:
    choices = [{"index": i, "delta": {}, "finish_reason": "stop"} for i in range(2)]
    event = b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"
    assert SseScan("row", keep_usage=False).feed(event).finished == 2


@given(ANY | PLAIN)
def test_events_that_are_plain_hold_neither_an_end_nor_what_is_no_json(events: bytes) -> None:
    if sse._plain(events):
        assert sse._DONE.search(events) is None
        assert sse._BROKEN.search(events) is None


@given(st.from_regex(sse._ERROR))
def test_every_error_says_the_word(found: bytes) -> None:
    assert sse._MAY_FAIL in found


@given(PLAIN, st.booleans())
def test_plain_events_are_known_as_well_as_others(events: bytes, keep_usage: bool) -> None:
    assert sse._plain(events)
    comment = b": with it they are not plain\n\n"
    plain, other = (SseScan("row", keep_usage=keep_usage) for _ in range(2))
    found, same = plain.feed(events), other.feed(comment + events)
    assert same._replace(frames=same.frames.removeprefix(comment)) == found
    assert (plain.ended, plain.usage, plain.model) == (other.ended, other.usage, other.model)
