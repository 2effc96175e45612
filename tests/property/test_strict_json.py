"""Both parsers of a stranger's JSON take the same, as the standard library does where that is strict enough."""

import itertools
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.strict_json import sliced, texts, window
from deployments.strict_json.quick import is_quick, parse_quickly
from deployments.strict_json.scalars import DEEPEST
from deployments.strict_json.sliced import MOST_CONTAINERS, MOST_VALUES, parse_in_slices, parse_window
from deployments.strict_json.window import Window

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
# What is nearly JSON: pieces of it in any order, and single bytes that break characters and escapes.
PIECES = st.sampled_from([*b'{}[]:,"\\ \t\n\ru0dD8eE+-.19', *b"\x00\x1f\x7f\x80\xbf\xc3\xe2\xed\xf0\xff\xef\xbb"]).map(
    lambda byte: bytes([byte])
) | st.sampled_from(
    [b"true", b"null", b"NaN", b"1e400", b'"a"', b'"a":', b"\\ud83d", b"\\ude00", b"\xf0\x9f\x98\x80", b'"\\\\"']
)


def sliced_value(data: bytes) -> Any:
    slices = parse_in_slices(data)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value


def value_of_parts(parts: list[bytes]) -> Any:
    reading = parse_window(Window(parts))
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in parts of these sizes, again and again."""
    parts, at = list[bytes](), 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return parts
        parts.append(data[at : at + size])
        at += size
    raise AssertionError


AHEAD = 8192  # more than any token takes


@given(
    st.lists(VALUES | TEXTS.map(lambda text: text * 300), min_size=1),
    st.booleans(),
    st.lists(st.integers(1, 2000), min_size=1, max_size=5),
    st.sampled_from([256, 4000]),
)
def test_a_body_that_came_in_parts_is_read_as_the_whole(
    values: list[Any], ascii: bool, sizes: list[int], slice_bytes: int
) -> None:
    value = values * (20_000 // len(json.dumps(values)) + 2)
    data = json.dumps(value, ensure_ascii=ascii, indent=1).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(texts, "SLICE", slice_bytes)
        patched.setattr(window, "AHEAD", AHEAD)
        assert same(value_of_parts(cut(data, sizes)), value)
        for wrong in (data[:-1], data + b" 7"):
            with pytest.raises(ValueError, match=r"at byte \d+$") as of_parts:
                value_of_parts(cut(wrong, sizes))
            with pytest.raises(ValueError, match=re.escape(str(of_parts.value))):
                sliced_value(wrong)


def test_what_was_read_of_a_body_is_let_go() -> None:
    parts = [b'{"a":"'] + [b"x" * 65_536 for _ in range(200)] + [b'"}']
    reading = Window(parts)
    parts.clear()
    slices = parse_window(reading)
    for _ in range(50):
        next(slices)
    assert len(reading._parts) < 110
    assert len(reading.data) <= 3 * window.AHEAD


def result(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except ValueError:
        return ValueError


@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([13, 16, 1000]))
def test_what_is_json_is_read_as_it_was_written(value: Any, ascii: bool, indent: int | None, slice_bytes: int) -> None:
    data = json.dumps(value, ensure_ascii=ascii, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(texts, "SLICE", slice_bytes)
        assert same(sliced_value(data), value)
    assert same(parse_quickly(data), value)


def same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)  # the order of names too, and 1 is not 1.0


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=14).map(b"".join), st.sampled_from([13, 1000]))
@example(b'"\\ud83d\\ude00"', 13)
@example(b'"12345\\ud83d\\ude00"', 13)
@example(b'"123\\ud83d"', 13)
@example(b'"\\\\ud83d"', 13)
@example(b'"12\\\\\\u00e9"', 13)
@example(b'"123456\xc3\xa9"', 13)
@example(b'"\\u12"', 13)
@example(b"\xef\xbb\xbf[]", 13)
@example(b"[] \xef\xbb\xbf", 13)
@example(b"1_0", 13)
@example(b"[1,]", 13)
@example(b'{"a":1,}', 13)
@example(b"01", 13)
@example(b"-", 13)
@example(b"", 13)
def test_what_one_refuses_the_other_refuses_too(data: bytes, slice_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(texts, "SLICE", slice_bytes)
        mine = result(sliced_value, data)
    assert mine == result(parse_quickly, data)
    if mine is not ValueError:  # all that is taken is JSON for others too
        assert json.loads(data.decode("utf-8-sig")) == mine


REFUSED = {
    "a name twice": b'{"a":1,"b":{"c":1,"c":2}}',
    "a name twice by an escape": b'{"a":1,"\\u0061":2}',
    "a number without end": b"[" + b"9" * 5000 + b"]",
    "a number that no double holds": b"[1e400]",
    "an integer of more than 64 bits": b"[18446744073709551616]",
    "a negative one": b"[-9223372036854775809]",
    "no number": b"[NaN]",
    "infinity": b"[-Infinity]",
    "half of a surrogate pair": b'["\\ud800"]',
    "the other half": b'["\\udc00 x"]',
    "both in the wrong order": b'["\\udc00\\ud800"]',
    "half a pair as bytes": b'["\xed\xa0\x80"]',
    "a control character": b'["\x00"]',
    "two values": b"{} {}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32-be"),
    "too many levels": b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "a hundred thousand levels": b"[" * 100_000,
}


@pytest.mark.parametrize("parse", [parse_quickly, sliced_value])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_readers_would_take_differently_is_refused(parse: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(data)


@pytest.mark.parametrize("parse", [parse_quickly, sliced_value])
def test_the_largest_that_fits_is_taken(parse: Callable[[bytes], Any]) -> None:
    deep = b"[" * DEEPEST + b"]" * DEEPEST
    for data in (b"[18446744073709551615,-9223372036854775808,1.7e308,-0,5e-324]", deep, b'"' + b"x" * 300_000 + b'"'):
        assert parse(data) == json.loads(data)


def test_a_long_text_is_cut_at_no_character_and_no_escape() -> None:
    for unit in ("ж", "\U0001f600", "\\", '"', "\n", "x\U0001f600"):
        for ascii in (True, False):
            text = unit * (3 * texts.SLICE // 4) + "end"
            data = json.dumps({text[:10]: ["a", text]}, ensure_ascii=ascii).encode()
            assert sliced_value(data) == {text[:10]: ["a", text]}


def test_values_are_counted() -> None:
    most = b"[" + b"0," * (MOST_VALUES - 1) + b"0]"
    assert len(sliced_value(most)) == MOST_VALUES
    lists = b"[" + b"[]," * (MOST_CONTAINERS - 2) + b"[]]"
    assert len(sliced_value(lists)) == MOST_CONTAINERS - 1
    for data in (
        b"[" + b"0," * (MOST_VALUES + 1) + b"0]",
        b"[" + b"[]," * MOST_CONTAINERS + b"0]",
        b"[[" * 10 + b"[],[" * 10**6,
    ):
        with pytest.raises(ValueError, match=r"values|lists|levels"):
            sliced_value(data)


@pytest.mark.parametrize("sign", ["", "é", "ж", "\U0001f600"])
def test_the_memory_of_texts_is_bounded_whatever_signs_are_in_them(sign: str) -> None:
    """One sign decides for all of its text: 32 MB with one emoji took 128 MB."""
    for place in (0, 1000, 40_000):  # in a long slice, and in a short last one
        text = "x" * 40_000
        text = text[:place] + sign + text[place:]
        size = sys.getsizeof(text)
        data = json.dumps([text] * 4, ensure_ascii=False).encode()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(texts, "SLICE", 16 * 1024)
            patched.setattr(sliced, "MOST_TEXT", 4 * size + 100)
            assert sliced_value(data) == [text] * 4
            patched.setattr(sliced, "MOST_TEXT", 4 * size - 200)
            with pytest.raises(ValueError, match=r"too much memory"):
                sliced_value(data)


def test_what_is_quick_has_few_values_whatever_its_size() -> None:
    assert is_quick(b"," * 64 * 1024)
    assert is_quick(b'"' + b"x" * 1_000_000 + b'"')
    assert not is_quick(b"[" * 70_000)
    assert not is_quick(b" " * 2_000_000)


def test_a_slice_is_bounded_whatever_is_in_it() -> None:
    """No slice goes through more than some tokens, or so many bytes of a text."""
    for data in (b'"' + b"\\n" * 10**6 + b'"', b"[" + b" " * 10**6 + b"]", b"[" + b"0," * 10**5 + b"0]"):
        slices = sum(1 for _ in parse_in_slices(data))
        assert slices >= len(data) // max(texts.SLICE, sliced.TOKENS * 4096)
