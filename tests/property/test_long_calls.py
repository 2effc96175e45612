"""A long call that is taken apart and put together is the call that it was, and no step of it is long."""

import copy
import json
import pickle
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments import long_text
from deployments.rpc import long_calls
from deployments.rpc.long_calls import MOST_TOGETHER, PART, TEXT_PIECE, Apart, Arriving, frames_of, take_apart
from tests.property.test_request_body import texts, values


def done(steps: Generator[None, None, Any]) -> tuple[Any, int]:
    """Return what comes of it, and in how many steps."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def arrived(call: Any) -> tuple[Any, list[Any]]:
    """The call as the other process has it, and the frames by which it came."""
    apart, _ = done(take_apart(call))
    frames = [pickle.loads(pickle.dumps(frame)) for frame in frames_of(7, "chat", apart)]
    arriving = Arriving()
    ends = [arriving.take(verb, data) for _, verb, data in frames]
    assert ends == [False] * (len(frames) - 1) + [True]
    assert [(number, verb) for number, verb, _ in frames][-1] == (7, "chat")
    return done(arriving.put_together())[0], frames


@given(body=st.dictionaries(texts, values, max_size=5), sizes=st.tuples(*[st.integers(1, 40)] * 4))
def test_any_call_arrives_as_it_was(body: dict[str, Any], sizes: tuple[int, ...]) -> None:
    call = {"body": body, "model": "m", "limits": (1.0, 2.0, 3.0, 4.0), "is_long": True}
    before = copy.deepcopy(call)
    with pytest.MonkeyPatch.context() as patched:
        for name, size in zip(("TEXT_PIECE", "MOST_TOGETHER", "PART_BYTES", "_SLICE"), sizes, strict=True):
            patched.setattr(long_calls, name, size)
        patched.setattr(long_text, "JOINED_AT_ONCE", 0)
        found, _ = arrived(call)
    assert repr(found) == repr(before)  # the order of names too, and 1 is not 1.0
    assert repr(call) == repr(before), "other targets are asked with the same body"


BODIES: dict[str, Any] = {
    "one text": {"messages": [{"role": "user", "content": "x" * 8_000_000}]},
    "an emoji": {"messages": [{"role": "user", "content": "x" * 2_000_000 + "\U0001f600"}]},
    "texts": {"input": ["x" * 10_000 for _ in range(800)]},
    "messages": {"messages": [{"role": "user", "content": f"{n}" * 2000} for n in range(1000)]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 1000}] * 8000}]},
    "names": {"metadata": {f"k{n}": "x" * 100 for n in range(60_000)}},
    "numbers": {"metadata": [1] * 250_000},
}


@pytest.mark.parametrize("name", BODIES)
def test_no_frame_of_a_long_call_is_long_and_others_get_their_turn(name: str) -> None:
    call = {"body": BODIES[name], "model": "m"}
    found, frames = arrived(call)
    assert json.dumps(found) == json.dumps(call)
    sizes = [len(pickle.dumps(frame)) for frame in frames]
    assert max(sizes) < 5 * max(TEXT_PIECE, MOST_TOGETHER)  # a character has four bytes at most
    assert len(frames) > sum(sizes) / (5 * TEXT_PIECE)
    apart, steps = done(take_apart(call))
    assert steps >= sum(sizes) / (5 * MOST_TOGETHER * long_calls._SLICE)
    assert len(apart.rest) < 1_000_000, "names and places stay, and are pickled at once"


def test_a_call_that_an_older_ingress_has_pickled_whole_is_read_too() -> None:
    call = {"body": {"messages": "x" * 1_000_000}, "model": "m"}
    arriving = Arriving()
    for _, verb, data in frames_of(1, "chat", pickle.dumps(call)):
        arriving.take(verb, data)
    assert arriving.texts == arriving.values == []
    assert done(arriving.put_together())[0] == call
    assert [verb for _, verb, _ in frames_of(1, "chat", b"x" * long_calls.PART_BYTES)] == ["chat"]
    assert [verb for _, verb, _ in frames_of(1, "chat", b"x" * (long_calls.PART_BYTES + 1))] == [PART, "chat"]


def test_a_call_without_anything_long_is_one_frame() -> None:
    apart, _ = done(take_apart({"body": {"messages": []}, "model": "m"}))
    assert (isinstance(apart, Apart), apart.texts, apart.values) == (True, [], [])
    assert arrived({"body": {}, "model": "m"})[0] == {"body": {}, "model": "m"}
