"""What a compatible server says, through the real adapter and its replica to the facade. Real sockets, real time."""

import asyncio
import json
import pathlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import pytest

from deployments.openai_api.chat import dump
from deployments.python_api.facade import Facade
from deployments.replica import ProviderReplica
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import Behaviour, FakeServer
from tests.unit.world import world

Json = dict[str, Any]
USAGE = {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    made = FakeServer(OpenAIWire())
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, authority: pathlib.Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))


class OneReplica:
    """A hop to a replica in this process. `told` are the usages that its answers end with, for who counts the cost."""

    def __init__(self, replica: ProviderReplica, told: list[Json]):
        self._replica, self._told = replica, told

    async def complete(self, provider: str, call: Mapping[str, Any], on_piece: Any = None) -> Json:
        reply: Json = await self._replica.complete(call)
        self._told.append(reply["usage"])
        return reply

    async def stream(self, provider: str, call: Mapping[str, Any]) -> AsyncGenerator[bytes | Json, None]:
        async for item in self._replica.stream(call):
            if isinstance(item, dict) and "usage" in item:
                self._told.append(item["usage"])
            yield item


def facade_of(
    server: FakeServer, said: bytes, content_type: str, *, stream: bool, told: list[Json] | None = None
) -> list[Json]:
    server.reset()
    server.behave = Behaviour("raw", raw=said, content_type=content_type)
    args = {
        "providers": {"f": {"kind": "openai", "base_url": f"{server.url}/v1"}},
        "models": {"default": {"f": "m"}},
    }

    async def main() -> list[Json]:
        replica = ProviderReplica("f", args)
        try:
            async with world(args) as w:
                w.service.failover._transport = OneReplica(replica, [] if told is None else told)
                facade = Facade(w.service)
                if stream:
                    return [item async for item in facade.generate_streaming_completion("hi")]
                return [await facade.generate_completion("hi")]
        finally:
            await replica._provider.close()

    return asyncio.run(main())


def streamed(server: FakeServer, *chunks: Json) -> Json:
    """The last item of the facade's stream."""
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    frames = b"".join(b"data: " + dump({**head, **chunk}) + b"\n\n" for chunk in chunks)
    return facade_of(server, frames + b"data: [DONE]\n\n", "text/event-stream", stream=True)[-1]


def answered(server: FakeServer, message: Json, finish: str = "stop") -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return facade_of(server, dump(body), "application/json", stream=False)[0]


def delta(content: Any, finish: str | None = None) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def test_content_in_parts_comes_as_text(server: FakeServer) -> None:
    parts = [{"type": "text", "text": "x"}]
    whole = answered(server, {"content": parts})
    assert (whole["response"], whole["provider_used"], whole["finish_reason"]) == ("x", "f", "stop")
    last = streamed(server, delta(parts), delta("y", "stop"))
    assert (last["response"], last["provider_used"], last["finish_reason"]) == ("xy", "f", "stop")


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}], ids=["none", "null", "empty"])
def test_a_last_frame_without_choices_brings_the_usage(server: FakeServer, choices: Json) -> None:
    last = streamed(server, delta("x", "stop"), {**choices, "usage": USAGE})
    assert (last["response"], last["usage"]) == ("x", USAGE)


@pytest.mark.parametrize(("tier", "known"), [("priority", "priority"), ("default", None), (None, None), (7, None)])
@pytest.mark.parametrize("stream", [False, True])
def test_who_counts_the_cost_hears_which_service_tier_answered(
    server: FakeServer, tier: Any, known: str | None, stream: bool
) -> None:
    said: list[Json] = []
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    head = {"id": "1", "object": "chat.completion", "model": "m"}
    whole = {**head, "choices": [choice], "usage": USAGE, "service_tier": tier}
    last = {**head, "choices": [], "usage": USAGE, "service_tier": tier}
    frames = b"".join(b"data: " + dump(one) + b"\n\n" for one in ({**head, **delta("x", "stop")}, last))
    body, content_type = (
        (frames + b"data: [DONE]\n\n", "text/event-stream") if stream else (dump(whole), "application/json")
    )
    [*_, answer] = facade_of(server, body, content_type, stream=stream, told=said)
    assert [usage.get("service_tier") for usage in said] == [known]
    assert answer["response"] == "x"


def test_arguments_as_an_object_come_as_json(server: FakeServer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    whole = answered(server, {"content": None, "tool_calls": [call]}, "tool_calls")
    [told] = whole["tool_calls"]
    assert (whole["response"], told["id"], told["function"]["name"]) == ("", "1", "f")
    assert json.loads(told["function"]["arguments"]) == {"a": 1}
