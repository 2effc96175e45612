"""Lines of a journal: each whole one becomes a record, and each that is none is counted."""

import json
from typing import Any

import pytest

from actors.ledger.journal.lines import seal
from actors.ledger.rows import (
    LARGEST,
    LONGEST_TEXT,
    LONGEST_TRAIL,
    SETTLED,
    AttemptRow,
    AttemptTold,
    RequestRow,
    merged,
)
from actors.ledger.single_writer import reading
from actors.ledger.single_writer.reading import parse

NOON = 1_790_000_000_000
REQUEST = {"request_id": "r1", "owner": "o", "began_at": NOON, "tenant": "acme"}
ATTEMPT = {"number": 1, "provider": "openai", "model": "gpt", "began_at": NOON}


def written(request: Any = None, attempt: Any = None, **more: Any) -> bytes:
    """A line; `more` is said of the attempt."""
    whole = {"at": NOON, "request": REQUEST | (request or {}), "attempt": ATTEMPT | (attempt or {}) | more}
    return json.dumps(whole).encode() + b"\n"


def test_an_attempt_has_its_requests_names_and_the_day_on_which_that_began() -> None:
    ((record,), wrong) = parse(written({"agent": "a"}, tenant="another", day="1970-01-01", ms=7, first_ms=None))
    assert not wrong
    assert record.request == RequestRow(**REQUEST, agent="a")
    shared = {"request_id": "r1", "owner": "o", "tenant": "acme", "agent": "a"}
    shared |= {"day": "2026-09-21", "asked_at": NOON}
    assert record.attempt == AttemptRow(**ATTEMPT, **shared, ms=7)


def test_an_attempt_behind_midnight_belongs_to_the_day_of_its_request() -> None:
    ((record,), _) = parse(written(began_at=NOON + 86_400_000))
    assert record.attempt is not None
    assert (record.attempt.day, record.attempt.asked_at) == ("2026-09-21", NOON)


@pytest.mark.parametrize("name", ["tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning", "cost"])
def test_a_figure_that_no_answer_can_have_is_cut_and_its_row_is_kept(name: str) -> None:
    ((record,), wrong) = parse(written({}, {name: 2**60}))
    assert (wrong, getattr(record.attempt, name)) == (0, 10_000 * 10**9 if name == "cost" else 2**31)


WRONG = {
    "no JSON": b"{}x",
    "nothing": b"",
    "no object": b"[]",
    "no request": b'{"attempt":null}',
    "a request that is a list": b'{"request":[1],"attempt":null}',
    "an attempt that is a list": written()[: written().index(b'"attempt"')] + b'"attempt":[1]}',
    "a text for a number": written(tokens_in="1"),
    "a number for a text": written({"tenant": 1}),
    "true for a number": written(tokens_in=True),
    "a number for true": written(content=1),
    "a fraction for a whole number": written(tokens_in=1.0),
    "nothing for a number": written(tokens_in=None),
    "a list for a text": written({"tenant": ["acme"]}),
    "a number that no store holds": written(number=LARGEST + 1),
    "a number of hundreds of bits": written(tokens_in=10**100),
    "infinity": written(ms=float("inf")),
    "no number": written(ms=float("nan")),
    "a beginning that no calendar has": written(began_at=LARGEST),
    "a request's beginning that no calendar has": written({"began_at": LARGEST}),
    "an end that no calendar has": written(ended_at=LARGEST),
    "no beginning": written()[:-2].replace(b'"began_at"', b'"begun_at"') + b"}",
}


@pytest.mark.parametrize("of", WRONG)
def test_a_wrong_line_is_counted_and_its_neighbours_are_read(of: str) -> None:
    good = written()
    records, wrong = parse(good + WRONG[of].rstrip(b"\n") + b"\n" + good)
    assert (len(records), wrong) == (2, 1)


def test_a_newer_line_that_is_wrong_hides_no_older_one() -> None:
    newer = written({"version": SETTLED, "state": "settled"}, version=SETTLED, state="settled", cost="much")
    records, wrong = parse(written() + written(version=1, tokens_out=3) + newer + written())
    assert wrong == 1
    (attempt,) = merged(r.attempt for r in records if r.attempt is not None)
    assert (attempt.version, attempt.state, attempt.tokens_out) == (1, "open", 3)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain", "plain"),
        ("", ""),
        ("n\x00ul", "nul"),
        ("half \ud800 a pair", "half ? a pair"),
        ("größer 😀", "größer 😀"),
        ("x" * 1000, "x" * LONGEST_TEXT),
        ("ü\x00" * 1000, "ü" * (LONGEST_TEXT // 2)),
    ],
)
def test_a_text_is_what_every_store_can_hold(said: str, kept: str) -> None:
    ((record,), wrong) = parse(written({"tenant": said, "trail": json.dumps([said])}, model=said))
    assert not wrong
    assert record.attempt is not None
    assert (record.request.tenant, record.attempt.tenant, record.attempt.model) == (kept, kept, kept)


def test_what_a_newer_version_writes_is_left_out() -> None:
    ((record,), wrong) = parse(written({"planet": {"name": "mars"}}, moons=[1, 2**70]))
    assert not wrong
    assert record.request == RequestRow(**REQUEST)


def test_a_line_of_an_earlier_version_has_no_times_and_a_later_one_has_them() -> None:
    ended = {"version": SETTLED, "state": "settled", "outcome": "ok"}
    ((earlier,), _) = parse(written(ended))
    assert (earlier.request.first_ms, earlier.request.added_ms, earlier.request.failed_over) == (None, None, 0)
    more = {"first_ms": 12, "added_ms": 0.5, "failed_over": 1}
    ((later,), wrong) = parse(written({**ended, **more}, hedge="beaten"))
    assert not wrong
    assert later.request == RequestRow(**REQUEST, **ended, **more)
    assert later.attempt is not None
    assert later.attempt.hedge == "beaten"
    ((beyond,), _) = parse(written({"failed_over": 7}))
    assert beyond.request.failed_over == 1


@pytest.mark.parametrize("trail", [None, 1, ["x"], "x" * 100_000])
def test_a_trail_that_is_none_costs_no_row(trail: Any) -> None:
    ((record,), wrong) = parse(written({"trail": trail}))
    assert not wrong
    assert record.request.trail is None


# Values of every sort for every field: some that a line may have there, and many that it may not.
_ANY: list[Any] = [None, True, False, 0, 1, 7, -1, 2**31, 2**31 + 1, LARGEST, LARGEST + 1, -LARGEST - 1, 10**14, 10**40]
_ANY += [SETTLED, NOON, 0.5, 1.0, 1e300, float("nan"), float("inf"), "", "ok", "n\x00ul", "half \ud800 a pair"]
_ANY += [
    "größer 😀",
    "\\u0000",
    "x" * LONGEST_TEXT,
    "ü" * (LONGEST_TEXT + 1),
    "x" * (LONGEST_TRAIL + 1),
    ["x"],
    {},
]
_OTHERS = ("planet", "tenant", "day", "asked_at")  # that only a request has, or no row


def _sealed(request: dict[str, Any], attempt: dict[str, Any] | None) -> bytes:
    told = None if attempt is None else ATTEMPT | attempt
    return seal(json.dumps({"at": NOON, "request": REQUEST | request, "attempt": told}).encode())


def _slowly(data: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_quickly", lambda _: None)
        return parse(data)


@pytest.mark.parametrize("name", [*RequestRow.__struct_fields__, *_OTHERS])
def test_the_quick_way_reads_each_field_of_a_request_as_the_slow_one_does(name: str) -> None:
    for value in _ANY:
        for told in (None, {}):
            assert parse(data := _sealed({name: value}, told)) == _slowly(data), value


@pytest.mark.parametrize("name", [*AttemptTold.__struct_fields__, *_OTHERS])
def test_the_quick_way_reads_each_field_of_an_attempt_as_the_slow_one_does(name: str) -> None:
    settled = _sealed({"version": SETTLED}, {"version": SETTLED})
    for value in _ANY:
        line = _sealed({"version": SETTLED}, {"version": SETTLED, name: value})
        for data in (line, line + settled, settled + line, _sealed({}, {}) + line):
            assert parse(data) == _slowly(data), value


def test_nearly_every_line_goes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(reading, "_slowly", never)
    ended = {"version": SETTLED, "state": "settled", "outcome": "ok", "trail": json.dumps([{"ms": 1}]), "first_ms": 12}
    used = {"tokens_in": 3, "cost": 7, "ms": 1, "kind": "ok", "content": True, "ended_at": NOON + 5, "hedge": None}
    assert [len(each) for each in parse(_sealed(ended, used))[:1]] == [1]


def test_a_rows_fields_stand_in_the_order_of_what_lines_tell() -> None:
    told, row = AttemptTold.__struct_fields__, AttemptRow.__struct_fields__
    assert row == (*told[:4], "request_id", "owner", "day", *told[4:], "tenant", "agent", "key_name", "asked_at")
    assert AttemptRow.__struct_defaults__[: len(told) - 4] == AttemptTold.__struct_defaults__
