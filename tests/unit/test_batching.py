"""How far apart messages leave, and what a connection does with it. A clock that jumps."""

import asyncio
import math
from collections.abc import Callable

import pytest

from deployments.rpc.batching import BUSY_RATE, MAX_INTERVAL, MIN_INTERVAL, RATE_SECONDS, TIMER_JITTER, BatchInterval
from deployments.rpc.framing import FramedConnection
from deployments.rpc.port import LastFrames
from deployments.rpc.server import BEAT_SECONDS, Item, ServerConnection, ServerMessage, ServerStream
from tests.clock import run_virtually

FRAME = b"data: {}\n\n"
SOME = 0.6 * BUSY_RATE  # a second: enough that lateness counts, too few to widen anything by their number


def late(seconds: float, times: int = 100, rate: float = SOME, end: float = 0.0) -> BatchInterval:
    """So many messages a second, each so late and with one thing in it, the last of them at `end`."""
    interval = BatchInterval()
    for number in range(1 - times, 1):
        sent_at = end + number / rate
        interval.note_sent(sent_at, 1, sent_at - seconds)
    return interval


def rated(rate: float, apart: float = 0.01, seconds: float = 1.0) -> float:
    """The distance after so much, so many a second."""
    interval, now = BatchInterval(), 0.0
    while now < seconds:
        now += apart
        interval.note_sent(now, round(rate * apart))
    return interval.seconds(now)


def test_where_little_comes_and_there_is_room_it_is_the_least() -> None:
    for interval in (BatchInterval(), late(0.0), late(TIMER_JITTER)):
        assert interval.seconds(0.0) == MIN_INTERVAL
    assert rated(BUSY_RATE / 2, apart=0.02) == MIN_INTERVAL


def test_it_grows_with_what_comes_up_to_a_bound() -> None:
    assert rated(3 * BUSY_RATE) == pytest.approx(3 * MIN_INTERVAL, rel=0.1)
    assert rated(6 * BUSY_RATE) == pytest.approx(6 * MIN_INTERVAL, rel=0.1)
    assert rated(1000 * BUSY_RATE) == MAX_INTERVAL


def test_after_a_rush_it_is_the_least_again() -> None:
    interval = BatchInterval()
    interval.note_sent(1.0, 10_000)
    assert interval.seconds(1.0) == MAX_INTERVAL
    assert interval.seconds(1.0 + 10 * RATE_SECONDS) == MIN_INTERVAL


def test_it_follows_lateness_up_to_a_bound_and_back() -> None:
    assert late(0.004).seconds(0.0) == pytest.approx(0.006, rel=0.01)
    interval = late(5.0)
    assert interval.seconds(0.0) == MAX_INTERVAL
    for number in range(1, 100):
        interval.note_sent(number / SOME, 1, number / SOME)
    assert interval.seconds(99 / SOME) == MIN_INTERVAL


def test_however_late_nobody_waits_for_what_will_not_come() -> None:
    seldom = late(5.0, rate=0.8 / MAX_INTERVAL)
    assert seldom.seconds(0.0) == MIN_INTERVAL
    assert late(5.0, rate=1.5 / MAX_INTERVAL).seconds(0.0) == MAX_INTERVAL


def test_once_late_is_not_late() -> None:
    interval = late(0.0, end=-0.01)
    interval.note_sent(0.0, 1, -0.005)
    assert interval.seconds(0.0) == MIN_INTERVAL


class Sent(FramedConnection):
    """What would go over a connection, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[float, list[tuple[int, Item]]]] = []

    def send(self, message: ServerMessage) -> None:
        self.messages.append((asyncio.get_running_loop().time(), message[1]))


def connection_of(interval: BatchInterval) -> tuple[ServerConnection, list[tuple[float, list[tuple[int, Item]]]]]:
    connection, sent = ServerConnection(lambda *_: None, lambda: 2, interval), Sent()
    connection.open(sent)
    connection.streams = dict.fromkeys((1, 2), ServerStream(asyncio.current_task()))  # type: ignore[arg-type]
    return connection, sent.messages


async def a_turn() -> None:
    await asyncio.sleep(0)


async def begun() -> tuple[ServerConnection, list[tuple[float, list[tuple[int, Item]]]], Callable[[], float]]:
    """A connection under load, of which a first frame has left just now; and the clock."""
    clock = asyncio.get_running_loop().time
    connection, sent = connection_of(late(5.0, end=clock()))
    await connection.put(1, FRAME, first=True)
    await a_turn()
    return connection, sent, clock


def test_what_comes_while_a_wide_space_lasts_leaves_together() -> None:
    async def main() -> None:
        connection, sent, clock = await begun()
        assert sent == [(clock(), [(1, FRAME)])]
        left = clock()

        async def writes(number: int, after: float) -> float:
            await asyncio.sleep(after)
            await connection.put(number, FRAME, first=False)
            return clock()

        writers = await asyncio.gather(writes(1, 0.001), writes(2, 0.006))
        assert sent[1:] == [(pytest.approx(left + MAX_INTERVAL), [(1, FRAME), (2, FRAME)])]
        # Whoever has written is told to go on when it leaves, not before.
        assert [at - left for at in writers] == pytest.approx([MAX_INTERVAL, MAX_INTERVAL])

    run_virtually(main())


def test_a_first_frame_takes_along_what_waits_and_the_streams_wait_for_their_time() -> None:
    async def main() -> None:
        connection, sent, clock = await begun()
        left = clock()
        writer = asyncio.create_task(connection.put(1, FRAME, first=False))
        for _ in range(3):
            await asyncio.sleep(0.004)
            await connection.put(2, FRAME, first=True)
        await writer
        assert clock() == pytest.approx(left + MAX_INTERVAL)
        assert [(round(at - left, 3), len(items)) for at, items in sent[1:]] == [(0.004, 2), (0.008, 1), (0.012, 1)]

    run_virtually(main())


def test_what_has_come_by_then_goes_with_the_message_that_is_due() -> None:
    async def main() -> None:
        connection, sent, clock = await begun()
        left = clock()

        async def reads(number: int) -> None:
            for _ in range(3):
                await connection.put(number, FRAME, first=False)
                await a_turn()  # to read what waits in a socket

        await asyncio.gather(reads(1), reads(2))
        times = [(round((at - left) / MAX_INTERVAL, 3), len(items)) for at, items in sent[1:]]
        assert times == [(1, 4), (2, 2)], "two of each that are due, and then the last ones"

    run_virtually(main())


def test_who_has_its_end_behind_it_does_not_wait() -> None:
    async def main() -> None:
        connection, sent, clock = await begun()
        left = clock()
        await connection.put(1, LastFrames(FRAME), first=False)
        await connection.put(1, {"usage": None, "tail": b""}, first=False)
        assert clock() == left
        await asyncio.sleep(MAX_INTERVAL)
        assert [(at, [type(item) for _, item in items]) for at, items in sent[1:]] == [
            (pytest.approx(left + MAX_INTERVAL), [bytes, dict])
        ]

    run_virtually(main())


def test_what_comes_after_a_while_leaves_at_once_and_the_next_a_millisecond_later() -> None:
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        connection, sent = connection_of(BatchInterval())
        began = clock()
        for number in (1, 2, 1):
            await connection.put(number, FRAME, first=False)
        assert clock() == began, "on a core with room nobody waits for what they wrote"
        await a_turn()
        await connection.put(2, FRAME, first=False)
        await asyncio.sleep(BEAT_SECONDS / 4)
        assert [(at - began, len(items)) for at, items in sent] == [(0, 3), (pytest.approx(MIN_INTERVAL), 1)]

    run_virtually(main())


def test_the_only_call_of_a_lane_never_waits() -> None:
    async def main() -> None:
        connection, sent = connection_of(late(5.0, end=asyncio.get_running_loop().time()))
        del connection.streams[2]
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            await connection.put(1, FRAME, first=False)
            await a_turn()
        assert [at - began for at, _ in sent] == [0] * 5

    run_virtually(main())


def test_frames_count_however_few_reads_they_came_in() -> None:
    async def main() -> float:
        connection, sent = connection_of(BatchInterval())
        for number in range(100):
            await connection.put(1, FRAME * 20, first=False)
            while len(sent) <= number:  # noqa: ASYNC110 - on a virtual clock
                await asyncio.sleep(MIN_INTERVAL / 100)
        return sent[-1][0] - sent[-2][0]

    # Twenty frames each T seconds, and T a millisecond for each hundred of them a second.
    assert run_virtually(main()) == pytest.approx(math.sqrt(20 / BUSY_RATE * MIN_INTERVAL), rel=0.1)
