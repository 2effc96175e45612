"""What is split as a vendor streams it is joined to what it was: any completion, any message, any response."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from deployments.openai_api.chat import dump, frame
from deployments.providers.joined.chat import SLICE, ChatJoin
from deployments.providers.joined.native import MessageJoin, ResponseJoin

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
PLAIN = st.booleans() | st.integers(-9, 9) | TEXT
JSON = st.recursive(PLAIN, lambda x: st.lists(x, max_size=2) | st.dictionaries(TEXT, x, max_size=2))
TIER = st.sampled_from(["default", "flex"])
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
TOKEN = st.builds(lambda text: {"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}, TEXT)


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)) | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


@st.composite
def calls(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = draw(st.lists(st.sampled_from("fgh"), max_size=3))
    arguments = st.dictionaries(st.sampled_from("abc"), JSON, max_size=2).map(json.dumps)
    return [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": draw(arguments)}}
        for at, name in enumerate(names)
    ]


@st.composite
def choices(draw: st.DrawFn, index: int) -> dict[str, Any]:
    said, called = draw(st.none() | TEXT), draw(calls())
    message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": draw(st.none() | TEXT)}
    for name in draw(st.sets(st.sampled_from(["reasoning_content", "reasoning", "words_of_tomorrow"]))):
        message[name] = draw(TEXT)
    if draw(st.booleans()):
        message["annotations"] = draw(st.lists(st.dictionaries(TEXT, JSON, min_size=1), max_size=2))
    if called:
        message["tool_calls"] = called
    logprobs = {"content": draw(st.lists(TOKEN, min_size=1, max_size=4)), "refusal": None}
    choice = {"index": index, "message": message, "logprobs": draw(st.none() | st.just(logprobs))}
    choice["finish_reason"] = "tool_calls" if called else draw(st.sampled_from(["stop", "length", "content_filter"]))
    if draw(st.booleans()):
        choice["field_of_a_choice"] = draw(JSON)
    return choice


@st.composite
def completions(draw: st.DrawFn, most: int) -> dict[str, Any]:
    number = draw(st.integers(1, most))
    more = draw(
        st.fixed_dictionaries({}, optional={"system_fingerprint": TEXT, "x_vendor": JSON, "service_tier": TIER})
    )
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "row", **more}
    return {**head, "choices": [draw(choices(index)) for index in range(number)], "usage": USAGE}


def deltas_of(draw: Any, message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The pieces of a message, as OpenAI streams it: the role first, texts in pieces, each call after its head."""
    begun = {name: None if value is None or isinstance(value, str) else value for name, value in message.items()}
    begun.pop("tool_calls", None)
    yield {**begun, "role": "assistant", "content": draw(st.sampled_from(["", None])) if message["content"] else None}
    for name, value in message.items():
        if isinstance(value, str) and name != "role":
            yield from ({name: piece} for piece in draw(pieces_of(value)))
    for at, call in enumerate(message.get("tool_calls", ())):
        text = call["function"]["arguments"]
        yield {"tool_calls": [{"index": at, **call, "function": {**call["function"], "arguments": ""}}]}
        for piece in draw(pieces_of(text)):
            yield {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}


@st.composite
def streams(draw: st.DrawFn, most: int = 3) -> tuple[dict[str, Any], list[bytes]]:
    """A completion, and its frames: choices in any order between each other."""
    answer = draw(completions(most))
    head = {k: v for k, v in answer.items() if k not in ("choices", "usage")} | {"object": "chat.completion.chunk"}
    waiting = []
    for choice in answer["choices"]:
        told = {k: v for k, v in choice.items() if k not in ("message", "logprobs", "finish_reason")}
        plain = {**told, "logprobs": None, "finish_reason": None}
        made = [{**plain, "delta": delta} for delta in deltas_of(draw, choice["message"])]
        for token in (choice["logprobs"] or {}).get("content", ()):
            made.append({**plain, "delta": {}, "logprobs": {"content": [token], "refusal": None}})
        waiting.append([*made, {**plain, "delta": {}, "finish_reason": choice["finish_reason"]}])
    frames = []
    while any(waiting):
        left = draw(st.sampled_from([queue for queue in waiting if queue]))
        frames.append(frame({**head, "choices": [left.pop(0)]}))
    return answer, [*frames, frame({**head, "choices": [], "usage": USAGE})]


def joined(frames: list[bytes]) -> dict[str, Any]:
    join = ChatJoin()
    for one in frames:
        join.add(one)
    body: dict[str, Any] = json.loads(join.body())
    return body


@given(streams())
def test_a_stream_of_a_completion_joins_to_the_completion(drawn: tuple[dict[str, Any], list[bytes]]) -> None:
    answer, frames = drawn
    assert joined(frames) == answer
    assert joined([b"".join(frames)]) == answer
    assert joined([frames[0], b": a comment\n\n", *frames[1:], b"data: [DONE]\n\n"]) == answer


@given(streams(most=1))  # its own stream helper fails where another choice than the first speaks first
def test_it_says_what_the_sdk_adds_up(drawn: tuple[dict[str, Any], list[bytes]]) -> None:
    _, frames = drawn
    state = ChatCompletionStreamState()
    for one in frames:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(one[6:]))
    told = state.current_completion_snapshot.model_dump()
    theirs = {choice["index"]: choice for choice in told["choices"]}
    for ours in joined(frames)["choices"]:
        assert read(ours) == read(theirs[ours["index"]])


def read(choice: Mapping[str, Any]) -> tuple[Any, ...]:
    """What both tell in one way: the SDK adds nothing up for a field that it does not know."""
    message = choice["message"]
    functions = [(call["id"], call["function"]) for call in message.get("tool_calls") or ()]
    called = [(key, function["name"], function["arguments"]) for key, function in functions]
    return message["content"] or None, message.get("refusal") or None, called, choice["finish_reason"]


def chunks_of(*deltas: dict[str, Any], **more: Any) -> list[bytes]:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "row"}
    frames = [frame({**head, "choices": [{"index": 0, "delta": delta}], **more}) for delta in deltas]
    return [*frames, frame({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})]


def message_of(*deltas: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = joined(chunks_of(*deltas))["choices"][0]["message"]
    return message


def test_chunks_without_choices_say_something_else() -> None:
    for odd in ({"sources": ["x"]}, {"choices": None}, {"choices": []}):
        frames = [frame({"id": "c", **odd}), *chunks_of({"content": "Hi"})]
        assert joined(frames)["choices"][0]["message"]["content"] == "Hi"
    assert joined([frame({"sources": ["x"]}), *chunks_of({"content": "Hi"})])["sources"] == ["x"]


def test_a_content_of_parts_keeps_all_of_them() -> None:
    """Mistral, Reasoning: thoughts are parts of the content, and its text may be a text or a part."""

    def think(text: str) -> dict[str, Any]:
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}

    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Let me see"}]}
    answer = {"type": "text", "text": "Hi you"}
    said = [{"content": "Hi"}, {"content": " you"}]
    assert message_of({"content": ""}, think("Let me"), think(" see"), *said)["content"] == [thought, answer]
    assert message_of({"content": [{"type": "text", "text": "Hi"}]}, {"content": " you"})["content"] == [answer]


def test_details_of_reasoning_are_told_as_they_go_back() -> None:
    """OpenRouter, Reasoning tokens: pieces have an index, and say their format again and again."""

    def detail(text: str) -> dict[str, Any]:
        return {
            "reasoning_details": [{"type": "reasoning.text", "text": text, "format": "f-v1", "index": 0, "id": "r"}]
        }

    whole = {"type": "reasoning.text", "text": "Let me see", "format": "f-v1", "index": 0, "id": "r"}
    assert message_of(detail("Let me"), detail(" see"), {"content": "x"})["reasoning_details"] == [whole]


def test_a_long_answer_is_read_in_slices() -> None:
    words = [f"word {n} " for n in range(3000)]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "row"}
    frames = [frame({**head, "choices": [{"index": 0, "delta": {"content": word}}]}) for word in words]
    end = frame({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    join = ChatJoin()
    for one in frames:
        join.add(one)
        assert join._size <= SLICE
    join.add(end)
    assert json.loads(join.body())["choices"][0]["message"]["content"] == "".join(words)


@st.composite
def messages(draw: st.DrawFn) -> tuple[dict[str, Any], list[bytes]]:
    """A message of the Messages API, and its events."""
    start: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    content: list[dict[str, Any]] = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thinking", "tool_use"]))
        deltas: list[dict[str, Any]] = []
        if kind == "text":
            text = draw(TEXT)
            begun, whole = {"type": "text", "text": ""}, {"type": "text", "text": text}
            deltas += [{"type": "text_delta", "text": piece} for piece in draw(pieces_of(text))]
        elif kind == "thinking":
            text = draw(TEXT)
            begun = {"type": "thinking", "thinking": "", "signature": ""}
            whole = {"type": "thinking", "thinking": text, "signature": "c2ln"}
            deltas += [{"type": "thinking_delta", "thinking": piece} for piece in draw(pieces_of(text))]
            deltas.append({"type": "signature_delta", "signature": "c2ln"})
        else:
            arguments = draw(st.dictionaries(st.sampled_from("abc"), JSON, max_size=2))
            begun = {"type": "tool_use", "id": f"toolu_{index}", "name": "f", "input": {}}
            whole = {**begun, "input": arguments}
            text = json.dumps(arguments) if arguments else draw(st.sampled_from(["", "{}"]))
            deltas += [{"type": "input_json_delta", "partial_json": piece} for piece in draw(pieces_of(text))]
        content.append(whole)
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    answer = {**start, **delta, "content": content, "usage": {"input_tokens": 3, "output_tokens": 9}}
    return answer, [b"event: " + e["type"].encode() + b"\n" + frame(e) for e in events]


@given(messages())
def test_the_events_of_a_message_join_to_the_message_as_the_sdk_makes_it(
    drawn: tuple[dict[str, Any], list[bytes]],
) -> None:
    answer, frames = drawn
    join, snapshot, held = MessageJoin(), None, dict[int, bytes]()
    for one in frames:
        join.add(one)
        event = TypeAdapter(RawMessageStreamEvent).validate_json(one.split(b"data: ", 1)[1])
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=held)
    made = json.loads(join.body())
    assert made == answer
    assert snapshot is not None
    assert Message.model_validate(made).model_dump() == Message.model_validate(snapshot.model_dump()).model_dump()


@given(st.dictionaries(TEXT, JSON), st.integers(1, 3))
def test_a_response_is_the_one_that_its_last_event_tells(more: dict[str, Any], together: int) -> None:
    response = {**more, "object": "response", "output": [], "status": "completed"}
    events = [
        {"type": "response.created", "response": {"status": "in_progress"}},
        {"type": "response.output_text.delta"},
    ]
    events.append({"type": "response.completed", "response": response})
    frames = [b"event: " + e["type"].encode() + b"\ndata: " + dump(e) + b"\n\n" for e in events]  # type: ignore[attr-defined]
    join = ResponseJoin()
    for at in range(0, len(frames), together):
        join.add(b"".join(frames[at : at + together]))
    join.add(b"")
    assert json.loads(join.body()) == response
