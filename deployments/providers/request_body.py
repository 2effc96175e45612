"""The JSON that a provider gets, written in slices where it is long: others' answers pass between two of them.

Thirty megabytes of escapes, written at once, stopped the replica for an eighth of a second.
"""

from collections.abc import Generator
from typing import Any

from deployments.aio.turns import in_turns
from deployments.openai_api.chat import dump
from deployments.openai_api.json_types import JsonObject

SLICE = 256 * 1024  # characters of a text
SMALL = 16  # values in an object or a list that is written at once, if they are short
SHORT = 4096  # characters


async def request_body(body: JsonObject, *, is_long: bool) -> bytes:
    return await in_turns(_body_in_slices(body)) if is_long else dump(body)


def _body_in_slices(body: JsonObject) -> Generator[None, None, bytes]:
    pieces: list[bytes] = []
    yield from _write(body, pieces)
    return b"".join(pieces)


def _write(value: Any, pieces: list[bytes]) -> Generator[None, None, None]:
    if isinstance(value, str) and len(value) > SHORT:
        yield from _write_text(value, pieces)
    elif not isinstance(value, dict | list) or _is_small(value):
        pieces.append(dump(value))
    elif isinstance(value, dict):
        before = b"{"
        for name, item in value.items():
            pieces.append(before + dump(name) + b":")
            yield from _write(item, pieces)
            before = b","
        pieces.append(b"}")
    else:
        before = b"["
        for item in value:
            pieces.append(before)
            yield from _write(item, pieces)
            before = b","
        pieces.append(b"]")
    yield


def _write_text(text: str, pieces: list[bytes]) -> Generator[None, None, None]:
    pieces.append(b'"')
    for at in range(0, len(text), SLICE):
        pieces.append(dump(text[at : at + SLICE])[1:-1])
        yield
    pieces.append(b'"')


def _is_small(value: dict[str, Any] | list[Any]) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return len(items) <= SMALL and not any(
        isinstance(item, dict | list) or (isinstance(item, str) and len(item) > SHORT) for item in items
    )
