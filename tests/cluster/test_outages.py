"""The primary breaks while requests come at a steady rate: what do its clients see, and what does it see?

`uv run pytest -m matrix` runs these and prints their table.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import CLOUDS, LIMITS, Cluster, eventually
from tests.cluster.faults import OPENING, QUESTION
from tests.cluster.replies import APIS, Api, Reply
from tests.fakes.server import Behaviour, FakeServer, status

CHAT = APIS["http"]
RATE, SECONDS, WARM = 10, 10, 60  # requests a second, for so long; healthy ones before, twice as fast
pytestmark = pytest.mark.matrix

Outage = Callable[[FakeServer, str], None]


def behaves(make: Callable[[str], Behaviour]) -> Outage:
    def break_it(fake: FakeServer, wire: str) -> None:
        fake.behave = make(wire)

    return break_it


OUTAGES: dict[str, Outage] = {
    "500": behaves(lambda _: status(500)),
    "429": behaves(lambda _: status(429, retry_after="3")),
    "refused": lambda fake, _: fake.refuse(),
    "reset": behaves(lambda _: Behaviour("reset")),
    "hang": behaves(lambda _: Behaviour("hang")),
}
BROKEN_STREAMS: dict[str, Outage] = {
    "dies": behaves(lambda wire: Behaviour("cut", after=OPENING[wire] + 3, pace=0.005)),
    "stalls": behaves(lambda wire: Behaviour("stall", after=OPENING[wire] + 3)),
}


async def asked(client: httpx2.AsyncClient, url: str, body: dict[str, Any], api: Api = CHAT) -> Reply:
    reply, began = Reply(), time.monotonic()
    reply.read(await client.post(f"{url}{api.path}", json=api.request(body)), api)
    reply.seconds = time.monotonic() - began
    return reply


async def traffic(
    url: str, wire: str, stream: bool, count: int, rate: float = RATE, *, row: str = "", api: Api = CHAT
) -> list[Reply]:
    """Open loop: each request leaves at its time, whatever became of those before it."""
    body = {"model": row or f"first-{wire}", "stream": stream, "messages": QUESTION}
    async with httpx2.AsyncClient(timeout=60) as client:
        loop = asyncio.get_running_loop()
        began, tasks = loop.time(), []
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            tasks.append(asyncio.create_task(asked(client, url, body, api)))
        return await asyncio.gather(*tasks)


@pytest.fixture
def outage(llm: Cluster) -> Any:
    """Five seconds until a probe, as other gateways are measured with."""
    llm.thresholds(recovery_timeout=5)
    yield llm
    llm.thresholds(recovery_timeout=None)


def noted(table: list[Any], what: str, wire: str, stream: bool, healthy: list[Reply], during: list[Reply]) -> None:
    late = [r.seconds - statistics.median(h.seconds for h in healthy) for r in during]
    cuts = statistics.quantiles(late, n=20)
    lost, calls = sum(not r.whole for r in during), sum(r.attempts - (r.provider != wire) for r in during)
    form = "stream" if stream else "whole"
    table.append((what, wire, form, lost, calls, len(during), 1000 * statistics.median(late), 1000 * cuts[18]))


@pytest.mark.parametrize("wire", CLOUDS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("what", OUTAGES)
def test_an_outage_costs_no_client_its_answer(
    outage: Cluster, what: str, wire: str, stream: bool, outages: list[Any]
) -> None:
    healthy = asyncio.run(traffic(outage.url, wire, stream, WARM, 2 * RATE))
    OUTAGES[what](outage.fakes[wire], wire)
    during = asyncio.run(traffic(outage.url, wire, stream, RATE * SECONDS))
    noted(outages, what, wire, stream, healthy, during)
    assert [r.error for r in during if not r.whole] == []
    calls = sum(r.attempts > 1 for r in during)
    # Of the silent, all are under way until the first of them has come to its limit.
    first_limit = LIMITS["first_token"] if stream else LIMITS["timeout_seconds"]
    assert calls <= 4 + (RATE * first_limit if what == "hang" else 0), f"{calls} calls into the dead target"


@pytest.mark.parametrize("wire", CLOUDS)
@pytest.mark.parametrize("what", BROKEN_STREAMS)
def test_streams_that_break_after_some_tokens_cost_three_clients_theirs_at_most(
    outage: Cluster, what: str, wire: str, outages: list[Any]
) -> None:
    healthy = asyncio.run(traffic(outage.url, wire, True, WARM, 2 * RATE))
    BROKEN_STREAMS[what](outage.fakes[wire], wire)
    during = asyncio.run(traffic(outage.url, wire, True, RATE * SECONDS))
    noted(outages, f"stream {what}", wire, True, healthy, during)
    lost = [r for r in during if not r.whole]
    assert all(r.error and r.error["code"] == "stream_interrupted" and not r.done for r in lost)
    assert len(lost) <= 3


TEXT = "Paris is the capital of France, and the home of many people:\n\n- Édith\n- 日本の人\n\nThat is all of it."


@pytest.mark.parametrize("wire", CLOUDS)
@pytest.mark.parametrize("what", BROKEN_STREAMS)
@pytest.mark.parametrize("door", APIS)
def test_a_row_that_lets_texts_go_on_loses_none_of_them(
    outage: Cluster, what: str, wire: str, door: str, outages: list[Any]
) -> None:
    for fake in outage.fakes.values():
        fake.text = TEXT
    row = f"on-{wire}"
    healthy = asyncio.run(traffic(outage.url, wire, True, WARM, 2 * RATE, row=row, api=APIS[door]))
    BROKEN_STREAMS[what](outage.fakes[wire], wire)
    during = asyncio.run(traffic(outage.url, wire, True, RATE * SECONDS, row=row, api=APIS[door]))
    noted(outages, f"text {what}, {door}", wire, True, healthy, during)
    lost = [r for r in during if not (r.whole and r.text == TEXT)]
    native = (door, wire) == ("messages", "anthropic")  # whose stream is in the client's own words, and no chat
    assert [(r.text, r.error) for r in lost] == [] or (native and len(lost) <= 3)
    assert all(r.error and r.error["code"] == "stream_interrupted" for r in lost)


@pytest.mark.parametrize("wire", CLOUDS)
def test_s15_a_minute_of_outage_under_steady_traffic_and_the_way_back(
    llm: Cluster, wire: str, outages: list[Any]
) -> None:
    llm.thresholds(recovery_timeout=10)
    fake, rate = llm.fakes[wire], 2.0
    try:
        healthy = asyncio.run(traffic(llm.url, wire, True, 10, rate))
        fake.behave = status(503)
        during = asyncio.run(traffic(llm.url, wire, True, 120, rate))
        noted(outages, "S15: 503 for 60 s", wire, True, healthy, during)
        assert all(r.whole for r in during)
        opened = next(i for i, r in enumerate(during) if r.attempts == 1)
        after = during[opened:]
        calls = sum(r.attempts > 1 for r in after)
        assert calls <= 1.1 * len(after) / 10, f"{calls} calls in {len(after)} requests"
        fake.reset()
        began = time.monotonic()
        eventually(lambda: _is_back(llm, wire), 30)
        outages.append(("S15: seconds until it is back", wire, "stream", 0, 0, 0, 1000 * (time.monotonic() - began), 0))
    finally:
        llm.thresholds(recovery_timeout=None)


def _is_back(llm: Cluster, wire: str) -> bool:
    (reply,) = asyncio.run(traffic(llm.url, wire, True, 1))
    assert reply.whole
    time.sleep(0.5)
    return reply.provider == wire
