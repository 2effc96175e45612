"""What a codec translated to OpenAI's format and from it, in batches, and whose its errors are. Pure.

Over an answer they are the provider's: its bytes are not what its API documents. Before anything was sent they are
never the provider's, whatever raised them: our translation, or what an SDK checks by itself.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import httpx2

from actors.breaker.outcomes import Outcome
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


_LONGEST = 200  # characters of an error that a client gets
_UNKNOWN = frozenset({"unclassified", "malformed"})


def refusal_before_sending(error: Exception) -> Outcome | None:
    """Return how an attempt ends with an error before the provider was asked; None if the request can't be its cause.

    What a request's values can raise, they can raise anywhere in our code and in an SDK's. Credentials, settings and
    the machine have types of their own, and stay what the table says of them.
    """
    cause: BaseException | None = error
    if isinstance(error, AttemptFailed):
        cause = error.__cause__ if error.outcome.kind in _UNKNOWN else None
    if not isinstance(cause, _REQUEST_ERRORS):
        return None
    text = f"This provider can't take the request ({type(cause).__name__}: {cause})"
    return Outcome("unsupported", status=400, message=f"{text[:_LONGEST]}.")


_REQUEST_ERRORS = (*_CODEC_ERRORS, RecursionError, OverflowError, httpx2.InvalidURL)
