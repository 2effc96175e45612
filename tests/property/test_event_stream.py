"""AWS's binary event stream, fed in pieces of any size, against botocore's own reader."""

import itertools
import struct
from binascii import crc32

import pytest
from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st

from deployments.providers.bedrock.event_stream import EventStream
from tests.fakes.bedrock_wire import BedrockWire, event

STREAM = b"".join(BedrockWire().frames([f" word{n}" for n in range(5)]))


def framed(head: bytes, body: bytes, *, length: int | None = None) -> bytes:
    prelude = struct.pack("!II", 16 + len(head) + len(body) if length is None else length, len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + body
    return message + struct.pack("!I", crc32(message))


def read(data: bytes, cuts: list[int]) -> list[tuple[dict[str, object], bytes]]:
    stream, found = EventStream(), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for a, b in itertools.pairwise(edges):
        found += [(dict(m.headers), m.payload) for m in stream.feed(data[a:b])]
    return found


def read_by_botocore(data: bytes) -> list[tuple[dict[str, object], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_however_the_bytes_are_cut_the_messages_are_botocores(cuts: list[int]) -> None:
    assert read(STREAM, cuts) == read_by_botocore(STREAM)


def test_byte_for_byte_too() -> None:
    assert read(STREAM, [*range(len(STREAM))]) == read_by_botocore(STREAM)


@given(st.lists(st.tuples(st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=3))))
def test_any_headers_are_read(blocks: list[tuple[dict[str, str]]]) -> None:
    def header(name: str, value: str) -> bytes:
        key, text = name.encode(), value.encode()
        return struct.pack("!B", len(key)) + key + struct.pack("!BH", 7, len(text)) + text

    data = b"".join(framed(b"".join(header(k, v) for k, v in block.items()), b"{}") for (block,) in blocks)
    assert read(data, []) == [(block, b"{}") for (block,) in blocks]


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_byte_that_is_not_what_was_sent_is_noticed(at: int, change: int) -> None:
    spoiled = bytearray(STREAM)
    spoiled[at] ^= change
    got: list[object] = []
    stream = EventStream()
    with pytest.raises(ParserError):
        got.extend(stream.feed(bytes(spoiled)))
    whole = read_by_botocore(STREAM)
    assert [m.payload for m in got] == [payload for _, payload in whole[: len(got)]]  # type: ignore[attr-defined]


@given(st.binary(min_size=12, max_size=60))
def test_noise_is_no_message(noise: bytes) -> None:
    with pytest.raises(ParserError):
        list(EventStream().feed(noise))


@pytest.mark.parametrize(
    "message",
    [
        framed(b"", b"", length=2**31),  # longer than any
        framed(b"\x00" * 9, b"", length=20),  # shorter than its own headers
        framed(b"\x03ab", b""),  # a name that is cut short
        framed(b"\x01a\x63", b""),  # a value of no known type
        framed(b"\x01a\x00\x01a\x00", b""),  # the same twice
    ],
)
def test_a_message_of_an_impossible_shape_is_an_error(message: bytes) -> None:
    with pytest.raises(ParserError):
        list(EventStream().feed(message))


def test_a_message_of_many_megabytes_in_small_pieces_is_read_in_linear_time() -> None:
    data = event("contentBlockDelta", {"delta": {"text": "x" * 20_000_000}, "contentBlockIndex": 0})
    pieces = range(0, len(data), 8192)
    assert [len(payload) for _, payload in read(data, [*pieces])] == [len(read_by_botocore(data)[0][1])]
