"""The whole application with a target that is asked by the Messages API, and others that are not. No Ray."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from deployments.ingress.http import build_http_api
from tests.doors.anthropic_types import MESSAGE, events_in
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.messages_events import EachEvent
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer
from tests.fakes.vendors.anthropic import RULES
from tests.providers.whole_app import args_for, whole_app
from tests.unit.world import World

NATIVE, BEDROCK, CHAT = "anthropic", "bedrock", "openai"
HI = {"role": "user", "content": "Hi"}
ROWS: Mapping[str, Sequence[str]] = {
    "native-bedrock": (NATIVE, BEDROCK),
    "native-chat": (NATIVE, CHAT),
    "bedrock-native": (BEDROCK, NATIVE),
    "others": (BEDROCK, CHAT),
}


@dataclass
class Fakes:
    native: FakeServer
    bedrock: FakeServer
    chat: FakeServer

    @property
    def wire(self) -> EachEvent:
        assert isinstance(self.native.vendor, EachEvent)
        return self.native.vendor

    @property
    def upstream(self) -> list[dict[str, Any]]:
        """The bodies that Anthropic got."""
        return [request.body for request in self.native.received]

    def refused(self) -> list[str]:
        """The rules by which Anthropic has refused requests since the last look."""
        names, self.native.refused = self.native.refused, []
        return names

    def unobjected(self) -> None:
        for fake in (self.native, self.bedrock, self.chat):
            assert (fake.objections, fake.refused) == ([], [])


@contextlib.contextmanager
def fakes() -> Iterator[Fakes]:
    made = Fakes(FakeServer(EachEvent()), FakeServer(BedrockWire()), FakeServer(OpenAIWire()))
    made.native.rules = RULES
    try:
        yield made
    finally:
        for fake in (made.native, made.bedrock, made.chat):
            fake.stop()


@dataclass
class Door:
    """The door of Messages over HTTP, in front of all that."""

    http: httpx2.AsyncClient
    world: World

    async def ask(
        self, *messages: Mapping[str, Any], headers: Mapping[str, str] | None = None, **body: Any
    ) -> httpx2.Response:
        request = {"model": NATIVE, "max_tokens": 4096, "messages": list(messages or (HI,)), **body}
        return await self.http.post("/v1/messages", json=request, headers=headers)

    async def whole(self, *messages: Mapping[str, Any], **body: Any) -> dict[str, Any]:
        """The answer, taken by the SDK's types, strictly."""
        response = await self.ask(*messages, **body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        typed = {name: value for name, value in answer.items() if name != "breakwater"}
        MESSAGE.validate_json(orjson.dumps(typed), strict=True)
        return answer

    async def streamed(self, *messages: Mapping[str, Any], **body: Any) -> list[dict[str, Any]]:
        """The events, each taken by the SDK's types, strictly."""
        response = await self.ask(*messages, stream=True, **body)
        assert response.status_code == 200, response.text
        return events_in(response.content)


def run_door(made: Fakes, work: Callable[[Door], Awaitable[None]], model: str | None = None, **settings: Any) -> None:
    """Run with a row for each provider, and the rows of several. `model` is Anthropic's."""
    args = args_for({NATIVE: made.native, BEDROCK: made.bedrock, CHAT: made.chat})
    args["providers"][NATIVE] |= settings
    models = args["models"]
    if model is not None:
        models[NATIVE][NATIVE] = model
    for name, order in ROWS.items():
        models[name] = {provider: models[provider][provider] for provider in order}

    async def main() -> None:
        async with whole_app(args) as world:
            transport = httpx2.ASGITransport(build_http_api(world.service), raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:
                await work(Door(http, world))

    asyncio.run(main())


def dropped_in(response: httpx2.Response) -> list[str]:
    names: str = response.headers.get("x-breakwater-dropped", "")
    return names.split(", ") if names else []
