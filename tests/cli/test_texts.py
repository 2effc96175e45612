"""Words, figures, spans of time and the waterfall, without a server."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployments.cli.server import times
from deployments.cli.server.options import operator_of, url_of
from deployments.cli.terminal import text, waterfall

NOW = datetime(2026, 11, 30, 11, 12, 43, tzinfo=UTC)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\nnext\x7f\ud800"


def test_no_sign_that_a_terminal_obeys_is_left() -> None:
    shown = text.clean(HOSTILE)
    assert shown.isprintable() or "\ufffd" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e\r\n\x7f\ud800")
    assert "gnp.exe next" in shown


def test_words_of_all_languages_and_columns_of_spaces_are_kept() -> None:
    told = "  Überlast: 混雑, ошибка [red]  x"
    assert text.clean(told) == told


def test_json_for_a_terminal_means_the_same() -> None:
    data = {"a": HOSTILE, "b": "emoji 😀 and \U000e0001", "c": 1.5}
    body = json.dumps(data, ensure_ascii=False)
    shown = text.harmless_json(body)
    assert json.loads(shown) == data
    assert not set(shown) & set("\x1b\x07\x9b\u202e\x7f\ud800\U000e0001")


@pytest.mark.parametrize(("value", "shown"), [(0, "$0.00"), (None, "unknown"), (1234.5, "$1,234.50"),
    (0.0123, "$0.0123"), (0.001347, "$0.001347"), (0.0000001, "$1e-07"), (-2.5, "$-2.50")])  # fmt: skip
def test_small_sums_keep_their_digits(value: float | None, shown: str) -> None:
    assert text.money(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0, "0 s"), (43.1, "43 s"), (60, "1 min"),
    (5400, "1 h 30 min"), (90061, "1 d 1 h"), (59.9, "1 min")])  # fmt: skip
def test_spans_have_two_units_at_most(value: float | None, shown: str) -> None:
    assert text.seconds(value) == shown


def test_an_instant_beyond_the_calendar_is_a_figure() -> None:
    assert text.instant(1e18) == "1,000,000,000,000,000,000"
    assert text.instant(0) == "1970-01-01 00:00:00"


def test_a_sparkline_shows_nothing_as_nothing() -> None:
    assert text.sparkline([0, 1, 8]) == ".▂█"
    assert text.sparkline([]) == ""
    assert text.sparkline([0, 0]) == ".."


@pytest.mark.parametrize(("told", "sent"), [("7d", "2026-11-23"), ("12h", "2026-11-29T23:12:43Z"),
    ("45s", "2026-11-30T11:11:58Z"), ("2026-11-01", "2026-11-01"),
    (" 2026-11-01T09:30+01:00 ", "2026-11-01T09:30+01:00")])  # fmt: skip
def test_whole_days_go_back_to_midnight_and_the_rest_to_the_second(told: str, sent: str) -> None:
    assert times.instant(told, NOW) == sent


@pytest.mark.parametrize("told", ["", "yesterday", "7w", "-1d", "2026-13-01"])
def test_what_is_no_instant_is_a_sentence(told: str) -> None:
    with pytest.raises(ValueError, match="is no instant: write"):
        times.instant(told, NOW)


@pytest.mark.parametrize(
    ("told", "ms"), [("800", 800), ("800ms", 800), ("1.5s", 1500), ("2m", 120_000), ("1H", 3_600_000)]
)
def test_times_of_answers_are_milliseconds_by_themselves(told: str, ms: float) -> None:
    assert times.milliseconds(told) == ms


@pytest.mark.parametrize("told", ["", "fast", "-1", "nan", "inf", "1e400", "ms"])
def test_what_is_no_time_is_a_sentence(told: str) -> None:
    with pytest.raises(ValueError, match="is no time: write"):
        times.milliseconds(told)


def test_a_span_is_a_number_and_a_unit() -> None:
    assert times.span("30m") == timedelta(minutes=30)
    with pytest.raises(ValueError, match="is no span of time"):
        times.span("30")


@pytest.mark.parametrize(("told", "url"), [("http://h", "http://h"), ("https://h:8443/llm/", "https://h:8443/llm"),
    ("http://[::1]:8000/v1", "http://[::1]:8000"), (" http://h/llm/v1/ ", "http://h/llm")])  # fmt: skip
def test_a_url_may_have_a_path_and_openais_end(told: str, url: str) -> None:
    assert url_of(told) == url


def test_an_operator_without_a_name_is_a_user_at_a_host() -> None:
    assert "@" in operator_of(None)
    assert operator_of("Jürgen") == "Jürgen"


def asked(at: float, ms: float, outcome: str = "ok", **more: Any) -> dict[str, Any]:
    return {"provider": "p", "model": "m", "outcome": outcome, "at_ms": at, "ms": ms, **more}


def test_the_waterfall_has_each_part_where_its_time_is() -> None:
    first = asked(0, 400, "server_error", upstream_connect_ms=100)
    second = asked(400, 600, first_token_ms=300)
    scale = waterfall.scale_of([first, second], 1000)
    assert scale == 1000
    assert waterfall.bar(first, scale, 10) == "~---x"
    assert waterfall.bar(second, scale, 10) == "    ---==>"


def test_what_was_skipped_is_a_moment_and_what_was_not_reached_is_nothing() -> None:
    assert waterfall.bar({"outcome": "skipped: open", "at_ms": 500.0}, 1000, 10) == "     |"
    assert waterfall.bar({"outcome": "not reached"}, 1000, 10) == ""


@pytest.mark.parametrize("took", [None, 0.0, 10.0])
def test_no_bar_leaves_its_width(took: float | None) -> None:
    """An attempt may outlast its request: a second leg, or an answer whose client has left."""
    candidates: list[Any] = [asked(0, 0), asked(-5, 5000, "cancelled", first_token_ms=9000), asked(9000, 1e9)]
    scale = waterfall.scale_of(candidates, took)
    assert all(0 < len(waterfall.bar(each, scale)) <= waterfall.WIDTH for each in candidates)


def test_an_open_request_without_candidates_has_a_scale() -> None:
    assert waterfall.scale_of([], None) == 1.0
