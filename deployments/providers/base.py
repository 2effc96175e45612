"""The port that every provider speaks, and its time limits.

A provider takes a `Call` and gives a whole `Completed` body, or a stream of `Frames` and then an
`End`. Each failure is an `AttemptFailed` with a kind of `actors/breaker/outcomes.py`. Retries inside an SDK
are off: there is one failover policy, and it is not here.
"""

import asyncio
import email.utils
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from deployments.aio.deadline_timer import Patience
from deployments.errors import AttemptFailed, failed, stalled
from deployments.openai_api.chat import Head, usage_chunk


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. `total` ends a call without a stream; it never ends a stream that flows."""

    connect: float = 3.0
    first_token: float = 10.0
    idle: float = 15.0
    total: float = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt. `model` is the provider's own id, `name` is what the client asked for."""

    body: Mapping[str, Any]
    model: str
    name: str
    limits: Limits

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True, slots=True)
class Completed:
    """A whole answer: the JSON body as bytes, its usage as a dict."""

    body: bytes
    usage: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class End:
    """The stream ended with a finish reason. `tail` is frames still to be sent (usage)."""

    usage: Mapping[str, Any] | None
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Frames:
    """Ready SSE frames. `content`: do they hold the answer's content, or its finish reason?

    `end`: every finish reason has come, so the answer is whole; should nothing more come, this ends it.
    """

    data: bytes
    content: bool
    end: End | None = None


def end_of(head: Head, usage: Mapping[str, Any] | None, call: Call) -> End:
    """The end of a stream, with its usage where the client wants it."""
    return End(usage, usage_chunk(head, usage) if usage and call.wants_usage else b"")


class Provider(Protocol):
    async def complete(self, call: Call) -> Completed: ...

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]: ...

    async def embed(self, call: Call) -> Completed:
        """OpenAI's embeddings; the body's `dimensions` is the row's."""
        ...

    async def close(self) -> None: ...


def kind_of_status(status: int, code: str | None, retry_after: float | None) -> str:
    """The kind of an HTTP error, where nothing more special is known of it."""
    if code in _KIND_OF_CODE:
        return _KIND_OF_CODE[code]
    if status == 429 or (status in (503, 529) and retry_after is not None):
        return "throttled"
    if status in _KIND_OF_STATUS:
        return _KIND_OF_STATUS[status]
    return "server_error" if status >= 500 else "bad_request"


_KIND_OF_STATUS = {
    401: "credential",
    402: "quota",
    403: "credential",
    404: "model_missing",
    408: "server_error",
    409: "conflict",
    424: "server_error",
    503: "overloaded",
    529: "overloaded",
}

_KIND_OF_CODE = {
    "insufficient_quota": "quota",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "model_not_found": "model_missing",
    "context_length_exceeded": "too_long",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "invalid_api_key": "credential",
}


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the provider said it: `retry-after-ms`, a number, or an HTTP date."""
    if (ms := _number(headers.get("retry-after-ms"))) is not None:
        return ms / 1000
    value = headers.get("retry-after")
    if value is None or (seconds := _number(value)) is not None:
        return seconds if value is not None else None
    try:
        at = email.utils.parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, at - time.time())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


async def complete_within(provider: Provider, call: Call) -> Completed:
    return await within_total(provider.complete, call)


async def within_total(work: Callable[[Call], Awaitable[Completed]], call: Call) -> Completed:
    """One whole answer inside the total limit."""
    patience = Patience()
    try:
        with patience.until(asyncio.get_running_loop().time() + call.limits.total):
            return await work(call)
    except TimeoutError:
        if patience.stalled:
            raise stalled() from None
        raise failed("timeout", f"no whole answer within {call.limits.total:g} s") from None
    finally:
        patience.close()


MARKER_SECONDS = 2.0  # how long a whole answer waits for what only ends its stream: usage, `[DONE]`


async def stream_within(provider: Provider, call: Call) -> AsyncGenerator[Frames | End, None]:
    """The provider's stream under the first-token limit and then the idle limit.

    Frames before the first content are held back and come out with it, so that whoever reads may
    take the first item as the proof that an answer has begun. Once its finish reason has come an
    answer is whole, even if its stream never says so.
    """
    watch, patience = _Watch(call.limits), Patience()
    source = provider.stream(call)
    try:
        while True:
            with patience.until(watch.until):
                item = await anext(source, None)
            if isinstance(item, Frames):
                if (ready := watch.take(item)) is not None:
                    given = watch.now()
                    yield ready
                    watch.until += watch.now() - given  # what the reader took is not the provider's silence
                continue
            if item is None:
                raise failed("broken", "the stream ended without a finish reason")
            if not watch.started:
                raise failed("empty", "the stream ended without any content")
            yield item
            return
    except TimeoutError:
        if watch.whole is None:
            raise (stalled(content=watch.started) if patience.stalled else watch.silent()) from None
    except AttemptFailed as error:
        # A connection lost after the last finish reason takes nothing from the answer.
        if watch.whole is None or error.outcome.kind != "broken":
            raise AttemptFailed(replace(error.outcome, content=watch.started)) from error.__cause__
    finally:
        patience.close()
        await source.aclose()
    assert watch.whole is not None
    yield watch.whole


class _Watch:
    """What a stream has shown so far, and until when its next sign of life may take."""

    def __init__(self, limits: Limits):
        self._limits = limits
        self.now = asyncio.get_running_loop().time
        self.until = self.now() + limits.first_token
        self._held = b""
        self.started = False
        self.whole: End | None = None

    def take(self, frames: Frames) -> Frames | None:
        """What may go out now."""
        self.started = self.started or frames.content
        if frames.end is not None:
            if self.whole is None:
                self.until = self.now() + min(self._limits.idle, MARKER_SECONDS)
            self.whole = frames.end
        elif frames.content:  # a comment that keeps a connection open is no sign of life of the model
            self.until = self.now() + self._limits.idle
            self.whole = None  # it goes on after a finish reason: that one ended nothing
        if self.started and not self._held:
            return frames if frames.data else None
        self._held += frames.data
        if not (self.started and self._held):
            return None
        data, self._held = self._held, b""
        return Frames(data, content=True)

    def silent(self) -> AttemptFailed:
        if self.started:
            return failed("idle", f"nothing came for {self._limits.idle:g} s", content=True)
        return failed("first_token", f"nothing came for {self._limits.first_token:g} s")


def call_dict(body: Mapping[str, Any], model: str, name: str, limits: Limits) -> dict[str, Any]:
    """One call as it goes over the hop."""
    return {
        "body": body,
        "model": model,
        "name": name,
        "limits": (limits.connect, limits.first_token, limits.idle, limits.total),
    }


def call_of(data: Mapping[str, Any]) -> Call:
    return Call(data["body"], data["model"], data["name"], Limits(*data["limits"]))
