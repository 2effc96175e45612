"""What a codec made of an answer in another shape, or of what came of it at once. Pure."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from deployments.errors import AttemptFailed, failed


class Translated(NamedTuple):
    """Ready frames: do they hold content, and what came after them that is none?"""

    data: bytes
    content: bool
    error: Exception | None


def translated(frames: Iterable[tuple[bytes, bool]]) -> Translated:
    """Frames as the codec makes them, up to the first that it can't make."""
    data: list[bytes] = []
    content = False
    error: Exception | None = None
    try:
        for made, holds in frames:
            data.append(made)
            content = content or holds
    except _STUMBLES:
        error = _malformed()
    except Exception as raised:
        error = raised
    return Translated(b"".join(data), content, error)


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Around a codec, for a whole answer."""
    try:
        yield
    except _STUMBLES:
        raise _malformed() from None


# What a codec stumbles over where JSON is not of the shape that its API documents, or is no JSON.
_STUMBLES = (LookupError, TypeError, AttributeError, ValueError)


def _malformed() -> AttemptFailed:
    return failed("malformed", "the answer is not of the shape that this API has", status=200)
