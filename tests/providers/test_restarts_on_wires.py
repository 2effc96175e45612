"""A model that thinks and breaks off, on a real wire, and the next provider's answer as each API's client reads it."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest

from deployments.failover.streams.hold import SIGN
from deployments.openai_api.chat import DONE, frames_to_chunks
from tests.doors.anthropic_types import check_order, events_in, folded
from tests.doors.responses import check_response, read_events
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer
from tests.providers.native_targets import http_of
from tests.providers.whole_app import args_for

ANSWER = "Paris is the capital."


class Thinking(OpenAIWire):
    """A server whose model thinks first, as DeepSeek's does."""

    def frames(self, words: Sequence[str]) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "reasoning_content": ""}]
        deltas += [{"reasoning_content": text} for text in ("It is", " asked for", " a capital")]
        return self._frames([*deltas, *({"content": word} for word in words)], "stop")


@contextlib.contextmanager
def fakes(how: Behaviour) -> Iterator[dict[str, FakeServer]]:
    made = {"openai": FakeServer(Thinking()), "bedrock": FakeServer(BedrockWire())}
    made["openai"].behave = how
    try:
        yield made
    finally:
        for fake in made.values():
            fake.stop()


def ask(how: Behaviour, path: str, **body: Any) -> httpx2.Response:
    with fakes(how) as made:
        args = {**args_for(made), "timeouts": {"idle": 0.5}}

        async def main() -> httpx2.Response:
            async with http_of(args) as (http, _):
                return await http.post(path, json={"model": "all", "stream": True, **body})

        response = asyncio.run(main())
        assert [len(fake.received) for fake in made.values()] == [1, 1]
        assert all(message["role"] == "user" for message in made["bedrock"].received[0].body["messages"])
    assert response.status_code == 200
    assert response.headers["x-breakwater-provider"] == "openai"  # who began
    return response


HOW = [
    Behaviour("cut", after=3),
    Behaviour("stall", after=4),
    Behaviour("in_band", after=2),
    Behaviour("malformed", after=3),
]
WAYS = pytest.mark.parametrize("how", HOW, ids=lambda how: how.kind)
HI = [{"role": "user", "content": "Hi"}]


@WAYS
def test_by_chat_completions(how: Behaviour) -> None:
    response = ask(how, "/v1/chat/completions", messages=HI)
    assert response.content.endswith(DONE)
    chunks = frames_to_chunks(response.content)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == ANSWER
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas).startswith("It is")
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-upstream"}
    assert sum("role" in delta for delta in deltas) == 1


@WAYS
def test_by_responses(how: Behaviour) -> None:
    told = read_events(ask(how, "/v1/responses", input="Hi").content)
    last = told.events[-1]
    assert last["type"] == "response.completed"
    check_response(last["response"])
    texts = [
        part["text"] for item in last["response"]["output"] if item["type"] == "message" for part in item["content"]
    ]
    assert "".join(texts) == ANSWER


def test_a_target_that_has_the_clients_own_api_is_asked_as_a_chat_behind_a_seam() -> None:
    made = {"openai": FakeServer(Thinking()), "anthropic": FakeServer(AnthropicWire())}
    made["openai"].behave = Behaviour("cut", after=3)

    async def main() -> bytes:
        async with http_of(args_for(made)) as (http, _):
            body = {"model": "all", "stream": True, "messages": HI, "max_tokens": 100, "system": "Be brief."}
            return (await http.post("/v1/messages", json=body)).content

    events = events_in(asyncio.run(main()))
    for fake in made.values():
        fake.stop()
    check_order(events)
    assert "".join(block["text"] for block in folded(events)["content"] if block["type"] == "text") == ANSWER
    assert len(made["anthropic"].received) == 1


TOOLS = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}


def test_a_client_of_another_api_is_shown_the_sign_of_life_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.failover.streams.answer.SIGN_SECONDS", 0.1)
    made = {"openai": FakeServer(OpenAIWire())}
    made["openai"].behave = Behaviour("answer", pace=0.1)
    args = {**args_for(made), "rows": {"*": {"continuation": {"tools": "hold"}}}}

    async def main() -> bytes:
        async with http_of(args) as (http, _):
            body = {"model": "all", "stream": True, "messages": HI, "max_tokens": 100, **TOOLS}
            return (await http.post("/v1/messages", json=body)).content

    data = asyncio.run(main())
    made["openai"].stop()
    assert SIGN in data
    events = events_in(data.replace(SIGN, b""))
    check_order(events)
    assert folded(events)["stop_reason"] == "tool_use"


@WAYS
def test_by_messages(how: Behaviour) -> None:
    events = events_in(ask(how, "/v1/messages", messages=HI, max_tokens=100).content)
    check_order(events)
    message = folded(events)
    assert message["stop_reason"] == "end_turn"
    assert "".join(block["text"] for block in message["content"] if block["type"] == "text") == ANSWER
