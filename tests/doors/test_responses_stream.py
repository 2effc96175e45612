"""A stream of a chat completion as events: in their order, each whole, and none lost."""

from typing import Any

import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from deployments.doors.envelope import Envelope, unseal
from deployments.openai_api.chat import DONE, bare_chunk, chunk, frame
from deployments.openai_api.json_types import JsonDict
from deployments.providers.translation.choice import arguments_delta, call_delta, tool_call
from tests.doors.responses import HEAD, SERVED, Streamed, frames, opened, streamed, whole

TEXT = ["output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"]
GOOGLE = {"google": {"thought_signature": "t"}}
BEDROCK = {"bedrock": {"reasoning": [{"text": "Hm", "signature": "s"}]}}


def begins(index: int, key: str, arguments: str = "", name: str = "f", **more: Any) -> JsonDict:
    return call_delta(index, {**tool_call(key, name, arguments), **more})


def ended(stream: Streamed) -> str:
    """How it ended; the SDK's own reader of streams has taken every event."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    reader: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in stream.events:
        state.handle_event(reader.validate_python(event))
    return stream.kinds[-1]


# 3, 6, 7


def test_the_events_of_a_text_come_in_their_order() -> None:
    answer = streamed(frames({"content": "Hel"}, {"content": "lo"}))
    assert answer.kinds == [
        "created",
        "in_progress",
        *TEXT[:3],
        *TEXT[2:],
        "output_item.done",
        "completed",
    ]
    assert answer.of("created")[0]["response"]["output"] == []
    assert answer.of("created")[0]["response"]["status"] == "in_progress"
    assert answer.of("output_item.added")[0]["item"]["content"] == []
    assert answer.text("output_text") == "Hello"


# 8


def test_a_stream_ends_with_what_the_whole_answer_says() -> None:
    message = {"reasoning_content": "Hm", "content": "Hello", "tool_calls": [tool_call("a", "f", '{"x":1}')]}
    answer = streamed(frames(*({name: value} for name, value in message.items()), finish="tool_calls"))
    assert answer.response == whole(message, "tool_calls")
    assert answer.response["output"] == answer.done
    assert ended(answer) == "completed"


# 5, 8


def test_a_call_is_told_in_pieces_and_then_whole() -> None:
    answer = streamed(
        frames(begins(0, "a"), arguments_delta(0, '{"x"'), arguments_delta(0, ":1}"), finish="tool_calls")
    )
    assert answer.kinds[2:-1] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert answer.text("function_call_arguments") == '{"x":1}' == answer.done[0]["arguments"]
    assert (answer.done[0]["call_id"], answer.done[0]["name"]) == ("a", "f")


# 4


@pytest.mark.parametrize(("deltas", "arguments"), [([begins(0, "a", '{"x":1}')], '{"x":1}'), ([begins(0, "a")], "{}")])
def test_arguments_that_come_at_once_or_never_are_told_as_deltas_too(deltas: list[JsonDict], arguments: str) -> None:
    answer = streamed(frames(*deltas, finish="tool_calls"))
    assert answer.text("function_call_arguments") == arguments
    assert answer.of("function_call_arguments.done")[0]["arguments"] == arguments


# 1, 2, 9, 23


def test_calls_whose_pieces_come_in_turn_follow_each_other() -> None:
    deltas = [
        begins(0, "a"),
        arguments_delta(0, '{"x"'),
        begins(1, "b"),
        arguments_delta(1, '{"y"'),
        arguments_delta(0, ":1}"),
        arguments_delta(1, ":2}"),
        begins(2, "c", "{}"),
    ]
    answer = streamed(frames(*deltas, finish="tool_calls"))
    assert [(item["call_id"], item["arguments"]) for item in answer.done] == [
        ("a", '{"x":1}'),
        ("b", '{"y":2}'),
        ("c", "{}"),
    ]


def test_a_second_call_is_not_held_back_once_the_first_is_whole() -> None:
    encode = opened(stream=True).encoder(SERVED).encode
    encode(chunk(HEAD, begins(0, "a", '{"x":1}')))
    told = encode(chunk(HEAD, begins(1, "b", '{"y"')))
    assert b'"call_id":"b"' in told
    assert b"function_call_arguments.delta" in told


# 2, 25


@pytest.mark.parametrize(
    "order",
    [
        ["reasoning", "message", "function_call"],
        ["message", "reasoning", "function_call"],
        ["function_call", "message"],
        ["function_call", "reasoning", "message"],
        ["reasoning", "function_call", "message", "reasoning"],
    ],
)
def test_reasoning_text_and_calls_come_in_any_order(order: list[str]) -> None:
    deltas = {
        "reasoning": {"reasoning_content": "Hm"},
        "message": {"content": "Hello"},
        "function_call": begins(0, "a", "{}"),
    }
    answer = streamed(frames(*(deltas[kind] for kind in order)))
    assert [item["type"] for item in answer.done] == order
    assert ended(answer) == "completed"


def test_a_text_in_the_midst_of_a_call_waits_until_the_call_is_whole() -> None:
    deltas = [begins(0, "a", '{"x"'), {"content": "\n"}, arguments_delta(0, ":1}")]
    answer = streamed(frames(*deltas, finish="tool_calls"))
    assert [item["type"] for item in answer.done] == ["function_call", "message"]
    assert answer.done[0]["arguments"] == '{"x":1}'
    assert answer.text("output_text") == "\n"


def test_a_name_that_comes_in_pieces_is_made_whole_and_one_that_repeats_is_not_doubled() -> None:
    piece = {"tool_calls": [{"index": 0, "function": {"name": "_b"}}]}
    again = {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "a_b", "arguments": "{}"}}]}
    answer = streamed(frames(begins(0, "x", name="a"), piece, again))
    assert answer.done[0]["name"] == "a_b"


# 26


def test_signatures_come_in_a_reasoning_item_before_their_call_and_the_last_ones_at_the_end() -> None:
    deltas = [{"content": "Hello"}, begins(0, "a", "{}", extra_content=GOOGLE), {"extra_content": BEDROCK}]
    answer = streamed(frames(*deltas, finish="tool_calls"))
    assert [item["type"] for item in answer.done] == ["message", "reasoning", "function_call", "reasoning"]
    assert unseal(answer.done[1]["encrypted_content"]) == Envelope(calls={"a": GOOGLE})
    assert unseal(answer.done[3]["encrypted_content"]) == Envelope(BEDROCK)


def test_signatures_go_into_the_reasoning_that_is_still_open() -> None:
    deltas = [{"reasoning_content": "Hm"}, {"extra_content": BEDROCK}, begins(0, "a", "{}", extra_content=GOOGLE)]
    answer = streamed(frames(*deltas, finish="tool_calls"))
    assert [item["type"] for item in answer.done] == ["reasoning", "function_call"]
    assert unseal(answer.done[0]["encrypted_content"]) == Envelope(BEDROCK, {"a": GOOGLE})


def test_a_signature_that_comes_behind_its_call_is_not_lost() -> None:
    late = {"tool_calls": [{"index": 0, "extra_content": GOOGLE}]}
    answer = streamed(frames(begins(0, "a", "{}"), late, finish="tool_calls"))
    assert [item["type"] for item in answer.done] == ["function_call", "reasoning"]
    assert unseal(answer.done[1]["encrypted_content"]) == Envelope(calls={"a": GOOGLE})


# 10


def test_required_lists_are_there_and_empty() -> None:
    answer = streamed(frames({"content": "x"}))
    assert all(event["logprobs"] == [] for event in answer.of("output_text.delta") + answer.of("output_text.done"))


def test_log_probabilities_go_with_their_deltas() -> None:
    token = {"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": [{"token": "y", "logprob": -2.0}]}
    stream = [chunk(HEAD, {"content": "x"}, logprobs={"content": [token]}), *frames({"content": "z"})[1:]]
    answer = streamed(stream)
    assert answer.of("output_text.delta")[0]["logprobs"] == [
        {"token": "x", "logprob": -1.0, "top_logprobs": [{"token": "y", "logprob": -2.0}]}
    ]
    assert answer.done[0]["content"][0]["logprobs"][0]["bytes"] == [120]


def test_a_refusal_is_told_as_one() -> None:
    answer = streamed(frames({"content": "Hm. "}, {"refusal": "N"}, {"refusal": "o."}))
    assert answer.text("refusal") == "No."
    assert [part["type"] for part in answer.done[0]["content"]] == ["output_text", "refusal"]
    assert [event["content_index"] for event in answer.of("content_part.added")] == [0, 1]


# 20


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_stream_that_was_cut_ends_as_incomplete(finish: str, reason: str) -> None:
    answer = streamed(frames({"reasoning_content": "Hm"}, {"content": "x"}, {"extra_content": BEDROCK}, finish=finish))
    assert ended(answer) == "incomplete"
    assert answer.response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in answer.done] == ["completed", "incomplete", "completed"]


ERROR = {"message": "The stream broke off.", "type": "server_error", "param": None, "code": "stream_interrupted"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ERROR, "server_error"),
        ({**ERROR, "type": "timeout_error", "code": "deadline_exceeded"}, "server_error"),
        ({**ERROR, "type": "rate_limit_error", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({**ERROR, "type": "invalid_request_error", "code": "content_filter"}, "invalid_prompt"),
    ],
)
def test_a_broken_stream_ends_as_failed_with_the_whole_response_in_it(error: JsonDict, code: str) -> None:
    answer = streamed([*frames({"content": "Hel"})[:2], frame({"error": error})])
    assert ended(answer) == "failed"
    assert answer.response["error"] == {"code": code, "message": "The stream broke off."}
    assert (answer.response["status"], answer.response["completed_at"]) == ("failed", None)
    assert [(item["status"], item["content"][0]["text"]) for item in answer.response["output"]] == [
        ("incomplete", "Hel")
    ]


def test_codex_is_told_that_the_prompt_was_too_long_in_the_one_word_that_it_knows() -> None:
    encode = opened(stream=True).encoder(SERVED).encode
    told = encode(frame({"error": {**ERROR, "code": "context_length_exceeded"}}))
    assert b'"error":{"code":"context_length_exceeded"' in told


def test_a_call_that_broke_off_is_never_done_and_so_never_run() -> None:
    patch = opened(stream=True, tools=[{"type": "custom", "name": "p"}])
    stream = frames(begins(0, "a", '{"input": "rm -rf /tmp', name="p"))[:2]
    answer = streamed([*stream, frame({"error": ERROR})], on=patch)
    assert answer.text("custom_tool_call_input") == "rm -rf /tmp"
    assert answer.done == []
    assert answer.response["output"] == []


def test_half_an_input_of_a_custom_tool_is_never_done_where_its_answer_was_cut() -> None:
    # Codex 0.171 ran such a patch, though its state was `incomplete`.
    patch = opened(stream=True, tools=[{"type": "custom", "name": "p"}])
    signed = begins(0, "a", '{"input": "rm -rf /tmp', name="p", extra_content=GOOGLE)
    answer = streamed(frames(signed, {"extra_content": BEDROCK}, finish="length"), on=patch)
    assert [item["type"] for item in answer.done] == ["reasoning"]
    assert answer.response["output"] == answer.done
    assert answer.kinds[-1] == "incomplete"
    cut = whole({"content": None, "tool_calls": [tool_call("a", "p", '{"input": "rm -rf /tmp')]}, "length", on=patch)
    assert (cut["status"], cut["output"]) == ("incomplete", [])


def test_a_call_that_waits_behind_one_that_was_cut_does_not_make_it_whole() -> None:
    patch = opened(stream=True, tools=[{"type": "custom", "name": "p"}])
    deltas = [begins(0, "a", '{"input": "rm -rf /tmp', name="p"), begins(1, "b", '{"x":1}')]
    assert streamed(frames(*deltas, finish="length"), on=patch).done == []


def test_a_whole_input_of_a_custom_tool_is_done_also_where_its_answer_was_cut() -> None:
    patch = opened(stream=True, tools=[{"type": "custom", "name": "p"}])
    answer = streamed(frames(begins(0, "a", '{"input": "ls"', name="p"), finish="length"), on=patch)
    assert answer.done[0]["input"] == "ls"


def test_nothing_follows_the_end_of_an_answer() -> None:
    answer = streamed([*frames({"content": "x"}), DONE, *frames({"content": "y"})])
    assert answer.kinds.count("completed") == 1
    assert answer.kinds[-1] == "completed"
    failed = streamed([frame({"error": ERROR}), *frames({"content": "y"})])
    assert failed.kinds == ["created", "in_progress", "failed"]


def test_no_done_follows_because_openai_sends_none() -> None:
    encoder = opened(stream=True).encoder(SERVED)
    assert b"[DONE]" not in encoder.encode(b"".join(frames({"content": "x"})))


def test_a_stream_without_any_content_has_an_empty_message() -> None:
    answer = streamed(frames())
    assert answer.done[0]["content"][0]["text"] == ""
    assert streamed([DONE]).kinds[-1] == "completed"


def test_an_explanation_comes_with_the_last_event() -> None:
    told = {"explained": {"target": "a/b"}}
    stream = frames({"content": "x"})
    answer = streamed([*stream[:-1], bare_chunk(HEAD, breakwater=told), stream[-1]])
    assert answer.response["breakwater"] == told
    broken = streamed([stream[1], frame({"error": ERROR, "breakwater": told})])
    assert broken.response["breakwater"] == told


def test_frames_in_other_forms_are_read_too() -> None:
    plain = [chunk(HEAD, {"content": text})[6:-2] for text in "abc"]
    stream = [b": comment\n\n", b"event: x\ndata: " + plain[0] + b"\n\n", b"data:" + plain[1] + b"\n\n"]
    stream += [b"data: {broken\n\n", b"data: 7\n\n", b"id: 1\n\n", b"data: " + plain[2] + b"\n\n", DONE]
    assert streamed(stream).text("output_text") == "abc"


def test_a_citation_in_a_stream_is_an_event() -> None:
    told = [{"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 1, "url": "u", "title": "t"}}]
    answer = streamed(frames({"content": "x"}, {"annotations": told}))
    assert answer.of("output_text.annotation.added")[0]["annotation"]["url"] == "u"
    assert answer.done[0]["content"][0]["annotations"] == [answer.of("output_text.annotation.added")[0]["annotation"]]


# 45


def test_all_ids_are_of_one_response_whatever_the_frames_say() -> None:
    other = [chunk(HEAD.__class__(f"other-{at}", 1, "row"), {"content": "x"}) for at in range(3)]
    answer = streamed([*other, DONE])
    assert {event["response"]["id"] for event in answer.events if "response" in event} == {"resp_00ff"}
    assert {event["item_id"] for event in answer.of("output_text.delta")} == {answer.done[0]["id"]}
