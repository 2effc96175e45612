"""The JSON that a provider gets. Where it is long it is written in slices, and sent in the pieces that they made.

Others' answers pass between two slices. Thirty megabytes of escapes, written at once, stopped the replica for an eighth
of a second; to join the pieces would stop it for 20 ms.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Generator, Sequence
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter

from deployments.aio.turns import in_turns
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonObject

SLICE = 64 * 1024  # characters of a text; the least bytes of a piece
SMALL = 16  # values in an object or a list that is written at once, if they are short
SHORT = 4096  # characters


class Pieces(aiohttp.Payload):
    """A long body as aiohttp sends it: a piece at a time, and again after a redirect."""

    _value: list[bytes]

    def __init__(self, pieces: list[bytes]):
        super().__init__(pieces)
        self._size: int = sum(map(len, pieces))

    @property
    def pieces(self) -> Sequence[bytes]:
        return self._value

    def __len__(self) -> int:
        return self._size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)
            await asyncio.sleep(0)  # a fast reader never lets us wait


RequestBody = bytes | Pieces


async def request_body(body: JsonObject, *, is_long: bool) -> RequestBody:
    return await body_in_pieces(body) if is_long else dump(body)


async def body_with_bytes(body: JsonObject, *, is_long: bool) -> RequestBody:
    """Return a body in which bytes (of images, of documents) go as base64."""
    return await body_in_pieces(body) if is_long else dump_with_bytes(body)


def dump_with_bytes(body: JsonObject) -> bytes:
    """Return the body as JSON, with bytes in it as base64. Half a surrogate pair becomes `?`."""
    try:
        return orjson.dumps(body, default=_base64)
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        return _ENCODER.encode(body).encode(errors="replace")


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_base64)


async def body_in_pieces(body: JsonObject) -> Pieces:
    """Return a long body. Bytes in it are written as base64."""
    return Pieces(await in_turns(_body_in_slices(body)))


def _body_in_slices(body: JsonObject) -> Generator[None, None, list[bytes]]:
    pieces, small, size = list[bytes](), list[bytes](), 0

    def put(part: bytes) -> None:
        nonlocal size
        small.append(part)
        size += len(part)
        if size >= SLICE:
            end()

    def end() -> None:
        nonlocal size
        if small:
            pieces.append(b"".join(small))
        small.clear()
        size = 0

    yield from _write(body, put)
    end()
    return pieces


Put = Callable[[bytes], None]


def _write(value: Any, put: Put) -> Generator[None, None, None]:
    if isinstance(value, str) and len(value) > SHORT:
        yield from _write_text(value, put)
    elif isinstance(value, bytes):
        yield from _write_base64(value, put)
    elif not isinstance(value, dict | list) or _is_small(value):
        put(dump(value))
    elif isinstance(value, dict):
        before = b"{"
        for name, item in value.items():
            put(before + dump(name) + b":")
            yield from _write(item, put)
            before = b","
        put(b"}")
    else:
        before = b"["
        for item in value:
            put(before)
            yield from _write(item, put)
            before = b","
        put(b"]")
    yield


def _write_text(text: str, put: Put) -> Generator[None, None, None]:
    put(b'"')
    for at in range(0, len(text), SLICE):
        put(dump(text[at : at + SLICE])[1:-1])
        yield
    put(b'"')


def _write_base64(data: bytes, put: Put) -> Generator[None, None, None]:
    put(b'"')
    for at in range(0, len(data), 3 * SLICE):  # three bytes are four signs, so no slice but the last is padded
        put(b64encode(data[at : at + 3 * SLICE]))
        yield
    put(b'"')


def _is_small(value: dict[str, Any] | list[Any]) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return len(items) <= SMALL and not any(
        isinstance(item, dict | list | bytes) or (isinstance(item, str) and len(item) > SHORT) for item in items
    )
