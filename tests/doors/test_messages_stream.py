"""Streams of the Messages API: events that Anthropic's SDK reads. Numbers: of bugs that others had."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from deployments.doors.messages.answer.arguments import Arguments
from deployments.openai_api.chat import DONE, bare_chunk, chunk, frame
from tests.doors.anthropic_types import (
    HEAD,
    SERVED,
    call_delta,
    check_order,
    deltas,
    encoded,
    error_frame,
    events_in,
    folded,
    opened,
    said,
    streamed,
    whole,
)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]


def pieces(events: list[dict[str, Any]], index: int) -> str:
    """Return the joined deltas of a block."""
    found = [e["delta"] for e in events if e["type"] == "content_block_delta" and e["index"] == index]
    return "".join(next(v for k, v in delta.items() if k != "type") for delta in found)


def test_a_text_streams_as_the_events_that_the_vendor_documents() -> None:  # 6
    events = streamed({"content": "Hel"}, {"content": "lo."})
    assert [event["type"] for event in events] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert [event["delta"] for event in events[2:4]] == [
        {"type": "text_delta", "text": "Hel"},
        {"type": "text_delta", "text": "lo."},
    ]
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["stop_reason"] is None
    assert events[0]["message"]["id"] == folded(events)["id"] == "msg_0123abcd"


def test_the_end_tells_the_usage_in_anthropics_counting() -> None:  # 27, 33
    usage = streamed({"content": "a"})[-2]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (70, 30)
    assert (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]) == (40, 10)
    assert folded(streamed({"content": "a"}))["usage"]["output_tokens_details"] == {"thinking_tokens": 5}


def test_the_start_tells_an_estimate_and_the_end_keeps_it_where_nobody_has_counted() -> None:  # 28
    encoder = opened().encoder(replace(SERVED, estimate=17))
    events = events_in(encoded(encoder, deltas({"content": "a"}, usage=None)))
    assert events[0]["message"]["usage"]["input_tokens"] == 17
    assert folded(events)["usage"]["input_tokens"] == 17


def test_there_is_no_done_and_nothing_behind_the_end() -> None:
    encoder = opened().encoder(SERVED)
    data = encoded(encoder, deltas({"content": "a"}))
    assert b"[DONE]" not in data
    assert encoded(encoder, deltas({"content": "b"})) == b""


def test_a_stream_starts_once_whatever_comes_first() -> None:  # 21, 24
    role = {"role": "assistant", "content": ""}
    check_order(streamed(role, role, {"content": "a"}, role, {"content": "b"}))
    assert said(folded(streamed(role, {"role": "assistant", "content": "a"})))["text"] == "a"


def test_no_token_is_lost_where_the_block_changes() -> None:  # 22, 25
    parts = [{"reasoning_content": "1"}, {"content": "2"}, {"reasoning_content": "3"}, {"content": "4"}]
    events = streamed(*parts, call_delta(0, "{}", "a"), {"content": "5"}, {"reasoning_content": "6"})
    assert kinds(events) == ["thinking", "text", "thinking", "text", "tool_use", "text", "thinking"]
    assert said(folded(events))["text"] == "245"
    assert said(folded(events))["thinking"] == "136"
    both = streamed({"reasoning_content": "1", "content": "2", **call_delta(0, "{}", "a")})
    assert kinds(both) == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["", '{"a"', ":1}"], {"a": 1}),
        (['{"a":1}'], {"a": 1}),
        ([], {}),
        (["", ""], {}),
        ([" ", "\n", "{}"], {}),
        (["nu", "ll"], {}),
        (["[1", ",2]"], {"arguments": "[1,2]"}),
        (['"text"'], {"arguments": '"text"'}),
    ],
)
def test_the_pieces_of_a_call_join_to_an_object(arguments: list[str], meant: Any) -> None:  # 4, 5
    events = streamed(call_delta(0, "", "a"), *(call_delta(0, piece) for piece in arguments), finish="tool_calls")
    assert orjson.loads(pieces(events, 0)) == meant
    assert folded(events)["content"][0]["input"] == meant
    assert events[1]["content_block"]["input"] == {}


def test_calls_whose_pieces_come_in_turns_are_blocks_one_behind_the_other() -> None:  # 1, 23
    events = streamed(
        call_delta(0, "", "a"),
        call_delta(1, "", "b"),
        call_delta(0, '{"x":"}'),
        call_delta(1, '{"y":'),
        call_delta(0, '\\"}'),
        call_delta(1, "1}"),
        {"content": "late"},
        call_delta(0, '"}'),
        call_delta(2, '{"z":3}', "c"),
        finish="stop",
    )
    made = folded(events)
    inputs = [("a", {"x": '}"}'}), ("b", {"y": 1}), ("c", {"z": 3})]
    assert [(block["id"], block["input"]) for block in made["content"] if block["type"] == "tool_use"] == inputs
    assert kinds(events) == ["tool_use", "tool_use", "text", "tool_use"]
    assert made["stop_reason"] == "tool_use"


def test_a_call_that_is_whole_does_not_wait_for_the_end() -> None:
    encoder = opened().encoder(SERVED)
    encoded(encoder, [chunk(HEAD, call_delta(0, '{"a":1}', "a"))])
    events = events_in(encoder.encode(chunk(HEAD, call_delta(1, "{", "b"))))
    assert [event["type"] for event in events] == ["content_block_stop", "content_block_start", "content_block_delta"]


def test_a_call_that_is_cut_off_is_sent_as_far_as_it_came() -> None:
    events = streamed(call_delta(0, '{"a":', "a"), call_delta(1, '{"b":1}', "b"), finish="length")
    assert [pieces(events, at) for at in (0, 1)] == ['{"a":', '{"b":1}']
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


def test_calls_without_an_index_or_an_id_of_their_own_are_still_two() -> None:
    first, second = ({"function": {"name": name, "arguments": "{}"}, "id": name} for name in "ab")
    made = folded(streamed({"tool_calls": [first]}, {"tool_calls": [second]}))
    assert [block["id"] for block in made["content"]] == ["a", "b"]
    same = folded(streamed(call_delta(0, "{}", "x"), call_delta(1, "{}", "x")))
    assert len({block["id"] for block in same["content"]}) == 2


def test_a_signature_comes_once_and_last_in_its_block() -> None:  # 26
    events = streamed({"reasoning_content": "Hm."}, {"content": "a"})
    block = [event for event in events if event.get("index") == 0]
    assert [event["type"] for event in block][-2:] == ["content_block_delta", "content_block_stop"]
    assert block[-2]["delta"]["type"] == "signature_delta"
    assert said(folded(events))["envelope"] == {"message": {}, "calls": {}}


def test_what_belongs_to_a_call_is_sealed_before_it() -> None:
    signed = {"google": {"thought_signature": "g"}}
    alone = streamed(call_delta(0, "{}", "a", extra_content=signed))
    assert kinds(alone) == ["thinking", "tool_use"]
    assert said(folded(alone))["envelope"]["calls"] == {"a": signed}
    behind = streamed({"reasoning_content": "Hm."}, call_delta(0, "{}", "a", extra_content=signed))
    assert kinds(behind) == ["thinking", "tool_use"]
    assert said(folded(behind))["envelope"]["calls"] == {"a": signed}
    late = streamed(call_delta(0, "{", "a"), call_delta(0, "}", extra_content=signed))
    assert kinds(late) == ["tool_use", "thinking"]
    assert said(folded(late))["envelope"]["calls"] == {"a": signed}


EXTRA = {"bedrock": {"reasoning": [{"text": "Hm.", "signature": "s"}]}}


def test_what_belongs_to_the_message_is_sealed_before_its_text() -> None:  # 26
    events = streamed({"reasoning_content": "Hm."}, {"content": "a", "extra_content": EXTRA}, {"content": "b"})
    assert kinds(events) == ["thinking", "text"]
    made = whole({"content": "ab", "reasoning_content": "Hm.", "extra_content": EXTRA})
    assert said(folded(events)) == said(made)
    alone = streamed({"content": "a", "extra_content": EXTRA})
    assert kinds(alone) == ["thinking", "text"]
    assert said(folded(alone))["envelope"]["message"] == EXTRA


def test_an_answer_with_a_text_ends_with_it() -> None:
    """Claude Code 2.1.197 shows nothing of an answer that ends with a thinking block."""
    events = streamed({"reasoning_content": "Hm."}, {"content": "a"}, {"extra_content": EXTRA})
    assert kinds(events) == ["thinking", "text"]
    behind = streamed({"content": "a"}, call_delta(0, "{}", "a"), {"extra_content": EXTRA})
    assert kinds(behind) == ["text", "tool_use", "thinking"]


def test_thoughts_that_a_client_does_not_want_to_read_are_not_sent() -> None:
    events = streamed(
        {"reasoning_content": "Hm."}, {"content": "a"}, thinking={"type": "adaptive", "display": "omitted"}
    )
    assert kinds(events) == ["thinking", "text"]
    assert said(folded(events))["thinking"] == ""


def test_a_refusal_streams_as_text_and_ends_as_one() -> None:
    events = streamed({"refusal": "I "}, {"refusal": "can't."})
    assert said(folded(events))["text"] == "I can't."
    assert events[-2]["delta"]["stop_reason"] == "refusal"


def test_a_broken_stream_ends_in_an_error_and_never_as_whole() -> None:
    encoder = opened().encoder(SERVED)
    frames = [*deltas({"content": "a"})[:2], error_frame(code="stream_interrupted", attempts=[{"provider": "aws"}])]
    events = events_in(encoded(encoder, frames))
    assert events[-1]["type"] == "error"
    assert events[-1]["error"]["type"] == "api_error"
    assert events[-1]["error"]["attempts"] == [{"provider": "aws"}]
    assert "message_stop" not in [event["type"] for event in events]
    assert encoder.encode(DONE) == b""


def test_a_deadline_in_mid_stream_is_a_timeout() -> None:
    events = events_in(opened().encoder(SERVED).encode(error_frame(code="deadline_exceeded")))
    assert [event["error"]["type"] for event in events] == ["timeout_error"]


def test_an_explanation_goes_with_the_end() -> None:
    frames = deltas({"content": "a"})
    frames[-1:] = [bare_chunk(HEAD, breakwater={"explained": {"row": "row-a"}}), DONE]
    events = events_in(encoded(opened().encoder(SERVED), frames))
    assert events[-2]["breakwater"] == {"explained": {"row": "row-a"}}


@pytest.mark.parametrize(
    "odd",
    [
        b"data: {\n\n",
        b": comment\n\n",
        b"data: [1]\n\n",
        b"data: null\n\n",
        frame({"choices": 7}),
        frame({"choices": [7]}),
        frame({"choices": [{"delta": 7}]}),
        chunk(HEAD, {"content": 7, "tool_calls": 7, "images": 7, "extra_content": 7, "reasoning_content": 7}),
        chunk(HEAD, {"tool_calls": [7, {}, {"index": "a", "function": 7}]}),
    ],
)
def test_a_frame_of_an_odd_shape_breaks_nothing(odd: bytes) -> None:
    frames = deltas({"content": "a"}, {"content": "b"})
    frames.insert(2, odd)
    events = events_in(encoded(opened().encoder(SERVED), frames))
    check_order(events)
    assert said(folded(events))["text"] == "ab"


def test_frames_of_other_servers_are_read_too() -> None:
    data = chunk(HEAD, {"content": "a"})
    other = b"id: 7\nevent: message\ndata:" + data.removeprefix(b"data: ")
    events = events_in(encoded(opened().encoder(SERVED), [other, data, DONE]))
    assert said(folded(events))["text"] == "aa"


def test_a_whole_object_is_seen_wherever_it_is_cut() -> None:
    text = '{"a":"\\\\\\"}{","b":{"c":[{}]}}'
    for first in range(1, len(text)):
        for second in range(first, len(text)):
            read = Arguments()
            for piece in (text[:first], text[first:second]):
                assert read.take(piece) == piece
                assert not read.is_whole
            read.take(text[second:])
            assert read.is_whole
