"""A text that breaks off on a real wire, and goes on at another vendor's, as each API's client reads it."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.openai_api.chat import DONE, frames_to_chunks
from tests.doors.anthropic_types import check_order, events_in, folded
from tests.doors.responses import check_response, read_events
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer
from tests.fakes.tool_use import pieces
from tests.fakes.vendors import Rule, anthropic, bedrock_claude, gemini, openai
from tests.providers.native_targets import http_of
from tests.providers.whole_app import args_for

TEXT = (
    "Paris is the capital of France, and the home of «many» well-known people:\n\n- Édith\n- 日本の人\n\nThat is all."
)
HI = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "all", "stream": True, "messages": HI}
FRAMES = len(pieces(TEXT))
BREAKS = [
    Behaviour("cut", after=6),
    Behaviour("stall", after=6),
    Behaviour("in_band", after=6),
    Behaviour("malformed", after=6),
    Behaviour("no_end"),
]

WIRES: dict[str, tuple[Any, tuple[Rule, ...]]] = {
    "bedrock": (BedrockWire, bedrock_claude.RULES),
    "google": (GeminiWire, gemini.RULES),
    "anthropic": (AnthropicWire, anthropic.RULES),
    "openai": (OpenAIWire, openai.RULES),
}
# Who goes on, by what model, and how it is asked.
WHO = [
    ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "prefill"),
    ("bedrock", "global.anthropic.claude-opus-4-8-v1:0", "instruct"),
    ("google", "gemini-2.5-flash", "prefill"),
    ("google", "gemini-3.8-flash", "instruct"),
    ("anthropic", "claude-haiku-4-5-20251001", "prefill"),
    ("anthropic", "claude-sonnet-5", "instruct"),
    ("openai", "gpt-5.4-mini", "instruct"),
]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "fake")


@contextlib.contextmanager
def fakes(second: str, how: Behaviour) -> Iterator[dict[str, FakeServer]]:
    """A first server that breaks off, and a second vendor's."""
    wire, rules = WIRES[second]
    made = {"first": FakeServer(OpenAIWire()), second: FakeServer(wire())}
    for fake in made.values():
        fake.text = TEXT
    made["first"].behave, made[second].rules = how, rules
    try:
        yield made
    finally:
        for fake in made.values():
            fake.stop()


def config(made: dict[str, FakeServer], second: str, model: str) -> dict[str, Any]:
    args = args_for({second: made[second]})
    first = {"kind": "openai", "base_url": f"{made['first'].url}/v1"}
    return {
        **args,
        "providers": {"first": first, **args["providers"]},
        "models": {"all": {"first": "gpt-4o", second: model}},
        "rows": {"*": {"continuation": {"mode": "text"}}},
        "timeouts": {"idle": 0.5},
    }


def ask(second: str, model: str, how: Behaviour, path: str, **body: Any) -> tuple[bytes, FakeServer]:
    with fakes(second, how) as made:

        async def main() -> bytes:
            async with http_of(config(made, second, model)) as (http, _):
                response = await http.post(path, json={"model": "all", "stream": True, **body})
                assert response.headers["x-breakwater-provider"] == "first", "who began"
                return response.content

        data = asyncio.run(main())
        assert made[second].refused == []
        assert made[second].objections == []
        assert len(made[second].received) == 1
        return data, made[second]


def text_of(data: bytes) -> str:
    chunks = frames_to_chunks(data)
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))


@pytest.mark.parametrize(("second", "model", "method"), WHO, ids=[f"{model}" for _, model, _ in WHO])
def test_each_vendors_models_go_on_by_their_own_method(second: str, model: str, method: str) -> None:
    data, _ = ask(second, model, BREAKS[0], "/v1/chat/completions", messages=HI)
    assert data.endswith(DONE)
    assert text_of(data) == TEXT
    told = [chunk["breakwater"]["continued"] for chunk in frames_to_chunks(data) if "breakwater" in chunk]
    assert told[0]["method"] == method
    assert told[0]["to"] == f"{second}/{model}"


@pytest.mark.parametrize("how", BREAKS, ids=lambda how: how.kind)
def test_however_it_breaks_off(how: Behaviour) -> None:
    data, _ = ask(*WHO[0][:2], how, "/v1/chat/completions", messages=HI) if how.kind != "no_end" else _sealed(how)
    assert data.endswith(DONE)
    assert text_of(data) == TEXT


def _sealed(how: Behaviour) -> tuple[bytes, None]:
    """A stream whose text is whole and whose end never comes has nothing that could follow."""
    with fakes("bedrock", how) as made:
        made["bedrock"].behave = Behaviour("status", status=500)

        async def main() -> bytes:
            async with http_of(config(made, *WHO[0][:2])) as (http, _):
                return (
                    await http.post("/v1/chat/completions", json={"model": "all", "stream": True, "messages": HI})
                ).content

        data = asyncio.run(main())
    assert b"stream_interrupted" in data
    assert text_of(data) == TEXT
    return data + DONE, None


@pytest.mark.parametrize(("second", "model", "method"), WHO, ids=[f"{model}" for _, model, _ in WHO])
def test_by_responses(second: str, model: str, method: str) -> None:
    told = read_events(ask(second, model, BREAKS[0], "/v1/responses", input="Hi")[0])
    last = told.events[-1]
    assert last["type"] == "response.completed"
    check_response(last["response"])
    parts = [part for item in last["response"]["output"] if item["type"] == "message" for part in item["content"]]
    assert [part["text"] for part in parts] == [TEXT]


@pytest.mark.parametrize(("second", "model", "method"), WHO, ids=[f"{model}" for _, model, _ in WHO])
def test_by_messages(second: str, model: str, method: str) -> None:
    events = events_in(ask(second, model, BREAKS[0], "/v1/messages", messages=HI, max_tokens=100)[0])
    check_order(events)
    message = folded(events)
    assert message["stop_reason"] == "end_turn"
    assert [block["text"] for block in message["content"]] == [TEXT]


@pytest.mark.parametrize("flag", ["prefix", "partial", "continue_final_message"])
def test_a_server_of_ones_own_is_asked_with_its_flag(flag: str) -> None:
    with fakes("openai", BREAKS[0]) as made:
        args = config(made, "openai", "mine")
        args["providers"]["openai"]["continues"] = {"m*": flag}
        made["openai"].rules = ()  # those of OpenAI's own

        async def main() -> bytes:
            async with http_of(args) as (http, _):
                return (
                    await http.post("/v1/chat/completions", json={"model": "all", "stream": True, "messages": HI})
                ).content

        data = asyncio.run(main())
        sent = made["openai"].received[0].body
        assert text_of(data) == TEXT
        assert data.endswith(DONE)
        last = sent["messages"][-1]
        assert last["role"] == "assistant"
        assert last.get(flag, sent.get(flag)) is True


@pytest.mark.parametrize("cut", range(1, FRAMES))
def test_at_every_frame_of_the_wire(cut: int) -> None:
    second, model, _ = WHO[cut % len(WHO)]
    data, _ = ask(second, model, Behaviour("cut", after=cut + 1), "/v1/chat/completions", messages=HI)
    assert (text_of(data), data.endswith(DONE)) == (TEXT, True)
