"""What a codec translated to OpenAI's format and from it, in batches, and whose its errors are. Pure.

Over an answer they are the provider's: its bytes are not what its API documents. Before anything was sent they are
ours: neither a provider that was not asked nor a client whose request was let in can help what our code raises.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

import httpx2

from actors.breaker.outcomes import Outcome
from deployments.errors import INTERNAL_ERROR, AttemptFailed, failed


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


class _Translating:
    """It has no state, and no generator as contextlib's would have: a replica enters it for each piece of an answer."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, _CODEC_ERRORS):
            raise _malformed() from None


_TRANSLATING = _Translating()


def translating() -> AbstractContextManager[None]:
    """Translate a codec's errors over a whole answer to AttemptFailed `malformed`."""
    return _TRANSLATING


# Raised by a codec when the JSON does not have the shape that its API documents, or is no JSON.
_CODEC_ERRORS = (LookupError, TypeError, AttributeError, ValueError, RecursionError)


def _malformed() -> AttemptFailed:
    return failed("malformed", "the provider's answer does not have the shape that its API documents", status=200)


_UNKNOWN = frozenset({"unclassified", "malformed"})


def bug_before_sending(error: Exception) -> Outcome | None:
    """Return how an attempt ends with a bug before the provider was asked; None for any other error.

    What a request's values can raise, they can raise anywhere in our code and in an SDK's. Credentials, settings and
    the machine have types of their own, and stay what the table says of them.
    """
    cause: BaseException | None = error
    if isinstance(error, AttemptFailed):
        cause = error.__cause__ if error.outcome.kind in _UNKNOWN else None
    if not isinstance(cause, _BUGS):
        return None
    # Its text may hold what we keep to ourselves: it is in the log alone.
    return Outcome("internal_error", message=f"{INTERNAL_ERROR} ({type(cause).__name__})")


_BUGS = (*_CODEC_ERRORS, ArithmeticError, AssertionError, NameError, RuntimeError, httpx2.InvalidURL)
