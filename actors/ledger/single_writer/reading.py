"""What the lines of a journal say, as rows that every store can hold. Pure.

Nearly every line is in order, and is read in one call. What is not is read slowly: cut to what a store can hold, or
refused, one line by itself. A line of a newer version, with fields that we don't know, is in order.
"""

import json
from collections.abc import Mapping, Set
from typing import Any, get_args, get_type_hints

import orjson
from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import astuple

from actors.ledger.journal.lines import open_lines
from actors.ledger.rows import (
    LARGEST,
    LONGEST_TEXT,
    LONGEST_TRAIL,
    MOST_COST,
    MOST_TOKENS,
    SETTLED,
    AttemptRow,
    AttemptTold,
    Record,
    RequestRow,
    clean,
    day_of,
)

_MOST_OF = {f"tokens_{of}": MOST_TOKENS for of in ("in", "out", "cached", "reasoning")} | {
    "cost": MOST_COST,
    "failed_over": 1,
}

_REQUIRED = 4  # fields of AttemptTold without a default
_OF_A_BARE_LINE = {"at", "request", "attempt"}
_NUL = b"\\u0000"  # as JSON has it


class _Line(Struct):
    request: RequestRow
    attempt: AttemptTold | None


def _fields(kind: type[Any], *others: str) -> dict[str, frozenset[type]]:
    """Return which types JSON may have for each field, but for the others."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in others}
    sorts = {name: frozenset(get_args(hint) or (hint,)) for name, hint in hints.items()}
    return {name: of | {int} if float in of else of for name, of in sorts.items()}


_NUMBERS = (int, float)
_REQUEST = _fields(RequestRow, "trail")
_ATTEMPT = _fields(AttemptTold)
_read = Decoder(_Line).decode


def parse(data: bytes) -> tuple[list[Record], int]:
    """Return the records of one writer's lines, and how many lines were damaged or invalid."""
    opened = open_lines(data)
    records: list[Record] = []
    wrong, settled = opened.damaged, set[tuple[str, int]]()
    for text in reversed(opened.lines or opened.bare):
        try:
            said = _quickly(text) if opened.lines else None
            if said is None:
                said = _slowly(text, settled, bare=not opened.lines)
            if said is None or _is_told_later(said, settled):
                continue
            record = _record(said)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError, RecursionError):
            wrong += 1
            continue
        records.append(record)
        if record.request.version == SETTLED and record.attempt is not None and record.attempt.version == SETTLED:
            settled.add((record.request.request_id, record.attempt.number))
    records.reverse()
    return records, wrong


def _is_told_later(line: _Line, settled: Set[tuple[str, int]]) -> bool:
    """Return whether a later line of the same bytes has the last word on all that this one says.

    Each line says all that is known of its rows, so nearly half of all lines need not be looked at.
    """
    return line.attempt is not None and (line.request.request_id, line.attempt.number) in settled


def _quickly(text: bytes) -> _Line | None:
    """Return what a line says, if all of it is as `_slowly` would leave it. Nearly every line is."""
    if _NUL in text:
        return None
    try:
        return _read(text)
    except (ValueError, RecursionError):
        return None


def _slowly(text: bytes, settled: Set[tuple[str, int]], *, bare: bool) -> _Line | None:
    """Return what a line says, cut to what every store can hold; None if a later line has told all of it.

    Raises one of many errors if it is no line.
    """
    data = _decoded(text)
    told = data["attempt"]
    if settled and told is not None and (data["request"]["request_id"], told["number"]) in settled:
        return None
    if bare and data.keys() != _OF_A_BARE_LINE:
        raise ValueError("a damaged checksum looks like a field of another name")
    known = _checked(data["request"], _REQUEST)
    trail = data["request"].get("trail")
    if isinstance(trail, str) and len(trail) <= LONGEST_TRAIL:
        known["trail"] = clean(trail)
    return _Line(RequestRow(**known), None if told is None else AttemptTold(**_checked(told, _ATTEMPT)))


def _decoded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:  # half a surrogate pair, which `encode_json` can write
        return json.loads(text)


def _record(line: _Line) -> Record:
    """Raises ValueError, OverflowError or OSError for an instant that no calendar has."""
    request, told = line.request, line.attempt
    day = day_of(request.began_at)
    if told is None:
        return Record(request)
    day_of(told.began_at)
    day_of(told.ended_at or 0)
    own, by = astuple(told), (request.tenant, request.agent, request.key_name, request.began_at)
    in_order: tuple[Any, ...] = (*own[:_REQUIRED], request.request_id, request.owner, day, *own[_REQUIRED:], *by)
    return Record(request, AttemptRow(*in_order))


def _checked(data: Mapping[str, Any], fields: Mapping[str, frozenset[type]]) -> dict[str, Any]:
    """Return the fields as any store can hold them: a store that refuses must be away, and never over one row.

    A field that a newer version has written is left out.
    """
    checked: dict[str, Any] = {}
    for name, value in data.items():
        wanted = fields.get(name)
        if wanted is None:
            continue
        sort = type(value)
        if sort not in wanted:
            raise TypeError("a field of the wrong type")
        if sort is str:
            value = clean(value[:LONGEST_TEXT])
        elif sort in _NUMBERS:
            value = min(value, _MOST_OF.get(name, value))
            if not -LARGEST <= value <= LARGEST:
                raise ValueError("a number that no store can hold")
        checked[name] = value
    return checked
