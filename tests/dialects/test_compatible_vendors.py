"""Clients' own requests to servers that speak OpenAI's API in part: what they refuse of a hint is learned.

Each server is the one tier of its row. It may refuse a client's first requests; after a few it must have taken one.
What a rule refuses of a demand (a schema, tools) is no hint: such cells are printed and not judged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from deployments.openai_api.chat import check_request
from tests.dialects.cells import TABLES, Came, ask
from tests.dialects.fleet import Replicas, service_over
from tests.fakes.clients import ClientRequest, client_requests
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer
from tests.fakes.vendors import Rule, compatible, deepseek, groq, mistral, xai

VENDORS: Mapping[str, tuple[Rule, ...]] = {
    "mistral-large": mistral.RULES,
    "llama-3.3-70b": groq.RULES,
    "grok-4": xai.RULES,
    "deepseek-chat": deepseek.RULES,
    "strict": compatible.STRICT,
}
ROUNDS = 4  # of one client's request: a server that names one field at a time is learned field by field
OF_A_HINT = frozenset(
    {
        *("mistral.unknown_field", "mistral.unknown_role", "mistral.unknown_message_field"),
        *("groq.unsupported", "groq.message_field", "xai.penalties", "xai.effort"),
        *("deepseek.developer", "compatible.stream_options"),
    }
)


@contextlib.asynccontextmanager
async def served(model: str) -> AsyncIterator[tuple[FakeServer, dict[str, Any], Replicas]]:
    fake = FakeServer(OpenAIWire())
    provider = {"kind": "openai", "base_url": f"{fake.url}/v1", "api_key_env": "FAKE_KEY"}
    config: dict[str, Any] = {"providers": {"other": provider}, "models": {"default": {"other": model}}}
    transport = Replicas(config)
    try:
        yield fake, config, transport
    finally:
        await transport.close()
        fake.stop()


async def last_of(model: str) -> list[tuple[ClientRequest, Came]]:
    """Return each client's request with what came of it in the end."""
    came: list[tuple[ClientRequest, Came]] = []
    async with served(model) as (fake, config, transport), service_over(config, transport) as service:
        for request in client_requests():
            for _ in range(ROUNDS):
                fake.reset()
                fake.rules = VENDORS[model]
                last = await ask(service, check_request(request.to("default")))
                last.refused = [*fake.refused, *fake.objections]
                if last.by is not None:
                    break
            came.append((request, last))
    return came


def test_a_hint_that_a_compatible_server_refuses_is_left_out_in_the_end() -> None:
    failed: list[str] = []
    lines = ["Refused by compatible servers in the end", "| model | rule | clients |", "|---|---|---|"]
    for model in VENDORS:
        groups: dict[str, list[str]] = {}
        for request, came in asyncio.run(last_of(model)):
            if came.by is None:
                groups.setdefault(came.refused[-1] if came.refused else came.error, []).append(request.name)
        lines += [f"| {model} | {rule} | {len(names)}: {', '.join(names[:6])} |" for rule, names in groups.items()]
        failed += [f"{model}: {rule}" for rule in groups if rule in OF_A_HINT]
    TABLES.append(lines)
    assert failed == []
