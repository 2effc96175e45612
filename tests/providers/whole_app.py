"""The service with its real failover, circuits and adapters, over fakes of the vendors on real sockets. No Ray.

A row has the name of its only provider, so what one provider does is not hidden by the next one's answer.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from deployments.replica import ProviderReplica
from tests.fakes.server import FakeServer
from tests.unit.world import World, world

LOCAL_MODEL = "smollm2-135m"
MODELS = {
    "openai": "gpt-4o",
    "openai_responses": "gpt-5.5",
    "bedrock": "global.anthropic.claude-haiku-4-5-20251001-v1:0",
    "google": "gemini-2.5-flash",
    "anthropic": "claude-haiku-4-5-20251001",
    "local": LOCAL_MODEL,
}


def args_for(fakes: Mapping[str, FakeServer], *, local: bool = False) -> dict[str, Any]:
    """Return a configuration whose clouds are the fakes."""
    urls = {kind: fake.url for kind, fake in fakes.items()}
    providers: dict[str, Any] = {
        "openai": {"kind": "openai", "base_url": f"{urls.get('openai')}/v1"},
        "openai_responses": {
            "kind": "openai",
            "api": "responses",
            "base_url": f"{urls.get('openai_responses')}/v1",
        },
        "bedrock": {"kind": "bedrock", "region": "us-east-1", "endpoint_url": urls.get("bedrock")},
        "google": {"kind": "google", "base_url": urls.get("google")},
        "anthropic": {"kind": "anthropic", "base_url": urls.get("anthropic")},
        "local": {"kind": "local"},
    }
    kinds = [*fakes, *(["local"] if local else [])]
    return {
        "providers": {kind: providers[kind] for kind in kinds},
        "models": {"all": {kind: MODELS[kind] for kind in kinds}, **{kind: {kind: MODELS[kind]} for kind in kinds}},
    }


@contextlib.asynccontextmanager
async def whole_app(args: Mapping[str, Any], asked: Collection[str] = ()) -> AsyncIterator[World]:
    """Yield a world in which each call goes to a real replica. `asked` are the providers that are built."""
    replicas = {name: ProviderReplica(name, args) for name in asked or args["providers"]}
    async with world(args) as w:
        w.hop.complete = lambda provider, call, _=None: replicas[provider].complete(call)  # type: ignore[method-assign]
        w.hop.stream = lambda provider, call: replicas[provider].stream(call)  # type: ignore[method-assign]
        try:
            yield w
        finally:
            for replica in replicas.values():
                await replica._provider.close()
