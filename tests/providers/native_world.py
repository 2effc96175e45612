"""The whole application with a target that is asked by the Responses API, and others that are not. No Ray."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx2
from openai.types.responses import Response

from tests.doors.responses import Streamed, check_response, read_events
from tests.fakes.responses_wire import ResponsesWire
from tests.fakes.vendors.openai_responses import RULES
from tests.providers import native_targets
from tests.providers.native_targets import BEDROCK, CHAT, args_of, http_of, running
from tests.unit.world import World

NATIVE = "openai_responses"
SEARCHES = {"type": "web_search"}


class EachEvent(ResponsesWire):
    """Each event of its streams is a frame of its own."""

    def frames(self, words: Sequence[str]) -> list[bytes]:
        return self._events(self._output([self._message("".join(words))]), words)


Fakes = native_targets.Fakes[EachEvent]


def fakes() -> AbstractContextManager[Fakes]:
    return running(EachEvent(), RULES)


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
    args = args_of(made, NATIVE, ROWS, model)

    async def main() -> None:
        async with door_of(args) as door:
            await work(door)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def door_of(args: Mapping[str, Any]) -> AsyncIterator[Door]:
    async with http_of(args) as (http, world):
        yield Door(http, world)


def echoed(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items of an answer as the SDK's users send them back, with the fields that the SDK adds."""
    return [item.model_dump(by_alias=True) for item in Response.model_validate_json(json.dumps(answer)).output]
