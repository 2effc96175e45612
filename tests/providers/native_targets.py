"""One target that is asked by its client's own API, and two that are not, behind the door of that API. No Ray."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2

from deployments.errors import NoAnswer
from deployments.ingress.http import build_http_api
from deployments.openai_api.chat import frame
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer, Vendor
from tests.fakes.vendors import Rule
from tests.providers.whole_app import args_for, whole_app
from tests.unit.world import World

BEDROCK, CHAT = "bedrock", "openai"
# What an ingress gets of a stream that broke off.
BROKEN = frame(
    {"error": {**NoAnswer("It broke off.").body(), "code": "stream_interrupted", "attempts": [{"outcome": "broken"}]}}
)

Wire = TypeVar("Wire", bound=Vendor)


@dataclass
class Fakes(Generic[Wire]):
    """`wire` is that of the target which is asked natively."""

    wire: Wire
    native: FakeServer
    bedrock: FakeServer
    chat: FakeServer

    @property
    def upstream(self) -> list[dict[str, Any]]:
        """The bodies that the native target got."""
        return [request.body for request in self.native.received]

    def refused(self) -> list[str]:
        """The rules by which the native target has refused requests since the last look."""
        names, self.native.refused = self.native.refused, []
        return names

    def unobjected(self) -> None:
        for fake in (self.native, self.bedrock, self.chat):
            assert (fake.objections, fake.refused) == ([], [])


@contextlib.contextmanager
def running(wire: Wire, rules: Sequence[Rule]) -> Iterator[Fakes[Wire]]:
    """Run the three. `rules` are those of the native target."""
    made = Fakes(wire, FakeServer(wire), FakeServer(BedrockWire()), FakeServer(OpenAIWire()))
    made.native.rules = rules
    try:
        yield made
    finally:
        for fake in (made.native, made.bedrock, made.chat):
            fake.stop()


def args_of(
    made: Fakes[Any], native: str, rows: Mapping[str, Sequence[str]], model: str | None, **settings: Any
) -> dict[str, Any]:
    """Return a configuration with a row for each provider, and these of several.

    `native` is the native target's provider, `model` its own id of the model, and `settings` what else it is told.
    """
    args = args_for({native: made.native, BEDROCK: made.bedrock, CHAT: made.chat})
    args["providers"][native] |= {"whole_as_stream": "never", **settings}
    models = args["models"]
    if model is not None:
        models[native][native] = model
    for name, order in rows.items():
        models[name] = {provider: models[provider][provider] for provider in order}
    return args


@contextlib.asynccontextmanager
async def http_of(args: Mapping[str, Any]) -> AsyncIterator[tuple[httpx2.AsyncClient, World]]:
    """Yield a client of the application, and its world."""
    async with whole_app(args) as world:
        transport = httpx2.ASGITransport(build_http_api(world.service), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as http:
            yield http, world
