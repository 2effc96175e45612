"""The SDKs of OpenAI and Anthropic over the transport by handle, against a real cluster: no request has an address."""

import asyncio
import base64
import gc
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from deployments.client import connect
from deployments.sdk_transport import async_http_client, http_client
from tests.cluster.conftest import CLOUDS, SOON, Cluster, eventually
from tests.cluster.test_client import ingress_pid
from tests.cluster.test_conversations import WEATHER
from tests.fakes.server import Behaviour, FakeServer, status

HI: list[Any] = [{"role": "user", "content": "Hi"}]
SAID = "Paris is the capital."
KEY = {"api_key": "any", "max_retries": 0}


def sdk(app: str = "llm", **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(http_client=async_http_client(connect(app)), **{**KEY, **options})


def run(main: Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, Any]]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(90), sdk() as llm:
            return await main(llm)

    return asyncio.run(within())


@pytest.fixture
def sync(llm: Cluster) -> Iterator[openai.OpenAI]:
    client = connect()
    with openai.OpenAI(http_client=http_client(client), **KEY) as made:
        yield made
    client.sync.close()


async def ask(llm: openai.AsyncOpenAI, model: str = "default", **more: Any) -> Any:
    return await llm.chat.completions.create(model=model, messages=HI, **more)


async def streamed(llm: openai.AsyncOpenAI, model: str = "default") -> AsyncIterator[str]:
    async for chunk in await ask(llm, model, stream=True):
        for choice in chunk.choices:
            if choice.delta.content:
                yield choice.delta.content


def test_the_async_sdk_answers_streams_embeds_and_lists(llm: Cluster) -> None:
    async def main(client: openai.AsyncOpenAI) -> None:
        raw = await client.chat.completions.with_raw_response.create(model="default", messages=HI)
        assert raw.parse().choices[0].message.content == SAID
        assert raw.headers["x-breakwater-provider"] == "aws_bedrock"
        called = await ask(client, tools=[WEATHER])
        assert called.choices[0].message.tool_calls[0].function.name == "get_weather"
        words = [word async for word in streamed(client)]
        assert ("".join(words), len(words)) == (SAID, 5)
        vectors = await client.embeddings.create(model="vectors", input=["Hi"])
        assert len(vectors.data[0].embedding) == 512
        assert "default" in [model.id async for model in client.models.list()]

    run(main)


def test_the_sync_sdk_needs_no_event_loop(llm: Cluster, sync: openai.OpenAI) -> None:
    assert sync.chat.completions.create(model="default", messages=HI).choices[0].message.content == SAID
    with sync.chat.completions.create(model="default", messages=HI, stream=True) as stream:
        assert "".join(c.delta.content or "" for chunk in stream for c in chunk.choices) == SAID
    assert len(sync.embeddings.create(model="vectors", input=["Hi"]).data[0].embedding) == 512
    with pytest.raises(openai.NotFoundError):
        sync.models.retrieve("gpt-17")


def test_many_threads_may_share_one_sync_client(llm: Cluster, sync: openai.OpenAI) -> None:
    said: list[Any] = []

    def talk() -> None:
        for _ in range(5):
            said.append(sync.chat.completions.create(model="default", messages=HI).choices[0].message.content)

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == [SAID] * 40


def test_a_large_picture_goes_by_handle_too(llm: Cluster, sync: openai.OpenAI) -> None:
    """Ray puts what is large into its object store."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(6_000_000)).decode()
    picture: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    assert sync.chat.completions.create(model="openai-google_genai", messages=asked).choices[0].message.content == SAID
    [request] = llm.fakes["openai"].received
    assert request.body["messages"][0]["content"][1]["image_url"]["url"].endswith(data)


def test_a_request_of_the_responses_api_is_answered_and_streamed(llm: Cluster) -> None:
    async def main(client: openai.AsyncOpenAI) -> None:
        assert (await client.responses.create(model="default", input="Hi")).output_text == SAID
        events = [event async for event in await client.responses.create(model="default", input="Hi", stream=True)]
        assert events[-1].type == "response.completed"
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == SAID

    run(main)


def test_anthropics_sdk_is_answered_and_streamed(llm: Cluster) -> None:
    async def main(_: openai.AsyncOpenAI) -> None:
        async with anthropic.AsyncAnthropic(http_client=async_http_client(connect()), **KEY) as client:
            asked: dict[str, Any] = {"model": "default", "max_tokens": 64, "messages": HI}
            assert (await client.messages.create(**asked)).content[0].text == SAID
            async with client.messages.stream(**asked) as stream:
                assert "".join([text async for text in stream.text_stream]) == SAID
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(**{**asked, "model": "gpt-17"})

    run(main)


def test_what_goes_wrong_is_the_sdks_own_error(llm: Cluster) -> None:
    async def main(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="default", messages=[])
        assert bad.value.param == "messages"
        with pytest.raises(openai.NotFoundError) as unknown:
            await ask(client, "gpt-17", stream=True)
        assert unknown.value.code == "model_not_found"
        for name in CLOUDS:
            llm.fakes[name].behave = status(429, retry_after="7")
        with pytest.raises(openai.RateLimitError) as limited:
            await ask(client, "openai-google_genai")
        assert int(limited.value.response.headers["retry-after"]) > 5
        llm.fakes["aws_bedrock"].behave = status(500)
        with pytest.raises(openai.InternalServerError) as failed:
            await ask(client, "aws_bedrock-openai")
        assert failed.value.status_code == 503

    run(main)


def test_a_stream_that_breaks_raises_after_its_content(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("cut", after=3)

    async def main(client: openai.AsyncOpenAI) -> None:
        words = streamed(client)
        assert await anext(words) == "Paris"
        with pytest.raises(openai.APIError) as broken:
            [word async for word in words]
        assert broken.value.code == "stream_interrupted"

    run(main)


def test_an_application_that_is_not_there_is_named_in_the_error(llm: Cluster) -> None:
    async def main(_: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.InternalServerError, match="has no application 'nobody', it has: llm") as away:
            await ask(sdk("nobody"))
        assert (away.value.status_code, away.value.code) == (503, "unavailable")

    run(main)


def test_the_sdks_timeout_goes_with_the_request_and_ends_as_its_timeout(llm: Cluster) -> None:
    for name in CLOUDS:
        llm.fakes[name].behave = Behaviour("hang")

    async def main(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.APITimeoutError):
            await ask(client.with_options(timeout=0.5))
        with pytest.raises(openai.InternalServerError) as own:
            await ask(client, extra_headers={"x-request-timeout-seconds": "0.5"})
        assert (own.value.status_code, own.value.code) == (504, "deadline_exceeded")

    run(main)
    for name in CLOUDS:
        for request in llm.fakes[name].received:
            assert request.gone.wait(SOON)


Leave = Callable[[openai.AsyncOpenAI, FakeServer], Coroutine[Any, Any, None]]


async def closed(client: openai.AsyncOpenAI, _: FakeServer) -> None:
    stream = await ask(client, stream=True)
    await anext(stream)
    await stream.close()


async def closed_by_another_task(client: openai.AsyncOpenAI, _: FakeServer) -> None:
    """While its reader waits for what comes after the two words."""
    stream = await ask(client, stream=True)
    await until(stream, "Paris is")
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await stream.close()
    with pytest.raises(openai.APIConnectionError):
        await waiting


async def until(stream: Any, wanted: str) -> None:
    text = ""
    while text != wanted:
        text += "".join(choice.delta.content or "" for choice in (await anext(stream)).choices)


async def forgotten(client: openai.AsyncOpenAI, _: FakeServer) -> None:
    stream = await ask(client, stream=True)
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.sleep(0)


async def cancelled(client: openai.AsyncOpenAI, _: FakeServer) -> None:
    """While it waits for what comes after the two words."""
    stream = await ask(client, stream=True)
    await until(stream, "Paris is")
    await given_up(asyncio.ensure_future(anext(stream)))


async def cancelled_whole(client: openai.AsyncOpenAI, fake: FakeServer) -> None:
    known, waiting = len(fake.received), asyncio.ensure_future(ask(client))
    await asyncio.to_thread(eventually, lambda: len(fake.received) > known)
    await given_up(waiting)


async def given_up(waiting: "asyncio.Future[Any]") -> None:
    await asyncio.sleep(0)  # it has begun to wait
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("leave", [closed, closed_by_another_task, forgotten, cancelled, cancelled_whole])
def test_who_leaves_closes_the_call_upstream(llm: Cluster, leave: Leave) -> None:
    fake = llm.fakes["aws_bedrock"]
    fake.behave = Behaviour("stall", after=3)

    async def main(client: openai.AsyncOpenAI) -> None:
        for number in range(5):
            await leave(client, fake)
            assert len(fake.received) == number + 1
            # While this loop lives, whose end would close them all.
            gone = await asyncio.to_thread(fake.received[-1].gone.wait, SOON)
            assert gone, "the upstream call went on without its reader"

    run(main)
    assert llm.state("aws_bedrock") == "closed"


def test_leaving_a_sync_stream_closes_the_call_upstream(llm: Cluster, sync: openai.OpenAI) -> None:
    fake = llm.fakes["aws_bedrock"]
    fake.behave = Behaviour("stall", after=3)
    with sync.chat.completions.create(model="default", messages=HI, stream=True) as stream:
        next(iter(stream))
    [request] = fake.received
    assert request.gone.wait(SOON)


@pytest.mark.chaos
def test_when_the_ingress_dies_a_stream_breaks_off_and_a_whole_answer_is_asked_for_again(llm: Cluster) -> None:
    llm.fakes["aws_bedrock"].behave = Behaviour("stall", after=3)
    before = ingress_pid()

    async def main(client: openai.AsyncOpenAI) -> None:
        words = streamed(client)
        await anext(words)
        whole = asyncio.ensure_future(ask(client.with_options(max_retries=8)))
        await asyncio.to_thread(eventually, lambda: len(llm.fakes["aws_bedrock"].received) == 2)
        llm.fakes["aws_bedrock"].behave = Behaviour()
        os.kill(before, signal.SIGKILL)
        with pytest.raises(openai.APIConnectionError) as lost:
            [word async for word in words]
        assert isinstance(lost.value.__cause__, httpx2.ReadError)
        assert (await whole).choices[0].message.content == SAID

    run(main)
    assert eventually(ingress_pid) != before
    eventually(lambda: llm.get("/v1/health")["mode"] == "hybrid")
