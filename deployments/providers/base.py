"""The port that every provider implements, and its time limits.

A provider takes a `Call` and returns a whole `Completed` body, or a stream of `Frames` and then an `End`. Each failure
is an `AttemptFailed` with a kind of `actors/breaker/outcomes.py`. Retries inside an SDK are off: failover has the one
retry policy.
"""

import asyncio
import email.utils
import math
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, NotRequired, Protocol, TypedDict

from msgspec import Struct

from actors.breaker.outcomes import Outcome
from deployments.aio.deadline_timer import DeadlineTimer
from deployments.errors import AttemptFailed, failed, stalled
from deployments.openai_api.chat import Head, usage_chunk
from deployments.openai_api.json_types import JsonDict, JsonObject
from deployments.providers.credentials.renewed import Renewed
from deployments.providers.extras import Extras
from deployments.providers.time_limits import TimeLimits

MOST_AGAIN = 5


class Call(Struct, frozen=True):
    """One attempt. `model` is the provider's own id, and `name` the one that the client asked for."""

    body: JsonObject
    model: str
    name: str
    limits: TimeLimits
    again: int = MOST_AGAIN  # how often the server may be asked again in other words
    is_long: bool = False  # its body is so long that it is written in slices
    within: float = math.inf  # seconds that its request will wait for it
    cache_key: str | None = None  # by which requests with the same begin of a prompt are told
    api: str = ""  # the API in whose words the body is, if it is no chat
    caller: Mapping[str, str] | None = None  # who asks, for a vendor that is to be told
    extras: Extras | None = None  # what the configuration adds to its request
    place: str = ""  # of the provider, if that has places
    must: str | None = None  # it goes on with the text of its last message; what must come first, which may be nothing
    flows: bool = False  # a whole answer may take as long as pieces of it come: who waits for it hears of them
    join: "ChunkJoin | None" = None  # of a stream that is wanted whole: an adapter may add the chunks that it parses

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


class ChunkJoin(Protocol):
    """What puts the chunks of a chat together. `by_chunks`: an adapter adds them, so the frames say nothing more."""

    by_chunks: bool

    def add_chunk(self, event: bytes, chunk: JsonDict) -> None:
        """Add a chunk that is the data of an event; that is empty if a change of the chunk is not in its bytes."""
        ...

    def take_run(self, events: bytes, at: int) -> tuple[int, bool]:
        """Add the events from `at` on that are as the last chunk but for its text, without parsing them.

        Return where those end, and whether any of them says something.
        """
        ...


class Completed(Struct, frozen=True):
    """A whole answer: the JSON body as bytes, and its usage. `native`: it is in the words of the call's `api`."""

    body: bytes
    usage: JsonObject | None
    native: bool = False


class End(Struct, frozen=True):
    """The stream ended with a finish reason. `tail` is frames still to be sent (usage)."""

    usage: JsonObject | None
    tail: bytes = b""


class Frames(Struct, frozen=True):
    """Ready SSE frames. `content` says whether they hold the answer's content, or its finish reason.

    `end` is set once every finish reason has arrived. The answer is whole then, and ends so if nothing follows.
    `told` is the usage that the provider has told so far, for an answer that breaks off.
    """

    data: bytes
    content: bool
    end: End | None = None
    told: JsonObject | None = None


def read_secret(variable: str | None) -> str:
    """Return the secret in an environment variable, which the settings name; empty if there is none."""
    return os.environ.get(variable, "") if variable else ""


def end_of(head: Head, usage: JsonObject | None, call: Call) -> End:
    """Return the end of a stream, with a frame of its usage if the client wants one."""
    return End(usage, usage_chunk(head, usage) if usage and call.wants_usage else b"")


class BrokenOff(AttemptFailed):
    """A whole answer that broke off after its begin: what came of it as frames, and the usage that was told by then."""

    def __init__(self, outcome: Outcome, came: bytes, told: JsonObject | None):
        super().__init__(outcome)
        self.came, self.told = came, told


class Provider(Protocol):
    """A provider may have a `credential`, or `credentials` by place: see `credentials_of`.

    It may have `streams_whole(call)`: whether its streams hold all that its whole answer to such a call would.
    """

    async def complete(self, call: Call) -> Completed: ...

    def stream(self, call: Call) -> AsyncGenerator[Frames | End, None]: ...

    async def embed(self, call: Call) -> Completed:
        """Return OpenAI's embeddings. The body's `dimensions` is the number that the row is configured with."""
        ...

    async def close(self) -> None: ...


def credential_of(provider: Provider) -> Renewed[Any] | None:
    """Return what must be renewed while the provider is used; None where nothing expires."""
    found: Renewed[Any] | None = getattr(provider, "credential", None)
    return found


def credentials_of(provider: Provider) -> dict[str, Renewed[Any]]:
    """Return the same by place, which is an empty text where the provider has no places."""
    places: dict[str, Renewed[Any]] | None = getattr(provider, "credentials", None)
    if places is not None:
        return places
    found = credential_of(provider)
    return {} if found is None else {"": found}


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait from `retry-after-ms` or `retry-after` (a number, or an HTTP date), if any."""
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
    return await run_within_total(provider.complete, call)


async def run_within_total(work: Callable[[Call], Awaitable[Completed]], call: Call) -> Completed:
    """Return one whole answer. Raises AttemptFailed `timeout` after the total limit."""
    timer = DeadlineTimer()
    try:
        with timer.until(asyncio.get_running_loop().time() + call.limits.total):
            return await work(call)
    except TimeoutError:
        if timer.stalled:
            raise stalled() from None
        raise failed("timeout", f"no whole answer within {call.limits.total:g} s") from None
    finally:
        timer.close()


MOST_HELD = 4 * 1024 * 1024  # bytes of frames before the first content: a stream that has more holds no answer
MARKER_SECONDS = 2.0  # how long a whole answer waits for the rest of its stream: usage, `[DONE]`


async def stream_within(provider: Provider, call: Call) -> AsyncGenerator[Frames | End, None]:
    """Yield the provider's stream under the first-token limit, and then the idle limit.

    Frames before the first content are held back and leave with it: so the first item proves that the answer has
    begun. An answer is whole once its finish reason has arrived, even if its stream never ends.
    Raises AttemptFailed: `first_token`, `idle`, `broken`, `empty`, `stalled`, or the provider's own.
    """
    watchdog, timer = _Watchdog(call.limits), DeadlineTimer()
    source = provider.stream(call)
    try:
        while True:
            with timer.until(watchdog.until):
                item = await anext(source, None)
            if isinstance(item, Frames):
                if (ready := watchdog.take(item)) is not None:
                    yielded_at = watchdog.now()
                    yield ready
                    watchdog.until += watchdog.now() - yielded_at  # the reader's time is not the provider's silence
                continue
            if item is None:
                raise failed("broken", "the stream ended without a finish reason")
            if not watchdog.started:
                raise failed("empty", "the stream ended without any content")
            yield item
            return
    except TimeoutError:
        if watchdog.whole is None:
            raise (stalled(content=watchdog.started) if timer.stalled else watchdog.timeout()) from None
    except AttemptFailed as error:
        # The answer is whole when the connection is lost after the last finish reason.
        if watchdog.whole is None or error.outcome.kind != "broken":
            raise AttemptFailed(replace(error.outcome, content=watchdog.started)) from error.__cause__
    finally:
        timer.close()
        await source.aclose()
    assert watchdog.whole is not None
    yield watchdog.whole


class _Watchdog:
    """The state of a stream, and the instant until which its next content must arrive."""

    def __init__(self, limits: TimeLimits):
        self._limits = limits
        self.now = asyncio.get_running_loop().time
        self.until = self.now() + limits.first_token
        self._held = bytearray()
        self.started = False
        self.whole: End | None = None

    def take(self, frames: Frames) -> Frames | None:
        """Return the frames that may be sent now, if any."""
        self.started = self.started or frames.content
        if frames.end is not None:
            if self.whole is None:
                self.until = self.now() + min(self._limits.idle, MARKER_SECONDS)
            self.whole = frames.end
        elif frames.content:  # a keep-alive comment is no sign of life of the model
            self.until = self.now() + self._limits.idle
            self.whole = None  # content after a finish reason: the answer goes on
        if self.started and not self._held:
            return frames if frames.data else None
        self._held += frames.data
        if not (self.started and self._held):
            if len(self._held) > MOST_HELD:
                raise failed("malformed", f"{MOST_HELD // 2**20} MiB of the stream hold no content")
            return None
        data, self._held = bytes(self._held), bytearray()
        return Frames(data, content=True, told=frames.told)

    def timeout(self) -> AttemptFailed:
        if self.started:
            return failed("idle", f"no content for {self._limits.idle:g} s", content=True)
        return failed("first_token", f"no content within {self._limits.first_token:g} s")


LONG_CALL = 1024 * 1024  # bytes of a request's JSON: a shorter one is pickled and written at once


class CallMessage(TypedDict):
    """A `Call` as it crosses the process. `limits` are TimeLimits's fields in order.

    `verb` is `chat` (the default) or `embed`; the method or the frame that carries a call says whether it streams.
    `trace` holds the headers of its trace, `again` how often the server may be asked again in other words, and `within`
    the seconds that its request will wait. `cache_key` is alike for calls of one conversation, and of no other.
    `hears_usage`: who calls takes a `UsageMessage` among a stream's frames; an older ingress does not. `is_long`: it
    may take more than a megabyte, so nothing is done with all of it at once.
    `api`: the body is a request of that API as its client wrote it, and the answer is to be one too. `place`: by which
    of the provider's places it goes. `hears_pieces`: who waits for a whole answer takes a `PieceMessage` from time to
    time while pieces of it come; an older ingress does not.
    `must`: it is to go on with the text of the last message, and must begin with this; an older replica knows no such
    thing.
    `caller`: who asks, for a provider whose settings say that its vendor is told: a part of `tenant`, `agent` and
    `request_id`. `row`: the row of its target, where the configuration adds something to that target's requests.
    """

    body: JsonObject
    model: str
    name: str
    limits: tuple[float, float, float, float]
    verb: NotRequired[str]
    trace: NotRequired[Mapping[str, str]]
    again: NotRequired[int]
    hears_usage: NotRequired[bool]
    is_long: NotRequired[bool]
    within: NotRequired[float]
    cache_key: NotRequired[str]
    api: NotRequired[str]
    caller: NotRequired[Mapping[str, str]]
    row: NotRequired[str]
    place: NotRequired[str]
    hears_pieces: NotRequired[bool]
    must: NotRequired[str]


def call_dict(body: JsonObject, model: str, name: str, limits: TimeLimits) -> CallMessage:
    """Return one call as it crosses the process."""
    return {
        "body": body,
        "model": model,
        "name": name,
        "limits": (limits.connect, limits.first_token, limits.idle, limits.total),
    }


def call_of(data: CallMessage) -> Call:
    limits = TimeLimits(*data["limits"])
    again, within, is_long = data.get("again", MOST_AGAIN), data.get("within", math.inf), data.get("is_long", False)
    more = again, is_long, within, data.get("cache_key"), data.get("api", ""), data.get("caller")
    place, flows = data.get("place", ""), data.get("hears_pieces", False)
    must = data.get("must")
    return Call(data["body"], data["model"], data["name"], limits, *more, place=place, flows=flows, must=must)
