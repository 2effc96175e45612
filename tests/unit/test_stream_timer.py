"""What ends a stream at its limits, on a virtual clock: races, and what is left behind."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from actors.breaker.outcomes import Verdict
from deployments.errors import AttemptFailed
from deployments.providers.base import Call, Completed, End, Frames, run_within_total, stream_within
from deployments.providers.time_limits import TimeLimits
from tests.clock import VirtualLoop, run_virtually

FRAME = Frames(b"data: {}\n\n", content=True)
IDLE = 15.0


class Fake:
    def __init__(self, source: Callable[[], AsyncGenerator[Any, None]]) -> None:
        self._source = source

    def stream(self, call: Call) -> AsyncGenerator[Any, None]:
        return self._source()


def limited(source: Callable[[], AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    call = Call({"messages": []}, "m", "row", TimeLimits(connect=3, first_token=10, idle=IDLE, total=30))
    return stream_within(Fake(source), call)  # type: ignore[arg-type]


async def one_then_silence() -> AsyncGenerator[Any, None]:
    yield FRAME
    await asyncio.Event().wait()


def timers() -> int:
    loop: Any = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)


def now() -> float:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.now


def nobody_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_reader_that_is_cancelled_as_its_time_is_up_is_cancelled(ours_first: bool) -> None:
    async def main() -> None:
        items = limited(one_then_silence)

        async def read() -> None:
            async for _ in items:
                pass

        loop = asyncio.get_running_loop()
        at = loop.time() + IDLE
        if not ours_first:
            loop.call_at(at, lambda: reader.cancel())
        reader = asyncio.create_task(read())
        await asyncio.sleep(1)
        if ours_first:
            loop.call_at(at, lambda: reader.cancel())
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert reader.cancelled()
        assert timers() == 0

    run_virtually(main())


def test_a_readers_own_limit_at_the_same_time_is_its_own() -> None:
    async def main() -> None:
        async def read() -> None:
            async with asyncio.timeout(IDLE):
                async for _ in limited(one_then_silence):
                    pass

        with pytest.raises(TimeoutError):
            await read()
        assert nobody_is_cancelled()
        assert timers() == 0

    run_virtually(main())


@pytest.mark.parametrize("before", [True, False])
def test_what_comes_as_the_time_is_up_comes_or_is_too_late(before: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        comes = loop.create_future()

        async def source() -> AsyncGenerator[Any, None]:
            yield FRAME
            await comes
            yield FRAME
            yield End(None)

        at = loop.time() + IDLE
        if before:
            loop.call_at(at, comes.set_result, None)
        items = limited(source)
        await anext(items)
        reading = asyncio.ensure_future(anext(items))
        await asyncio.sleep(1)
        if not before:
            loop.call_at(at, lambda: comes.done() or comes.set_result(None))
        await asyncio.wait([reading])
        error = reading.exception()
        assert error is None or (isinstance(error, AttemptFailed) and error.outcome.kind == "idle")
        await items.aclose()
        assert timers() == 0

    run_virtually(main())


def test_a_source_that_gives_its_item_all_the_same_goes_on() -> None:
    async def source() -> AsyncGenerator[Any, None]:
        yield FRAME
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield FRAME
        await asyncio.sleep(IDLE - 1)
        yield FRAME
        yield End(None)

    async def main() -> None:
        items = [item async for item in limited(source)]
        assert len(items) == 4
        assert nobody_is_cancelled()
        assert timers() == 0

    run_virtually(main())


def test_a_source_that_breaks_as_it_is_ended_is_what_failed() -> None:
    async def source() -> AsyncGenerator[Any, None]:
        yield FRAME
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async for _ in limited(source):
                pass
        assert nobody_is_cancelled()
        assert timers() == 0

    run_virtually(main())


@pytest.mark.parametrize("pause", [0.0, 14.0, 16.0, 40.0])
def test_a_stream_that_its_reader_leaves_leaves_no_timer(pause: float) -> None:
    async def main() -> None:
        items = limited(one_then_silence)
        await anext(items)
        await asyncio.sleep(pause)
        await items.aclose()
        assert timers() == 0
        assert nobody_is_cancelled()

    run_virtually(main())


def test_an_end_that_is_due_sooner_than_the_last_one_comes_sooner() -> None:
    async def source() -> AsyncGenerator[Any, None]:
        yield FRAME
        yield Frames(b"data: {fin}\n\n", content=True, end=End({"total_tokens": 3}))
        await asyncio.Event().wait()

    async def main() -> None:
        began = now()
        items = [item async for item in limited(source)]
        assert items[-1] == End({"total_tokens": 3})
        assert now() - began == 2
        assert timers() == 0

    run_virtually(main())


def test_nothing_at_all_ends_at_the_first_tokens_limit() -> None:
    async def source() -> AsyncGenerator[Any, None]:
        for _ in range(100):
            await asyncio.sleep(1)
            yield Frames(b": keep-alive\n\n", content=False)

    async def main() -> None:
        began = now()
        with pytest.raises(AttemptFailed) as error:
            await anext(limited(source))
        assert (error.value.outcome.kind, error.value.outcome.content) == ("first_token", False)
        assert now() - began == 10

    run_virtually(main())


# Our own loop stands still, and the limits' timers ring late.


def stands_still_after(seconds: float, stall: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)

    def stand_still() -> None:
        loop.now += stall

    loop.call_later(seconds, stand_still)


CALL = Call({"messages": []}, "m", "row", TimeLimits(connect=3, first_token=10, idle=IDLE, total=30))


@pytest.mark.parametrize("stall", [15.0, 600.0])
def test_a_stream_that_came_while_we_stood_still_is_not_ended(stall: float) -> None:
    async def source() -> AsyncGenerator[Any, None]:
        await asyncio.sleep(9)
        yield FRAME
        await asyncio.sleep(IDLE - 1)
        yield FRAME
        yield End(None)

    async def main() -> None:
        stands_still_after(8, stall)
        stands_still_after(8 + stall + 12, stall)
        assert len([item async for item in limited(source)]) == 3
        assert nobody_is_cancelled()
        assert timers() <= 1  # the second stall's own

    run_virtually(main())


@pytest.mark.parametrize("frames", [0, 1])
@pytest.mark.parametrize(("stall", "kinds"), [(0.0, ("first_token", "idle")), (60.0, ("stalled", "stalled"))])
def test_silence_while_we_stood_still_is_no_fault_of_the_provider(
    frames: int, stall: float, kinds: tuple[str, str]
) -> None:
    async def source() -> AsyncGenerator[Any, None]:
        for _ in range(frames):
            yield FRAME
        await asyncio.Event().wait()

    async def main() -> None:
        stands_still_after(5, stall)
        with pytest.raises(AttemptFailed) as caught:
            async for _ in limited(source):
                pass
        outcome = caught.value.outcome
        assert (outcome.kind, outcome.content) == (kinds[frames], bool(frames))
        assert (outcome.verdict is Verdict.NEUTRAL) is bool(stall)
        assert timers() == 0

    run_virtually(main())


def test_an_answer_that_is_whole_is_whole_whoever_stood_still() -> None:
    async def source() -> AsyncGenerator[Any, None]:
        yield Frames(b"data: {fin}\n\n", content=True, end=End({"total_tokens": 3}))
        await asyncio.Event().wait()

    async def main() -> None:
        stands_still_after(1, 60)
        items = [item async for item in limited(source)]
        assert items[-1] == End({"total_tokens": 3})

    run_virtually(main())


@pytest.mark.parametrize(
    ("seconds", "stall", "kind"),
    [(29.0, 0.0, None), (31.0, 0.0, "timeout"), (29.0, 60.0, None), (31.0, 2.5, "timeout"), (1000.0, 60.0, "stalled")],
)
def test_a_whole_answer_has_its_time_without_our_own_lag(seconds: float, stall: float, kind: str | None) -> None:
    answer = Completed(b"{}", None)

    async def work(call: Call) -> Completed:
        await asyncio.sleep(seconds)
        return answer

    async def main() -> None:
        stands_still_after(28, stall)
        if kind is None:
            assert await run_within_total(work, CALL) == answer
        else:
            with pytest.raises(AttemptFailed) as caught:
                await run_within_total(work, CALL)
            assert caught.value.outcome.kind == kind
        assert nobody_is_cancelled()
        assert timers() == 0

    run_virtually(main())


def test_a_timeout_that_the_work_itself_raises_after_a_stall_is_not_ours() -> None:
    async def work(call: Call) -> Completed:
        await asyncio.sleep(20)
        raise TimeoutError

    async def main() -> None:
        stands_still_after(5, 60)
        with pytest.raises(AttemptFailed) as caught:
            await run_within_total(work, CALL)
        assert caught.value.outcome.kind == "timeout"

    run_virtually(main())
