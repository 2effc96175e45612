"""Batches of frames that a codec translated to OpenAI's format, and its errors. Pure."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from deployments.errors import AttemptFailed, failed


class Translated(NamedTuple):
    """A batch of frames, whether they hold content, and the error that followed them, if any."""

    data: bytes
    content: bool
    error: Exception | None


def translated(frames: Iterable[tuple[bytes, bool]]) -> Translated:
    """Return the codec's frames as one batch, up to its first error."""
    data: list[bytes] = []
    content = False
    error: Exception | None = None
    try:
        for made, holds in frames:
            data.append(made)
            content = content or holds
    except _CODEC_ERRORS:
        error = _malformed()
    except Exception as raised:
        error = raised
    return Translated(b"".join(data), content, error)


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Translate a codec's errors over a whole answer to AttemptFailed `malformed`."""
    try:
        yield
    except _CODEC_ERRORS:
        raise _malformed() from None


# Raised by a codec when the JSON does not have the shape that its API documents, or is no JSON.
_CODEC_ERRORS = (LookupError, TypeError, AttributeError, ValueError, RecursionError)


def _malformed() -> AttemptFailed:
    return failed("malformed", "the provider's answer does not have the shape that its API documents", status=200)
