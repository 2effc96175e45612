"""Journals that were flipped, cut, spliced and filled with foreign bytes: all other rows arrive as they were, once.

Damage is drawn as edits of the file. A line is touched if an edit changes one of its bytes, or puts some between
them; its line end is not a byte of it.
"""

import pathlib
import tempfile
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.ledger.journal.journal import Journal
from actors.ledger.journal.lines import LONGEST_LINE, holds
from actors.ledger.journal.orphans import orphans
from actors.ledger.rows import LONGEST_TEXT, Record, encode_json, json_bytes, line, merged
from actors.ledger.single_writer.reading import parse
from tests.unit.test_journal import die

NOON = 1_790_000_000_000
CHUNK = 4096  # longer than any line here, as the real one is
FOREIGN = [
    b"",
    b"\n",
    b"\x00" * 5000,
    b"junk",
    b"x" * 9000,
    b"\r\n\r\n",
    b'{"at":',
    b'{"at":1,"request":{},"attempt":null}',
    b'{"at":1,"request":{},"attempt":null,"crc":"00000000"}\n',
    b',"crc":"deadbeef"}',
    b'"}',
    "größer".encode(),
    b"\xff\xfe" * 3000,
]


def written(number: int, text: str) -> bytes:
    request = {"request_id": f"r{number}", "owner": "o", "began_at": NOON + number, "tenant": text}
    attempt = {"number": 1, "provider": "openai", "model": text, "began_at": NOON + number, "tokens_in": number}
    return line(NOON, json_bytes(request), attempt)  # type: ignore[arg-type]


@dataclass
class Damaged:
    """A file with edits that touch some of its lines."""

    lines: list[bytes]
    data: bytearray = field(init=False)
    owners: list[int] = field(init=False)  # of each byte: its line's number; -1: nobody's
    touched: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.data = bytearray(b"".join(self.lines))
        self.owners = [n for n, text in enumerate(self.lines) for n in [n] * (len(text) - 1) + [-1]]

    def at(self, place: float) -> int:
        return int(place * len(self.data))

    def flip(self, place: float, bit: int) -> None:
        if self.data:
            self.data[(at := self.at(place))] ^= 1 << bit
            self.touched.add(self.owners[at])

    def cut(self, place: float, length: int) -> None:
        at = self.at(place)
        self.touched |= set(self.owners[at : at + length])
        del self.data[at : at + length], self.owners[at : at + length]

    def insert(self, place: float, foreign: bytes) -> None:
        at = self.at(place)
        if 0 < at < len(self.owners) and self.owners[at - 1] == self.owners[at]:
            self.touched.add(self.owners[at])
        self.data[at:at] = foreign
        self.owners[at:at] = [-1] * len(foreign)

    def overwrite(self, place: float, foreign: bytes) -> None:
        self.cut(place, len(foreign))
        self.insert(place, foreign)

    @property
    def whole(self) -> list[bytes]:
        """The lines that nothing has touched and that are still there, in order."""
        there = set(self.owners)
        return [text for n, text in enumerate(self.lines) if n in there and n not in self.touched]


places = st.floats(0, 0.999999)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), places, st.integers(0, 7)),
        st.tuples(st.just("cut"), places, st.integers(1, 3000)),
        st.tuples(st.just("insert"), places, st.sampled_from(FOREIGN)),
        st.tuples(st.just("overwrite"), places, st.sampled_from(FOREIGN)),
    ),
    max_size=6,
)
texts = st.text(max_size=40) | st.sampled_from(['{"at":1,"crc":"00000000"}\n', "\\" * 30, "\ud800", "\x00"])


def records_of(data: bytes) -> list[Record]:
    """What a store gets of a dead writer's file."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "o.lock").touch()
        (pathlib.Path(folder) / "o.00000000000000000000-1.jsonl").write_bytes(data)
        (orphan,) = orphans(pathlib.Path(folder))
        found = [record for chunk in orphan.chunks(CHUNK) for record in parse(chunk)[0]]
        orphan.discard()
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, min_size=1, max_size=8), edits)
@example(["a", "b"], [("overwrite", 0.5, b"\n")])
def test_every_line_that_nothing_has_touched_arrives_once_and_unchanged(said: list[str], drawn: list[tuple]) -> None:
    damaged = Damaged([written(n, text) for n, text in enumerate(said)])
    for name, place, how in drawn:
        getattr(damaged, name)(place, how)
    sent = {r.request.request_id: r for r in parse(b"".join(damaged.lines))[0]}
    found = records_of(bytes(damaged.data))
    names = [record.request.request_id for record in found]
    assert len(names) == len(set(names)), "twice"
    assert [record for record in found if record != sent.get(record.request.request_id)] == [], "changed"
    (whole, _) = parse(b"".join(damaged.whole)) if damaged.whole else ([], 0)
    assert {r.request.request_id for r in whole} <= set(names), "lost"


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, min_size=2, max_size=6), places, places, st.integers(1, 2000))
def test_a_spliced_part_of_the_same_file_changes_no_row(
    said: list[str], whence: float, place: float, size: int
) -> None:
    damaged = Damaged([written(n, text) for n, text in enumerate(said)])
    start = damaged.at(whence)
    damaged.insert(place, bytes(damaged.data[start : start + size]))
    sent = {r.request.request_id: r.request for r in parse(b"".join(damaged.lines))[0]}
    requests = merged(record.request for record in records_of(bytes(damaged.data)))
    assert all(request == sent[request.request_id] for request in requests)
    assert {r.request.request_id for r in parse(b"".join(damaged.whole))[0]} <= {r.request_id for r in requests}


@settings(max_examples=300, deadline=None)
@given(st.data(), texts)
def test_each_flip_of_a_bit_is_noticed_and_counted(data: st.DataObject, text: str) -> None:
    whole = written(1, text)
    at, bit = data.draw(st.integers(0, len(whole) - 2)), data.draw(st.integers(0, 7))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << bit
    records, wrong = parse(bytes(flipped) + written(2, text))
    assert [record.request.request_id for record in records] == ["r2"]
    assert wrong >= 1


@given(st.text(min_size=1, max_size=300), st.integers(1, 3000))
def test_a_line_has_a_bound_whatever_is_said(text: str, times: int) -> None:
    named = (text * times)[:LONGEST_TEXT]
    names = ("request_id", "owner", "tenant", "agent", "key_name", "caller_id", "model_row")
    ending = {"version": 2_000_000_000, "state": "settled", "outcome": "ok", "ended_at": NOON, "attempts": 1}
    ending |= {"provider": named, "model": named, "trail": encode_json([text * times])}
    attempt = {"number": 1, "provider": named, "model": named, "began_at": NOON}
    made = line(NOON, json_bytes(dict.fromkeys(names, named)), attempt, ending)  # type: ignore[arg-type]
    assert len(made) <= LONGEST_LINE
    assert made.count(b"\n") == 1
    assert holds(made[:-1])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(places, st.sampled_from(FOREIGN)), max_size=4), st.integers(3, 30))
def test_bytes_that_others_append_to_a_living_writers_file_shift_no_line(
    foreign: list[tuple[float, bytes]], count: int
) -> None:
    lines = [written(n, "x") for n in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(pathlib.Path(folder), "o", segment=1500)
        for n, text in enumerate(lines):
            journal.append(text)
            for place, junk in foreign:
                if int(place * count) == n:
                    with open(max(pathlib.Path(folder).glob("*.jsonl")), "ab") as file:
                        file.write(junk)
        got = b""
        while (read := journal.read(CHUNK))[0]:
            got += read[0]
            journal.acknowledge(read[1], read[0].count(b"\n"))
        assert got == b"".join(lines)
        assert journal.lines == 0
        die(journal)
