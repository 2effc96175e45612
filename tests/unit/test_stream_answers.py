"""Answers of servers that speak OpenAI's API in their own way: finish reasons, calls, ids, models and usage."""

import json
from typing import Any

import pytest
from google.genai.types import FinishReason

from deployments.errors import AttemptFailed
from deployments.openai_api.chat import dump, frames_to_chunks
from deployments.providers.google.codec import finish_of as google_finish
from deployments.providers.openai.answer import answer_of
from deployments.providers.openai.stream.finish import finish_word
from deployments.providers.openai.stream.scan import SseScan

Json = dict[str, Any]


def chunk(delta: Json, finish: str | None = None, **more: Any) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice], **more}


def streamed(*chunks: Json, keep_usage: bool = False) -> list[Json]:
    """Return the client's chunks of a stream that ends with `[DONE]`."""
    scan = SseScan("row", keep_usage=keep_usage)
    batches = [scan.feed(b"data: " + dump(one) + b"\n\n") for one in chunks] + [scan.feed(b"data: [DONE]\n\n")]
    assert not any(batch.error or batch.malformed for batch in batches)
    return frames_to_chunks(b"".join(batch.frames for batch in batches))


def finishes(chunks: list[Json]) -> list[str | None]:
    return [choice["finish_reason"] for one in chunks for choice in one["choices"]]


def calls_in(chunks: list[Json]) -> list[Json]:
    return [call for one in chunks for choice in one["choices"] for call in choice["delta"].get("tool_calls") or ()]


def added_up(chunks: list[Json]) -> dict[int, tuple[str, str]]:
    """Return each call's name and arguments, as an SDK puts them together."""
    found: dict[int, tuple[str, str]] = {}
    for call in calls_in(chunks):
        name, arguments = found.get(call["index"], ("", ""))
        function = call["function"]
        found[call["index"]] = name + (function.get("name") or ""), arguments + (function.get("arguments") or "")
    return found


def part(name: str | None = None, arguments: Any = None, **more: Any) -> Json:
    return {**more, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *(("eos", "stop"), ("eos_token", "stop"), ("end_turn", "stop"), ("COMPLETE", "stop"), ("STOP", "stop")),
        *(("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"), ("tool_use", "tool_calls")),
        *(("TOOL_CALL", "tool_calls"), ("sensitive", "content_filter"), ("function_call", "function_call")),
        *(("tool-calls", "tool_calls"), ("content-filter", "content_filter"), ("FinishReason.STOP", "stop")),
        *(("FINISH_REASON_MAX_TOKENS", "length"), ("PROHIBITED_CONTENT", "content_filter")),
        *(("IMAGE_SAFETY", "content_filter"), ("LANGUAGE", "content_filter"), ("MODEL_ARMOR", "content_filter")),
    ],
)
def test_a_good_end_has_openais_word_whatever_the_servers_is(word: str, finish: str) -> None:
    assert finish_word(word) == finish
    assert finishes(streamed(chunk({"content": "x"}), chunk({}, word))) == [None, finish]
    body = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": word}]}
    assert answer_of(dump(body))["choices"][0]["finish_reason"] == finish


SPOILED: list[Json] = [
    {"choices": [{"message": {"content": "half"}, "finish_reason": "error", "error": {"code": 502, "message": "no"}}]},
    {"choices": [{"message": {"content": None}, "finish_reason": "error"}], "error": {"code": 502, "message": "no"}},
    {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "error": {"code": 502, "message": "no"}},
    {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}, {"error": "no", "finish_reason": "stop"}]},
    {"choices": [{"message": {"content": "half"}, "finish_reason": "insufficient_system_resource"}]},
    {"object": "error", "message": "no", "code": 500},
    {"error": "no"},
]


@pytest.mark.parametrize("body", SPOILED)
def test_an_answer_that_failed_is_never_whole(body: Json) -> None:
    with pytest.raises(AttemptFailed) as caught:
        answer_of(dump(body))
    assert caught.value.outcome.kind == "server_error"


@pytest.mark.parametrize("theirs", [{"error": None}, {"error": {}}, {"content_filter_results": {"error": {"code": 1}}}])
def test_an_empty_error_and_an_annotation_of_a_choice_are_no_errors(theirs: Json) -> None:
    answer_of(dump({"choices": [{"message": {"content": "x"}, "finish_reason": "stop", **theirs}]}))
    assert SseScan("row", keep_usage=False).feed(b"data: " + dump(chunk({"content": "x"}, **theirs)) + b"\n\n").content


def test_each_finish_reason_of_geminis_enum_is_an_end_or_a_failure() -> None:
    spoiled = {"FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"}
    spoiled |= {"UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "IMAGE_OTHER", "NO_IMAGE"}
    kinds = {}
    for reason in (*(one.name for one in FinishReason), "A_NEW_ONE"):
        try:
            kinds[reason] = google_finish(reason)
        except AttemptFailed as error:
            kinds[reason] = error.outcome.kind if error.outcome.code == reason else "without its word"
    assert {reason for reason, kind in kinds.items() if kind == "server_error"} == {*spoiled, "A_NEW_ONE"}
    assert {reason for reason, kind in kinds.items() if kind == "credential"} == {"PUP_LIMITED_DISABLED"}
    ends = {reason for reason, kind in kinds.items() if kind in ("stop", "length")}
    assert ends == {"STOP", "MAX_TOKENS", "CONTINUATION"}


def test_a_finish_reason_in_each_chunk_is_sent_once_at_the_end() -> None:
    got = streamed(*(chunk({"content": word}, "stop") for word in ("one ", "two ", "three")))
    assert finishes(got) == [None, None, None, "stop"]
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in got) == "one two three"


def test_a_finish_reason_that_is_repeated_beside_the_usage_is_sent_once() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    said = chunk({"content": "x"}), chunk({}, "stop"), chunk({"content": ""}, "stop", usage=usage)
    got = streamed(*said, keep_usage=True)
    assert finishes(got) == [None, "stop"]
    assert (got[-1]["choices"], got[-1]["usage"]) == ([], usage)


@pytest.mark.parametrize("beside", [True, False])
def test_usage_that_comes_with_every_chunk_is_told_once_at_the_end_to_who_asked(beside: bool) -> None:
    def usage(count: int) -> Json:
        return {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count}

    def said(word: str, count: int) -> list[Json]:
        told = {**chunk({}), "choices": [], "usage": usage(count)}
        return [chunk({"content": word}, usage=usage(count))] if beside else [chunk({"content": word}), told]

    stream = [*said("one ", 1), *said("two", 2), chunk({}, "stop", usage=usage(2))]
    got = streamed(*stream, keep_usage=True)
    assert [one.get("usage") for one in got if "usage" in one] == [usage(2)]
    assert got[-1]["choices"] == []
    assert finishes(got) == [None, None, "stop"]
    assert not any("usage" in one for one in streamed(*stream))


def test_figures_that_are_no_account_do_not_take_the_place_of_one() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    told = [{**chunk({}), "choices": [], "usage": one} for one in (usage, dict.fromkeys(usage, 0))]
    got = streamed(chunk({"content": "x"}), chunk({}, "stop"), *told, keep_usage=True)
    assert [one["usage"] for one in got if "usage" in one] == [usage]


@pytest.mark.parametrize(
    "written",
    [
        b"data:%b\n\n",
        b"event: message\ndata: %b\n\n",
        b"id: 1\ndata: %b\n\n",
        b"data: %b\r\n\r\n",
        b": hi\ndata:%b\n\n",
        b"\xef\xbb\xbfdata: %b\n\n",
    ],
)
def test_an_event_has_one_form_for_all_who_read_it_behind_the_scan(written: bytes) -> None:
    scan = SseScan("row", keep_usage=False)
    data = b"".join(written % dump(chunk({"content": word})) for word in ("one ", "two"))
    frames = scan.feed(data + written % dump(chunk({}, "stop")) + b"data: [DONE]\n\n").frames
    assert [frame[:7] for frame in frames.split(b"\n\n")[:-1]] == [b"data: {"] * 3
    assert finishes(frames_to_chunks(frames)) == [None, None, "stop"]


def test_data_in_several_lines_is_one_event() -> None:
    lines = b"\n".join(b"data: " + line for line in json.dumps(chunk({"content": "x"}), indent=1).encode().split(b"\n"))
    (got,) = frames_to_chunks(SseScan("row", keep_usage=False).feed(lines + b"\n\n").frames)
    assert got["choices"][0]["delta"]["content"] == "x"


@pytest.mark.parametrize("odd", [b"NaN", b"-Infinity", b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"'])
@pytest.mark.parametrize("texts", [1, 2])
def test_a_frame_that_only_a_lenient_parser_reads_breaks_no_stream(odd: bytes, texts: int) -> None:
    more = b'"reasoning":"r",' if texts == 2 else b""
    made = b'data: {"id":"c","model":"m","x":%b,"choices":[{"index":0,"delta":{%b"content":"hi"},"logprobs":%b}]}\n\n'
    scan = SseScan("row", keep_usage=False)
    for _ in range(3):
        batch = scan.feed(made % (odd, more, odd))
        assert (batch.content, batch.malformed, batch.error) == (True, False, None)
        assert b'"hi"' in batch.frames
        (read,) = frames_to_chunks(batch.frames)
        assert read["choices"][0]["delta"]["content"] == "hi"


def test_a_filter_that_comes_late_is_the_finish_reason() -> None:
    assert finishes(streamed(chunk({"content": "x"}), chunk({}, "stop"), chunk({}, "content_filter"))) == [
        None,
        "content_filter",
    ]


def test_frames_without_an_id_do_not_wait_for_the_end_with_a_usage_that_comes_first() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    said = [
        chunk({"role": "assistant"}),
        {**chunk({}), "choices": [], "usage": usage},
        chunk({"content": "Hi"}, "stop"),
    ]
    for one in said:
        del one["id"]
    got = streamed(*said, keep_usage=True)
    assert [c["delta"] for one in got for c in one["choices"]] == [{"role": "assistant"}, {"content": "Hi"}, {}]
    assert (got[-1]["usage"], len({one["id"] for one in got})) == (usage, 1)


def test_the_finish_reason_comes_before_the_usage() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    got = streamed(chunk({"content": "x"}), chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage},
                   keep_usage=True)  # fmt: skip
    assert [bool(one["choices"]) for one in got] == [True, True, False]
    assert got[-1]["usage"] == usage


def test_a_signature_beside_a_finish_reason_is_not_lost_with_it() -> None:
    got = streamed(chunk({"content": "x"}), chunk({"extra_content": {"s": 1}}, "stop"), chunk({}, "stop"))
    assert [one["choices"][0]["delta"].get("extra_content") for one in got] == [None, {"s": 1}, None]
    assert finishes(got) == [None, None, "stop"]


WITHOUT_INDEX = [
    [part("f", '{"a":', id="1"), part(None, "1}"), part("g", "", id="2"), part(None, "{}", id="2")],
    [part("f", '{"a":', id="1"), part(None, "1}", id="1"), part("g", "{}", id="2")],
    [part("f", '{"a":1}'), part("g", "{}")],
    [part("f", {"a": 1}), part("g", {})],
]


NO_INDEX: list[Json] = [{}, {"index": None}]
ONE_INDEX: list[Json] = [{"index": 0}, {"index": 0.0}]


@pytest.mark.parametrize(
    ("parts", "index"),
    [(parts, index) for parts in WITHOUT_INDEX for index in NO_INDEX]
    + [(parts, index) for parts in WITHOUT_INDEX[:2] for index in ONE_INDEX],  # told apart by their ids
)
def test_calls_get_an_index_and_an_id_of_their_own(parts: list[Json], index: Json) -> None:
    got = streamed(*(chunk({"tool_calls": [{**p, **index}]}) for p in parts), chunk({}, "tool_calls"))
    assert {at: (name, json.loads(text)) for at, (name, text) in added_up(got).items()} == {
        0: ("f", {"a": 1}),
        1: ("g", {}),
    }
    ids = [call["id"] for call in calls_in(got) if call.get("function", {}).get("name")]
    assert len(set(ids)) == 2
    assert all(ids)


def test_the_fragments_of_calls_under_one_index_follow_their_call() -> None:
    parts = [part("f", "", id="1", index=0), *(part(None, piece, index=0) for piece in ("[1", ",2", ",3]"))]
    parts += [part("g", "", id="2", index=0), *(part(None, piece, index=0) for piece in ("[4", ",5", ",6]"))]
    scan = SseScan("row", keep_usage=False)
    frames = [b"data: " + dump(chunk({"tool_calls": [p]})) + b"\n\n" for p in parts]
    for got in (
        streamed(*(chunk({"tool_calls": [p]}) for p in parts)),
        frames_to_chunks(scan.feed(b"".join(frames)).frames),
    ):
        assert added_up(got) == {0: ("f", "[1,2,3]"), 1: ("g", "[4,5,6]")}


def test_calls_under_one_index_without_ids_are_told_apart_by_their_names() -> None:
    said = (
        part("one", '{"a"', index=0),
        part(None, ":1}", index=0),
        part("two", "{}", index=0),
        part("two", "{}", index=0),
    )
    got = streamed(*(chunk({"tool_calls": [one]}) for one in said), chunk({}, "tool_calls"))
    assert added_up(got) == {0: ("one", '{"a":1}'), 1: ("two", "{}"), 2: ("two", "{}")}
    ids = [call["id"] for call in calls_in(got) if call.get("id")]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("key", [None, "1"])
def test_another_name_under_a_known_index_begins_another_call(key: str | None) -> None:
    more = {} if key is None else {"id": key}
    said = [part("one", "", index=0, **more), part(None, "{}", index=0), part("two", "{}", index=0)]
    got = streamed(*(chunk({"tool_calls": [one]}) for one in said), chunk({}, "tool_calls"))
    assert added_up(got) == {0: ("one", "{}"), 1: ("two", "{}")}


def test_an_id_that_changes_within_a_call_is_told_once() -> None:
    said = [part("one", "", index=0, id="1"), part(None, '{"a"', index=0, id="2"), part(None, ":1}", index=0, id="2")]
    got = streamed(*(chunk({"tool_calls": [one]}) for one in said), chunk({}, "tool_calls"))
    assert added_up(got) == {0: ("one", '{"a":1}')}
    assert [call["id"] for call in calls_in(got) if call.get("id")] == ["1"]


def test_a_name_that_comes_with_each_fragment_begins_no_new_call() -> None:
    said = [part("one", text, index=0) for text in ("", '{"a"', ":1}")]
    got = streamed(*(chunk({"tool_calls": [one]}) for one in said), chunk({}, "tool_calls"))
    assert {call["index"] for call in calls_in(got)} == {0}


@pytest.mark.parametrize("key", [None, "1"])
def test_a_name_that_comes_in_pieces_begins_no_new_call(key: str | None) -> None:
    more = {} if key is None else {"id": key}
    said = [part("get_", "", index=0, **more), part("weather", None, index=0), part(None, "{}", index=0)]
    got = streamed(*(chunk({"tool_calls": [one]}) for one in said), chunk({}, "tool_calls"))
    assert added_up(got) == {0: ("get_weather", "{}")}


def test_calls_in_one_chunk_get_different_indexes() -> None:
    got = streamed(chunk({"tool_calls": [part("f", "{}", id="1"), part("g", "{}", id="2")]}, "tool_calls"))
    assert [call["index"] for call in calls_in(got)] == [0, 1]


def test_calls_that_are_right_are_not_touched() -> None:
    parts = [part("f", "", index=0, id="1", type="function"), {"index": 0, "function": {"arguments": "{}"}}]
    parts += [part("g", "", index=1, id="2", type="function"), {"index": 0, "function": {"arguments": " "}}]
    assert calls_in(streamed(*(chunk({"tool_calls": [p]}) for p in parts))) == parts


@pytest.mark.parametrize("model", [{"model": ""}, {"model": None}, {"model": "other"}, {}])
def test_each_chunk_names_the_clients_model(model: Json) -> None:
    odd = {k: v for k, v in chunk({"content": "x"}).items() if k != "model"} | model
    got = streamed(odd, chunk({"content": "y"}), odd, chunk({"content": "model"}), chunk({}, "stop"))
    assert [one["model"] for one in got] == ["row"] * 5


def test_a_deeper_model_is_not_the_chunks() -> None:
    got = streamed(chunk({"content": "x"}, meta={"model": "up", "id": ""}, id=""))
    assert (got[0]["model"], got[0]["meta"]) == ("row", {"model": "up", "id": ""})


@pytest.mark.parametrize("ids", [["", "a", "a"], ["a", "b", "c"], ["a", "", None], ["", "", ""], [None, None, "a"]])
def test_one_stream_has_one_id(ids: list[str | None]) -> None:
    first = {**chunk({}), "choices": [], "id": ids[0]}
    got = streamed(first, chunk({"content": "x"}, id=ids[1]), chunk({"content": "y"}, id=ids[2]), chunk({}, "stop"))
    found = {one["id"] for one in got}
    assert len(found) == 1
    assert found.isdisjoint({"", None})
    assert "a" not in ids[:2] or found == {"a"}
    assert len(got) == 4


def test_groqs_usage_reaches_the_ledger_and_the_client_that_asked() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    said = [chunk({"content": "x"}), chunk({}, "stop", x_groq={"id": "r", "usage": usage})]
    last = streamed(*said, keep_usage=True)[-1]
    assert (last["choices"], last["usage"]) == ([], usage)
    assert all("usage" not in one for one in streamed(*said))


def test_a_usage_that_is_wrong_is_right_for_the_client_too() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 399}
    usage_frame = {**chunk({}), "choices": [],
                   "usage": {**usage, "completion_tokens_details": {"reasoning_tokens": 386}}}  # fmt: skip
    last = streamed(chunk({"content": "x"}), chunk({}, "stop"), usage_frame, keep_usage=True)[-1]
    assert last["usage"]["completion_tokens"] == 387


@pytest.mark.parametrize(
    ("delta", "holds"),
    [
        *(({"audio": {"data": "AA"}}, True), ({"audio": {"id": "a", "transcript": ""}}, False)),
        *(({"function_call": {"arguments": "{"}}, True), ({"function_call": {"arguments": ""}}, False)),
        *(({"thinking": "x"}, True), ({"reasoning_details": [{"text": "x"}]}, True), ({"reasoning": ""}, False)),
        *(({"thinking_signature": "x"}, False), ({"reasoning_tokens": 7}, False), ({"x": {"content": "x"}}, False)),
        *(({"tool_calls": [part("f", "", id="1")]}, True), ({"content": [{"type": "text", "text": "x"}]}, True)),
    ],
)
def test_content_is_what_a_client_would_read_at_its_place(delta: Json, holds: bool) -> None:
    assert SseScan("row", keep_usage=False).feed(b"data: " + dump(chunk(delta)) + b"\n\n").content is holds


def test_a_last_event_without_a_blank_line_counts() -> None:
    scan = SseScan("row", keep_usage=False)
    scan.feed(b"data: " + dump(chunk({"content": "x"})) + b"\n\n")
    scan.feed(b"data: " + dump(chunk({}, "stop")))
    assert finishes(frames_to_chunks(scan.end().frames)) == ["stop"]
    assert scan.ended == {0}


def test_an_error_instead_of_a_stream_is_an_error() -> None:
    scan = SseScan("row", keep_usage=False)
    assert scan.feed(b'{"error": "Unexpected endpoint"}').frames == b""
    error = scan.end().error
    assert error is not None
    assert error.outcome.message == "Unexpected endpoint"
