"""How one attempt at a provider can end, and what that says of the provider.

One row a case. A provider adapter names the *kind*; everybody else reads the table: the breaker
takes the verdict, the failover asks whether another provider may help. Pure data, no I/O.

A kind has two verdicts, because a target's failures are counted in two runs: before the first
content the way in is broken, after it the stream is. One run for both is wrong both ways: reset by
headers it hides streams that die, reset by long streams it hides a dead connect path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Verdict(StrEnum):
    OK = "ok"  # a whole answer: the only proof of health
    STARTED = "started"  # the first content of a stream came: clears the first run, proves nothing
    FAILED_START = "failed_start"  # counts in the run before the first content
    FAILED_STREAM = "failed_stream"  # counts in the run after it
    THROTTLED = "throttled"  # cools the target, counts in no run
    MISCONFIGURED = "misconfigured"  # our own key, quota or model id: opens at once
    NEUTRAL = "neutral"  # says nothing of the provider
    REFUSED = "refused"  # it, or we in its place, refused the request: no word of its health
    FLOWING = "flowing"  # streams go on: evidence, before any of them has ended
    UNUSED = "unused"  # a permit that was never used


class Guilt(StrEnum):
    NOBODY = "nobody"
    PROVIDER = "provider"
    CALLER = "caller"
    US = "us"


@dataclass(frozen=True, slots=True)
class Ending:
    before: Verdict  # ended before the first content
    after: Verdict  # ended after it
    failover: bool  # may the next candidate be asked, as long as nothing was sent to the client?
    guilt: Guilt
    why: str
    alike: str = ""  # maybe the request's own fault, if all that it asks fail so (failover/attempts/comparison.py)


_V = Verdict
_START, _STREAM = _V.FAILED_START, _V.FAILED_STREAM
_SILENT, _BAD = "silent", "bad"

ENDINGS: Mapping[str, Ending] = MappingProxyType(
    {
        # kind                 before            after            next?  guilt           why
        "ok": Ending(_V.OK, _V.OK, False, Guilt.NOBODY, "answered whole"),
        "connect": Ending(_START, _START, True, Guilt.PROVIDER, "no connection: DNS, refused, TLS"),
        "first_token": Ending(_START, _START, True, Guilt.PROVIDER, "no first content in time", alike=_SILENT),
        "timeout": Ending(_START, _STREAM, True, Guilt.PROVIDER, "no whole answer in time", alike=_SILENT),
        "idle": Ending(_START, _STREAM, True, Guilt.PROVIDER, "the stream fell silent", alike=_SILENT),
        "broken": Ending(_START, _STREAM, True, Guilt.PROVIDER, "the connection broke", alike=_BAD),
        "server_error": Ending(_START, _STREAM, True, Guilt.PROVIDER, "5xx, or an in-band error", alike=_BAD),
        "overloaded": Ending(_START, _STREAM, True, Guilt.PROVIDER, "503 or 529 with no delay"),
        "malformed": Ending(_START, _STREAM, True, Guilt.PROVIDER, "the bytes are no answer", alike=_BAD),
        "empty": Ending(_STREAM, _STREAM, True, Guilt.PROVIDER, "200, no content, no finish reason", alike=_BAD),
        "throttled": Ending(_V.THROTTLED, _V.THROTTLED, True, Guilt.PROVIDER, "429, or asked to wait"),
        "credential": Ending(_V.MISCONFIGURED, _V.MISCONFIGURED, True, Guilt.US, "our key is refused"),
        "quota": Ending(_V.MISCONFIGURED, _V.MISCONFIGURED, True, Guilt.US, "our account is used up"),
        "model_missing": Ending(_V.MISCONFIGURED, _V.MISCONFIGURED, True, Guilt.US, "no such model"),
        "unreachable": Ending(_START, _STREAM, True, Guilt.US, "no replica of ours answered in time", alike=_SILENT),
        "lost": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.US, "our replica died in mid-call"),
        "busy": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.US, "our own queue is full"),
        "stalled": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.US, "our own event loop stood still"),
        "unverified": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.NOBODY, "it was not proven to go on with the text"),
        "overtaken": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.NOBODY, "it was silent, and another went on sooner"),
        "conflict": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.PROVIDER, "409: locked for a moment"),
        # No word of the target, whatever a client sends: five of them must not open a circuit that is half open.
        "internal_error": Ending(_V.REFUSED, _V.REFUSED, True, Guilt.US, "a bug of ours: this provider was not asked"),
        "unsupported": Ending(_V.REFUSED, _V.REFUSED, True, Guilt.CALLER, "this tier can't do it"),
        "rejected": Ending(_V.REFUSED, _V.REFUSED, True, Guilt.CALLER, "this tier refuses it; another may not"),
        "bad_request": Ending(_V.REFUSED, _V.REFUSED, False, Guilt.CALLER, "the request is refused"),
        "too_long": Ending(_V.REFUSED, _V.REFUSED, False, Guilt.CALLER, "over the context length"),
        "content_filter": Ending(_V.REFUSED, _V.REFUSED, False, Guilt.CALLER, "policy: no way round"),
        "deadline": Ending(_V.NEUTRAL, _V.NEUTRAL, True, Guilt.CALLER, "the request's time is over"),
        "cancelled": Ending(_V.NEUTRAL, _V.NEUTRAL, False, Guilt.CALLER, "the caller went away"),
        # Unknown must fail safe and be seen.
        "unclassified": Ending(_START, _STREAM, True, Guilt.PROVIDER, "an error we have no row for", alike=_BAD),
    }
)


NO_SUCH_PLACE = "no_such_place"  # the code of a `lost`: a replica of another version has other places
NO_CREDENTIAL = "no_credential"  # the code of a `connect` to the server of tokens, and not to the provider


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended. `retry_after` is in seconds as the provider said it, unclamped."""

    kind: str
    content: bool = False  # had content come before it ended?
    status: int | None = None
    message: str = ""
    code: str | None = None
    type: str | None = None  # as OpenAI's kind of servers say it
    param: str | None = None
    retry_after: float | None = None

    @property
    def ending(self) -> Ending:
        return ENDINGS.get(self.kind, ENDINGS["unclassified"])

    @property
    def last(self) -> bool:
        """Is nobody else asked after it?"""
        return self.kind == "ok" or self.content or not self.ending.failover

    @property
    def verdict(self) -> Verdict:
        return self.ending.after if self.content else self.ending.before
