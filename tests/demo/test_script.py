"""The script breaks what it says, and nothing else."""

from itertools import islice, pairwise

from tests.demo.script import CLOUDS, CUT, SCRIPT, WELL, Phase, at_speed, behaviours, rounds
from tests.fakes.server import Behaviour, status


def test_providers_that_a_phase_does_not_break_answer() -> None:
    turns = behaviours(Phase("openai answers 500", 10, {"openai": status(500)}))
    assert turns == {"openai": [status(500)], "google_genai": [WELL], "anthropic": [WELL]}


def test_one_in_three_answers_is_cut_for_as_long_as_a_phase_lasts() -> None:
    turns = behaviours(Phase("anthropic cuts", 10, {"anthropic": CUT}, every=3))
    assert turns["openai"] == [WELL]
    assert turns["anthropic"][:6] == [CUT, WELL, WELL, CUT, WELL, WELL]
    assert len(turns["anthropic"]) > 10 * 20
    assert turns["anthropic"][-1] == WELL  # what is asked after that is not broken


def test_the_script_takes_about_two_minutes() -> None:
    assert 100 <= sum(phase.seconds for phase in SCRIPT) <= 140
    assert all(8 <= phase.seconds <= 20 for phase in SCRIPT)


def test_the_script_has_each_kind_of_outage_and_one_picture() -> None:
    kinds = {behaviour.kind for phase in SCRIPT for behaviour in phase.broken.values()}
    assert kinds == {"status", "hang", "cut"}
    assert any(phase.broken.keys() == set(CLOUDS) for phase in SCRIPT)
    assert [phase.name for phase in SCRIPT if phase.pictured] == ["openai answers 500"]


def test_each_outage_is_followed_by_a_phase_in_which_the_same_providers_answer() -> None:
    for phase, after in pairwise(SCRIPT):
        if phase.broken:
            assert not after.broken
            assert set(after.watched) == set(phase.watched) == phase.broken.keys()


def test_speed_makes_phases_shorter_and_leaves_what_breaks_as_it_is() -> None:
    fast = at_speed([Phase("a", 12, {"openai": Behaviour("hang")})], 4)
    assert fast == [Phase("a", 3, {"openai": Behaviour("hang")})]


def test_a_script_goes_round_and_round_unless_it_is_played_once() -> None:
    script = [Phase("a", 1), Phase("b", 1)]
    assert [phase.name for phase in rounds(script, once=True)] == ["a", "b"]
    assert [phase.name for phase in islice(rounds(script, once=False), 5)] == ["a", "b", "a", "b", "a"]
