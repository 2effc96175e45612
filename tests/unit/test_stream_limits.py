"""The limits of a stream, where its reader or its end take their time. On a virtual clock."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments.errors import AttemptFailed
from deployments.providers.base import MARKER_SECONDS, Call, End, Frames, stream_within
from deployments.providers.time_limits import TimeLimits
from tests.clock import run_virtually

LIMITS = TimeLimits(connect=3, first_token=10, idle=15, total=30)


def call(**body: Any) -> Call:
    return Call({"messages": [], **body}, "m", "row", LIMITS)


class Fake:
    def __init__(self, make: Any) -> None:
        self.make = make

    def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        return self.make(call)


def test_a_reader_that_pauses_is_no_silence_of_the_provider() -> None:
    async def frames(call: Call) -> AsyncGenerator[Any, None]:
        for _ in range(5):
            await asyncio.sleep(0.01)  # the next frame is there, a turn of the loop away
            yield Frames(b"data: {}\n\n", content=True)
        yield End(None)

    async def main() -> None:
        got = []
        async for item in stream_within(Fake(frames), call()):  # type: ignore[arg-type]
            got.append(item)
            if len(got) == 1:
                await asyncio.sleep(16)  # the client (or the hop's flow control) takes no more for a while
        assert isinstance(got[-1], End)
        assert len(got) == 6

    run_virtually(main())


def test_an_answer_that_goes_on_after_a_finish_reason_may_pause_as_before_and_is_not_whole() -> None:
    async def frames(call: Call) -> AsyncGenerator[Any, None]:
        yield Frames(b"one", content=True, end=End(None))
        await asyncio.sleep(MARKER_SECONDS - 0.1)
        yield Frames(b"two", content=True)
        await asyncio.sleep(LIMITS.idle - 0.1)
        yield Frames(b"three", content=True)
        await asyncio.sleep(LIMITS.idle + 1)

    async def main() -> None:
        items = stream_within(Fake(frames), call())  # type: ignore[arg-type]
        for word in (b"one", b"two", b"three"):
            item = await anext(items)
            assert isinstance(item, Frames)
            assert item.data == word
        with pytest.raises(AttemptFailed) as caught:
            await anext(items)
        assert caught.value.outcome.kind == "idle"

    run_virtually(main())


def test_a_reader_that_pauses_loses_no_usage() -> None:
    async def frames(call: Call) -> AsyncGenerator[Any, None]:
        yield Frames(b"data: {fin}\n\n", content=True, end=End(None))
        await asyncio.sleep(0.01)
        yield Frames(b"data: {usage}\n\n", content=False, end=End({"total_tokens": 3}))
        yield End({"total_tokens": 3})

    async def main() -> None:
        got = []
        async for item in stream_within(Fake(frames), call()):  # type: ignore[arg-type]
            got.append(item)
            await asyncio.sleep(3)
        assert got[-1].usage == {"total_tokens": 3}

    run_virtually(main())
