"""When do a target's streams count as fallen silent together?"""

import pytest

from deployments.breaker_client.stalls import BEAT, LAG, LEAST, StallDetector


def listening(*pauses: float) -> StallDetector:
    """A silence that has heard streams make these pauses, and then frames every hundredth of a second."""
    silence = StallDetector()
    for pause in (*pauses, *[0.01] * 500):
        silence.wait("t", "past", 0.0)
        silence.heard("t", "past", pause)
    return silence


def test_target_that_nobody_listens_to_is_not_quiet() -> None:
    assert not StallDetector().quiet("t", 100.0)


def test_one_silent_stream_is_its_own_affair() -> None:
    silence = listening()
    silence.wait("t", 1, 0.0)
    assert not silence.quiet("t", 100.0)


def test_two_streams_that_are_silent_for_far_longer_than_usual_make_a_target_quiet() -> None:
    silence = listening()
    silence.wait("t", 1, 0.0)
    silence.wait("t", 2, 0.1)
    assert not silence.quiet("t", 0.22)
    assert silence.quiet("t", 0.24)


def test_it_is_itself_again_once_they_speak() -> None:
    silence = listening()
    silence.wait("t", 1, 0.0)
    silence.wait("t", 2, 0.0)
    silence.heard("t", 1, 1.0)
    silence.wait("t", 1, 1.0)
    assert not silence.quiet("t", 1.05)


def test_few_silent_ones_among_many_that_flow_say_nothing() -> None:
    silence = listening()
    for stream in (1, 2, 3):
        silence.wait("t", stream, 0.0)
    for stream in range(4, 10):
        silence.wait("t", stream, 9.95)
    assert not silence.quiet("t", 10.0)


def test_streams_that_pause_by_habit_are_given_the_time() -> None:
    silence = StallDetector()
    silence.wait("t", 0, 0.0)
    silence.heard("t", 0, 2.0)
    silence.wait("t", 1, 10.0)
    silence.wait("t", 2, 10.0)
    assert not silence.quiet("t", 15.9)
    assert silence.quiet("t", 16.1)


def test_before_any_pause_was_seen_a_second_is_given() -> None:
    silence = StallDetector()
    silence.wait("t", 1, 0.0)
    silence.wait("t", 2, 0.0)
    assert not silence.quiet("t", 0.9)
    assert silence.quiet("t", 1.1)


def test_stream_that_was_given_up_is_no_measure_of_the_usual_pause() -> None:
    silence = listening()
    silence.wait("t", 1, 0.0)
    silence.gone("t", 1)
    silence.gone("t", 1)
    silence.wait("t", 2, 20.0)
    silence.wait("t", 3, 20.0)
    assert silence.quiet("t", 20.4)


def test_one_half_is_not_most() -> None:
    s = listening()
    for i in (1, 2):
        s.wait("t", i, 0.0)
    for i in (3, 4):
        s.wait("t", i, 0.99)
    assert not s.quiet("t", 1.0)


def test_what_we_did_not_listen_to_says_nothing() -> None:
    silence = listening()
    silence.beat(0.0)
    silence.wait("t", 1, 0.0)
    silence.wait("t", 2, 0.0)
    assert not silence.quiet("t", 1.0), "no beat for a second"
    silence.beat(1.0)
    assert not silence.quiet("t", 1.2), "the silences begin anew"
    silence.beat(1.2)
    assert silence.quiet("t", 1.4)


@pytest.mark.parametrize("usual", [0.01, 0.05, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("stall", [0.05, 0.1, 0.15, 0.2, LAG])
def test_a_stall_that_no_beat_tells_of_makes_nobody_quiet(usual: float, stall: float) -> None:
    """It began in the last instant of a usual pause, just after a beat, so the frames that came are unread."""
    silence = StallDetector()
    silence.wait("t", 0, 0.0)
    silence.heard("t", 0, usual)
    for stream in (1, 2):
        silence.wait("t", stream, 10.0)
    silence.beat(10.0 + usual)
    assert not silence.quiet("t", 10.0 + usual + stall)


def test_one_gap_of_ours_is_never_enough_for_a_silence() -> None:
    assert LEAST > BEAT


@pytest.mark.parametrize("gap", [0.15, 0.2, 0.24, 1.0, 15.0])
def test_what_we_did_not_hear_is_no_silence(gap: float) -> None:
    """Before the beat that is late as well as after it."""
    silence = listening()
    for stream in (1, 2):
        silence.wait("t", stream, 0.0)
    silence.beat(0.0)
    assert not silence.quiet("t", gap)
    silence.beat(gap)
    assert not silence.quiet("t", gap)
    for tenth in range(1, 6):
        silence.beat(gap + tenth / 10)
    assert silence.quiet("t", gap + 0.5), "but then they are silent still"


def test_it_stays_quiet_while_its_silent_streams_end_one_by_one() -> None:
    silence = listening()
    for stream in (1, 2, 3):
        silence.wait("t", stream, 0.0)
    assert silence.quiet("t", 1.0)
    for stream in (1, 2, 3):
        silence.gone("t", stream)
        assert silence.quiet("t", 1.0 + stream / 10)
    assert silence.quiet("t", 2.9)
    assert not silence.quiet("t", 3.1)


def test_whoever_speaks_ends_it_at_once() -> None:
    silence = listening()
    for stream in (1, 2):
        silence.wait("t", stream, 0.0)
    assert silence.quiet("t", 1.0)
    silence.heard("t", 1, 1.1)
    silence.gone("t", 2)
    assert not silence.quiet("t", 1.2)


@pytest.mark.parametrize("beats", [(), (1.0,)])
def test_frames_that_come_while_we_do_not_listen_make_no_usual_pause_shorter(beats: tuple[float, ...]) -> None:
    """We read them all at once, before our own next beat or after it."""
    silence = learned(0.1, 100)
    for now in beats:
        silence.beat(10 + now)
    for _ in range(1000):
        silence.wait("t", 0, 11.0)
        silence.heard("t", 0, 11.0)
    for tenth in range(110, 130):
        silence.beat(tenth / 10)
    silence.wait("t", 1, 12.9)
    silence.wait("t", 2, 12.9)
    silence.beat(13.0)
    silence.beat(13.1)
    assert not silence.quiet("t", 13.15)
    silence.beat(13.2)
    assert silence.quiet("t", 13.25)


def learned(pause: float, number: int) -> StallDetector:
    """Return what has heard a stream's frames at equal distances, from the instant 0 on."""
    silence = StallDetector()
    for frame in range(number):
        silence.beat(frame * pause)
        silence.wait("t", 0, frame * pause)
        silence.heard("t", 0, (frame + 1) * pause)
    return silence


def test_a_few_pauses_are_no_measure_of_the_usual_ones() -> None:
    """The first two frames of a stream often come together."""
    silence = learned(0.0, 3)
    silence.wait("t", 1, 0.0)
    silence.wait("t", 2, 0.0)
    for tenth in range(12):
        silence.beat(tenth / 10)
        assert silence.quiet("t", tenth / 10) is (tenth >= 10)


def test_frames_that_come_without_a_pause_otherwise_do() -> None:
    silence = StallDetector()
    silence.wait("t", 0, 0.0)
    silence.heard("t", 0, 2.0)
    for _ in range(1000):
        silence.wait("t", 0, 3.0)
        silence.heard("t", 0, 3.0)
    silence.wait("t", 1, 4.0)
    silence.wait("t", 2, 4.0)
    assert silence.quiet("t", 4.2)
