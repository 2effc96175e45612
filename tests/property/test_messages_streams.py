"""Streams drawn in any order and cut in any way: the SDK folds them to the whole answer, which is a next turn's too."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.doors.envelope import merged
from deployments.doors.messages.door import MESSAGES
from tests.doors.anthropic_types import (
    BODY,
    SERVED,
    call_delta,
    check_order,
    completion,
    deltas,
    events_in,
    folded,
    opened,
    said,
    whole,
)
from tests.property.test_messages_requests import JSON, check_request

WORDS = st.text(max_size=8)
EXTRAS = st.sampled_from([{}, {"google": {"thought_signature": "g"}}, {"bedrock": {"reasoning": [{"text": "t"}]}}])
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3).map(json.dumps)
# What is no object, which a model may write too. A text that is cut off is sent as it is, so it is not drawn here.
ARGUMENTS = st.one_of(OBJECTS, OBJECTS, OBJECTS, st.sampled_from(["", " ", "null", "[1]", '"}{"', "tru"]))


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """Return a text cut anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]


@st.composite
def calls(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Return the deltas of some calls, each call's in order."""
    made = []
    for at, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3))):
        first, *rest = draw(pieces_of(arguments))
        extra = draw(EXTRAS)
        begun = call_delta(at, first, f"c{at}", **({"extra_content": extra} if extra else {}))
        made.append([begun, *(call_delta(at, piece) for piece in rest)])
    return made


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return deltas in any order that keeps that of each call."""
    queues = draw(calls())
    queues += [[{name: words}] for name, words in draw(st.lists(st.tuples(st.sampled_from(TEXTS), WORDS), max_size=5))]
    queues += [[{"extra_content": extra}] for extra in draw(st.lists(EXTRAS, max_size=2)) if extra]
    order = draw(st.permutations([at for at, queue in enumerate(queues) for _ in queue]))
    return [queues[at].pop(0) for at in order]


TEXTS = ("content", "reasoning_content")


def message_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that the deltas make: what a chat's whole answer would have said."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "extra_content": {}}
    made = dict[int, dict[str, Any]]()
    for part in parts:
        for name in TEXTS:
            message[name] += part.get(name, "")
        message["extra_content"] = merged(message["extra_content"], part.get("extra_content", {}))
        for piece in part.get("tool_calls", ()):
            call = made.setdefault(piece["index"], {**piece, "function": {**piece["function"], "arguments": ""}})
            call["function"]["arguments"] += piece["function"]["arguments"]
    return {**message, "tool_calls": [made[at] for at in sorted(made)]}


@given(streams(), st.data())
def test_any_cut_of_any_stream_is_the_whole_answer(parts: list[dict[str, Any]], data: st.DataObject) -> None:  # 22, 25
    frames = deltas(*parts, finish="stop")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(frames)), max_size=5)))
    encoder = opened().encoder(SERVED)
    batches = [b"".join(frames[start:end]) for start, end in itertools.pairwise([0, *cuts, len(frames)])]
    events = events_in(b"".join(map(encoder.encode, batches)))
    check_order(events)
    streamed, made = folded(events), whole(message_of(parts))
    of_stream, of_whole = said(streamed), said(made)
    late = of_stream["envelope"].pop("message")  # what is told behind the last text is not sent
    assert all(value in _values(of_whole["envelope"]["message"]) for value in _values(late))
    del of_whole["envelope"]["message"]
    assert {**of_stream, "calls": sorted(of_stream["calls"])} == {**of_whole, "calls": sorted(of_whole["calls"])}
    assert streamed["usage"]["output_tokens"] == made["usage"]["output_tokens"]
    for answer in (streamed, made):
        check_next_turn(answer)


def _values(extra: dict[str, Any]) -> list[Any]:
    """Return what is in an `extra_content`, and each element of its lists."""
    values = [value for part in extra.values() for value in part.values()]
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def check_next_turn(answer: dict[str, Any]) -> None:
    """An answer of ours is taken as the next request's, and nothing of it is lost."""  # 18
    if not answer["content"]:
        return
    found = [{"type": "tool_result", "tool_use_id": key, "content": "x"} for key, _, _ in said(answer)["calls"]]
    turns = [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": found or "And?"}]
    body = {**BODY, "messages": [*BODY["messages"], *turns]}
    assert check_request(body)
    request, told = MESSAGES.open(body), said(answer)
    back = request.request.body["messages"][1]
    if back["role"] != "assistant":  # thoughts alone, which no provider takes back
        assert (told["text"], told["calls"]) == ("", [])
        return
    assert request.dropped == ()
    again = said(request.whole(completion(back), SERVED))
    assert {**again, "end": None} == {**told, "end": None}
