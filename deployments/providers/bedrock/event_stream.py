"""The parser of AWS's binary event stream. Pure.

A message is its length, the length of its headers, and a CRC of those two; then headers, payload, and a CRC of all
before. The errors and the parser of headers are botocore's. A stream repeats a handful of header blocks, so each is
parsed once.
"""

import struct
from binascii import crc32
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from botocore.eventstream import ChecksumMismatch, EventStreamHeaderParser, InvalidPayloadLength, ParserError

MAX_MESSAGE_BYTES = 24 * 1024 * 1024

_PRELUDE = struct.Struct("!III")
_CRC = struct.Struct("!I")


class Message(NamedTuple):
    headers: Mapping[str, Any]
    payload: bytes


class EventStream:
    """Split a body into messages. It keeps the bytes of a message that is not yet whole."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0  # bytes, before there is another message

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole now. Raises botocore's ParserError at the first that is invalid."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = 0
        while True:
            length, headers = _lengths(data, at)
            if len(data) - at < length:
                break
            yield _message(data[at : at + length], headers)
            at += length
        self._needed = length
        self._rest += data[at:]


def _lengths(data: bytes, at: int) -> tuple[int, int]:
    """Return the lengths of a message and of its headers; before its prelude is whole, those of the prelude."""
    if len(data) - at < _PRELUDE.size:
        return _PRELUDE.size, 0
    length, headers, crc = _PRELUDE.unpack_from(data, at)
    if (found := crc32(data[at : at + 8])) != crc:
        raise ChecksumMismatch(crc, found)
    if length > MAX_MESSAGE_BYTES:
        raise InvalidPayloadLength(length)
    if length < _PRELUDE.size + headers + _CRC.size:
        raise ParserError(f"a message of {length} bytes can't have {headers} bytes of headers")
    return length, headers


def _message(data: bytes, headers: int) -> Message:
    body, end = _PRELUDE.size + headers, len(data) - _CRC.size
    (crc,) = _CRC.unpack_from(data, end)
    if (found := crc32(data[:end])) != crc:
        raise ChecksumMismatch(crc, found)
    return Message(_headers(data[_PRELUDE.size : body]), data[body:end])


@lru_cache(maxsize=256)
def _headers(block: bytes) -> Mapping[str, Any]:
    try:
        headers: Mapping[str, Any] = EventStreamHeaderParser().parse(block)
    except (struct.error, LookupError, UnicodeDecodeError) as error:
        raise ParserError(f"the headers can't be parsed ({type(error).__name__})") from None
    return headers
