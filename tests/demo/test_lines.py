"""The lines say what was counted, and nothing better."""

import re

from tests.demo import lines
from tests.demo.script import SCRIPT, Phase
from tests.demo.seen import Circuit, Seen, counted
from tests.readme import blocks

FIRST = {"chat": "openai"}
WELL = Seen("chat", "whole", 0.5, "openai", 1)
OVER = Seen("chat", "whole", 0.214, "google_genai", 2)


def said(*requests: Seen) -> str:
    return lines.result(counted(requests, FIRST))


def test_an_outage_that_nobody_noticed_is_one_short_line() -> None:
    assert (
        said(*[WELL] * 31, *[OVER] * 12) == "43 requests: 43 answered, 12 by another provider, slowest 0.50 s; 0 errors"
    )


def test_a_cut_stream_that_went_on_and_one_that_did_not_are_told_apart() -> None:
    seam = Seen("chat", "whole", 0.9, "openai", 2, went_on=True)
    typed = Seen("chat", "typed", 0.3, "openai", 1, why="stream_interrupted")
    assert said(seam, typed, typed) == (
        "3 requests: 1 answered, 1 went on whole elsewhere, 2 ended with a typed error, slowest 0.90 s; 0 errors"
    )


def test_what_was_lost_is_shouted_with_its_reasons() -> None:
    lost, error = Seen("chat", "lost", why="ReadTimeout"), Seen("chat", "error", why="503 no_provider_available")
    assert said(lost) == "1 request: 0 answered; 0 ERRORS, 1 LOST (1 x ReadTimeout)"
    assert said(WELL, lost, lost, error).endswith("; 1 ERROR, 2 LOST (2 x ReadTimeout, 1 x 503 no_provider_available)")


def test_a_phase_without_a_request_does_not_look_like_a_good_one() -> None:
    assert said() == "0 requests: 0 answered; 0 errors"


def test_a_budget_that_is_used_up_is_no_error_and_is_told() -> None:
    assert "1 answered, 1 refused by a budget" in said(WELL, Seen("chat", "budget", why="insufficient_quota"))


def test_all_results_of_the_script_begin_in_one_column() -> None:
    assert len({len(lines.heading(75, phase)) for phase in SCRIPT}) == 1


def test_a_heading_has_the_minutes_and_seconds_since_the_start() -> None:
    assert lines.heading(75.9, Phase("all is well", 8)).startswith(" 1:15 all is well ....")


def test_the_words_of_a_circuit_stand_below_with_the_time_until_it_is_tried() -> None:
    watched = {"openai": Circuit(["healthy", "open"], 4.2), "local": Circuit(["open"], 0.3), "gone": Circuit()}
    assert lines.circuits(watched) == [
        "      circuit of openai: healthy > open, tried again in 4 s",
        "      circuit of local: open",
    ]


def test_the_first_lines_lead_to_the_console_and_each_outage_to_one_request() -> None:
    first = lines.opening("http://127.0.0.1:8000", "demo")
    assert first[0].endswith(" http://127.0.0.1:8000/")
    assert " http://127.0.0.1:8000/#/requests/ID " in first[1]
    seen = Seen("chat", "whole", request_id="abc-1")
    assert lines.example("http://127.0.0.1:8000", seen) == ["      one of them: http://127.0.0.1:8000/#/requests/abc-1"]
    assert lines.example("http://127.0.0.1:8000", None) == []


def test_the_page_shows_a_round_of_this_script_in_which_nothing_was_lost() -> None:
    [shown] = blocks("text", "docs/index.md")
    told = re.findall(r"^ ?\d+:\d\d (.+?) \.+ \d+ requests: .*; 0 errors$", shown, re.MULTILINE)
    assert told == [phase.name for phase in SCRIPT]
