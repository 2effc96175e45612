"""A request's JSON, written in slices: the same value, and no slice is long."""

import asyncio
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.openai_api.chat import dump
from deployments.providers.http import request_body as module
from deployments.providers.http.request_body import Pieces, _body_in_slices, request_body

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=40,
)


@given(body=st.dictionaries(texts, values, max_size=5), slices=st.tuples(*[st.integers(1, 9)] * 3))
def test_a_body_in_slices_says_the_same_as_at_once(body: dict[str, Any], slices: tuple[int, int, int]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in zip(("SLICE", "SMALL", "SHORT"), slices, strict=True):
            patched.setattr(module, name, value)
        written = asyncio.run(request_body(body, is_long=True))
    assert isinstance(written, Pieces)
    text = written.decode()
    assert written.size == len(text.encode())
    assert json.loads(text) == json.loads(dump(body))  # not the bytes: the encoder of large numbers has its own ways


LONG: dict[str, dict[str, Any]] = {
    "escapes": {"messages": [{"role": "user", "content": "\n" * 2_000_000}]},
    "messages": {"messages": [{"role": "user", "content": "x" * 200} for _ in range(4000)]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 300}] * 8000}]},
    "numbers": {"metadata": [1] * 200_000},
}


@pytest.mark.parametrize("name", LONG)
def test_no_slice_writes_much(name: str) -> None:
    body = LONG[name]
    slices = sum(1 for _ in _body_in_slices(body))
    assert slices >= len(dump(body)) // (2 * module.SLICE) + 3


@pytest.mark.parametrize("name", LONG)
def test_no_piece_is_long_and_few_are_short(name: str) -> None:
    *pieces, _last = asyncio.run(request_body(LONG[name], is_long=True))._value
    assert {module.SLICE <= len(piece) <= 3 * module.SLICE for piece in pieces} == {True}


def test_a_short_body_is_written_at_once() -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert asyncio.run(request_body(body, is_long=False)) == orjson.dumps(body)
