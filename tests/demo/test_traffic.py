"""A client calls a thing by its name, also where no Breakwater is between it and a provider that breaks."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.demo.script import CUT, TEXT, WELL
from tests.demo.seen import Seen
from tests.demo.traffic import Agent, Traffic
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer, status

STREAM = Agent("acme", "support", "chat", stream=True, pause=0)
WHOLE = Agent("acme", "helpdesk", "chat", stream=False, pause=0)
# Without a finish reason, but with the frame that ends a stream.
HALF = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\ndata: [DONE]\n\n'


@pytest.fixture
def provider(authority: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    fake = FakeServer(OpenAIWire())
    fake.text = TEXT
    yield fake
    fake.stop()


def asked(provider: FakeServer, agent: Agent) -> Seen:
    async def once() -> Seen:
        traffic = Traffic(provider.url)
        try:
            return await traffic.ask(agent)
        finally:
            await traffic.close()

    return asyncio.run(once())


@pytest.mark.parametrize("agent", [STREAM, WHOLE], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("behaviour", "end"),
    [
        (WELL, "whole"),
        (CUT, "lost"),  # nobody has told the client by a frame that it is half an answer
        (Behaviour("reset"), "lost"),
        (status(503, "no_provider_available"), "error"),
        (status(502), "lost"),
        (status(402, "insufficient_quota"), "budget"),
        (status(402), "lost"),
    ],
    ids=lambda given: f"{given.kind} {given.status} {given.code}" if isinstance(given, Behaviour) else None,
)
def test_a_request_is_called_what_it_was(provider: FakeServer, agent: Agent, behaviour: Behaviour, end: str) -> None:
    provider.change(behaviour)
    seen = asked(provider, agent)
    assert (seen.end, bool(seen.why)) == (end, end != "whole"), seen


def test_a_stream_that_ends_with_an_error_frame_ends_typed(provider: FakeServer) -> None:
    provider.change(Behaviour("in_band", after=20, code="stream_interrupted"))
    assert asked(provider, STREAM).why == "stream_interrupted"
    assert asked(provider, STREAM).end == "typed"


def test_half_an_answer_that_looks_whole_is_lost(provider: FakeServer) -> None:
    provider.change(Behaviour("raw", raw=HALF, content_type="text/event-stream"))
    assert asked(provider, STREAM).end == "lost"


def test_other_words_than_the_models_own_are_lost(provider: FakeServer) -> None:
    provider.text = TEXT.replace("calm", "calm calm")
    assert asked(provider, STREAM).end == asked(provider, WHOLE).end == "lost"


def test_the_requests_of_a_phase_are_those_that_began_in_it(provider: FakeServer) -> None:
    async def played() -> tuple[list[Seen], list[Seen]]:
        traffic = Traffic(provider.url)
        running = asyncio.create_task(traffic.run())
        assert await asyncio.to_thread(provider.arrived.wait, 20)
        traffic.phase = 1
        first = await traffic.of(0)
        provider.arrived.clear()
        assert await asyncio.to_thread(provider.arrived.wait, 20)
        second = await traffic.of(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return first, second

    first, second = asyncio.run(played())
    assert first
    assert second
    assert {seen.end for seen in (*first, *second)} == {"whole"}
