"""What servers make of OpenAI's words, as the facade reads it: never an exception, never a text that is lost unseen."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deployments.errors import AttemptFailed, NoAnswer
from deployments.openai_api.chat import dump
from deployments.providers.openai.answer import answer_of
from deployments.providers.openai.errors.classify import in_band
from deployments.providers.openai.stream.scan import SseScan
from deployments.python_api.facade import Facade
from deployments.python_api.foreign_answer import ForeignAnswer
from tests.clock import run_virtually
from tests.unit.world import World, world

Json = dict[str, Any]


def message(said: Any, **more: Any) -> Json:
    return {"choices": [{"index": 0, "message": said, "finish_reason": "stop", **more}]}


def delta(said: Any, **more: Any) -> Json:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": None, **more}]}


def read(*data: Json) -> ForeignAnswer:
    answer = ForeignAnswer()
    for one in data:
        answer.take(one)
    return answer


def calls_of(answer: ForeignAnswer) -> list[tuple[Any, str, str]]:
    return [(c.get("id"), c["function"]["name"], c["function"]["arguments"]) for c in answer.tool_calls]


def part(name: str | None = None, arguments: Any = None, **more: Any) -> Json:
    return {"function": {"name": name, "arguments": arguments}, **more}


async def facade_on(w: World, body: Any, chunks: Sequence[Any]) -> tuple[Json, list[Json]]:
    """What the facade makes of an answer of this body, and of a stream of these chunks."""

    async def complete(provider: str, call: Mapping[str, Any], on_piece: Any = None) -> Json:
        return {"body": dump(body), "usage": None, "upstream": {}}

    async def stream(provider: str, call: Mapping[str, Any]) -> Any:
        for chunk in chunks:
            yield b"data: " + dump(chunk) + b"\n\n"
        yield {"usage": None, "tail": b"", "upstream": {}}

    w.hop.complete, w.hop.stream = complete, stream  # type: ignore[method-assign]
    facade = Facade(w.service)
    whole = await facade.generate_completion("hi")
    return whole, [item async for item in facade.generate_streaming_completion("hi")]


def facade_of(body: Any, chunks: Sequence[Any]) -> tuple[Json, list[Json]]:
    async def main() -> tuple[Json, list[Json]]:
        async with world() as w:
            return await facade_on(w, body, chunks)

    return run_virtually(main())


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "h"}, "i", 7]


@pytest.mark.parametrize(
    ("said", "text"), [("hi", "hi"), (None, ""), (PARTS, "hi"), ([{"type": "output_text", "text": "hi"}], "hi")]
)
def test_content_is_a_text_or_a_list_whose_texts_are_taken(said: Any, text: str) -> None:
    assert read(message({"content": said})).text == text
    assert read(delta({"content": said}), delta({"content": "!"})).text == text + "!"


@pytest.mark.parametrize("index", [{"index": None}, {"index": 0.0}, {"index": 0}])
def test_a_choice_without_an_index_is_the_first(index: Json) -> None:
    assert read(message({"content": "hi"}, **index)).text == "hi"


def test_of_several_choices_the_first_is_read_and_what_is_no_choice_is_left_out() -> None:
    others = [7, None, {"index": 1, "message": {"content": "no"}}, {"index": "x", "message": {"content": "no"}}]
    assert read({"choices": [*others, *message({"content": "hi"})["choices"]]}).text == "hi"


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}])
def test_a_chunk_without_choices_brings_its_usage_alone(choices: Json) -> None:
    answer = read(delta({"content": "x"}, finish_reason="stop"), {**choices, "usage": {"total_tokens": 1}})
    assert (answer.text, answer.usage, answer.finish) == ("x", {"total_tokens": 1}, "stop")


@pytest.mark.parametrize("odd", [7, "x", ["x"], True])
def test_a_usage_or_a_finish_reason_that_is_none_is_left_out(odd: Any) -> None:
    answer = read({**delta({"content": "x"}, finish_reason=[odd]), "usage": odd})
    assert (answer.usage, answer.finish) == (None, None)


def test_each_call_of_a_message_is_one_whatever_its_index() -> None:
    said = {"tool_calls": [part("f", "{}", id="1", index=None), part("g", "{}", id="2", index=0), part("h"), None]}
    assert calls_of(read(message(said))) == [("1", "f", "{}"), ("2", "g", "{}"), (None, "h", "")]


@pytest.mark.parametrize("arguments", [{"a": [1, "ü"]}, [1], {}])
@pytest.mark.parametrize("frame", [message, delta])
def test_arguments_that_are_no_text_become_the_json_that_they_should_have_been(frame: Any, arguments: Any) -> None:
    ((_, name, written),) = calls_of(read(frame({"tool_calls": [part("f", arguments)]})))
    assert (name, json.loads(written)) == ("f", arguments)


@pytest.mark.parametrize("index", [[{}] * 4, [{"index": None}] * 4, [{"index": n} for n in (0, 0, 1, 1)]])
def test_the_parts_of_a_streams_calls_find_each_other_by_index_by_id_or_by_their_order(index: list[Json]) -> None:
    parts = [part("f", '{"a":', id="1"), part(None, "1}"), part("g", "", id="2"), part(None, "{}", id="2")]
    answer = read(*(delta({"tool_calls": [{**p, **at}]}) for p, at in zip(parts, index, strict=True)))
    assert calls_of(answer) == [("1", "f", '{"a":1}'), ("2", "g", "{}")]


def test_an_id_that_is_repeated_as_null_stays() -> None:
    answer = read(
        delta({"tool_calls": [part("f", "{", id="1", index=0, type="function")]}),
        delta({"tool_calls": [part(None, "}", id=None, index=0, type="")]}),
    )
    assert answer.tool_calls == [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


UNREADABLE = [
    {"choices": 7},
    {"choices": {"index": 0}},
    message(["x"]),
    message({"content": 7}),
    message({"content": [{"type": "text", "text": 7}]}),
    message({"tool_calls": {"id": "1"}}),
    message({"tool_calls": [{"function": "f"}]}),
    message({"tool_calls": [part("f", 7)]}),
    message({"tool_calls": [{"function": {"name": 7}}]}),
    {**message({"content": "x"}), "error": "overloaded"},
]


@pytest.mark.parametrize("data", UNREADABLE)
def test_what_cant_be_read_is_a_typed_error_that_says_whose_it_was(data: Json) -> None:
    with pytest.raises(NoAnswer, match="can't be read"):
        read(data)
    whole, (first, last) = facade_of(data, [delta({"content": "x"}), data])
    assert first == {"delta": "x"}
    for said in (whole, last):
        assert (said["status"], said["error"]["code"], said["provider_used"]) == (503, "malformed_answer", "aws")


@pytest.mark.parametrize("data", [{}, {"choices": []}, {"choices": [7]}, {"choices": [{"index": 1}]}])
def test_an_answer_that_never_had_a_first_choice_is_typed_too(data: Json) -> None:
    whole, items = facade_of(data, [data])
    for said in (whole, items[-1]):
        assert (said["status"], said["error"]["code"], said["provider_used"]) == (503, "malformed_answer", "aws")


def test_a_stream_that_cant_be_read_is_let_go_of() -> None:
    given = []

    async def stream(provider: str, call: Mapping[str, Any]) -> Any:
        for chunk in (delta({"content": "x"}), delta({"content": 7}), delta({"content": "y"})):
            given.append(chunk)
            yield b"data: " + dump(chunk) + b"\n\n"
        yield {"usage": None, "tail": b"", "upstream": {}}

    async def main() -> None:
        async with world() as w:
            w.hop.stream = stream  # type: ignore[method-assign]
            items = [item async for item in Facade(w.service).generate_streaming_completion("hi")]
            assert (len(items), len(given)) == (2, 2)
            assert not any(w.breaker.under_way.values())

    run_virtually(main())


@pytest.mark.parametrize("theirs", [{"error": None}, {"error": {}}, {"error": False}, {"breakwater": {"x": 1}}])
def test_a_field_of_the_servers_own_that_has_a_name_of_ours_is_no_matter(theirs: Json) -> None:
    whole, items = facade_of({**message({"content": "hi"}), **theirs}, [{**delta({"content": "hi"}), **theirs}] * 2)
    assert (whole["response"], whole["provider_used"]) == ("hi", "aws")
    assert (items[-1]["response"], items[-1]["provider_used"]) == ("hihi", "aws")


def test_a_streams_content_in_parts_is_content_and_that_of_logprobs_is_none() -> None:
    def has_content(said: Json) -> bool:
        return SseScan("m", keep_usage=True).feed(b"data: " + dump(said) + b"\n\n").content

    assert has_content(delta({"content": [{"type": "thinking", "thinking": []}]}))
    assert not has_content(delta({"content": []}))
    assert not has_content(delta({"content": ""}, logprobs={"content": [{"token": "x"}]}))


@pytest.mark.parametrize("body", [{"choices": 7}, {"choices": "x"}, {"choices": {"a": 1}}, {"choices": [7]}, {}])
def test_choices_of_a_whole_answer_that_are_none_are_malformed_and_no_bug_of_ours(body: Json) -> None:
    with pytest.raises(AttemptFailed) as caught:
        answer_of(dump(body))
    assert caught.value.outcome.kind == "malformed"


def test_the_field_that_an_error_under_status_200_names_is_a_text() -> None:
    assert in_band({"code": 400, "param": ["x"]}).outcome.param is None
    assert in_band({"code": 400, "param": "messages"}).outcome.param == "messages"
