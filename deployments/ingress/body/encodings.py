"""Content encodings of a request's body (RFC 9110 8.4), decoded within a limit and in slices. No Ray.

A small body can stand for a very large one, so the limit holds for what comes out, and what comes out is made in
slices.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from deployments.errors import BadRequest, UnknownEncoding
from deployments.strict_json.window import Window

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

ENCODINGS = "gzip, deflate, zstd"  # for `accept-encoding` of an answer that refuses another (RFC 9110 15.5.16)
MOST_ENCODINGS = 4  # one upon the other
_INPUT, _OUTPUT = 64 * 1024, 256 * 1024
_WINDOW = 23  # 8 MB, the largest that a content encoding may need (RFC 9659)


def encodings_of(header: str) -> list[str]:
    """Return the names of the encodings in the order in which they were applied. Raises UnknownEncoding."""
    names = [name.strip().lower() for name in header.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    for name in names:
        if name not in _DECODERS:
            raise UnknownEncoding(f"The content encoding '{name[:64]}' is not supported. Supported: {ENCODINGS}.")
    if len(names) > MOST_ENCODINGS:
        raise UnknownEncoding(f"The request body has more than {MOST_ENCODINGS} content encodings.")
    return names


def decoded(name: str, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what comes out of a body, a bounded piece at a time. Raises BadRequest."""
    window = Window(parts)
    window.fill()
    try:
        yield from _pieces(_DECODERS[name](window.data[:2]), window)
    except (zlib.error, ZstdError, EOFError) as error:
        raise BadRequest(f"The request body is not valid {name}: {error}.", code="invalid_encoding") from None


class _Decoder(Protocol):
    """A decoder of zlib or zstd. zlib gives back the input that it did not need yet, zstd keeps it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _pieces(make: Callable[[], _Decoder], window: Window) -> Iterator[bytes]:
    """Yield the pieces of all members: a body may be several, one after the other."""
    decoder = make()
    while rest := window.take(_INPUT):
        more = True
        while more:
            if decoder.eof:
                decoder = make()
            piece = decoder.decompress(rest, _OUTPUT)
            rest = decoder.unused_data if decoder.eof else getattr(decoder, "unconsumed_tail", b"")
            more = bool(rest) or (len(piece) == _OUTPUT and not decoder.eof)
            yield piece
    if not decoder.eof:
        raise EOFError("it ends too early")


def _inflate(wbits: int) -> Callable[[], _Decoder]:
    return lambda: zlib.decompressobj(wbits)


def _deflate(start: bytes) -> Callable[[], _Decoder]:
    """Return a decoder of `deflate`, which is the format of zlib. Some clients send it without zlib's head."""
    has_head = len(start) > 1 and start[0] & 0x0F == 8 and int.from_bytes(start, "big") % 31 == 0
    return _inflate(zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)


def _zstd() -> _Decoder:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW})


_DECODERS: Mapping[str, Callable[[bytes], Callable[[], _Decoder]]] = {
    "gzip": lambda _: _inflate(16 + zlib.MAX_WBITS),
    "x-gzip": lambda _: _inflate(16 + zlib.MAX_WBITS),
    "deflate": _deflate,
    "zstd": lambda _: _zstd,
}
