"""client.py against a real cluster: both its sides, what it raises, and what it closes."""

import asyncio
import contextlib
import gc
import os
import pathlib
import pickle
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from deployments import client as c
from deployments.client import Client, connect
from tests.cluster.conftest import CLOUDS, ROOT, SOON, Cluster, eventually
from tests.cluster.scripts import printed_by
from tests.cluster.test_conversations import WEATHER
from tests.fakes.server import Behaviour, FakeServer, status

HI = [{"role": "user", "content": "Hi"}]
REQUEST = {"model": "default", "messages": HI}


def run(main: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(90), connect() as client:
            return await main(client)

    return asyncio.run(within())


@pytest.fixture
def sync() -> Iterator[c.SyncClient]:
    client = connect()
    yield client.sync
    client.sync.close()


def test_the_async_side_answers_streams_and_embeds(llm: Cluster) -> None:
    async def main(client: Client) -> None:
        answer = await client.chat(REQUEST)
        assert answer["choices"][0]["message"]["content"] == "Paris is the capital."
        assert answer["breakwater"]["provider"] == "aws_bedrock"
        called = await client.chat({**REQUEST, "tools": [WEATHER]})
        assert called["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
        chunks = [chunk async for chunk in client.stream_chat(REQUEST)]
        assert "".join(x["delta"].get("content") or "" for k in chunks for x in k["choices"]) == "Paris is the capital."
        made = await client.embed({"model": "vectors", "input": "Hi"})
        assert len(made["data"][0]["embedding"]) == 512
        said = await client.generate_completion(
            "Hi", "meetmind.coordinator", "tenant_123", "gpt-4", 0.3, 500, top_p=0.9
        )
        assert (said["response"], said["provider_used"]) == ("Paris is the capital.", "aws_bedrock")
        items = [item async for item in client.generate_streaming_completion("Hi")]
        assert "".join(item["delta"] for item in items[:-1]) == items[-1]["response"] == "Paris is the capital."
        assert items[-1]["usage"]["total_tokens"] == 12

    run(main)


def ordered(command: Callable[..., dict[str, Any]], **wanted: Any) -> None:
    """An operator's command; on a busy machine the breaker actor may take longer than it waits for."""

    def obeyed() -> bool:
        with contextlib.suppress(c.Unavailable):
            return command("openai", admin_key="admin").items() >= wanted.items()
        return False

    eventually(obeyed)


def test_the_sync_side_needs_no_event_loop(llm: Cluster, sync: c.SyncClient) -> None:
    assert sync.chat(REQUEST)["breakwater"]["provider"] == "aws_bedrock"
    assert len(list(sync.stream_chat(REQUEST))) > 5
    assert sync.generate_completion("Hi")["response"] == "Paris is the capital."
    assert sync.get_system_health()["services"]["llm"]["health"] == "healthy"
    ordered(sync.isolate, available=False)
    assert "openai" not in sync.get_health_summary()["available_providers"]
    ordered(sync.restore, available=True)
    ordered(sync.force_provider_recovery, state="half_open")
    ordered(sync.reset_provider_stats, state="closed")
    assert set(sync.get_all_provider_health()) >= {*CLOUDS, "local"}

    async def openai() -> str:
        return "o"

    assert sync.call_with_failover("openai", {"openai": openai}).value == "o"
    with pytest.raises(c.NotFound):
        sync.get_provider_health("nobody")
    for wrong in ({}, {"admin_key": "wrong"}):
        with pytest.raises(c.NotAllowed):
            sync.isolate("openai", **wrong)


def test_a_script_that_has_nothing_but_a_copy_of_the_file_can_call(llm: Cluster, tmp_path: pathlib.Path) -> None:
    shutil.copy(ROOT / "deployments" / "client.py", tmp_path / "breakwater.py")
    script = "import breakwater; print(breakwater.connect().sync.generate_completion('Hi')['provider_used'])"
    assert printed_by(tmp_path, "-c", script).strip() == "aws_bedrock"


def test_what_goes_wrong_is_raised_by_guilt(llm: Cluster) -> None:
    async def main(client: Client) -> None:
        with pytest.raises(c.BadRequest) as bad:
            await client.chat({**REQUEST, "messages": []})
        assert (bad.value.status, bad.value.param) == (400, "messages")
        with pytest.raises(c.BadRequest) as negative:
            await client.generate_completion("Hi", max_tokens=-1)
        assert negative.value.param == "max_tokens"
        with pytest.raises(c.BadRequest, match="timeout"):
            await client.chat(REQUEST, timeout=-1)
        with pytest.raises(c.NotFound) as unknown:
            [chunk async for chunk in client.stream_chat({**REQUEST, "model": "gpt-17"})]
        assert unknown.value.code == "model_not_found"
        for name in CLOUDS:
            llm.fakes[name].behave = status(429, retry_after="7")
        with pytest.raises(c.Limited) as limited:
            await client.chat({**REQUEST, "model": "openai-google_genai"})
        assert limited.value.status == 429
        assert limited.value.retry_after > 5
        assert [a["outcome"] for a in limited.value.attempts] == ["throttled", "throttled"]
        again = pickle.loads(pickle.dumps(limited.value))
        assert (type(again), again.args) == (c.Limited, limited.value.args)

    run(main)


def test_a_stream_that_breaks_raises_after_its_content(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("cut", after=3)

    async def main(client: Client) -> None:
        stream = client.generate_streaming_completion("Hi")
        assert await anext(stream) == {"delta": "Paris"}
        with pytest.raises(c.NoAnswer) as broken:
            [item async for item in stream]
        assert broken.value.code == "stream_interrupted"

    run(main)


def test_a_deadline_is_carried_and_its_typed_end_comes_from_over_there(
    llm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c, "MARGIN", 30.0)  # it is over there before anybody here has lost patience
    for name in CLOUDS:
        llm.fakes[name].behave = Behaviour("hang")

    async def main(client: Client) -> None:
        with pytest.raises(c.DeadlineExceeded) as late:
            await client.chat(REQUEST, timeout=0.4)
        assert late.value.attempts
        with pytest.raises(c.DeadlineExceeded) as streamed:
            [chunk async for chunk in client.stream_chat(REQUEST, timeout=0.4)]
        assert streamed.value.attempts

    run(main)


async def closed(client: Client, _: FakeServer) -> None:
    stream = client.stream_chat(REQUEST)
    await anext(stream)
    await stream.aclose()


async def broken_off(client: Client, _: FakeServer) -> None:
    async for _item in client.generate_streaming_completion("Hi"):
        break


async def forgotten(client: Client, _: FakeServer) -> None:
    stream = client.stream_chat(REQUEST)
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0)


async def cancelled(client: Client, _: FakeServer) -> None:
    """While it waits for what comes after the two words."""
    stream, text = client.stream_chat(REQUEST), ""
    while text != "Paris is":
        text += "".join(choice["delta"].get("content") or "" for choice in (await anext(stream))["choices"])
    await given_up(asyncio.ensure_future(anext(stream)))


async def cancelled_whole(client: Client, fake: FakeServer) -> None:
    known, waiting = len(fake.received), asyncio.ensure_future(client.chat(REQUEST))
    await asyncio.to_thread(eventually, lambda: len(fake.received) > known)
    await given_up(waiting)


async def given_up(waiting: "asyncio.Future[Any]") -> None:
    await asyncio.sleep(0)  # it has begun to wait
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("leave", [closed, broken_off, forgotten, cancelled, cancelled_whole])
def test_whoever_leaves_closes_the_call_upstream(llm: Cluster, leave: Callable[[Client, FakeServer], Any]) -> None:
    fake = llm.fakes["aws_bedrock"]
    fake.behave = Behaviour("stall", after=3)

    async def main(client: Client) -> None:
        for number in range(5):
            await leave(client, fake)
            assert len(fake.received) == number + 1
            # While this loop lives, whose end would close them all.
            gone = await asyncio.to_thread(fake.received[-1].gone.wait, SOON)
            assert gone, "the upstream call went on without its reader"

    run(main)
    assert llm.state("aws_bedrock") == "closed"


def test_leaving_a_sync_stream_closes_the_call_upstream(llm: Cluster, sync: c.SyncClient) -> None:
    fake = llm.fakes["aws_bedrock"]
    fake.behave = Behaviour("stall", after=3)
    for _ in sync.stream_chat(REQUEST):
        break
    [request] = fake.received
    assert request.gone.wait(SOON)


def test_an_app_that_is_not_there_is_one_typed_error(llm: Cluster) -> None:
    absent = connect("nobody")

    async def main(_: Client) -> None:
        with pytest.raises(c.Unavailable) as away:
            await absent.chat(REQUEST)
        assert (away.value.status, away.value.code) == (503, "unavailable")
        with pytest.raises(c.Unavailable):
            [chunk async for chunk in absent.stream_chat(REQUEST)]

    run(main)


def ingress_pid() -> int:
    from ray.serve._private.api import _get_global_client

    replicas = _get_global_client().get_serve_details()["applications"]["llm"]["deployments"]["Ingress"]["replicas"]
    return next((int(r["pid"]) for r in replicas if r["state"] == "RUNNING"), 0)


@pytest.mark.chaos
def test_when_the_ingress_dies_its_callers_get_one_typed_error_and_then_answers_again(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("stall", after=3)
    before = ingress_pid()

    async def main(client: Client) -> None:
        stream = client.stream_chat(REQUEST)
        await anext(stream)
        whole = asyncio.ensure_future(client.chat(REQUEST))
        await asyncio.to_thread(eventually, lambda: len(llm.fakes["aws_bedrock"].received) == 2)
        os.kill(before, signal.SIGKILL)
        for lost in (whole, anext(stream)):
            with pytest.raises(c.Unavailable):
                await lost
        llm.fakes["aws_bedrock"].reset()
        assert (await client.chat(REQUEST))["breakwater"]["provider"] == "aws_bedrock"

    run(main)
    assert eventually(ingress_pid) != before
    eventually(lambda: llm.get("/v1/health")["mode"] == "hybrid")


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No function runs without its circuit because a busy machine's plan took its time."""
    monkeypatch.setattr(c, "PLAN_SECONDS", 30.0)


async def down() -> str:
    raise ConnectionError


async def up() -> str:
    return "up"


async def broken_until_open(llm: Cluster, client: Client) -> None:
    """A function fails until its circuit is open. Failures are told at once, but nobody waits for that."""
    await client.get_system_health()
    for _ in range(3):
        result = await client.call_with_failover("aws_bedrock", {"aws_bedrock": down, "openai": up})
        assert (result.value, result.provider_used) == ("up", "openai")
    await asyncio.to_thread(eventually, lambda: llm.state("aws_bedrock") == "open")


@pytest.mark.usefixtures("guarded")
def test_functions_of_ones_own_share_the_circuits_of_the_cluster(llm: Cluster) -> None:
    async def main(client: Client) -> None:
        await broken_until_open(llm, client)
        # Our own calls go round it, and so does whoever else has functions.
        assert (await client.chat(REQUEST))["breakwater"]["provider"] == "openai"
        other = await connect().call_with_failover("aws_bedrock", {"aws_bedrock": up, "openai": up})
        assert other.provider_used == "openai"
        mine = await client.call_with_failover("mine", {"mine": up})
        assert mine.provider_used == "mine"
        await client.aclose()

    run(main)
    eventually(lambda: llm.get("/v1/providers/mine")["total_requests"] == 1)


@pytest.mark.usefixtures("guarded")
def test_after_its_time_a_function_is_the_probe_that_closes_the_circuit(quick_recovery: Cluster) -> None:
    async def main(client: Client) -> None:
        await broken_until_open(quick_recovery, client)
        async with asyncio.timeout(30):
            while (await client.get_provider_health("aws_bedrock"))["state"] != "closed":
                await client.call_with_failover("aws_bedrock", {"aws_bedrock": up, "openai": up})
        await client.aclose()

    run(main)
    assert quick_recovery.get("/v1/health")["services"]["llm"]["health"] == "healthy"


def test_a_healthy_function_costs_no_round_trip(llm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan serves for a second, and a report waits a tenth of one for others."""
    sent: list[str] = []

    async def main(client: Client) -> float:
        call = client._call

        async def counted(method: str, *arguments: Any, **named: Any) -> Any:
            sent.append(method)
            return await call(method, *arguments, **named)

        monkeypatch.setattr(client, "_call", counted)
        clock = asyncio.get_running_loop().time
        began = clock()
        for _ in range(200):
            await client.call_with_failover("openai", {"openai": up})
        return clock() - began

    seconds = run(main)
    assert 1 <= sent.count("begin_call") <= 1 + seconds
    assert sent.count("report_call") <= 1 + seconds / c.REPORT_SECONDS


def test_a_client_can_be_handed_on(llm: Cluster, sync: c.SyncClient) -> None:
    again = pickle.loads(pickle.dumps(connect("llm", patience=7.0)))
    assert (again.app, again.patience) == ("llm", 7.0)
