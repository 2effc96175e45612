"""An answer is cut at its stop sequence where the model takes none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.openai_api.chat import frame, stops_of
from deployments.providers.base import Call
from deployments.providers.openai.dialect import Dialect
from deployments.providers.openai.request import chat_body
from deployments.providers.openai.stops import StopCutter, cut_answer


def chunk(text: str | None, finish: str | None = None, index: int = 0) -> bytes:
    delta = {} if text is None else {"content": text}
    return frame({"id": "1", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def read(frames: bytes) -> tuple[dict[int, str], dict[int, list[str]]]:
    texts: dict[int, str] = {}
    ends: dict[int, list[str]] = {}
    for event in frames.split(b"\n\n"):
        for choice in json.loads(event[6:])["choices"] if event else ():
            texts[choice["index"]] = texts.get(choice["index"], "") + (choice["delta"].get("content") or "")
            if choice["finish_reason"]:
                ends.setdefault(choice["index"], []).append(choice["finish_reason"])
    return texts, ends


def whole(text: str, stops: list[str]) -> tuple[str, str]:
    message = {"role": "assistant", "content": text}
    cut = cut_answer({"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}, stops)
    choice: dict[str, Any] = cut["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


def test_a_whole_answer_ends_before_the_first_stop_sequence() -> None:
    assert whole("Thought: a\nObservation: b", ["END", "\nObservation"]) == ("Thought: a", "stop")
    assert whole("no such word", ["END"]) == ("no such word", "length")


def test_an_answer_without_text_is_left_as_it_is() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "tool_calls"}
    assert cut_answer({"choices": [choice]}, ["END"])["choices"] == [choice]


def test_what_is_no_choice_passes_as_it_is() -> None:
    cutter = StopCutter(["END"])
    for event in (b": wait\n\n", frame({"choices": [], "usage": {"total_tokens": 3}})):
        assert cutter.frames(event) == event


def test_a_call_passes_and_what_was_held_back_comes_with_the_finish_reason() -> None:
    cutter = StopCutter(["END"])
    call = frame({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]})
    frames = cutter.frames(chunk("Is it EN")) + cutter.frames(call) + cutter.frames(chunk(None, "tool_calls"))
    assert read(frames) == ({0: "Is it EN"}, {0: ["tool_calls"]})
    assert b"tool_calls" in frames
    assert not cutter.over


def test_each_choice_ends_for_itself() -> None:
    cutter = StopCutter(["END"], choices=2)
    frames = cutter.frames(chunk("a END b") + chunk("c", index=1))
    assert not cutter.over
    frames += cutter.frames(chunk("more") + chunk(" EN", index=1) + chunk("D d", index=1))
    assert cutter.over
    assert read(frames) == ({0: "a ", 1: "c "}, {0: ["stop"], 1: ["stop"]})


words = st.text(alphabet="abE N D\n", max_size=30)


@given(
    text=words,
    stops=st.lists(st.text(alphabet="abEND\n", min_size=1, max_size=4), min_size=1, max_size=4),
    data=st.data(),
)
def test_a_stream_is_cut_where_the_whole_answer_is_however_it_comes(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cutter, frames = StopCutter(stops), b""
    for piece in pieces:
        frames += cutter.frames(chunk(piece))
    frames += cutter.frames(chunk(None, "length"))
    texts, ends = read(frames)
    assert (texts.get(0, ""), ends[0]) == (whole(text, stops)[0], [whole(text, stops)[1]])


@pytest.mark.parametrize("stop", ["x", "xyz"])
def test_nothing_is_held_back_that_can_not_begin_a_stop_sequence(stop: str) -> None:
    assert read(StopCutter([stop]).frames(chunk("hello")))[0] == {0: "hello"}


@pytest.mark.parametrize("stops", ["", [""], ["", ""]])
def test_an_empty_stop_sequence_stops_nothing(stops: Any) -> None:
    assert stops_of({"stop": stops}) == []
    assert stops_of({"stop": ["", "END"]}) == ["END"]
    body = {"model": "row", "messages": [{"role": "user", "content": "x"}], "stop": stops}
    sent = chat_body(Call(body, "gpt", "row", None), stream=False, dialect=Dialect("as_sent"))
    assert "stop" not in sent


def test_a_list_of_parts_is_cut_as_its_text_and_what_is_no_text_stays() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "END of thought"}]}
    parts = [thought, {"type": "text", "text": "a EN"}, {"type": "text", "text": "D b"}]
    message = {"role": "assistant", "content": parts, "tool_calls": [{"id": "1"}]}
    (cut,) = cut_answer({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}, ["END"])[
        "choices"
    ]
    assert cut["message"] == {"role": "assistant", "content": [thought, {"type": "text", "text": "a "}]}
    assert cut["finish_reason"] == "stop"


def test_a_stream_of_parts_is_cut_too() -> None:
    cutter = StopCutter(["END"])

    def parts(*content: Any) -> bytes:
        delta = {"content": list(content)}
        return cutter.frames(frame({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))

    thought = {"type": "thinking", "thinking": "hm"}
    said = [parts(thought), parts({"type": "text", "text": "a E"}), parts({"type": "text", "text": "ND b"})]
    deltas = [json.loads(one[6:])["choices"][0]["delta"]["content"] for one in said]
    assert deltas == [[thought, {"type": "text", "text": ""}], "a ", ""]
    assert cutter.over


def test_calls_that_the_client_has_are_still_its_to_make() -> None:
    cutter = StopCutter(["END"])
    call = frame({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}]})
    assert read(cutter.frames(call) + cutter.frames(chunk("a END b"))) == ({0: "a "}, {0: ["tool_calls"]})


@pytest.mark.parametrize("odd", [b"NaN", b'"\xff"'])
def test_a_frame_that_only_a_lenient_parser_reads_is_cut_too(odd: bytes) -> None:
    cutter = StopCutter(["END"])
    made = b'data: {"x":%b,"choices":[{"index":0,"delta":{"content":"a END b"},"finish_reason":null}]}\n\n' % odd
    assert read(cutter.frames(made)) == ({0: "a "}, {0: ["stop"]})


def test_a_call_in_the_delta_that_meets_the_stop_sequence_was_never_made() -> None:
    delta = {"content": "a END", "tool_calls": [{"index": 0, "id": "1"}]}
    cutter = StopCutter(["END"])
    (choice,) = json.loads(cutter.frames(frame({"choices": [{"index": 0, "delta": delta}]}))[6:])["choices"]
    assert (choice["delta"], choice["finish_reason"]) == ({"content": "a "}, "stop")
