"""A long text that is filled piece by piece is the text that the interpreter would have joined."""

import sys
import tracemalloc
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments import long_text
from deployments.long_text import highest_character, join_in_slices

WIDTHS = {"x": 127, "\xe9": 255, "\u0436": 65_535, "\U0001f600": 1_114_111}
PIECE = 64 * 1024


def joined(pieces: list[str]) -> tuple[str, int]:
    """Return the text, and in how many slices it was made."""
    slices, count = join_in_slices(deque(pieces)), 0
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value, count
        count += 1


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=9), min_size=2))
def test_pieces_of_any_characters_become_the_same_text(pieces: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(long_text, "JOINED_AT_ONCE", 0)
        text, _ = joined(pieces)
    whole = "".join(pieces)
    assert (text, hash(text), sys.getsizeof(text)) == (whole, hash(whole), sys.getsizeof(whole))
    assert {text: 1}[whole] == 1


@pytest.mark.parametrize("widest", WIDTHS)
def test_the_widest_character_decides_wherever_it_is(widest: str) -> None:
    for at in (0, 7, 15):
        pieces = ["x" * PIECE] * 15
        pieces.insert(at, "x" * (PIECE - 1) + widest)
        text, slices = joined(pieces)
        whole = "".join(pieces)
        assert (text == whole, sys.getsizeof(text)) == (True, sys.getsizeof(whole))
        assert slices == len(pieces), "no step copies more than a piece"


@pytest.mark.parametrize(("character", "highest"), WIDTHS.items())
def test_a_texts_width_is_told_without_looking_at_each_character(character: str, highest: int) -> None:
    for size in (1, 1023, 1024, 100_000):
        assert highest_character(character * size) == highest
        assert highest_character("x" * (size - 1) + character) == highest


def test_a_text_that_is_given_up_or_done_with_leaves_nothing() -> None:
    pieces = ["x" * PIECE for _ in range(64)]
    for slices in (3, 65):
        tracemalloc.start()
        making = join_in_slices(deque(pieces))
        for _ in range(slices):
            next(making, None)
        making.close()
        left, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most > 60 * PIECE, "it was made"
        assert left < PIECE


def test_a_short_text_is_joined_at_once() -> None:
    assert joined(["a", "\xe9", ""]) == ("a\xe9", 0)
    assert joined([]) == ("", 0)
