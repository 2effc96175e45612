"""The frame of a journal's line: the next line is found, whatever lies before it."""

import pytest

from actors.ledger.journal.lines import BEGINNING, end_of_lines, open_lines, seal

ONE, TWO = seal(b'{"at":1,"n":1}'), seal(b'{"at":2,"n":2}')
LINES = [ONE[:-1], TWO[:-1]]
BARE = b'{"at":3,"n":3}\n'


def test_whole_lines_are_opened_and_none_is_damaged() -> None:
    opened = open_lines(ONE + TWO)
    assert (opened.lines, opened.bare, opened.damaged) == (LINES, [], 0)
    assert open_lines(b"").damaged == 0


@pytest.mark.parametrize(
    ("data", "damaged"),
    [
        (b"junk\n" + ONE + TWO, 1),
        (b"junk" + ONE + TWO, 1),
        (ONE + b"\x00" * 9 + TWO, 1),
        (ONE[:-1] + TWO, 0),
        (ONE[:-1] + b"X" + TWO, 1),
        (ONE[:-5] + ONE + TWO, 1),
        (BEGINNING + ONE + TWO, 1),
        (ONE + TWO[:-1], 0),
        (ONE + TWO + b'{"at":3,"crc":"0', 1),
        (ONE + b"\n" + TWO, 1),
        (ONE + BARE + TWO, 1),
    ],
)
def test_what_lies_between_lines_is_passed_over_and_counted(data: bytes, damaged: int) -> None:
    opened = open_lines(data)
    assert (opened.lines, opened.damaged) == (LINES, damaged)


def test_lines_without_a_checksum_are_taken_from_a_writer_that_has_none() -> None:
    opened = open_lines(BARE + BARE)
    assert (opened.bare, opened.damaged) == ([BARE[:-1]] * 2, 0)


@pytest.mark.parametrize("junk", range(80, 110))
def test_a_window_without_a_line_end_is_taken_up_to_where_a_line_may_begin(junk: int) -> None:
    """The line after the junk begins in one window of 100 bytes, at its border, or in the next."""
    data, got, offset = b"x" * junk + ONE + TWO, [], 0
    while window := data[offset : offset + 100]:
        end = end_of_lines(window, more=offset + len(window) < len(data))
        got += open_lines(window[:end]).lines
        offset += end
    assert got == LINES


def test_what_is_last_is_taken_whole() -> None:
    assert end_of_lines(b"torn", more=False) == 4
    assert end_of_lines(b"x\ntorn", more=False) == 2
