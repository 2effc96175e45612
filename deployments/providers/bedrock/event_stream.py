"""AWS's binary event stream: messages out of bytes as they come. Pure.

A message is: its length, the length of its headers, a CRC of those two; headers; payload; a CRC of all
before. The errors and the reader of headers are botocore's. The headers of a stream are a handful of
blocks that come again and again, so each is read once.
"""

import struct
from binascii import crc32
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from botocore.eventstream import ChecksumMismatch, EventStreamHeaderParser, InvalidPayloadLength, ParserError

MOST = 24 * 1024 * 1024  # bytes of a message

_PRELUDE = struct.Struct("!III")
_CRC = struct.Struct("!I")


class Message(NamedTuple):
    headers: Mapping[str, Any]
    payload: bytes


class EventStream:
    """Feed it the body as it comes; it keeps what is not yet a whole message."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0  # bytes, before there is another message

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now. Raises botocore's ParserError at the first that is none."""
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
    """Of the message that begins here, and of its headers. Without a whole prelude, the prelude's."""
    if len(data) - at < _PRELUDE.size:
        return _PRELUDE.size, 0
    length, headers, crc = _PRELUDE.unpack_from(data, at)
    if (found := crc32(data[at : at + 8])) != crc:
        raise ChecksumMismatch(crc, found)
    if length > MOST:
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
        raise ParserError(f"headers that can't be read: {error!r}") from None
    return headers
