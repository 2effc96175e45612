"""The kinds of provider, the clouds against a fake that speaks their real wire on a real socket."""

import asyncio
import contextlib
import pathlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.breaker.outcomes import Outcome
from deployments.errors import AttemptFailed
from deployments.providers.base import Call, Completed, End, Frames, Provider, complete_within, stream_within
from deployments.providers.time_limits import TimeLimits
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import BedrockWire
from tests.fakes.gemini_wire import GeminiWire
from tests.fakes.openai_wire import OpenAIWire
from tests.fakes.responses_wire import ResponsesWire
from tests.fakes.server import FakeServer, Vendor

# No stall of a busy machine comes near them. A test that waits for one shortens that one.
LIMITS = TimeLimits(connect=10.0, first_token=30.0, idle=30.0, total=60.0)
CLOUDS = ("openai", "bedrock", "google", "anthropic")


@dataclass
class Bench:
    """One provider under test. `fake` is None for the local model."""

    kind: str
    build: Callable[[], Provider]
    fake: FakeServer | None = None
    limits: TimeLimits = LIMITS
    frames: list[bytes] = field(default_factory=list)
    api: str = ""  # in whose words it is asked, if not in those of a chat

    runner: asyncio.Runner | None = None

    def run(self, work: Callable[[Provider], Coroutine[Any, Any, Any]]) -> Any:
        """Run against a fresh provider in a fresh loop, and close it. With a runner: in its loop, and keep it."""
        if self.runner is not None:
            return self.runner.run(work(self.build()))

        async def main() -> Any:
            provider = self.build()
            try:
                return await work(provider)
            finally:
                await provider.close()

        return asyncio.run(main())

    def call(self, **body: Any) -> Call:
        messages = body.pop("messages", [{"role": "user", "content": "What is the capital of France?"}])
        if self.api == "messages":
            told = {"extra_content": {"betas": [], "effort": None}}
            own = {"max_tokens": 99, "messages": messages, **body, **told}
            return Call(own, "upstream-model", "row", self.limits, api=self.api)
        if self.api:
            return Call({"input": messages, **body}, "upstream-model", "row", self.limits, api=self.api)
        return Call({"model": "row", "messages": messages, **body}, "upstream-model", "row", self.limits)

    def complete(self, **body: Any) -> Completed:
        return self.run(lambda p: complete_within(p, self.call(**body)))

    def stream(self, **body: Any) -> End:
        """The stream's end; its frames are in `frames`."""
        self.frames = []

        async def work(provider: Provider) -> End:
            async with contextlib.aclosing(stream_within(provider, self.call(stream=True, **body))) as items:
                async for item in items:
                    if isinstance(item, Frames):
                        self.frames.append(item.data)
                    else:
                        return item
            raise AssertionError("a stream ended without an End")

        return self.run(work)

    def failure(self, *, stream: bool = False, **body: Any) -> Outcome:
        with pytest.raises(AttemptFailed) as caught:
            self.stream(**body) if stream else self.complete(**body)
        return caught.value.outcome


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, authority: pathlib.Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAFAKE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


WIRES: dict[str, Callable[[], Vendor]] = {
    "openai": OpenAIWire,
    "openai_responses": ResponsesWire,
    "bedrock": BedrockWire,
    "google": GeminiWire,
    "anthropic": AnthropicWire,
}


def provider_at(kind: str, url: str, connect: float) -> Provider:
    """The real adapter with its real SDK, pointed at a URL."""
    if kind == "openai":
        from deployments.providers.openai.adapter import OpenAIProvider

        return OpenAIProvider(api_key="sk-fake", base_url=f"{url}/v1", connect=connect)
    if kind == "openai_responses":
        from deployments.providers.openai.responses_api.adapter import ResponsesProvider

        return ResponsesProvider(api_key="sk-fake", base_url=f"{url}/v1", connect=connect)
    if kind == "bedrock":
        from deployments.providers.bedrock.adapter import BedrockProvider

        return BedrockProvider(region="us-east-1", endpoint_url=url, connect=connect)
    if kind == "anthropic":
        from deployments.providers.anthropic.adapter import AnthropicProvider
        from deployments.providers.anthropic.server import OwnServer

        return AnthropicProvider(OwnServer(api_key="sk-ant-fake", base_url=url), connect=connect)
    from deployments.providers.google.adapter import GoogleProvider

    return GoogleProvider(api_key="fake", base_url=url, connect=connect)


def cloud(kind: str, limits: TimeLimits = LIMITS) -> Bench:
    fake = FakeServer(WIRES[kind]())
    return Bench(kind, lambda: provider_at(kind, fake.url, limits.connect), fake)


@pytest.fixture(scope="session")
def local_bench() -> Iterator[Bench]:
    from deployments.providers.local.adapter import LocalProvider

    provider = LocalProvider()

    with asyncio.Runner() as runner:
        yield Bench("local", lambda: provider, runner=runner)
        runner.run(provider.close())


@pytest.fixture(params=[*CLOUDS, "local"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each kind of provider."""
    if request.param == "local":
        yield request.getfixturevalue("local_bench")
        return
    made = cloud(request.param)
    yield made
    assert made.fake is not None
    made.fake.stop()


@pytest.fixture(params=CLOUDS)
def cloud_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = cloud(request.param)
    yield made
    assert made.fake is not None
    made.fake.stop()
