"""The contract between an ingress and a provider replica: the messages' shapes, and two protocols. Pure.

The messages are plain dicts on the wire, because an old replica and a new one call each other during a rolling
deploy. So a key is never renamed, and a reader must not need a key that an older writer does not send.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, NotRequired, Protocol, TypedDict, cast, final

from actors.breaker.outcomes import Outcome
from deployments.openai_api.json_types import JsonObject
from deployments.providers.base import CallMessage
from deployments.providers.http.timing import UpstreamTiming

Address = str | tuple[str, int]  # a name in Linux's abstract namespace, or a host and a port


class OutcomeMessage(TypedDict):
    """An `Outcome` as a dict: the arguments of its constructor."""

    kind: str
    status: NotRequired[int | None]
    message: NotRequired[str]
    code: NotRequired[str | None]
    type: NotRequired[str | None]
    param: NotRequired[str | None]
    retry_after: NotRequired[float | None]
    content: NotRequired[bool]


@final
class ReplyMessage(TypedDict):
    """The reply to a call without a stream: `body` (JSON) and `usage`, or the `outcome` of a failed attempt.

    `native`: the body is in the words of the call's `api`. `came` and `told`: of one that broke off as it came, its
    frames so far and the usage that its provider had told.
    """

    body: NotRequired[bytes]
    usage: NotRequired[JsonObject | None]
    native: NotRequired[bool]
    came: NotRequired[bytes]
    told: NotRequired[JsonObject | None]
    outcome: NotRequired[OutcomeMessage]
    upstream: NotRequired[UpstreamTiming]


@final
class PieceMessage(TypedDict):
    """Pieces of a whole answer have come: `pieces` is how many of these messages there were, this one included.

    The first is sent a moment after the answer's first content. For a call that hears pieces.
    """

    pieces: int


PIECE_SECONDS = 2.0  # between two of them


@final
class EndMessage(TypedDict):
    """The last item of a stream: `usage` and `tail` (frames still to be sent), or the `outcome` of a failed attempt.

    `told` is the usage that the provider of a failed one had told before.
    """

    usage: NotRequired[JsonObject | None]
    told: NotRequired[JsonObject | None]
    tail: NotRequired[bytes]
    outcome: NotRequired[OutcomeMessage]
    upstream: NotRequired[UpstreamTiming]


@final
class UsageMessage(TypedDict):
    """An item among a stream's frames: the usage that the provider has told so far. For a call that hears it."""

    told: JsonObject


class HelloMessage(TypedDict):
    """A replica's answer to a control call: its calls at a time and in flight, and where to connect, if one may.

    `secret` authenticates both ends of the connection. `parts`: it takes a long call in parts. `apart`: it
    takes one whose values come apart, too (`long_calls.py`). `beats`: it is never silent on a connection for long.
    """

    replica: str
    room: int
    under_way: int
    address: NotRequired[Address]
    secret: NotRequired[bytes]
    parts: NotRequired[bool]
    apart: NotRequired[bool]
    beats: NotRequired[bool]


def outcome_message(outcome: Outcome) -> OutcomeMessage:
    """Return the outcome as it crosses the process."""
    return cast(OutcomeMessage, asdict(outcome))


class LastFrames(bytes):
    """Frames behind which nothing but the stream's end is to come. They are mere bytes to another process."""


StreamItem = bytes | UsageMessage | EndMessage


def is_last(item: Mapping[str, Any]) -> bool:
    """Return whether a message is the last item of its call."""
    return not (len(item) == 1 and ("told" in item or "pieces" in item))


def usage_in(item: Mapping[str, Any]) -> JsonObject | None:
    """Return the usage of a `UsageMessage`; None for a stream's last item."""
    return item["told"] if len(item) == 1 and "told" in item else None


class ProviderStream(Protocol):
    """A provider's stream: frames as bytes, then one `EndMessage`. Its owner always closes it.

    A call that hears usage may get a `UsageMessage` among the frames.
    """

    def __anext__(self) -> Awaitable[StreamItem]: ...

    def aclose(self) -> Awaitable[None]: ...


class AnswerStream(Protocol):
    """A `ProviderStream` without the messages of usage."""

    def __anext__(self) -> Awaitable[bytes | EndMessage]: ...

    def aclose(self) -> Awaitable[None]: ...


class CallTransport(Protocol):
    """Carry a call to a provider's replica.

    A failed attempt comes back as data (`outcome`); a failure on the way to the replica raises AttemptFailed.
    """

    async def complete(
        self, provider: str, call: CallMessage, on_piece: Callable[[], None] | None = None
    ) -> ReplyMessage:
        """Return the reply to a call for a whole answer. `on_piece` is called while it comes, where that is told."""
        ...

    def stream(self, provider: str, call: CallMessage) -> ProviderStream: ...


def outcome_in(reply: Mapping[str, Any]) -> Outcome | None:
    data = reply.get("outcome")
    return None if data is None else Outcome(**data)
