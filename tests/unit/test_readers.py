"""A reader that takes nothing holds nothing for ever: what becomes of its stream, and what it is told."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import failed
from deployments.failover.streams.answer import StreamAnswer
from deployments.failover.streams.reader_watch import READER_SECONDS
from deployments.openai_api.chat import DONE
from tests.unit.test_failover import stream
from tests.unit.tiers import E500, REST_SECONDS, ask, in_tiers, nothing_is_left, opened, state
from tests.unit.world import World


async def reading(w: World, seconds: float | None = None) -> tuple[StreamAnswer, AsyncGenerator[bytes, None]]:
    """A stream of a word a second, of which one frame was read."""
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 2000, 1.0
    answer = await stream(w, seconds)
    frames = answer.frames()
    assert b'"content"' in await anext(frames)
    return answer, frames


def error_in(data: bytes) -> dict[str, Any]:
    return dict(json.loads(data.removeprefix(b"data: "))["error"])


@in_tiers()
async def test_a_reader_that_takes_nothing_for_long_lets_go_of_the_provider_and_is_told_when_it_comes_back(
    w: World,
) -> None:
    answer, frames = await reading(w)
    await asyncio.sleep(READER_SECONDS - 1)
    assert (w.provider("aws").cancelled, w.breaker.under_way["aws"]) == (0, 1)
    await asyncio.sleep(2.1)
    assert (w.provider("aws").cancelled, w.breaker.under_way["aws"]) == (1, 0)
    assert answer.record.summary is not None
    assert answer.record.summary.outcome == "cancelled"
    (last,) = [frame async for frame in frames]
    error = error_in(last)
    assert error["code"] == "stream_interrupted"
    assert error["message"] == f"The stream from aws/haiku broke off: the client read nothing for {READER_SECONDS:g} s."
    assert [attempt["outcome"] for attempt in error["attempts"]] == ["cancelled"]
    await answer.close()
    await w.settle()
    health = w.targets()["aws/haiku"]
    assert (health["state"], health["failed"], health["neutral"]) == ("closed", 0, 1)
    assert nothing_is_left(w)


@pytest.mark.parametrize("seconds", [30.0, 900.0])
@in_tiers()
async def test_a_reader_that_stops_is_held_to_its_own_deadline(w: World, seconds: float) -> None:
    answer, frames = await reading(w, seconds)
    over = min(seconds, READER_SECONDS)
    await asyncio.sleep(over - 1)
    assert w.provider("aws").cancelled == 0
    await asyncio.sleep(2.1)
    assert w.provider("aws").cancelled == 1
    (last,) = [frame async for frame in frames]
    code = "deadline_exceeded" if seconds < READER_SECONDS else "stream_interrupted"
    assert error_in(last)["code"] == code
    await answer.close()


@in_tiers()
async def test_a_configured_deadline_is_no_limit_of_a_reader(w: World) -> None:
    answer, frames = await reading(w)
    await asyncio.sleep(300)
    assert w.service.deadline().total < 300
    assert b'"content"' in await anext(frames)
    await frames.aclose()
    await answer.close()


@in_tiers()
async def test_a_reader_that_waits_for_a_slow_provider_takes_what_there_is(w: World) -> None:
    w.provider("aws").words, w.provider("aws").pace = ["w"] * 60, 14.0
    answer = await stream(w)
    assert b"".join([frame async for frame in answer.frames()]).endswith(DONE)
    await answer.close()


@pytest.mark.parametrize("pause", [1.0, READER_SECONDS - 1, READER_SECONDS + 1])
@in_tiers()
async def test_a_reader_that_stops_and_leaves_ends_its_stream_once(w: World, pause: float) -> None:
    answer, frames = await reading(w)
    await asyncio.sleep(pause)
    await frames.aclose()
    await answer.close()
    await answer.close()
    assert w.provider("aws").cancelled == 1
    await w.settle()
    assert w.targets()["aws/haiku"]["neutral"] == 1


@in_tiers()
async def test_a_probe_whose_reader_stops_closes_the_circuit_by_what_has_flowed(w: World) -> None:
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)
    answer, frames = await reading(w)
    assert answer.target == "aws/haiku"
    await asyncio.sleep(READER_SECONDS + 10)
    assert state(w, "aws/haiku") == "closed"
    assert nothing_is_left(w)
    assert (await ask(w)).by == "aws/haiku"
    await frames.aclose()
    await answer.close()


@in_tiers()
async def test_a_stream_that_ended_badly_while_nobody_read_is_told_as_it_ended(w: World) -> None:
    w.provider("aws").ends, w.provider("aws").after, w.provider("aws").pace = [Outcome("broken", content=True)], 1, 1.0
    answer = await stream(w)
    frames = answer.frames()
    await anext(frames)
    await asyncio.sleep(60)
    (last,) = [frame async for frame in frames]
    assert error_in(last)["attempts"][0]["outcome"] == "broken"
    await answer.close()


@in_tiers()
async def test_a_stream_that_nobody_begins_to_read_is_let_go_of_when_it_is_closed(w: World) -> None:
    w.provider("aws").ends = [E500, None]
    answer = await stream(w)
    await answer.close()
    assert nothing_is_left(w)


@in_tiers()
async def test_a_probe_that_breaks_after_it_was_handed_over_and_is_read_no_more_leaves_nothing_unheard(
    w: World,
) -> None:
    """It is handed over while its next item is awaited; that item fails, and nobody reads it."""
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
    await opened(w, "aws")
    await asyncio.sleep(REST_SECONDS)

    async def breaks(provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        yield b"data: {}\n\n"
        await asyncio.sleep(9.9)
        yield b"data: {}\n\n"
        await asyncio.sleep(1)
        raise failed("lost", "gone")

    w.hop.stream = breaks  # type: ignore[method-assign, assignment]
    answer = await stream(w)
    frames = answer.frames()
    await anext(frames)
    await asyncio.sleep(30)
    await frames.aclose()
    await answer.close()
    del answer, frames
    await asyncio.sleep(1)
    assert unheard == []
    assert nothing_is_left(w)
