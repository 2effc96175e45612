"""A row's tiers in one process: the real failover and the real adapters, over real sockets, to fakes with all rules.

No Ray: the calls go to `ProviderReplica` objects as they are, where a cluster has a Serve handle between.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from deployments.breaker_client.client import BreakerClient
from deployments.openai_api.chat import Head, chunk, completion, dump
from deployments.providers.base import CallMessage
from deployments.replica import ProviderReplica
from deployments.rpc.port import CallTransport, ProviderStream, ReplyMessage
from deployments.service.service import Service
from tests.fakes.server import FakeServer
from tests.fakes.vendors import Rule, anthropic, bedrock, bedrock_claude, gemini, openai, openai_reasoning
from tests.providers.conftest import WIRES
from tests.readme import ROOT
from tests.unit.world import ActorInProcess, layout_of

KINDS = {
    "aws_bedrock": "bedrock",
    "openai": "openai",
    "google_genai": "google",
    "anthropic": "anthropic",
    "local": "local",
}
CLOUDS = ("aws_bedrock", "openai", "google_genai", "anthropic")
RULES: Mapping[str, tuple[Rule, ...]] = {
    "aws_bedrock": (*bedrock.RULES, *bedrock_claude.RULES),
    "openai": (*openai_reasoning.RULES, *openai.RULES),
    "google_genai": gemini.RULES,
    "anthropic": anthropic.RULES,
}
PAIRS = [(first, then) for first in CLOUDS for then in KINDS if then != first]


def shipped_rows() -> dict[str, dict[str, str]]:
    """Return the rows of serve_config.yaml: provider to model id."""
    [application] = yaml.safe_load((ROOT / "serve_config.yaml").read_text())["applications"]
    rows: dict[str, dict[str, str]] = application["args"]["models"]
    return rows


def row_of(row: str, first: str, then: str) -> str:
    return f"{row}.{first}.{then}"


def configuration(fakes: Mapping[str, FakeServer]) -> dict[str, Any]:
    """Return a configuration with a row for each ordered pair of tiers of each shipped row."""
    providers: dict[str, Any] = {
        "aws_bedrock": {"kind": "bedrock", "region": "us-east-1", "endpoint_url": fakes["aws_bedrock"].url},
        "openai": {"kind": "openai", "base_url": f"{fakes['openai'].url}/v1", "api_key_env": "FAKE_KEY"},
        "google_genai": {"kind": "google", "base_url": fakes["google_genai"].url, "api_key_env": "FAKE_KEY"},
        "anthropic": {"kind": "anthropic", "base_url": fakes["anthropic"].url, "api_key_env": "FAKE_KEY"},
        "local": {"kind": "local"},
    }
    models = {
        row_of(row, first, then): {first: tiers[first], then: tiers[then]}
        for row, tiers in shipped_rows().items()
        for first, then in PAIRS
    }
    return {"providers": providers, "models": models}


class LocalStandIn:
    """The local tier without its engine: it answers whatever reaches it. What it supports is the plan's to know."""

    async def complete(self, call: CallMessage) -> ReplyMessage:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"body": dump(completion(Head.new(call["name"]), "local", "stop", usage)), "usage": usage}

    async def stream(self, call: CallMessage) -> AsyncIterator[Any]:
        yield chunk(Head.new(call["name"]), {"role": "assistant", "content": "local"})
        yield {"usage": None, "tail": b""}


class Replicas:
    """The transport: one replica object for each provider of a configuration."""

    def __init__(self, config: Mapping[str, Any]):
        kinds = {name: provider["kind"] for name, provider in config["providers"].items()}
        self._of: dict[str, Any] = {
            name: LocalStandIn() if kind == "local" else ProviderReplica(name, config) for name, kind in kinds.items()
        }

    async def complete(
        self, provider: str, call: CallMessage, on_piece: Callable[[], None] | None = None
    ) -> ReplyMessage:
        reply: ReplyMessage = await self._of[provider].complete(call)
        return reply

    def stream(self, provider: str, call: CallMessage) -> ProviderStream:
        items: ProviderStream = self._of[provider].stream(call)
        return items

    async def close(self) -> None:
        for replica in self._of.values():
            if isinstance(replica, ProviderReplica):
                await replica._provider.close()


@contextlib.asynccontextmanager
async def service_over(config: Mapping[str, Any], transport: CallTransport) -> AsyncIterator[Service]:
    """Open a service with a breaker of its own, whose circuits are closed."""
    made: list[ActorInProcess] = []

    async def connect() -> Callable[..., Awaitable[Any]]:
        if not made:
            made.append(ActorInProcess(service.breaker_config()))
        return made[0]

    layout = layout_of(config)
    breaker = BreakerClient(connect, layout.config.policy(), clock=asyncio.get_running_loop().time)
    service = Service(layout, breaker, transport)
    breaker.start()
    await breaker.connected.wait()
    try:
        yield service
    finally:
        await breaker.close()


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is kept for all cells. Each cell has a service of its own, so that no circuit is open in any."""

    fakes: Mapping[str, FakeServer]
    config: Mapping[str, Any]
    transport: Replicas


@contextlib.asynccontextmanager
async def fleet() -> AsyncIterator[Fleet]:
    fakes = {name: FakeServer(WIRES[KINDS[name]]()) for name in CLOUDS}
    config = configuration(fakes)
    transport = Replicas(config)
    try:
        yield Fleet(fakes, config, transport)
    finally:
        await transport.close()
        for fake in fakes.values():
            fake.stop()
