"""The whole application with a target that is asked by the Responses API, and others that are not. No Ray."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from openai.types.responses import Response

from deployments.ingress.http import build_http_api
from tests.doors.responses import Streamed, check_response, read_events
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.responses_wire import ResponsesWire
from tests.fakes.server import FakeServer
from tests.fakes.vendors.openai_responses import RULES
from tests.providers.whole_app import args_for, whole_app
from tests.unit.world import World

NATIVE, BEDROCK, CHAT = "openai_responses", "bedrock", "openai"
SEARCHES = {"type": "web_search"}


class EachEvent(ResponsesWire):
    """Each event of its streams is a frame of its own."""

    def frames(self, words: Sequence[str]) -> list[bytes]:
        return self._events(self._output([self._message("".join(words))]), words)


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
        """The bodies that the server of the Responses API got."""
        return [request.body for request in self.native.received]

    def refused(self) -> list[str]:
        """The rules by which the server of the Responses API has refused requests since the last look."""
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
    """The door of Responses over HTTP, in front of all that."""

    http: httpx2.AsyncClient
    world: World

    async def ask(self, given: Any = "Hi", *, headers: Mapping[str, str] | None = None, **body: Any) -> httpx2.Response:
        request = {"model": NATIVE, "input": given, **body}
        return await self.http.post("/v1/responses", json=request, headers=headers)

    async def whole(self, given: Any = "Hi", **body: Any) -> dict[str, Any]:
        """The answer, taken by the SDK's types."""
        response = await self.ask(given, **body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        check_response(answer)
        return answer

    async def streamed(self, given: Any = "Hi", **body: Any) -> Streamed:
        response = await self.ask(given, stream=True, **body)
        assert response.status_code == 200, response.text
        return read_events(response.content)


ROWS: Mapping[str, Sequence[str]] = {
    "native-bedrock": (NATIVE, BEDROCK),
    "bedrock-native": (BEDROCK, NATIVE),
    "others": (BEDROCK, CHAT),
}


def run_door(made: Fakes, work: Callable[[Door], Awaitable[None]], model: str | None = None) -> None:
    """Run with a row for each provider, and the rows of several. `model` is the upstream one of the Responses API."""
    args = args_for({NATIVE: made.native, BEDROCK: made.bedrock, CHAT: made.chat})
    models = args["models"]
    if model is not None:
        models[NATIVE][NATIVE] = model
    for name, order in ROWS.items():
        models[name] = {provider: models[provider][provider] for provider in order}

    async def main() -> None:
        async with door_of(args) as door:
            await work(door)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def door_of(args: Mapping[str, Any]) -> AsyncIterator[Door]:
    async with whole_app(args) as world:
        transport = httpx2.ASGITransport(build_http_api(world.service), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:
            yield Door(http, world)


def echoed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of an answer as the SDK's users send them back, with the fields that the SDK adds."""
    return [item.model_dump(by_alias=True) for item in Response.model_validate_json(json.dumps(answer)).output]
