"""How long a target's answers usually take, as one ingress remembers it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.breaker_client.response_times import FADING, TARGETS, ResponseTimes

seconds = st.floats(1e-3, 1e4)


def test_of_a_target_that_never_answered_nothing_is_known() -> None:
    times = ResponseTimes()
    assert (times.usual("t", "whole"), times.needed("t", "whole")) == (None, 0.0)


def test_a_call_that_was_cut_is_no_answer_but_it_would_have_needed_longer() -> None:
    times = ResponseTimes()
    times.cut("t", "whole", 8.0)
    assert (times.usual("t", "whole"), times.needed("t", "whole")) == (None, 8.0)
    times.note("t", "whole", 3.0)
    assert (times.usual("t", "whole"), times.needed("t", "whole")) == (3.0, pytest.approx(8.0 * FADING))


def test_a_shorter_cut_says_nothing_of_what_is_needed() -> None:
    times = ResponseTimes()
    times.note("t", "whole", 5.0)
    times.cut("t", "whole", 0.5)
    assert (times.usual("t", "whole"), times.needed("t", "whole")) == (5.0, 5.0)


def test_whole_answers_and_streams_are_measured_apart_and_so_is_each_target() -> None:
    times = ResponseTimes()
    times.note("t", "whole", 9.0)
    times.note("t", "stream", 1.0)
    times.note("u", "stream", 2.0)
    assert [times.usual(*key) for key in (("t", "whole"), ("t", "stream"), ("u", "stream"), ("u", "whole"))] == [
        9.0,
        1.0,
        2.0,
        None,
    ]


def test_one_slow_answer_is_forgotten_within_some_hundred_others() -> None:
    times = ResponseTimes()
    times.note("t", "whole", 30.0)
    for _ in range(50):
        times.note("t", "whole", 1.0)
    assert 5.0 < (times.usual("t", "whole") or 0.0) < 30.0
    for _ in range(150):
        times.note("t", "whole", 1.0)
    assert times.usual("t", "whole") == 1.0


@given(st.lists(st.tuples(st.booleans(), seconds), min_size=1, max_size=40))
def test_what_is_remembered_lies_between_the_newest_and_the_slowest(history: list[tuple[bool, float]]) -> None:
    times = ResponseTimes()
    for cut, took in history:
        (times.cut if cut else times.note)("t", "whole", took)
    answers = [took for cut, took in history if not cut]
    usual, needed = times.usual("t", "whole"), times.needed("t", "whole")
    assert (usual is None) is (not answers)
    if usual is not None:
        assert answers[-1] <= usual <= max(answers)
        assert usual <= needed
    assert needed <= max(took for _, took in history)
    if not answers:
        assert needed == max(took for _, took in history), "it may need as long as it was ever given"


def test_one_that_is_known_to_be_quick_gets_no_more_time_by_hanging() -> None:
    times = ResponseTimes()
    times.note("t", "whole", 1.0)
    times.cut("t", "whole", 13.0)
    assert times.needed("t", "whole") == 1.0


@given(st.lists(seconds, min_size=1, max_size=20), seconds)
def test_an_answer_that_was_slower_makes_nothing_faster(before: list[float], took: float) -> None:
    fast, slow = ResponseTimes(), ResponseTimes()
    for each in before:
        fast.note("t", "whole", each)
        slow.note("t", "whole", each)
    fast.note("t", "whole", took)
    slow.note("t", "whole", 2 * took)
    assert (fast.usual("t", "whole") or 0.0) <= (slow.usual("t", "whole") or 0.0)


@pytest.mark.parametrize("verb", ["note", "cut"])
def test_models_without_end_are_bounded_and_the_one_that_was_used_longest_ago_is_forgotten_first(verb: str) -> None:
    times = ResponseTimes()
    times.note("openai/gpt", "whole", 4.0)
    for number in range(3 * TARGETS):
        getattr(times, verb)(f"openai/made-up-{number}", "whole", 1.0)
        if number % 100 == 0:
            times.note("openai/gpt", "whole", 4.0)
    assert len(times._times) == TARGETS
    assert times.usual("openai/gpt", "whole") == 4.0
    assert times.needed("openai/made-up-0", "whole") == 0.0
