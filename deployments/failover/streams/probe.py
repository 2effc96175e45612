"""Hold back the frames of a probe that streams, until they prove something. No Ray."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.rpc.port import AnswerStream, EndMessage, outcome_message

if TYPE_CHECKING:
    from deployments.failover.attempt import Attempt


async def hold_back(
    attempt: "Attempt", first: bytes, source: AnswerStream, until: float, silent: float
) -> tuple[bytes, AnswerStream, EndMessage | None]:
    """Hold back a probe's frames until it has ended or `until` has come: what breaks before costs no client its answer.

    Return the frames so far, the stream of those to come, and the answer's end if it has come. A probe that has been
    silent for `silent` seconds by then is not handed over before its next frame: a client would gain nothing by it.
    Raises AttemptFailed as long as nothing has been sent, so that the next candidate can be asked.
    """
    clock, frames = asyncio.get_running_loop().time, [first]
    spoke = clock()
    try:
        while (now := clock()) < until:
            coming = asyncio.ensure_future(_following(source))
            try:
                await asyncio.wait([coming], timeout=until - now)
                if not coming.done() and clock() - spoke < silent:
                    return b"".join(frames), _Resumed(coming, source), None
                await asyncio.wait([coming])
            except asyncio.CancelledError:
                coming.cancel()
                await asyncio.wait([coming])
                raise
            item, spoke = coming.result(), clock()
            if not isinstance(item, bytes):
                ended = item or {"outcome": outcome_message(Outcome("lost", message="the replica's stream stopped"))}
                if (outcome := attempt.failure_in(ended)) is not None:
                    raise AttemptFailed(outcome)
                await source.aclose()
                return b"".join(frames), _just(ended), ended
            attempt.content_at = attempt.breaker.now()
            frames.append(item)
    except AttemptFailed as error:
        raise AttemptFailed(replace(error.outcome, content=True)) from error
    return b"".join(frames), source, None


class _Resumed:
    """The source again, from an item on that is awaited already. No generator: one that nobody began can't clean up."""

    def __init__(self, coming: "asyncio.Future[bytes | EndMessage | None]", source: "AnswerStream"):
        self._coming: asyncio.Future[bytes | EndMessage | None] | None = coming
        self._source = source

    async def __anext__(self) -> bytes | EndMessage:
        coming, self._coming = self._coming, None
        if coming is None:
            return await anext(self._source)
        try:
            item = await coming
        except BaseException:
            self._coming = coming  # the one who closes must still wait for it
            raise
        if item is None:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait([self._coming])
        await self._source.aclose()


async def _just(item: EndMessage) -> AsyncGenerator[bytes | EndMessage, None]:
    yield item


async def _following(source: AnswerStream) -> bytes | EndMessage | None:
    return await anext(source, None)
