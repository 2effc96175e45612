"""By what a request is known as one that was sent before: an idempotency key, or the words of a vendor's SDK. Pure.

`Idempotency-Key` is as in IETF's draft-ietf-httpapi-idempotency-key-header-07, which has it in quotes, and as in
Stripe's API, which has it without: both name the same key. The SDKs of OpenAI and Anthropic send no key, but say with
each request how often they have sent it before (`x-stainless-retry-count`), and for how long they wait for an answer
(`x-stainless-read-timeout`, seconds).
"""

import hashlib
import json
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from deployments.errors import BadRequest

KEY_HEADER = "idempotency-key"
_KEY, _RETRY, _TIMEOUT = KEY_HEADER.encode(), b"x-stainless-retry-count", b"x-stainless-read-timeout"
_READ = frozenset({_KEY, _RETRY, _TIMEOUT})
_FORM = re.compile(rb'"([\x20-\x7e]{1,255})"|([\x21\x23-\x7e][\x21-\x7e]{0,254})')
_PIECES, _LONG = 1024, 64 * 1024  # so many pieces, or one of so many bytes, between two turns of others


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of itself.

    Attributes:
        key: the client's own word for what it asks for; None where it gave none.
        retry: how often its SDK has sent it before.
        patience: seconds that its SDK waits for an answer; None where it does not say.
    """

    key: str | None
    retry: int = 0
    patience: float | None = None


def wish_of(headers: Mapping[bytes, bytes]) -> Wish | None:
    """Return what the headers say; None for nothing. Raises BadRequest for a key that is none."""
    if _READ.isdisjoint(headers):
        return None
    key = None if _KEY not in headers else _key_in(headers[_KEY])
    return Wish(key, int(_number(headers.get(_RETRY)) or 0), _number(headers.get(_TIMEOUT)))


def _key_in(value: bytes) -> str:
    found = _FORM.fullmatch(value.strip())
    if found is None:
        raise BadRequest(f"Invalid '{KEY_HEADER}': 1 to 255 visible ASCII characters are needed.", KEY_HEADER)
    return (found[1] or found[2]).decode("ascii")


def _number(value: bytes | None) -> float | None:
    """Return a header's number; None for anything else. These headers are an SDK's, and no client's own choice."""
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def digest(*words: str | None) -> str:
    """Return one word for some, by which nobody learns them."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def fingerprint(body: object, others: Mapping[str, object]) -> Generator[None, None, str]:
    """Return what is the same for equal requests alone, in slices: the body's fields, in any order, and `others`."""
    hashed = hashlib.sha256()
    for number, piece in enumerate(_pieces_of([body, dict(others)])):
        hashed.update(piece)
        if number % _PIECES == _PIECES - 1 or len(piece) == _LONG:
            yield
    return hashed.hexdigest()


def _pieces_of(value: object) -> Iterator[bytes]:
    """Yield what is the same for equal JSON values alone, and no piece of more than _LONG bytes."""
    match value:
        case dict():
            yield b"{%d" % len(value)
            for name in sorted(value):
                yield from _pieces_of(name)
                yield from _pieces_of(value[name])
        case list():
            yield b"[%d" % len(value)
            for item in value:
                yield from _pieces_of(item)
        case str():
            data = value.encode("utf-8", "surrogatepass")
            yield b'"%d:' % len(data)
            for at in range(0, len(data), _LONG):
                yield data[at : at + _LONG]
        case _:
            yield f"{json.dumps(value)},".encode()
