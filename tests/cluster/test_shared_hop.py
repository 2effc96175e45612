"""Many calls over one connection, on a real cluster: what becomes of one of them is its own."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.cluster.conftest import Cluster, eventually
from tests.cluster.faults import replica_pids
from tests.fakes.server import Behaviour

MANY = 24
PACE = 0.05
ROW = "openai-google_genai"
ROOM = 77  # calls at a time, in conftest.py's override


def body(stream: bool) -> dict[str, Any]:
    return {"model": ROW, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]}


@asynccontextmanager
async def streaming(llm: Cluster, http: httpx2.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    async with http.stream("POST", f"{llm.url}/v1/chat/completions", json=body(True)) as response:
        yield response.aiter_text()


async def read(llm: Cluster, http: httpx2.AsyncClient, begun: asyncio.Event | None = None) -> str:
    text = ""
    async with streaming(llm, http) as parts:
        async for part in parts:
            text += part
            if begun is not None:
                begun.set()
    return text


async def begun(llm: Cluster, http: httpx2.AsyncClient, count: int) -> list[asyncio.Task[str]]:
    """Streams that all have begun."""
    events = [asyncio.Event() for _ in range(count)]
    tasks = [asyncio.create_task(read(llm, http, event)) for event in events]
    async with asyncio.timeout(60):
        await asyncio.gather(*(event.wait() for event in events))
    return tasks


def with_clients(llm: Cluster, main: Callable[[httpx2.AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(timeout=60, limits=limits) as http:
            return await main(http)

    return llm.run(run())


@pytest.fixture
def slow(llm: Cluster) -> Iterator[Cluster]:
    """The first of the row streams for some seconds."""
    fake = llm.fakes["openai"]
    words, fake.words = fake.words, [f" {n}" for n in range(60)]
    fake.behave = Behaviour("answer", pace=PACE)
    eventually(lambda: len(replica_pids("openai")) > 0)
    yield llm
    fake.words = words


def whole(text: str) -> bool:
    return " 59" in text and text.endswith("data: [DONE]\n\n")


def test_one_of_many_streams_is_left_and_only_its_call_upstream_ends(slow: Cluster) -> None:
    async def main(http: httpx2.AsyncClient) -> None:
        others = await begun(slow, http, MANY)
        known = len(slow.fakes["openai"].received)
        slow.fakes["openai"].behave = Behaviour("endless", pace=PACE)
        async with streaming(slow, http) as parts:
            await anext(parts)
        (left,) = slow.fakes["openai"].received[known:]
        assert await asyncio.to_thread(left.gone.wait, 15), "the upstream call went on without its client"
        assert all(whole(text) for text in await asyncio.gather(*others))
        assert not any(r.gone.is_set() and not r.finished.is_set() for r in slow.fakes["openai"].received[:known])

    with_clients(slow, main)


def test_a_reader_that_stands_still_stops_nobody_else(slow: Cluster) -> None:
    slow.fakes["openai"].words = ["x" * 20_000]
    slow.fakes["openai"].behave = Behaviour("endless")

    async def main(http: httpx2.AsyncClient) -> None:
        host, port = slow.url.removeprefix("http://").split(":")
        raw = socket.create_connection((host, int(port)))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = httpx2.Request("POST", f"{slow.url}/v1/chat/completions", json=body(True))
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        slow_at = len(slow.fakes["openai"].received)
        raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        await asyncio.to_thread(eventually, lambda: len(slow.fakes["openai"].received) > slow_at)
        slow.fakes["openai"].words = [f" {n}" for n in range(60)]
        slow.fakes["openai"].behave = Behaviour("answer")
        texts = await asyncio.gather(*(read(slow, http) for _ in range(MANY)))
        assert all(whole(text) for text in texts)
        held = slow.fakes["openai"].received[slow_at]
        assert not held.gone.is_set(), "a slow reader's call was given up"
        raw.close()
        assert await asyncio.to_thread(held.gone.wait, 30)

    with_clients(slow, main)


def test_a_replica_that_dies_ends_each_of_its_calls_by_itself(slow: Cluster) -> None:
    slow.fakes["openai"].behave = Behaviour("endless", pace=PACE)

    async def main(http: httpx2.AsyncClient) -> None:
        streams = await begun(slow, http, MANY)
        slow.fakes["openai"].behave = Behaviour("hang")
        asked = len(slow.fakes["openai"].received)
        url = f"{slow.url}/v1/chat/completions"
        answers = [asyncio.create_task(http.post(url, json=body(False))) for _ in range(MANY)]
        await asyncio.to_thread(eventually, lambda: len(slow.fakes["openai"].received) >= asked + MANY)
        for pid in replica_pids("openai"):
            os.kill(pid, signal.SIGKILL)
        for text in await asyncio.gather(*streams):
            assert "stream_interrupted" in text
            assert "[DONE]" not in text
        for answer in await asyncio.gather(*answers):
            assert answer.status_code == 200
            assert answer.headers["x-breakwater-provider"] == "google_genai"

    with_clients(slow, main)
    slow.fakes["openai"].reset()
    eventually(lambda: replica_pids("openai"), 120)
    eventually(lambda: answers_again(slow), 60)


def answers_again(llm: Cluster) -> bool:
    """Whatever its circuit says: it may have met the dead replica once more."""
    llm.command("reset", "openai")
    return llm.post(model="openai/gpt-5.4-mini").status_code == 200


def test_more_calls_than_a_replica_takes_wait_and_are_answered(slow: Cluster) -> None:
    """Serve's own figure, by an override of the config, means calls."""
    fake, enough = slow.fakes["openai"], threading.Event()
    # A paced fake closes each connection; one who does not know may send the next request into that.
    closes = {"connection": "close"}
    fake.words, fake.behave = [" on", " and on"], Behaviour("endless", pace=PACE, until=enough, headers=closes)

    async def main(http: httpx2.AsyncClient) -> None:
        streams = [asyncio.create_task(read(slow, http)) for _ in range(ROOM + 30)]
        await asyncio.to_thread(eventually, lambda: len(fake.received) >= ROOM, 60)
        await asyncio.sleep(1)  # the others would be there by now
        enough.set()
        assert all(text.endswith("data: [DONE]\n\n") for text in await asyncio.gather(*streams))

    with_clients(slow, main)
    assert len(fake.received) == ROOM + 30
    assert max(request.beside for request in fake.received) == ROOM
