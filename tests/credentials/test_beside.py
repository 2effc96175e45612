"""Servers of credentials that hang, on real sockets: no call of any kind is late, and the next credential is taken."""

import asyncio
import contextlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deployments.providers.base import Call, Provider, call_dict, complete_within
from deployments.providers.credentials.addresses import Vertex
from deployments.providers.credentials.google import find_identity, google_token
from deployments.providers.credentials.renewed import Renewed
from deployments.replica import ProviderReplica
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.identity import aws, google
from tests.fakes.identity.server import IdentityServer, identity_server
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.server import FakeServer, status
from tests.providers.conftest import LIMITS

CALLS = 1000
Building = Callable[[IdentityServer, str, pytest.MonkeyPatch, pathlib.Path], Provider]


def bedrock(identity: IdentityServer, url: str, patch: pytest.MonkeyPatch, _: pathlib.Path) -> Provider:
    from deployments.providers.bedrock.adapter import BedrockProvider

    patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{identity.url}/credentials")
    return BedrockProvider(region="us-east-1", endpoint_url=url)


def google_account(identity: IdentityServer, folder: pathlib.Path) -> Renewed[str]:
    file = folder / "account.json"
    file.write_text(json.dumps(google.account_file(f"{identity.url}/token")))
    return google_token(find_identity(str(file)))


def openai(identity: IdentityServer, url: str, _: pytest.MonkeyPatch, folder: pathlib.Path) -> Provider:
    from deployments.providers.openai.adapter import OpenAIProvider

    return OpenAIProvider(api_key="", base_url=f"{url}/v1", token=google_account(identity, folder))


def vertex(identity: IdentityServer, url: str, _: pytest.MonkeyPatch, folder: pathlib.Path) -> Provider:
    from deployments.providers.google.adapter import GoogleProvider

    where = Vertex(google.PROJECT, "us-central1")
    return GoogleProvider(base_url=url, vertex=where, token=google_account(identity, folder))


KINDS: dict[str, tuple[Any, Any, Building, str]] = {
    "bedrock": (aws.container, BedrockWire, bedrock, "KEY"),
    "openai": (google.token, OpenAIWire, openai, "ya29.token"),
    "google": (google.token, GeminiWire, vertex, "ya29.token"),
}


@pytest.fixture(autouse=True)
def environment(clean: None) -> None:
    pass


@contextlib.contextmanager
def served(wire: Any) -> Iterator[FakeServer]:
    fake = FakeServer(wire())
    try:
        yield fake
    finally:
        fake.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_while_a_server_of_credentials_hangs_none_of_1000_calls_waits_for_it(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    vendor, wire, build, name = KINDS[kind]
    with identity_server(vendor) as identity, served(wire) as fake:
        provider: Any = build(identity, fake.url, monkeypatch, tmp_path)
        call = Call({"messages": [{"role": "user", "content": "Hi"}]}, "m", "row", LIMITS)

        async def ask(times: int) -> None:
            await asyncio.gather(*(complete_within(provider, call) for _ in range(times)))

        async def main() -> None:
            try:
                await ask(1)
                later = 3000  # of the 3600 s: the next fetch is due
                provider.credential._clock = lambda: time.time() + later
                identity.gate.clear()
                await ask(1)
                assert await asyncio.to_thread(identity.held.wait, 30), "nobody asked for the next credential"
                for _ in range(CALLS // 50):
                    await ask(50)
                assert not identity.gate.is_set()
                identity.gate.set()
                async with asyncio.timeout(30):
                    while provider.credential.report().age > 1000:  # a fetch that hung for too long is tried again
                        provider.credential.usable()
                        await (provider.credential._task or asyncio.sleep(0.05))
                await ask(1)
            finally:
                await provider.close()

        asyncio.run(main())
    used = [received.headers["authorization"] for received in fake.received]
    assert len(used) == CALLS + 3
    assert all(f"{name}-1" in one for one in used[:-1])
    assert name in used[-1]
    assert f"{name}-1" not in used[-1]
    assert identity.refused == []


def test_a_token_that_the_vendor_refuses_is_fetched_anew_by_the_replica(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """It has been revoked, say, long before its end."""
    with identity_server(google.token) as identity, served(GeminiWire) as fake:
        file = tmp_path / "account.json"
        file.write_text(json.dumps(google.account_file(f"{identity.url}/token")))
        vertex = {"project": google.PROJECT, "credentials_file": str(file)}
        providers = {"p": {"kind": "google", "base_url": fake.url, "vertex": vertex}}
        call = call_dict({"messages": [{"role": "user", "content": "Hi"}]}, "m", "row", LIMITS)

        async def main() -> None:
            replica: Any = ProviderReplica("p", {"providers": providers, "models": {"default": {"p": "m"}}})
            assert "body" in await replica.complete(call)
            replica._credentials[""]._clock = lambda: time.time() + 100
            fake.script.append(status(401, "UNAUTHENTICATED"))
            assert (await replica.complete(call))["outcome"]["kind"] == "credential"
            await replica._credentials[""]._task
            assert "body" in await replica.complete(call)
            await replica._provider.close()

        asyncio.run(main())
    used = [received.headers["authorization"] for received in fake.received]
    assert used == [f"Bearer ya29.token-{n}" for n in (1, 1, 2)]
