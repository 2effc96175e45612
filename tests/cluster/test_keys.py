"""Requests that are sent twice, on a real cluster: by a key, by the openai SDK's own retry, over killed replicas."""

import asyncio
import collections
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from tests.cluster.conftest import Cluster, eventually
from tests.cluster.faults import replica_pids
from tests.cluster.test_chaos import with_replicas
from tests.fakes.server import Behaviour

ROW = "first-openai"
PAIRS = 200


def body(text: str) -> dict[str, Any]:
    return {"model": ROW, "messages": [{"role": "user", "content": text}]}


def asked(llm: Cluster) -> "collections.Counter[str]":
    """How often each text came to a provider."""
    received = [r for fake in llm.fakes.values() for r in fake.received if "messages" in r.body]
    return collections.Counter(str(r.body["messages"][-1]["content"]) for r in received)


@pytest.fixture
def slow(llm: Cluster) -> Iterator[Cluster]:
    llm.fakes["openai"].behave = Behaviour("answer", pace=0.3)  # five words and two frames more
    yield llm
    llm.fakes["openai"].reset()


async def ask(llm: Cluster, client: httpx2.AsyncClient, key: str, *, patient: bool = False) -> httpx2.Response:
    """Ask with a key; `patient`: again where the connection broke, as an SDK does."""
    while True:
        try:
            headers = {"idempotency-key": key}
            answer = await client.post(f"{llm.url}/v1/chat/completions", json=body(key), headers=headers)
        except httpx2.TransportError:
            if not patient:
                raise
        else:
            if not patient or answer.status_code == 200:
                return answer
        await asyncio.sleep(0.3)


async def all_pairs(llm: Cluster, keys: list[str], **more: bool) -> dict[str, list[httpx2.Response]]:
    limits, at_once = httpx2.Limits(max_keepalive_connections=0), asyncio.Semaphore(30)
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:

        async def pair(key: str) -> list[httpx2.Response]:
            async with at_once:
                first = asyncio.create_task(ask(llm, client, key, **more))
                await asyncio.sleep(0.2)
                return list(await asyncio.gather(first, ask(llm, client, key, **more)))

        return dict(zip(keys, await asyncio.gather(*map(pair, keys)), strict=True))


def test_two_requests_with_one_key_are_one_call_of_the_provider(slow: Cluster) -> None:
    began = time.monotonic()
    found = asyncio.run(all_pairs(slow, ["one-pair"]))
    print(f"\nthe first request with a key: {time.monotonic() - began - 0.3 * 7:.1f} s more than its answer takes")
    assert sorted(r.headers["x-breakwater-idempotent"] for r in found["one-pair"]) == ["joined", "new"]
    assert len({r.content for r in found["one-pair"]}) == 1
    assert asked(slow)["one-pair"] == 1


def test_who_left_and_comes_back_with_its_key_gets_the_answer_that_was_begun(slow: Cluster) -> None:
    headers, key = {"idempotency-key": "left"}, body("left")
    with httpx2.Client(timeout=0.8) as hasty, pytest.raises(httpx2.ReadTimeout):
        hasty.post(f"{slow.url}/v1/chat/completions", json=key, headers=headers)
    answer = httpx2.post(f"{slow.url}/v1/chat/completions", json=key, headers=headers, timeout=30)
    assert answer.headers["x-breakwater-idempotent"] == "joined"
    assert asked(slow)["left"] == 1


def test_the_openai_sdks_own_retry_joins_its_first_try(slow: Cluster) -> None:
    slow.fakes["openai"].behave = Behaviour("answer", pace=0.6)
    before = asked(slow)["patience"]
    with openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none", timeout=1.5, max_retries=3) as client:
        # A row's next provider would answer in the time that the client waits, and it would not come again.
        asked_for = {**body("patience"), "model": "openai/gpt-5.4-mini"}
        answer = client.chat.completions.with_raw_response.create(**asked_for)
        assert answer.headers["x-breakwater-idempotent"] in ("joined", "replayed")
        assert answer.parse().choices[0].message.content == "Paris is the capital."
    assert asked(slow)["patience"] - before == 1


@pytest.mark.chaos
def test_pairs_with_one_key_at_several_replicas_are_one_call_and_one_bill_each(slow: Cluster) -> None:
    with_replicas(slow, 3)
    try:
        tenant_rows = usage(slow)
        found = asyncio.run(all_pairs(slow, [f"pair-{n}" for n in range(PAIRS)]))
        answers = [r for pair in found.values() for r in pair]
        words = collections.Counter(r.headers["x-breakwater-idempotent"] for r in answers)
        calls = [asked(slow)[key] for key in found]
        equal = sum(len({r.content for r in pair}) == 1 for pair in found.values())
        billed = eventually(lambda: (now := usage(slow)) >= tenant_rows + PAIRS and now) - tenant_rows
        print(f"\n{len(answers)} replies, {words}; {sum(calls)} calls, {billed} bills, {equal} equal pairs")
        assert [r.status_code for r in answers] == [200] * 2 * PAIRS
        assert calls == [1] * PAIRS
        assert billed == PAIRS
        assert equal == PAIRS
        assert words == {"new": PAIRS, "joined": PAIRS}
    finally:
        with_replicas(slow, 1)


def usage(llm: Cluster) -> int:
    """How many requests the ledger has."""
    rows = httpx2.get(f"{llm.url}/v1/usage", timeout=20).json()["data"]
    return int(rows[0]["requests"]) if rows else 0


@pytest.mark.chaos
def test_with_a_replica_killed_there_is_at_most_one_more_call_for_each_key_and_it_is_told(slow: Cluster) -> None:
    slow.fakes["openai"].behave = Behaviour("answer", pace=0.8)
    with_replicas(slow, 3)
    try:
        keys = [f"killed-{n}" for n in range(30)]

        async def main() -> dict[str, list[httpx2.Response]]:
            pairs = asyncio.create_task(all_pairs(slow, keys, patient=True))
            await asyncio.sleep(2.0)
            os.kill((await asyncio.to_thread(replica_pids, "Ingress"))[0], signal.SIGKILL)
            return await pairs

        found = asyncio.run(main())
        calls = {key: asked(slow)[key] for key in keys}
        taken = {key for key, pair in found.items() if any(_taken_over(r) for r in pair)}
        print(f"\n{sum(calls.values())} calls for {len(keys)} keys, {len(taken)} taken over")
        assert max(calls.values()) <= 2
        assert {key for key, count in calls.items() if count == 2} <= taken
        assert all(r.status_code == 200 for pair in found.values() for r in pair)
    finally:
        eventually(lambda: len(replica_pids("Ingress")) == 3, 60)
        with_replicas(slow, 1)


def _taken_over(reply: httpx2.Response) -> bool:
    return reply.headers["x-breakwater-idempotent"] == "taken_over"
