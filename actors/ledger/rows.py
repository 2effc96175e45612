"""Who used what: the rows of the ledger, and the line in which a row travels. Pure.

A *request* is what a client asked for; an *attempt* is one call of one provider for it. A row exists
before its attempt is sent, as `open`; it is `settled` when the attempt ends, and `lost` when the replica
that wrote it died before that.

Every line says all that is known of its rows, and every row has a *version* that only grows: open 0,
then what has been delivered so far, then lost, then settled. A row takes what has a higher version and
nothing else, so a line may come twice, late, or before the one that was written first. A row that was
given up as lost takes what it had delivered, and its true ending, when those come after all.

Money is whole nano-dollars (1e-9 USD), None where the price is not known. Instants are wall-clock
milliseconds since the epoch; days and months are UTC.
"""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeVar

import orjson
from msgspec import Meta, Struct
from msgspec.structs import replace

from actors.ledger.journal.lines import seal
from actors.ledger.messages import AttemptLine, RequestEnding

LOST, SETTLED = 1_000_000_000, 2_000_000_000  # versions; progress counts up from 1
NANOS = 1_000_000_000  # in a dollar
LONGEST_TEXT = 256
LONGEST_TRAIL = 64 * 1024  # bytes in its line; what is longer is left out: half a JSON is none
LARGEST = 2**53  # a number from outside must fit every store's integer
# No answer has more tokens or costs more: a figure beyond is a vendor's error, and is cut, because its row is true
# in all else. A million of the largest rows can be added up in 64 bits.
MOST_TOKENS, MOST_COST = 2**31, 10_000 * NANOS
# What nearly every line says: a value beyond is cut or refused (single_writer/reading.py).
_Text: TypeAlias = Annotated[str, Meta(max_length=LONGEST_TEXT)]
_Trail: TypeAlias = Annotated[str, Meta(max_length=LONGEST_TRAIL)]
_Whole: TypeAlias = Annotated[int, Meta(ge=-LARGEST, le=LARGEST)]
_Real: TypeAlias = Annotated[float, Meta(gt=-LARGEST, lt=LARGEST)]  # a whole number beyond may be rounded to it
_Tokens: TypeAlias = Annotated[int, Meta(ge=-LARGEST, le=MOST_TOKENS)]
_Cost: TypeAlias = Annotated[int, Meta(ge=-LARGEST, le=MOST_COST)]
_Once: TypeAlias = Annotated[int, Meta(ge=-LARGEST, le=1)]


class RequestRow(Struct, frozen=True, gc=False):
    request_id: _Text
    owner: _Text  # the ingress replica that writes it
    began_at: _Whole
    version: _Whole = 0
    state: _Text = "open"
    tenant: _Text | None = None
    agent: _Text | None = None
    key_name: _Text | None = None  # which key was used: its name, never the key
    caller_id: _Text | None = None  # the client's own x-request-id: it may come twice, so it is no key
    model_row: _Text | None = None
    door: _Text | None = None
    stream: bool = False
    outcome: _Text | None = None
    ended_at: _Whole | None = None
    provider: _Text | None = None  # who served it
    model: _Text | None = None
    attempts: _Whole = 0
    trail: _Trail | None = None  # who was skipped and why, and each attempt, as JSON
    first_ms: _Real | None = None  # until its first content went to the client
    added_ms: _Real | None = None  # our own part of that
    failed_over: _Once = 0  # 1 if another than the first one answered, because that failed or is known to


class AttemptTold(Struct, frozen=True, gc=False):
    """What a line says of an attempt."""

    number: _Whole
    provider: _Text
    model: _Text
    began_at: _Whole
    version: _Whole = 0
    state: _Text = "open"
    kind: _Text | None = None  # of actors/breaker/outcomes.py
    content: bool = False  # was any content delivered?
    tokens_in: _Tokens = 0
    tokens_out: _Tokens = 0
    tokens_cached: _Tokens = 0  # of those in
    tokens_reasoning: _Tokens = 0  # of those out
    counted: _Text = "none"  # provider | estimated | none: where the tokens come from
    cost: _Cost | None = None
    ms: _Real | None = None
    first_ms: _Real | None = None
    ended_at: _Whole | None = None
    hedge: _Text | None = None  # of a second leg: won, lost or failed; of a first one that lost to it: beaten


class AttemptRow(Struct, frozen=True, gc=False):
    """The same in the order of `AttemptTold`, with what its request says."""

    number: int
    provider: str
    model: str
    began_at: int
    request_id: str
    owner: str
    day: str
    version: int = 0
    state: str = "open"
    kind: str | None = None
    content: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    counted: str = "none"
    cost: int | None = None
    ms: float | None = None
    first_ms: float | None = None
    ended_at: int | None = None
    hedge: str | None = None
    tenant: str | None = None
    agent: str | None = None
    key_name: str | None = None
    asked_at: int = 0  # when its request began: both belong to the day of this instant


class Record(NamedTuple):
    """One line: a request as far as it is known, and one of its attempts or none."""

    request: RequestRow
    attempt: AttemptRow | None = None


Row = TypeVar("Row", RequestRow, AttemptRow)

_AT = re.compile(rb'\{"at":(\d{1,16}),')

_encode_slowly = json.JSONEncoder(separators=(",", ":")).encode


def json_bytes(data: Any) -> bytes:
    """Return JSON. A caller's text that orjson refuses is encoded all the same: there is always a line."""
    try:
        return orjson.dumps(data)
    except TypeError:  # half a surrogate pair, or a number of more than 64 bits
        return _encode_slowly(data).encode()


def encode_json(data: Any) -> str:
    """Return the same as a text."""
    return json_bytes(data).decode()


def day_of(ms: int) -> str:
    return _day(ms // 86_400_000)


def month_of(ms: int) -> str:
    return _day(ms // 86_400_000)[:7]


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")


def line(at: int, identity: bytes, attempt: AttemptLine | None, ending: RequestEnding | None = None) -> bytes:
    """Return a record as one line. `identity` is the request's own part, already JSON: it is the same in every line.

    It has a bound, whatever its parts say: a trail that is too long is left out.
    """
    request = identity if ending is None else b"%b,%b" % (identity[:-1], json_bytes(_bounded(ending))[1:])
    used = b"null" if attempt is None else json_bytes(attempt)
    return seal(b'{"at":%d,"request":%b,"attempt":%b}' % (at, request, used))


def _bounded(ending: RequestEnding) -> RequestEnding:
    trail = ending["trail"]
    if trail is None or len(trail) < LONGEST_TRAIL // 6 or len(encode_json(trail).encode()) <= LONGEST_TRAIL:
        return ending
    return {**ending, "trail": None}


def written_at(data: bytes) -> int | None:
    """Return when the first of these lines was written, in milliseconds since the epoch; None if there is none."""
    found = _AT.search(data)
    return None if found is None else int(found[1])


def clean(text: str) -> str:
    """Return a text as any store can hold it."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "").encode(errors="replace").decode()


def merged(rows: Iterable[Row]) -> list[Row]:
    """Return the newest version of each row."""
    newest: dict[Any, Row] = {}
    for row in rows:
        name = (row.request_id, getattr(row, "number", 0))
        known = newest.get(name)
        if known is None or row.version > known.version:
            newest[name] = row
    return list(newest.values())


def as_lost(row: Row, at: int) -> Row:
    """Return an open row of a dead replica as lost. What it had delivered stays accounted."""
    version = LOST + row.version
    if isinstance(row, AttemptRow):
        return replace(row, version=version, state="lost", kind="lost", ended_at=at)
    return replace(row, version=version, state="lost", outcome="lost", ended_at=at)


def after(old: Row | None, new: Row) -> Row | None:
    """Return what a row becomes; None if it stays as it is.

    A row that was given up too early stays lost when only its progress comes after, and takes that.
    """
    if old is None:
        return new
    if old.state == "lost" and new.state == "open":
        new = as_lost(new, old.ended_at or new.began_at)
    return new if new.version > old.version else None
