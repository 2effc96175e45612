"""What a client saw is named for what it was, and counted."""

from collections import Counter

import pytest

from tests.demo.seen import (
    Circuit,
    Seen,
    Tally,
    counted,
    end_of_answer,
    end_of_refusal,
    end_of_stream,
    example_of,
    note,
)

FIRST = {"chat": "openai", "write": "anthropic"}
WELL = Seen("chat", "whole", 0.5, "openai", 1, request_id="well")
OVER = Seen("chat", "whole", 0.7, "google_genai", 2, request_id="over")
SEAM = Seen("write", "whole", 0.9, "anthropic", 2, went_on=True, request_id="seam")
LOCAL = Seen("write", "whole", 3.0, "local", 1, request_id="local")
TYPED = Seen("write", "typed", 9.0, "anthropic", 1, request_id="typed", why="stream_interrupted")
BUDGET = Seen("chat", "budget", why="insufficient_quota", request_id="budget")
ERROR = Seen("chat", "error", why="503 no_provider_available", request_id="error")
LOST = Seen("chat", "lost", why="ReadTimeout")
EVERY = [WELL, OVER, SEAM, LOCAL, TYPED, BUDGET, ERROR, LOST]


def test_each_request_is_counted_once_and_by_how_it_ended() -> None:
    tally = counted(EVERY, FIRST)
    assert tally.requests == sum(tally.ends.values()) == len(EVERY)
    assert tally.ends == Counter(whole=4, typed=1, budget=1, error=1, lost=1)
    assert (tally.elsewhere, tally.local, tally.went_on) == (2, 1, 1)
    assert tally.why == {"503 no_provider_available": 1, "ReadTimeout": 1}


def test_the_slowest_is_that_of_whole_answers() -> None:
    assert counted(EVERY, FIRST).slowest == 3.0
    assert counted([TYPED, LOST], FIRST).slowest == 0.0


@pytest.mark.parametrize("at", range(len(EVERY) + 1))
def test_the_sum_of_two_tallies_is_the_tally_of_all_their_requests(at: int) -> None:
    assert counted(EVERY[:at], FIRST) + counted(EVERY[at:], FIRST) == counted(EVERY, FIRST)


@pytest.mark.parametrize(("seen", "is_good"), [*[(s, True) for s in EVERY[:6]], (ERROR, False), (LOST, False)])
def test_only_errors_and_what_was_lost_spoil_a_tally(seen: Seen, is_good: bool) -> None:
    assert counted([seen, WELL], FIRST).is_good is is_good
    assert (Tally() + counted([seen], FIRST)).is_good is is_good


@pytest.mark.parametrize(
    ("status", "code", "end"),
    [
        (402, "insufficient_quota", "budget"),
        (402, None, "lost"),
        (429, "rate_limit_exceeded", "error"),
        (503, "no_provider_available", "error"),
        (502, None, "lost"),
    ],
)
def test_an_answer_that_is_an_error_is_typed_only_if_it_has_a_code(status: int, code: str | None, end: str) -> None:
    assert end_of_refusal(status, code)[0] == end


def test_a_stream_that_breaks_off_is_typed_only_if_its_error_has_a_code() -> None:
    assert end_of_stream("stream_interrupted") == ("typed", "stream_interrupted")
    assert end_of_stream(None)[0] == "lost"


@pytest.mark.parametrize(
    ("text", "finish", "expected", "end"),
    [
        ("Stone in the sea.", "stop", "Stone in the sea.", "whole"),
        ("Anything.", "length", None, "whole"),
        ("Stone in", "stop", "Stone in the sea.", "lost"),
        ("Stone in the the sea.", "stop", "Stone in the sea.", "lost"),
        ("Stone in the sea.", None, "Stone in the sea.", "lost"),
        ("", "stop", None, "lost"),
    ],
)
def test_an_answer_is_whole_only_with_an_end_and_every_word(
    text: str, finish: str | None, expected: str | None, end: str
) -> None:
    assert end_of_answer(text, finish, expected)[0] == end


@pytest.mark.parametrize(
    ("requests", "shown"),
    [
        (EVERY, ERROR),  # what was lost has no answer, and so no id
        ([WELL, OVER, TYPED, SEAM], SEAM),
        ([WELL, OVER, TYPED], TYPED),
        ([WELL, LOCAL, OVER], OVER),
        ([WELL, LOCAL], LOCAL),
        ([WELL, BUDGET], None),
        ([], None),
    ],
)
def test_the_request_that_is_shown_is_the_one_most_worth_a_look(requests: list[Seen], shown: Seen | None) -> None:
    assert example_of(requests, FIRST) == shown


def test_a_circuits_words_are_those_of_the_console_each_time_they_change() -> None:
    circuits = {"openai": Circuit()}
    for word, retry_in in (("healthy", None), ("open", 4.0), ("open", 2.0), ("probing", 0.0), ("open", 8.0)):
        others = {"name": "local", "word": "unused", "retry_in_seconds": 7.0}
        note(circuits, {"tiers": [{"name": "openai", "word": word, "retry_in_seconds": retry_in}, others]})
    assert circuits == {"openai": Circuit(["healthy", "open", "probing", "open"], 8.0)}
