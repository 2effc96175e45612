"""The whole application with a target that is asked by the Messages API, and others that are not. No Ray."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from tests.doors.anthropic_types import MESSAGE, events_in
from tests.fakes.messages_events import EachEvent
from tests.fakes.vendors.anthropic import RULES
from tests.providers import native_targets
from tests.providers.native_targets import BEDROCK, CHAT, args_of, http_of, running
from tests.unit.world import World

NATIVE = "anthropic"
HI = {"role": "user", "content": "Hi"}
ROWS: Mapping[str, Sequence[str]] = {
    "native-bedrock": (NATIVE, BEDROCK),
    "native-chat": (NATIVE, CHAT),
    "bedrock-native": (BEDROCK, NATIVE),
    "others": (BEDROCK, CHAT),
}


Fakes = native_targets.Fakes[EachEvent]


def fakes() -> AbstractContextManager[Fakes]:
    return running(EachEvent(), RULES)


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
    args = args_of(made, NATIVE, ROWS, model, **settings)

    async def main() -> None:
        async with http_of(args) as (http, world):
            await work(Door(http, world))

    asyncio.run(main())


def dropped_in(response: httpx2.Response) -> list[str]:
    names: str = response.headers.get("x-breakwater-dropped", "")
    return names.split(", ") if names else []
